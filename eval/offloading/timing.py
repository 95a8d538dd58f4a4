"""Milliseconds of the parts that a picture goes through, on this machine, one picture at a time.

As a server is asked by a weak node: a batch of sixteen pictures takes several times as long.
"""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eval.answers import local
from eval.answers.asks import Ask
from eval.answers.model import Loaded, encode

REPEATS = 20

ANSWERS = 5
"""Of the language model: each is many steps."""


def milliseconds(
    loaded: Loaded, description: Any, codec: Any, folder: Path, ask: Ask, limit: int
) -> dict[str, Any]:
    """Medians of head, encoder, decoder and tail in torch, and of the node's graph (both first).

    `answer` is what the whole answer takes beyond head and tail.

    Args:
        folder: of the codec.
        limit: most tokens of an answer.
    """
    import onnxruntime
    import torch

    from dat_runtime.codec_folder import encoder_file
    from train.offloading.codec import signs_of
    from train.offloading.tower import head, tail, tower_of

    tower = tower_of(loaded.model)
    encoded = encode(loaded.processor, [ask])
    device = loaded.model.device
    pixels = encoded["pixel_values"].to(device, tower.dtype)
    grids = encoded["image_grid_thw"].to(device)
    grid = (int(grids[0, 1]), int(grids[0, 2]))
    block = description.block
    with torch.inference_mode():
        features = head(tower, pixels, grids, block)
        bits = codec.bits(features.float())
        signs = signs_of(bits.T.cpu().numpy(), codec.shape.channels, device)
        found = {
            "head": _median(lambda: head(tower, pixels, grids, block)),
            "encoder": _median(lambda: codec.bits(features.float())),
            "decoder": _median(lambda: codec.decode(signs, grid)),
            "tail": _median(lambda: tail(tower, features, grids, block)),
        }
    whole = _median(lambda: local.generate(loaded, [ask], limit), ANSWERS)
    found["answer"] = round(max(0.0, whole - found["head"] - found["tail"]), 3)
    path = folder / encoder_file(grid)
    if path.is_file():
        graph = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        patches = pixels.float().cpu().numpy()
        found["node_graph"] = _median(lambda: graph.run(["bits"], {"patches": patches}))
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "device": str(device)}
    return {**found, "grid": list(grid), "threads": torch.get_num_threads(), **machine}


def _median(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    import torch

    work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return round(1000 * float(np.median(seconds)), 3)
