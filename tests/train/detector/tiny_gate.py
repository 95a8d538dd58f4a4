"""Builders of tests that train: a configuration of a second, and a prepared set to train on."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from dat_runtime.stage import Stage
from dat_runtime.truth import SPLITS

TINY = {
    "model": "yolo12n.yaml", "pretrained": False, "imgsz": 64, "epochs": 2, "batch": 4, "nbs": 4,
    "optimizer": "AdamW", "lr0": 0.002, "warmup_epochs": 0, "close_mosaic": 1, "workers": 0,
    "amp": False, "val": False, "plots": False, "device": "cpu",
}  # fmt: skip

WIDTH = 64  # of fewer channels Ultralytics would not export it

SMALLEST = {
    "nc": 2,
    "backbone": [[-1, 1, "Conv", [WIDTH, 3, stride]] for stride in (8, 2, 2)],
    "head": [[[0, 1, 2], 1, "Detect", ["nc"]]],
}
"""Ultralytics' keys of a detector of three convolutions, which trains in a tenth of a second."""


def write_model(path: Path) -> Path:
    """The keys of a model, for `model` in a configuration."""
    path.write_text(yaml.safe_dump(SMALLEST))
    return path


def write_weights(path: Path, logit: float = -6.0) -> Path:
    """Weights of `SMALLEST` by which bright places of `write_data` are accidents, dark ones hardly.

    Args:
        logit: of the score where a picture is black.
    """
    import torch
    from torch.nn import Conv2d
    from ultralytics import YOLO

    yolo: Any = YOLO(write_model(path.with_suffix(".yaml")), task="detect")
    *layers, head = yolo.model.model
    bins = torch.arange(head.reg_max)
    # From the anchor at the upper left of the frames' middle, in its strides, to the box's sides.
    sides_of_scales = (1.1, 0.7, 2.1, 1.7), (0.3, 0.1, 1.3, 1.1), (0.5, 0.5, 0.5, 0.5)
    with torch.no_grad():
        for layer in layers:
            layer.conv.weight.fill_(1 / layer.conv.weight[0].numel())  # the mean
        for scale, sides in enumerate(sides_of_scales):
            box, score = Conv2d(WIDTH, 4 * len(bins), 1), Conv2d(WIDTH, 2, 1)
            box.weight.zero_()
            shares = [(1 - (bins - side).abs()).clamp(min=1e-9) for side in sides]
            box.bias.copy_(torch.cat(shares).log())
            score.weight[scale % 2], score.weight[1 - scale % 2] = 12 / WIDTH, 8 / WIDTH
            score.bias.fill_(logit)
            head.cv2[scale], head.cv3[scale] = box, score
    yolo.save(path)
    return path


def write_config(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({k: v for k, v in {**TINY, **changes}.items() if v != "-"}))
    return path


def write_data(folder: Path, frames: int = 8, **config: Any) -> Path:
    """A prepared set of grey frames with one bright box each; every fourth is a negative."""
    random = np.random.default_rng(0)
    with Stage(folder, kind="data", inputs={}, config=config) as partial:
        for split in SPLITS:
            for kind in ("images", "labels"):
                (partial / kind / split).mkdir(parents=True)
            for i in range(frames):
                image = random.integers(0, 99, (48, 80, 3), np.uint8)
                row = f"{i % 2} 0.5 0.5 0.4 0.5" if i % 4 else ""
                if row:
                    image[12:36, 24:56] = 255
                cv2.imwrite(str(partial / "images" / split / f"{i}.jpg"), image)
                (partial / "labels" / split / f"{i}.txt").write_text(row)
        groups = {split: {str(i): str(i) for i in range(frames)} for split in SPLITS}
        (partial / "groups.json").write_text(json.dumps(groups))
        # Ultralytics rewrites a JPEG that does not end with its end marker.
        odd = partial / "images" / "train" / "1.jpg"
        odd.write_bytes(odd.read_bytes() + b"\0")
    return folder
