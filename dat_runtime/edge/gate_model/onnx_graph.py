"""The graph in an `.onnx` file, as far as its operators and shapes go; weights are not looked at.

Read here and not with the package `onnx`, which a node does not have and which bounds nothing.
Field numbers are those of ONNX's `onnx.proto`; fields that a gate never uses, such as functions,
training steps, sparse or external data and graphs within nodes, are left out and so refused.
"""

import math
import struct
from dataclasses import dataclass, field
from typing import Any

from dat_runtime.edge.gate_model.wire import BYTES, FIXED32, VARINT, Field, Schema, read

Shape = tuple[int, ...]

MAX_NODES = 10_000
MAX_RANK = 8
MAX_SMALL = 64
"""Elements of a constant whose values are kept: shapes, axes, scales."""

MAX_NAME = 512
OPSETS = range(11, 24)
"""Versions of the operators whose shapes `onnx_shapes` knows; train.gate exports 17."""

_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8}
"""ONNX's float32, uint8, int8, int32 and int64; a gate has no other tensors."""

_FORMATS = {1: "f", 2: "B", 3: "b", 6: "i", 7: "q"}

_MODEL: Schema = {
    1: Field("ir_version", VARINT),
    2: Field("producer_name", BYTES),
    3: Field("producer_version", BYTES),
    4: Field("domain", BYTES),
    5: Field("model_version", VARINT),
    6: Field("doc_string", BYTES),
    7: Field("graph", BYTES),
    8: Field("opset_import", BYTES, repeated=True),
    14: Field("metadata_props", BYTES, repeated=True),
}
_OPSET: Schema = {1: Field("domain", BYTES), 2: Field("version", VARINT)}
_GRAPH: Schema = {
    1: Field("node", BYTES, repeated=True),
    2: Field("name", BYTES),
    5: Field("initializer", BYTES, repeated=True),
    10: Field("doc_string", BYTES),
    11: Field("input", BYTES, repeated=True),
    12: Field("output", BYTES, repeated=True),
    13: Field("value_info", BYTES, repeated=True),
    16: Field("metadata_props", BYTES, repeated=True),
}
_NODE: Schema = {
    1: Field("input", BYTES, repeated=True),
    2: Field("output", BYTES, repeated=True),
    3: Field("name", BYTES),
    4: Field("op_type", BYTES),
    5: Field("attribute", BYTES, repeated=True),
    6: Field("doc_string", BYTES),
    7: Field("domain", BYTES),
    9: Field("metadata_props", BYTES, repeated=True),
}
_ATTRIBUTE: Schema = {
    1: Field("name", BYTES),
    2: Field("f", FIXED32),
    3: Field("i", VARINT),
    4: Field("s", BYTES),
    5: Field("t", BYTES),
    7: Field("floats", FIXED32, repeated=True),
    8: Field("ints", VARINT, repeated=True),
    13: Field("doc_string", BYTES),
    20: Field("type", VARINT),
}
_TENSOR: Schema = {
    1: Field("dims", VARINT, repeated=True),
    2: Field("data_type", VARINT),
    4: Field("float_data", BYTES),
    5: Field("int32_data", VARINT, repeated=True),
    7: Field("int64_data", VARINT, repeated=True),
    8: Field("name", BYTES),
    9: Field("raw_data", BYTES),
    12: Field("doc_string", BYTES),
}
_VALUE: Schema = {
    1: Field("name", BYTES),
    2: Field("type", BYTES),
    3: Field("doc_string", BYTES),
    4: Field("metadata_props", BYTES, repeated=True),
}
_TYPE: Schema = {1: Field("tensor_type", BYTES), 6: Field("denotation", BYTES)}
_TENSOR_TYPE: Schema = {1: Field("elem_type", VARINT), 2: Field("shape", BYTES)}
_SHAPE: Schema = {1: Field("dim", BYTES, repeated=True)}
_DIMENSION: Schema = {
    1: Field("dim_value", VARINT),
    2: Field("dim_param", BYTES),
    3: Field("denotation", BYTES),
}


@dataclass(frozen=True)
class Constant:
    """A tensor in the file; `values` when it is small enough to be a shape, scales or axes."""

    shape: Shape
    values: tuple[float, ...] | None


@dataclass(frozen=True)
class Node:
    """An operator with the names of what it takes and gives; an input left out is named ""."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Graph:
    """What a model computes, its nodes in the order of the file."""

    input: str
    input_shape: Shape
    output: str
    nodes: tuple[Node, ...]
    constants: dict[str, Constant] = field(default_factory=dict)


def read_graph(content: bytes) -> Graph:
    """The graph of a model file.

    Raises:
        ValueError: it is not ONNX, or holds what no gate needs.
    """
    model = read(memoryview(content), _MODEL, "the model")
    for opset in model["opset_import"]:
        _check_opset(read(opset, _OPSET, "opset_import"))
    if "graph" not in model:
        raise ValueError("the model has no graph")
    graph = read(model["graph"], _GRAPH, "the graph")
    if len(graph["node"]) > MAX_NODES:
        raise ValueError(f"{len(graph['node']):,} nodes, at most {MAX_NODES:,} are read")
    if len(graph["input"]) != 1 or len(graph["output"]) != 1:
        raise ValueError(
            f"{len(graph['input'])} inputs and {len(graph['output'])} outputs, expected one of each"
        )
    constants: dict[str, Constant] = {}
    for data in graph["initializer"]:
        name, constant = _constant(data)
        if name in constants:
            raise ValueError(f"two constants are named {name!r}")
        constants[name] = constant
    name, shape = _stated(graph["input"][0])
    output, _ = _stated(graph["output"][0])
    nodes = tuple(map(_node, graph["node"]))
    return Graph(name, shape, output, nodes, constants)


def _check_opset(opset: dict[str, Any]) -> None:
    domain = _text(opset, "domain")
    if domain not in ("", "ai.onnx"):
        raise ValueError(f"operators of {domain!r}, expected ONNX's own")
    if opset.get("version") not in OPSETS:
        raise ValueError(
            f"operator version {opset.get('version')}, expected {OPSETS.start} to {OPSETS.stop - 1}"
        )


def _constant(data: memoryview) -> tuple[str, Constant]:
    tensor = read(data, _TENSOR, "a tensor")
    name, shape = _text(tensor, "name"), tuple(tensor["dims"])
    kind = tensor.get("data_type")
    if kind not in _ITEM_BYTES:
        raise ValueError(f"tensor {name!r} is of type {kind}, expected float32, int8, int32, int64")
    elements = elements_of(shape)
    stated = _elements_held(tensor, kind)
    if stated != elements:
        raise ValueError(f"tensor {name!r} states {list(shape)} and holds {stated:,} values")
    values = _values(tensor, kind, elements) if elements <= MAX_SMALL else None
    return name, Constant(shape, values)


def elements_of(shape: Shape) -> int:
    """How many values a tensor has; exact, however long the numbers are.

    Raises:
        ValueError: it has more dimensions than a gate's, or a negative one.
    """
    if len(shape) > MAX_RANK or any(length < 0 for length in shape):
        raise ValueError(f"no shape of at most {MAX_RANK} lengths: {list(shape[: MAX_RANK + 1])}")
    return math.prod(shape)


def _elements_held(tensor: dict[str, Any], kind: int) -> int:
    """How many values the file holds for a tensor; in one place, not in two."""
    held = []
    if "raw_data" in tensor:
        held.append(len(tensor["raw_data"]) / _ITEM_BYTES[kind])
    if "float_data" in tensor:
        held.append(len(tensor["float_data"]) / 4)
    for name in ("int32_data", "int64_data"):
        if tensor[name]:
            held.append(len(tensor[name]))
    if len(held) > 1 or any(number != int(number) for number in held):
        raise ValueError(f"tensor {_text(tensor, 'name')!r} holds no whole values in one field")
    return int(sum(held))


def _values(tensor: dict[str, Any], kind: int, elements: int) -> tuple[float, ...]:
    if tensor["int32_data"] or tensor["int64_data"]:
        return tuple(tensor["int32_data"] or tensor["int64_data"])
    data = tensor.get("raw_data", tensor.get("float_data", b""))
    return struct.unpack(f"<{elements}{_FORMATS[kind]}", data)


def _node(data: memoryview) -> Node:
    node = read(data, _NODE, "a node")
    if _text(node, "domain") not in ("", "ai.onnx"):
        raise ValueError(f"an operator of {_text(node, 'domain')!r}, expected ONNX's own")
    attributes: dict[str, Any] = {}
    for part in node["attribute"]:
        name, value = _attribute(part)
        if name in attributes:
            raise ValueError(f"a node states {name} twice")
        attributes[name] = value
    return Node(
        operator=_text(node, "op_type"),
        inputs=tuple(map(_decoded, node["input"])),
        outputs=tuple(map(_decoded, node["output"])),
        attributes=attributes,
    )


def _attribute(data: memoryview) -> tuple[str, Any]:
    """Name and value: an int, a text, a list of ints, or a `Constant`; floats are left out."""
    part = read(data, _ATTRIBUTE, "an attribute")
    name = _text(part, "name")
    if "i" in part:
        return name, part["i"]
    if "s" in part:
        return name, _text(part, "s")
    if "t" in part:
        return name, _constant(part["t"])[1]
    if "f" in part or part["floats"]:
        return name, None  # no shape depends on it
    return name, part["ints"]


def _stated(data: memoryview) -> tuple[str, Shape]:
    """Name and shape of an input or output, of which every length is fixed."""
    value = read(data, _VALUE, "an input or output")
    name = _text(value, "name")
    try:
        stated = read(value["type"], _TYPE, "its type")
        tensor = read(stated["tensor_type"], _TENSOR_TYPE, "its tensor")
        dimensions = read(tensor["shape"], _SHAPE, "its shape")["dim"]
        shape = tuple(read(part, _DIMENSION, "a length")["dim_value"] for part in dimensions)
    except KeyError as error:
        raise ValueError(f"{name!r} has no {error.args[0]}: expected a fixed shape") from None
    elements_of(shape)
    return name, shape


def _text(message: dict[str, Any], name: str) -> str:
    return _decoded(message.get(name, b""))


def _decoded(data: memoryview | bytes) -> str:
    if len(data) > MAX_NAME:
        raise ValueError(f"a name of {len(data):,} bytes, at most {MAX_NAME} are read")
    return bytes(data).decode("utf-8")
