"""Builders: a gate whose confidence is the brightness, and dark frames with bright accidents."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime.edge.settings import GateSettings
from dat_runtime.stage import Stage
from dat_runtime.types import SEVERITIES

SIDE = 64


SETTINGS = GateSettings(classes=SEVERITIES, imgsz=SIDE)


METRICS = {
    "train_seconds": 1.0,
    "val": {"mAP50": 0.9, "mAP50-95": 0.5, "classes": {}},
    "test": {"mAP50": 0.9, "mAP50-95": 0.5, "classes": {}},
}


def bright_square_model() -> bytes:
    """An ONNX gate, named as Ultralytics names operations: brightness becomes confidence."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper.make_node
    random = np.random.default_rng(0)
    seeing = random.normal(0, 0.002, (6, 3, 16, 16)).astype(np.float32)
    seeing[5] = 1 / seeing[5].size
    size = np.array([4, 4, 8, 8, 0.01, 1], np.float32).reshape(1, 6, 1)
    corner = np.array([32, 32, 24, 24, 0, 0], np.float32).reshape(1, 6, 1)
    constants = {
        "seeing": seeing,
        "mixing": np.eye(6, dtype=np.float32).reshape(6, 6, 1, 1),
        "shape": np.array([1, 6, -1]),
        "pads": np.array([0, 0, 0, 0, 0, 84 - 16]),
        "size": size,
        "corner": corner,
    }
    nodes = [
        make("Conv", ["images", "seeing"], ["a"], name="/model.0/conv/Conv", strides=[16, 16]),
        make("Relu", ["a"], ["b"], name="/model.0/act/Relu"),
        make("Conv", ["b", "mixing"], ["c"], name="/model.1/cv2/Conv"),
        make("Reshape", ["c", "shape"], ["d"], name="/model.1/Reshape"),
        make("Mul", ["d", "size"], ["e"], name="/model.1/Mul"),
        make("Add", ["e", "corner"], ["f"], name="/model.1/Add"),
        make("Pad", ["f", "pads"], ["output0"], name="/model.1/Pad"),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "bright",
        [onnx.helper.make_tensor_value_info("images", 1, [1, 3, SIDE, SIDE])],
        [onnx.helper.make_tensor_value_info("output0", 1, [1, 6, 84])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def write_gate(folder: Path, model: bytes | None = None, weights: bytes | None = None) -> Path:
    with Stage(folder, kind="gate", inputs={}, config={}) as partial:
        (partial / "gate.json").write_text(json.dumps(SETTINGS.as_json()))
        (partial / "gate.onnx").write_bytes(model or bright_square_model())
        (partial / "metrics.json").write_text(json.dumps(METRICS))
        if weights:
            (partial / "best.pt").write_bytes(weights)
    return folder


def write_data(folder: Path, frames: int = 4) -> Path:
    """A prepared set: dark frames, every other with a bright severe accident in the middle."""
    random = np.random.default_rng(0)
    with Stage(folder, kind="data", inputs={}, config={}) as partial:
        for split in ("train", "val", "test"):
            (partial / "images" / split).mkdir(parents=True)
            lines = []
            for i in range(frames):
                image = random.integers(0, 30, (SIDE, SIDE, 3), np.uint8)
                accidents = []
                if i % 2:
                    image[20:44, 20:44] = 240
                    accidents = [{"bbox": [20, 20, 44, 44], "severity": "severe"}]
                name = f"images/{split}/{i}.png"
                cv2.imwrite(str(partial / name), image)
                lines.append({"image_id": str(i), "image": name, "width": SIDE, "height": SIDE,
                              "accidents": accidents})  # fmt: skip
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (partial / f"truth_{split}.jsonl").write_text(text)
    return folder
