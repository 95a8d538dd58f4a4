"""What the language model sees by the way that a picture came, whatever it then makes of it.

A model may answer well without looking: the gate's boxes are in its prompt. So beside the answers
stands how far the merger's output is from that of the boxed picture itself, as a share of its
variance: 0 is the same, 1 as far as its own mean.
"""

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from eval.answers.asks import Ask
from eval.answers.model import Loaded, encode
from eval.offloading.ways import Way


def merger_error(
    loaded: Loaded, way: Way, asks: Sequence[Ask], batch_size: int
) -> tuple[float, float]:
    """Mean squared error of the merger's output over its variance, and a picture's mean bytes."""
    import torch

    from train.offloading.tower import cut, tower_of

    tower = tower_of(loaded.model)
    squared, count = 0.0, 0
    first: Any = 0.0
    second: Any = 0.0
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(asks), batch_size):
            batch = asks[start : start + batch_size]
            expected = _merged(loaded, tower, batch)
            split = nullcontext() if way.change is None else cut(tower, way.block, way.change)
            with split:
                found = _merged(loaded, tower, way.asks(batch, Path(folder)))
            squared += float((found - expected).square().sum())
            first = first + expected.sum(dim=0)
            second = second + expected.square().sum(dim=0)
            count += len(expected)
        variance = float((second - first.square() / count).sum())
    size = sum(way.sizes) / len(way.sizes)
    way.sizes.clear()  # the answers count them again
    return squared / variance, size


def _merged(loaded: Loaded, tower: Any, batch: Sequence[Ask]) -> Any:
    encoded = encode(loaded.processor, batch).to(loaded.model.device)
    pixels = encoded["pixel_values"].to(tower.dtype)
    return tower(pixels, grid_thw=encoded["image_grid_thw"]).pooler_output.float()
