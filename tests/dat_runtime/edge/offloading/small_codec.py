"""A codec's folder as a node sees it, with a graph of a few nodes in its encoder's place."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dat_runtime.codec_folder import FILE, WEIGHTS, codec_id, encoder_file
from dat_runtime.prompt import PROMPT_VERSION
from dat_runtime.stage import Stage

GRID = (4, 4)
CHANNELS = 8
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
COLUMNS = np.random.default_rng(5).normal(size=(1176, CHANNELS)).astype(np.float32)


def write_codec(out: Path, graph: bytes | None = None, **changes: Any) -> Path:
    """As `train.offload` leaves it; `changes` replace fields of codec.json."""
    with Stage(out, kind="codec", inputs={}, config={}, versions=("prompt",)) as folder:
        (folder / WEIGHTS).write_bytes(b"not for the node")
        stated = {
            "version": 1,
            "base": "tiny",
            "revision": "0" * 40,
            "adapter": None,
            "prompt": PROMPT_VERSION,
            "block": 1,
            "channels": [2, CHANNELS],
            "spatial": False,
            "features": 96,
            "width": 8,
            "grids": [list(GRID)],
            "images": [[14 * GRID[1], 14 * GRID[0]]],
            "patch": 14,
            "mean": MEAN,
            "std": STD,
        } | changes
        stated["id"] = codec_id(stated, folder / WEIGHTS)
        (folder / FILE).write_text(json.dumps(stated))
        for rows, columns in stated["grids"][:1]:
            path = folder / encoder_file((rows, columns))
            path.write_bytes(signs_of_sums() if graph is None else graph)
    return out


def _model(nodes: Any, constants: dict[str, Any], value: str = "bits") -> bytes:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    shape = [GRID[0] * GRID[1], 1176]
    graph = helper.make_graph(
        nodes(helper),
        "encoder",
        [helper.make_tensor_value_info("patches", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(value, onnx.TensorProto.UINT8, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", 17)
    model: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    return model


def signs_of_sums() -> bytes:
    """Bits: whether weighted sums of a patch are above 0."""

    def nodes(helper: Any) -> list[Any]:
        return [
            helper.make_node("MatMul", ["patches", "columns"], ["sums"]),
            helper.make_node("Greater", ["sums", "zero"], ["above"]),
            helper.make_node("Cast", ["above"], ["numbers"], to=2),
            helper.make_node("Transpose", ["numbers"], ["bits"]),
        ]

    return _model(nodes, {"columns": COLUMNS, "zero": np.zeros((), np.float32)})


def without_end() -> bytes:
    """A graph that counts to four million million million before it answers."""
    onnx = pytest.importorskip("onnx")

    def nodes(helper: Any) -> list[Any]:
        number = onnx.TensorProto.INT64
        infos = {
            name: helper.make_tensor_value_info(name, kind, [])
            for name, kind in (("i", number), ("go", 9), ("n", number), ("on", 9), ("m", number))
        }
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["go"], ["on"]),
                helper.make_node("Add", ["n", "i"], ["m"]),
            ],
            "body",
            [infos["i"], infos["go"], infos["n"]],
            [infos["on"], infos["m"]],
        )
        return [
            helper.make_node("Loop", ["rounds", "true", "start"], ["sum"], body=body),
            helper.make_node("Cast", ["sum"], ["small"], to=2),
            helper.make_node("Expand", ["small", "shape"], ["bits"]),
        ]

    shape = np.array([CHANNELS, GRID[0] * GRID[1]], np.int64)
    constants = {
        "rounds": np.array(2**62, np.int64),
        "true": np.array(True),
        "start": np.array(0, np.int64),
        "shape": shape,
    }
    return _model(nodes, constants)


def of_a_terabyte() -> bytes:
    """A graph of a hundred bytes that asks for more memory than there is."""

    def nodes(helper: Any) -> list[Any]:
        return [
            helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
            helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=1),
            helper.make_node("Cast", ["sum"], ["bits"], to=2),
        ]

    return _model(nodes, {"shape": np.array([2**20, 2**18], np.int64)})
