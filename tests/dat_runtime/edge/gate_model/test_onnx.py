"""What an `.onnx` file may hold: every refusal has a file that another reader would take."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dat_runtime.edge.gate_model.onnx_graph import read_graph
from dat_runtime.edge.gate_model.onnx_shapes import RULES, check_graph
from dat_runtime.edge.gate_model.trial import check_file
from dat_runtime.edge.settings import GateSettings
from dat_runtime.errors import ModelError
from dat_runtime.types import SEVERITIES
from tests.dat_runtime.edge.gate_model.hostile_models import endless, huge

onnx = pytest.importorskip("onnx")
make, array, info = (
    onnx.helper.make_node,
    onnx.numpy_helper.from_array,
    onnx.helper.make_tensor_value_info,
)
SIDE = 64
SETTINGS = GateSettings(classes=SEVERITIES, imgsz=SIDE)


def model(nodes: list[Any], constants: dict[str, np.ndarray] | None = None, **changes: Any) -> Any:
    """A model of (1, 3, 64, 64); its nodes give "output0"."""
    graph = onnx.helper.make_graph(
        nodes,
        "gate",
        [info("images", 1, [1, 3, SIDE, SIDE])],
        [info("output0", 1, [1, 6, 84])],
        [array(value, name) for name, value in (constants or {}).items()],
    )
    opsets = [onnx.helper.make_opsetid(changes.get("domain", ""), changes.get("opset", 17))]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def problem(content: bytes, tmp_path: Path) -> str:
    path = tmp_path / "gate.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"gate\.onnx: not a gate's model: ") as refusal:
        check_file(path, SETTINGS)
    return str(refusal.value)


def doubled() -> Any:
    """Thirty times the picture beside itself: 2^30 of it."""
    names = ["images", *(f"v{i}" for i in range(29)), "output0"]
    return model([make("Concat", [a, a], [b], axis=3) for a, b in itertools.pairwise(names)])


def outer_product() -> Any:
    nodes = [
        make("Reshape", ["images", "column"], ["a"]),
        make("Reshape", ["images", "row"], ["b"]),
        make("Mul", ["a", "b"], ["output0"]),
    ]
    return model(nodes, {"column": np.array([-1, 1]), "row": np.array([1, -1])})


def enlarged() -> Any:
    scales = np.array([1, 1, 4000, 4000], np.float32)
    return model([make("Resize", ["images", "", "scales"], ["output0"])], {"scales": scales})


def padded() -> Any:
    weights = {"w": np.ones((1, 3, 1, 1), np.float32)}
    return model([make("Conv", ["images", "w"], ["output0"], pads=[4000] * 4)], weights)


def laborious() -> Any:
    """Within the bounds of memory: 64 channels all over, ninety times."""
    first, deep = np.ones((64, 3, 31, 31), np.float32), np.ones((64, 64, 31, 31), np.float32)
    names = [*(f"v{i}" for i in range(90)), "output0"]
    nodes = [make("Conv", ["images", "first"], ["v0"], pads=[15] * 4)]
    for a, b in itertools.pairwise(names):
        nodes.append(make("Conv", [a, "deep"], [b], pads=[15] * 4))
    return model(nodes, {"first": first, "deep": deep})


def of_values() -> Any:
    """A shape that the picture decides."""
    nodes = [
        make("Cast", ["images"], ["numbers"], to=7),
        make("Reshape", ["images", "numbers"], ["output0"]),
    ]
    return model(nodes)


def by_name() -> Any:
    return model([make("Sigmoid", ["images"], ["output0"], domain="com.microsoft")])


def outside() -> Any:
    changed = model([make("Mul", ["images", "w"], ["output0"])], {"w": np.ones(3, np.float32)})
    tensor = changed.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return changed


def short() -> Any:
    changed = model([make("Mul", ["images", "w"], ["output0"])], {"w": np.ones(4, np.float32)})
    changed.graph.initializer[0].dims[0] = 1 << 40
    return changed


def two_inputs() -> Any:
    changed = model([make("Sigmoid", ["images"], ["output0"])])
    changed.graph.input.append(info("more", 1, [1]))
    return changed


def two_outputs() -> Any:
    changed = model([make("Sigmoid", ["images"], ["output0"])])
    changed.graph.output.append(info("images", 1, [1, 3, SIDE, SIDE]))
    return changed


def unfixed() -> Any:
    changed = model([make("Sigmoid", ["images"], ["output0"])])
    changed.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    return changed


def with_function() -> Any:
    changed = model([make("Sigmoid", ["images"], ["output0"])])
    inner = [make("Sigmoid", ["x"], ["y"])]
    function = onnx.helper.make_function(
        "", "Sigmoid", ["x"], ["y"], inner, [onnx.helper.make_opsetid("", 17)]
    )
    changed.functions.append(function)
    return changed


@pytest.mark.parametrize(
    ("make_model", "words"),
    [
        (endless, "an attribute has field 6"),
        (huge, "node 0, ConstantOfShape: a gate has no such operator, only Add, "),
        (doubled, "Concat: a value of shape .* is larger than any gate's"),
        (outer_product, "Mul: a value of shape"),
        (enlarged, "Resize: a value of shape"),
        (padded, "Conv: a value of shape"),
        (laborious, "Conv: more memory or work than any gate"),
        (of_values, "Reshape: input 1 is no small constant"),
        (by_name, "an operator of 'com.microsoft'"),
        (outside, "a tensor has field 13"),
        (short, r"states \[1099511627776\] and holds 4 values"),
        (two_inputs, "2 inputs and 1 outputs"),
        (two_outputs, "1 inputs and 2 outputs"),
        (unfixed, "'images' has no dim_value: expected a fixed shape"),
        (with_function, "the model has field 25"),
        (lambda: model([make("Sigmoid", ["images"], ["output0"])], opset=99), "version 99"),
        (lambda: model([make("Sigmoid", ["images"], ["x"])]), "no node gives the output"),
        (lambda: model([make("Sigmoid", ["x"], ["output0"])]), "which no node before it gives"),
        (lambda: model([make("Sigmoid", ["images"], ["images"])]), "two values are named"),
        (lambda: model([make("Sigmoid", ["images"], ["output0"])]), r"output is \[1, 3, 64, 64\]"),
    ],
)
def test_a_model_that_is_no_gate_is_refused_before_anything_runs(
    make_model: Callable[[], Any], words: str, tmp_path: Path
) -> None:
    made = make_model()
    content = made if isinstance(made, bytes) else made.SerializeToString()
    assert re.search(words, problem(content, tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no graph"),
        (b"\x3a\x05\x00", "cut short"),
        (b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "more than 64 bits"),
        (b"\x3a\x00\x3a\x00", "states graph twice"),
        (b"\x38\x01", "graph is of wire type 0, expected 2"),
        (b"\x42\x00" * 100_001, "more than 100,000 fields"),
        (b"\x43", "wire type 3"),
    ],
)
def test_what_protobuf_would_skip_or_merge_is_refused(
    content: bytes, words: str, tmp_path: Path
) -> None:
    assert words in problem(content, tmp_path)


def test_a_picture_of_another_side_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gate.onnx"
    path.write_bytes(model([make("Sigmoid", ["images"], ["output0"])]).SerializeToString())
    with pytest.raises(ModelError, match=r"input is \[1, 3, 64, 64\], expected \[1, 3, 96, 96\]"):
        check_file(path, GateSettings(classes=SEVERITIES, imgsz=96))


CASES: dict[str, tuple[list[Any], dict[str, np.ndarray]]] = {
    "stride and dilation": (
        [
            make(
                "Conv",
                ["images", "w"],
                ["output0"],
                strides=[2, 3],
                dilations=[2, 1],
                pads=[1, 2, 3, 4],
            )
        ],
        {"w": np.ones((5, 3, 3, 2), np.float32)},
    ),
    "groups": (
        [make("Conv", ["images", "w"], ["output0"], group=3)],
        {"w": np.ones((6, 1, 3, 3), np.float32)},
    ),
    "pool": ([make("MaxPool", ["images"], ["output0"], kernel_shape=[5, 5], pads=[2] * 4)], {}),
    "resize": (
        [make("Resize", ["images", "", "s"], ["output0"])],
        {"s": np.array([1, 1, 2, 1.7], np.float32)},
    ),
    "slice backwards": (
        [make("Slice", ["images", "start", "end", "axes", "step"], ["output0"])],
        {
            "start": np.array([-1]),
            "end": np.array([-99]),
            "axes": np.array([2]),
            "step": np.array([-3]),
        },
    ),
    "split": (
        [make("Split", ["images", "parts"], ["output0", "rest"], axis=2)],
        {"parts": np.array([10, 54])},
    ),
    "reshape": (
        [make("Reshape", ["images", "to"], ["output0"])],
        {"to": np.array([0, -1, 32])},
    ),
    "transpose": ([make("Transpose", ["images"], ["output0"], perm=[0, 2, 3, 1])], {}),
    "pad": (
        [make("Pad", ["images", "pads"], ["output0"])],
        {"pads": np.array([0, 0, 1, 2, 0, 3, 4, 5])},
    ),
    "average": (
        [make("AveragePool", ["images"], ["output0"], kernel_shape=[2, 3], strides=[2, 2])],
        {},
    ),
    "matmul": (
        [make("MatMul", ["images", "w"], ["output0"])],
        {"w": np.ones((1, SIDE, 7), np.float32)},
    ),
    "broadcast": (
        [make("Add", ["images", "w"], ["output0"])],
        {"w": np.ones((3, 1, 1), np.float32)},
    ),
    "squeeze": (
        [make("Unsqueeze", ["images", "to"], ["up"]), make("Squeeze", ["up", "of"], ["output0"])],
        {"to": np.array([-1, 0]), "of": np.array([1])},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_shapes_are_those_of_onnx_runtime(name: str) -> None:
    from dat_runtime.edge.engines import silent_onnxruntime

    nodes, constants = CASES[name]
    content = model(nodes, constants)
    del content.graph.output[0].type.tensor_type.shape.dim[:]
    content.graph.output[0].type.tensor_type.ClearField("shape")
    session = silent_onnxruntime().InferenceSession(content.SerializeToString())
    seen = session.run(["output0"], {"images": np.zeros((1, 3, SIDE, SIDE), np.float32)})[0]
    graph = read_graph(model(nodes, constants).SerializeToString())
    assert check_graph(graph) == seen.shape


def test_no_operator_holds_a_graph_or_a_size_that_values_decide() -> None:
    unbounded = {
        "Loop",
        "If",
        "Scan",
        "ConstantOfShape",
        "Expand",
        "Tile",
        "Range",
        "NonZero",
    }
    assert not RULES.keys() & unbounded
