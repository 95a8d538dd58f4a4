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
