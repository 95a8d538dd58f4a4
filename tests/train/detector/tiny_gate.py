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


SMALLEST = {
    "nc": 2,
    "backbone": [
        [-1, 1, "Conv", [4, 3, 8]],
        [-1, 1, "Conv", [4, 3, 2]],
        [-1, 1, "Conv", [4, 3, 2]],
    ],
    "head": [[[0, 1, 2], 1, "Detect", ["nc"]]],
}
"""Ultralytics' keys of a detector of three convolutions, which trains in a tenth of a second."""


def write_model(path: Path) -> Path:
    """The keys of a model, for `model` in a configuration."""
    path.write_text(yaml.safe_dump(SMALLEST))
    return path


def write_weights(path: Path, logit: float = -3.0) -> Path:
    """Weights of `SMALLEST` that nobody trained, with scores around this logit."""
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    yolo: Any = YOLO(write_model(path.with_suffix(".yaml")), task="detect")
    with torch.no_grad():
        # Without statistics in its normalisation an untrained network answers a constant.
        for part in yolo.model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = None
        yolo.model.train()(torch.rand(8, 3, 64, 64))
        yolo.model.eval()
        for sides, scores in zip(yolo.model.model[-1].cv2, yolo.model.model[-1].cv3, strict=True):
            sides[-1].bias.view(4, -1)[:, 1] += 4  # boxes of two strides, not of the whole picture
            scores[-1].bias.fill_(logit)
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
