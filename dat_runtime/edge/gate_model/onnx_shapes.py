"""The operators that a gate may hold, and the shapes they give: memory and time before any run.

A model within every other check may still loop 1e12 times, or make 2 GB out of a hundred bytes. So
an operator that is not listed here is refused (no loops, no branches, nothing whose size depends on
values), every shape follows from the input's, and their sizes and multiplications are bounded.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dat_runtime.edge.gate_model.onnx_graph import Constant, Graph, Node, Shape, elements_of

MAX_VALUE = 128
"""Elements of one value, for each pixel of the input; YOLOv12s at 640 px has 8."""

MAX_ALL = 8192
"""Elements of all values together, for each pixel of the input; YOLOv12s at 640 px has 503."""

MAX_WORK = 1e12
"""Multiplications of one run; YOLOv12s at 640 px needs 1.2e10."""

MAX_STEP = 4096
"""Kernels, strides, pads and dilations; larger than any picture's part."""


@dataclass(frozen=True)
class Step:
    """A node with the shapes of its inputs, and their values where those are small constants."""

    node: Node
    shapes: tuple[Shape, ...]
    constants: tuple[tuple[float, ...] | None, ...]

    def whole(self, name: str, default: int) -> int:
        value = self.node.attributes.get(name, default)
        if type(value) is not int:
            raise ValueError(f"{name} is not a whole number")
        return value

    def steps(self, name: str, count: int, default: int) -> list[int]:
        """An attribute of so many strides, pads or the like."""
        values = self.node.attributes.get(name) or [default] * count
        if not isinstance(values, list) or len(values) != count:
            raise ValueError(f"{name} is {values!r:.80}, expected {count} numbers")
        if any(not 0 <= value <= MAX_STEP for value in values):
            raise ValueError(f"{name} is {values!r:.80}, expected numbers from 0 to {MAX_STEP}")
        return values

    def known(self, index: int, attribute: str = "") -> list[int]:
        """Whole numbers given as a constant input, or in older versions as an attribute."""
        if attribute in self.node.attributes:
            values: Sequence[float] = self.node.attributes[attribute]
        else:
            given = self.constants[index] if index < len(self.constants) else None
            if given is None:
                raise ValueError(f"input {index} is no small constant, so its shape is unknown")
            values = given
        if any(value != int(value) for value in values):
            raise ValueError(f"input {index} holds no whole numbers")
        return list(map(int, values))

    def has(self, index: int) -> bool:
        return index < len(self.node.inputs) and self.node.inputs[index] != ""


Rule = Callable[[Step], list[Shape]]


def check_graph(graph: Graph) -> Shape:
    """The shape of the model's answer, after every operator and every size were checked.

    Raises:
        ValueError: names the node, what is wrong with it, and what was expected.
    """
    pixels = math.prod(graph.input_shape[-2:])
    shapes = {name: constant.shape for name, constant in graph.constants.items()}
    constants = dict(graph.constants)
    _name(shapes, graph.input, graph.input_shape)
    total, work = 0, 0.0
    for number, node in enumerate(graph.nodes):
        where = f"node {number}, {node.operator[:40]}"
        try:
            results = _results(node, shapes, constants)
            for output, shape in zip(node.outputs, results, strict=True):
                elements = elements_of(shape)
                if elements > MAX_VALUE * pixels:
                    raise ValueError(f"a value of shape {list(shape)} is larger than any gate's")
                total += elements
                _name(shapes, output, shape)
        except (ValueError, TypeError, IndexError) as error:
            raise ValueError(f"{where}: {error}") from None
        work += _work(node, shapes, results)
        if total > MAX_ALL * pixels or work > MAX_WORK:
            raise ValueError(f"{where}: more memory or work than any gate needs up to here")
    if graph.output not in shapes:
        raise ValueError(f"no node gives the output {graph.output!r:.80}")
    return shapes[graph.output]


def _name(shapes: dict[str, Shape], name: str, shape: Shape) -> None:
    if name in shapes:
        raise ValueError(f"two values are named {name!r:.80}")
    if name:
        shapes[name] = shape


def _results(
    node: Node, shapes: Mapping[str, Shape], constants: dict[str, Constant]
) -> list[Shape]:
    rule = RULES.get(node.operator)
    if rule is None:
        raise ValueError(f"a gate has no such operator, only {', '.join(sorted(RULES))}")
    if node.operator == "Constant":
        constant = node.attributes.get("value")
        if not isinstance(constant, Constant) or len(node.outputs) != 1:
            raise ValueError("expected one tensor as value")
        constants[node.outputs[0]] = constant
        return [constant.shape]
    missing = [name for name in node.inputs if name and name not in shapes]
    if missing:
        raise ValueError(f"takes {missing[0]!r:.80}, which no node before it gives")
    known = [constants[name].values if name in constants else None for name in node.inputs]
    given = tuple(shapes.get(name, ()) for name in node.inputs)
    results = rule(Step(node, given, tuple(known)))
    if len(results) != len(node.outputs):
        raise ValueError(f"{len(node.outputs)} outputs, expected {len(results)}")
    return results


def _work(node: Node, shapes: Mapping[str, Shape], results: Sequence[Shape]) -> float:
    """Multiplications, in floats: they may be more than any integer of the machine."""
    each = 1.0
    if node.operator == "Conv":
        each = float(math.prod(shapes[node.inputs[1]][1:]))
    elif node.operator == "MatMul":
        each = float(shapes[node.inputs[0]][-1])
    elif node.operator in ("AveragePool", "MaxPool"):
        each = float(math.prod(node.attributes["kernel_shape"]))
    return each * sum(float(math.prod(shape)) for shape in results)


def _same(step: Step) -> list[Shape]:
    return [step.shapes[0]]


def _broadcast(step: Step) -> list[Shape]:
    return [_together(step.shapes)]


def _together(shapes: Sequence[Shape]) -> Shape:
    """NumPy's rule: lengths are equal or 1, counted from the last."""
    lengths = []
    for column in itertools.zip_longest(*map(reversed, shapes), fillvalue=1):
        longest = max(column)
        if any(length not in (1, longest) for length in column):
            raise ValueError(f"shapes {' and '.join(map(str, map(list, shapes)))} do not fit")
        lengths.append(longest)
    return tuple(reversed(lengths))


def _conv(step: Step) -> list[Shape]:
    (batch, channels, *inner), (filters, depth, *kernel) = step.shapes[:2]
    group = step.whole("group", 1)
    if group < 1 or depth * group != channels or len(kernel) != len(inner):
        raise ValueError(f"weights {list(step.shapes[1])} do not fit {list(step.shapes[0])}")
    return [(batch, filters, *_slid(step, inner, kernel))]


def _pool(step: Step) -> list[Shape]:
    batch, channels, *inner = step.shapes[0]
    kernel = step.steps("kernel_shape", len(inner), 1)
    return [(batch, channels, *_slid(step, inner, kernel))]


def _slid(step: Step, inner: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """The lengths over which a kernel slides; pads are stated, and never worked out."""
    if step.node.attributes.get("auto_pad", "NOTSET") != "NOTSET" or step.whole("ceil_mode", 0):
        raise ValueError("auto_pad or ceil_mode is set: expected pads that are stated")
    count = len(inner)
    strides, dilations = step.steps("strides", count, 1), step.steps("dilations", count, 1)
    pads = step.steps("pads", 2 * count, 0)
    lengths = []
    for axis, length in enumerate(inner):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        room = length + pads[axis] + pads[axis + count] - reach
        if room < 0 or strides[axis] < 1:
            raise ValueError(f"a kernel of {kernel[axis]} does not fit into {length}")
        lengths.append(room // strides[axis] + 1)
    return lengths


def _concat(step: Step) -> list[Shape]:
    first = step.shapes[0]
    axis = _axis(step.whole("axis", 0), len(first))
    length = 0
    for shape in step.shapes:
        if shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise ValueError(f"{list(shape)} cannot be joined to {list(first)}")
        length += shape[axis]
    return [(*first[:axis], length, *first[axis + 1 :])]


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of {rank} dimensions")
    return axis % rank


def _matmul(step: Step) -> list[Shape]:
    one, other = step.shapes
    if len(one) < 2 or len(other) < 2 or one[-1] != other[-2]:
        raise ValueError(f"{list(one)} cannot be multiplied with {list(other)}")
    return [(*_together((one[:-2], other[:-2])), one[-2], other[-1])]


def _transpose(step: Step) -> list[Shape]:
    (shape,) = step.shapes
    order = step.node.attributes.get("perm") or list(range(len(shape)))[::-1]
    if sorted(order) != list(range(len(shape))):
        raise ValueError(f"perm {order!r:.80} of {list(shape)}")
    return [tuple(shape[axis] for axis in order)]


def _reshape(step: Step) -> list[Shape]:
    shape, wanted = step.shapes[0], step.known(1)
    if step.whole("allowzero", 0) or wanted.count(-1) > 1 or min(wanted, default=0) < -1:
        raise ValueError(f"no new shape: {wanted!r:.80}")
    lengths = []
    for axis, length in enumerate(wanted):
        lengths.append(shape[axis] if length == 0 else length)
    if -1 in lengths:
        rest = math.prod(length for length in lengths if length != -1)
        lengths[lengths.index(-1)] = math.prod(shape) // max(rest, 1)
    if math.prod(lengths) != math.prod(shape):
        raise ValueError(f"{list(shape)} cannot become {wanted!r:.80}")
    return [tuple(lengths)]


def _split(step: Step) -> list[Shape]:
    shape, count = step.shapes[0], len(step.node.outputs)
    axis = _axis(step.whole("axis", 0), len(shape))
    if step.has(1) or "split" in step.node.attributes:
        parts = step.known(1, "split")
    else:
        most = -(-shape[axis] // count)
        parts = [most] * (count - 1) + [shape[axis] - most * (count - 1)]
    if sum(parts) != shape[axis] or min(parts) < 0:
        raise ValueError(f"parts {parts!r:.80} of {shape[axis]}")
    return [(*shape[:axis], part, *shape[axis + 1 :]) for part in parts]


def _slice(step: Step) -> list[Shape]:
    shape = list(step.shapes[0])
    starts, ends = step.known(1), step.known(2)
    axes = step.known(3) if step.has(3) else list(range(len(starts)))
    strides = step.known(4) if step.has(4) else [1] * len(starts)
    for start, end, axis, stride in zip(starts, ends, axes, strides, strict=True):
        at = _axis(axis, len(shape))
        shape[at] = len(range(shape[at])[slice(start, end, stride)])
    return [tuple(shape)]


def _resize(step: Step) -> list[Shape]:
    shape = step.shapes[0]
    if step.has(3):
        return [tuple(step.known(3))]
    scales = step.constants[2] if step.has(2) else None
    if scales is None or len(scales) != len(shape) or not all(0 < s <= MAX_STEP for s in scales):
        raise ValueError("expected as many constant scales as dimensions")
    return [tuple(math.floor(n * s) for n, s in zip(shape, scales, strict=True))]


def _pad(step: Step) -> list[Shape]:
    shape, pads = step.shapes[0], step.known(1)
    if step.has(3) or len(pads) != 2 * len(shape) or any(not 0 <= n <= MAX_STEP for n in pads):
        raise ValueError(f"pads {pads!r:.80} of {list(shape)}")
    rank = len(shape)
    return [tuple(n + pads[axis] + pads[axis + rank] for axis, n in enumerate(shape))]


def _unsqueeze(step: Step) -> list[Shape]:
    shape = list(step.shapes[0])
    axes = step.known(1, "axes")
    rank = len(shape) + len(axes)
    for axis in sorted(_axis(axis, rank) for axis in axes):
        shape.insert(axis, 1)
    return [tuple(shape)]


def _squeeze(step: Step) -> list[Shape]:
    shape = step.shapes[0]
    axes = {_axis(axis, len(shape)) for axis in step.known(1, "axes")}
    if any(shape[axis] != 1 for axis in axes):
        raise ValueError(f"axes {sorted(axes)} of {list(shape)} are not 1 long")
    return [tuple(length for axis, length in enumerate(shape) if axis not in axes)]


def _constant(step: Step) -> list[Shape]:
    raise AssertionError("read before any rule is asked")


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Add", "Div", "Mul", "Sub"), _broadcast),
    **dict.fromkeys(("Cast", "Clip", "Identity", "Softmax"), _same),
    **dict.fromkeys(("HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid"), _same),
    **dict.fromkeys(("BatchNormalization", "DequantizeLinear", "QuantizeLinear"), _same),
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "MatMul": _matmul,
    **dict.fromkeys(("AveragePool", "MaxPool"), _pool),
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""What the exports of YOLO detectors consist of, in float and with quantised weights."""
