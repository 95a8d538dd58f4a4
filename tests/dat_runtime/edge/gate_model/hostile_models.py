"""Models within every check of ONNX itself that take more than any node has."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
SIDE = 64


def one_node(node: object, constants: dict[str, np.ndarray]) -> bytes:
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "gate",
        [info("images", 1, [1, 3, SIDE, SIDE])],
        [info("output0", 1, [1, 6, 84])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def endless() -> bytes:
    """1e12 rounds that do nothing, in 400 bytes."""
    info = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Identity", ["go"], ["on"]),
            onnx.helper.make_node("Identity", ["x"], ["y"]),
        ],
        "body",
        [info("i", 7, []), info("go", 9, []), info("x", 1, [1])],
        [info("on", 9, []), info("y", 1, [1])],
    )
    node = onnx.helper.make_node("Loop", ["rounds", "", "start"], ["output0"], body=body)
    return one_node(node, {"rounds": np.array(10**12), "start": np.zeros(1, np.float32)})


def huge() -> bytes:
    """8 GB out of a shape."""
    node = onnx.helper.make_node("ConstantOfShape", ["shape"], ["output0"])
    return one_node(node, {"shape": np.array([1 << 31])})
