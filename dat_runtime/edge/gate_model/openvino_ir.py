"""The operators and sizes that an OpenVINO `.xml` states, read before OpenVINO opens it.

OpenVINO works the shapes out anew: what those take is limited in the child that runs the model
first.
"""

import math
from typing import Any
from xml.parsers import expat

from dat_runtime.edge.gate_model.onnx_shapes import MAX_VALUE

MAX_LAYERS = 20_000
_MAX_DIGITS = 12
_MAX_RANK = 8

OPERATORS = frozenset(
    {
        *("Parameter", "Const", "Result", "Convert", "FakeQuantize"),
        *("Convolution", "GroupConvolution", "MatMul", "MaxPool", "AvgPool", "Interpolate"),
        *("Add", "Subtract", "Multiply", "Divide"),
        *("Sigmoid", "Swish", "HSwish", "HardSigmoid", "ReLU", "PReLU", "Clamp", "SoftMax"),
        *("Concat", "Split", "VariadicSplit", "Slice", "StridedSlice"),
        *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Pad"),
        # Of constant shapes, which OpenVINO's reader of ONNX works out at every bias.
        *("ShapeOf", "Broadcast"),
    }
)
"""What OpenVINO makes of the operators of `onnx_shapes`, in float32 and in INT8."""

_TAGS = frozenset({"net", "layers", "layer", "data", "input", "output", "port", "dim"})
_LINKS = frozenset({"edges", "edge"})
_FREE = "rt_info"
"""Below it stands what no one computes with."""

_CONST_BYTES = {"f32": 4, "f16": 2, "i64": 8, "i32": 4, "i8": 1, "u8": 1}


class _Reader:
    """Follows the tags of one file and raises at the first that a gate does not have."""

    def __init__(self, side: int, weight_bytes: int):
        self._pixels = side * side
        self._weight_bytes = weight_bytes
        self._free = 0
        self._layers = 0
        self._elements = 1
        self._rank = 0
        self._text: list[str] | None = None
        self._type = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self._free or tag == _FREE:
            self._free += 1
        elif tag == "layer":
            self._layer(attributes)
        elif tag == "data":
            self._data(attributes)
        elif tag == "port":
            self._elements, self._rank = 1, 0
        elif tag == "dim":
            self._text = []
        elif tag not in _TAGS | _LINKS:
            raise ValueError(f"holds <{tag:.40}>, which no gate needs")

    def end(self, tag: str) -> None:
        if self._free:
            self._free -= 1
        elif tag == "dim" and self._text is not None:
            self._dimension("".join(self._text))
            self._text = None

    def text(self, text: str) -> None:
        if self._text is not None and len(self._text) <= _MAX_DIGITS:
            self._text.append(text)

    def refuse(self, *_: Any) -> None:
        raise ValueError("defines a document type or entities")

    def _layer(self, attributes: dict[str, str]) -> None:
        self._layers += 1
        self._type = attributes.get("type", "")
        if self._layers > MAX_LAYERS:
            raise ValueError(f"more than {MAX_LAYERS:,} layers")
        version = attributes.get("version", "")
        if self._type not in OPERATORS or not version.startswith("opset"):
            raise ValueError(
                f"layer {self._layers}, {self._type[:40]} of {version[:40]!r}: a gate has no such "
                f"operator, only {', '.join(sorted(OPERATORS))}"
            )

    def _data(self, attributes: dict[str, str]) -> None:
        if self._type != "Const":
            return
        shape = [_number(part) for part in attributes.get("shape", "").split(",") if part.strip()]
        item = _CONST_BYTES.get(attributes.get("element_type", ""))
        offset, size = _number(attributes.get("offset", "")), _number(attributes.get("size", ""))
        if item is None or size != math.prod(shape) * item or len(shape) > _MAX_RANK:
            raise ValueError(f"layer {self._layers}: a constant whose size is not its shape's")
        if offset + size > self._weight_bytes:
            raise ValueError(f"layer {self._layers}: a constant behind the end of the weights")

    def _dimension(self, text: str) -> None:
        self._rank += 1
        self._elements *= _number(text)
        # A gate's weights are bounded by their file, and no layer has more than this many values.
        if self._rank > _MAX_RANK or self._elements > max(
            MAX_VALUE * self._pixels, self._weight_bytes
        ):
            raise ValueError(f"layer {self._layers}: a value larger than any gate's")


def _number(text: str) -> int:
    text = text.strip()
    if not text.isdecimal() or len(text) > _MAX_DIGITS:
        raise ValueError(f"{text!r:.24} is no fixed length")
    return int(text)


def check_ir(content: bytes, side: int, weight_bytes: int) -> None:
    """Refuse a graph with operators, tags or sizes that no gate has.

    Raises:
        ValueError: names the layer and what is wrong with it.
    """
    reader = _Reader(side, weight_bytes)
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    if not content.startswith(b"<?xml"):
        raise ValueError(
            "is not XML in UTF-8"
        )  # by a mark at its start another reader would choose
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ValueError(f"is not XML ({error})") from None
