"""The shape of each operator by hand, and the bounds of sizes and work."""

import math
from typing import Any

import pytest

from dat_runtime.edge.gate_model import onnx_shapes as module
from dat_runtime.edge.gate_model.onnx_graph import Constant, Graph, Node
from dat_runtime.edge.gate_model.onnx_shapes import (
    MAX_ALL,
    MAX_STEP,
    MAX_VALUE,
    MAX_WORK,
    check_graph,
)

Shape = tuple[int, ...]


def shape_of(
    operator: str,
    *shapes: Shape,
    given: dict[int, Any] | None = None,
    gives: int = 1,
    **attributes: Any,
) -> list[Shape]:
    """What an operator gives for inputs of these shapes; `given`: constants by place."""
    names = tuple(f"i{n}" for n in range(len(shapes)))
    inputs, values = list(names), dict(zip(names, shapes, strict=True))
    constants: dict[str, Constant] = {}
    for place, content in (given or {}).items():
        while len(inputs) <= place:
            inputs.append("")
        inputs[place] = f"c{place}"
        constants[f"c{place}"] = Constant((len(content),), tuple(content))
        values[f"c{place}"] = (len(content),)
    outputs = tuple(f"o{n}" for n in range(gives))
    return module._results(Node(operator, tuple(inputs), outputs, attributes), values, constants)


def error_of(*about: Any, **how: Any) -> str:
    with pytest.raises((ValueError, IndexError, TypeError)) as caught:
        shape_of(*about, **how)
    return str(caught.value)


IMAGE = (1, 3, 20, 30)


@pytest.mark.parametrize("operator", ["Cast", "Relu", "Sigmoid", "Softmax", "QuantizeLinear"])
def test_most_operators_change_no_shape(operator: str) -> None:
    assert shape_of(operator, IMAGE, (1,)) == [IMAGE]


@pytest.mark.parametrize(
    ("shapes", "result"),
    [
        ([(2, 3), (2, 3)], (2, 3)),
        ([(2, 1), (1, 3)], (2, 3)),
        ([(4, 2, 3), (3,)], (4, 2, 3)),
        ([(), (5,)], (5,)),
        ([(0, 3), (1, 3)], None),
        ([(2, 3), (2, 4)], None),
        ([(2, 3), (3, 3)], None),
    ],
)
def test_lengths_are_equal_or_one_counted_from_the_last(
    shapes: list[Shape], result: Shape | None
) -> None:
    if result is not None:
        assert shape_of("Add", *shapes) == [result]
    else:
        words = " and ".join(str(list(shape)) for shape in shapes)
        assert error_of("Add", *shapes) == f"shapes {words} do not fit"


@pytest.mark.parametrize(
    ("weights", "how", "result"),
    [
        ((8, 3, 3, 3), {}, (1, 8, 18, 28)),
        ((8, 3, 3, 3), {"pads": [1, 1, 1, 1]}, (1, 8, 20, 30)),
        ((8, 3, 3, 3), {"pads": [1, 2, 3, 4]}, (1, 8, 22, 34)),
        ((8, 3, 3, 3), {"strides": [2, 3]}, (1, 8, 9, 10)),
        ((8, 3, 3, 3), {"dilations": [2, 3]}, (1, 8, 16, 24)),
        ((8, 1, 3, 3), {"group": 3}, (1, 8, 18, 28)),
        ((8, 3, 20, 30), {}, (1, 8, 1, 1)),
        ((8, 3, 1, 1), {"auto_pad": "NOTSET"}, (1, 8, 20, 30)),
    ],
)
def test_a_convolution_slides_over_what_is_padded(
    weights: Shape, how: dict[str, Any], result: Shape
) -> None:
    assert shape_of("Conv", IMAGE, weights, **how) == [result]
    assert shape_of("Conv", IMAGE, weights, (8,), **how) == [result]


@pytest.mark.parametrize(
    ("weights", "how", "words"),
    [
        ((8, 2, 3, 3), {}, "weights [8, 2, 3, 3] do not fit [1, 3, 20, 30]"),
        ((8, 3, 3, 3), {"group": 3}, "weights [8, 3, 3, 3] do not fit"),
        ((8, 3, 3, 3), {"group": 0}, "weights [8, 3, 3, 3] do not fit"),
        ((8, 3, 3), {}, "weights [8, 3, 3] do not fit"),
        ((8, 3, 21, 3), {}, "a kernel of 21 does not fit into 20"),
        ((8, 3, 3, 3), {"strides": [0, 1]}, "a kernel of 3 does not fit into 20"),
        ((8, 3, 3, 3), {"auto_pad": "SAME_UPPER"}, "expected pads that are stated"),
        ((8, 3, 3, 3), {"ceil_mode": 1}, "expected pads that are stated"),
        ((8, 3, 3, 3), {"pads": [1, 1]}, "pads is [1, 1], expected 4 numbers"),
        ((8, 3, 3, 3), {"strides": [1, -1]}, "strides is [1, -1], expected numbers from 0 to 4096"),
        ((8, 3, 3, 3), {"dilations": [1, 4097]}, "expected numbers from 0 to 4096"),
        ((8, 3, 3, 3), {"strides": 2}, "strides is 2, expected 2 numbers"),
        ((8, 3, 3, 3), {"group": 1.0}, "group is not a whole number"),
        ((8, 3, 3, 3), {"group": True}, "group is not a whole number"),
    ],
)
def test_a_convolution_that_does_not_fit_is_told(
    weights: Shape, how: dict[str, Any], words: str
) -> None:
    assert words in error_of("Conv", IMAGE, weights, **how)


def test_the_largest_step_is_just_taken() -> None:
    pads = [MAX_STEP] * 4
    assert shape_of("Conv", IMAGE, (8, 3, 1, 1), pads=pads) == [(1, 8, 8_212, 8_222)]


def test_a_pool_keeps_its_channels() -> None:
    for operator in ("AveragePool", "MaxPool"):
        assert shape_of(operator, IMAGE, kernel_shape=[5, 2]) == [(1, 3, 16, 29)]
        assert shape_of(operator, IMAGE) == [IMAGE]
    assert "expected 2 numbers" in error_of("MaxPool", IMAGE, kernel_shape=[5])


@pytest.mark.parametrize(
    ("shapes", "how", "result"),
    [
        ([(1, 2, 5), (1, 3, 5)], {"axis": 1}, (1, 5, 5)),
        ([(1, 2, 5), (1, 2, 6)], {"axis": -1}, (1, 2, 11)),
        ([(1, 2), (4, 2), (2, 2)], {}, (7, 2)),
    ],
)
def test_what_is_joined_is_as_long_as_all_parts(
    shapes: list[Shape], how: dict[str, Any], result: Shape
) -> None:
    assert shape_of("Concat", *shapes, **how) == [result]


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        (0, "[1, 3] cannot be joined to [1, 2]"),
        (2, "axis 2 of 2 dimensions"),
        (-3, "axis -3 of 2 dimensions"),
    ],
)
def test_what_cannot_be_joined_is_told(axis: int, words: str) -> None:
    assert error_of("Concat", (1, 2), (1, 3), axis=axis) == words


@pytest.mark.parametrize(
    ("one", "other", "result"),
    [
        ((4, 5), (5, 6), (4, 6)),
        ((2, 1, 4, 5), (3, 5, 6), (2, 3, 4, 6)),
        ((5,), (5, 6), None),
        ((4, 5), (5,), None),
        ((4, 5), (4, 6), None),
    ],
)
def test_matrices_are_multiplied_row_by_column(
    one: Shape, other: Shape, result: Shape | None
) -> None:
    if result is not None:
        assert shape_of("MatMul", one, other) == [result]
    else:
        words = f"{list(one)} cannot be multiplied with {list(other)}"
        assert error_of("MatMul", one, other) == words


def test_axes_change_places_or_are_reversed() -> None:
    assert shape_of("Transpose", IMAGE, perm=[0, 2, 3, 1]) == [(1, 20, 30, 3)]
    assert shape_of("Transpose", (2, 3, 4)) == [(4, 3, 2)]
    for order in ([0, 1, 2], [0, 1, 1, 2], [0, 1, 2, 4]):
        assert error_of("Transpose", IMAGE, perm=order) == f"perm {order} of [1, 3, 20, 30]"


@pytest.mark.parametrize(
    ("wanted", "result"),
    [
        ([1, 1800], (1, 1800)),
        ([-1], (1800,)),
        ([0, -1, 30], (1, 60, 30)),
        ([0, 0, 0, 0], IMAGE),
        ([1800, 1, 1, 1, 1], (1800, 1, 1, 1, 1)),
    ],
)
def test_a_new_shape_holds_as_many_values(wanted: list[int], result: Shape) -> None:
    assert shape_of("Reshape", IMAGE, given={1: wanted}) == [result]


@pytest.mark.parametrize(
    ("wanted", "how", "words"),
    [
        ([1799], {}, "[1, 3, 20, 30] cannot become [1799]"),
        ([7, -1], {}, "[1, 3, 20, 30] cannot become [7, -1]"),
        ([-1, -1], {}, "no new shape: [-1, -1]"),
        ([-2, 900], {}, "no new shape: [-2, 900]"),
        ([1800], {"allowzero": 1}, "no new shape: [1800]"),
        ([1800.5], {}, "input 1 holds no whole numbers"),
    ],
)
def test_no_other_shape_is_taken(wanted: list[float], how: dict[str, Any], words: str) -> None:
    assert error_of("Reshape", IMAGE, given={1: wanted}, **how) == words


def test_a_value_of_no_elements_may_be_reshaped() -> None:
    assert shape_of("Reshape", (0, 3), given={1: [-1, 3]}) == [(0, 3)]


@pytest.mark.parametrize(
    ("given", "gives", "how", "result"),
    [
        ({1: [4, 16]}, 2, {"axis": 2}, [(1, 3, 4, 30), (1, 3, 16, 30)]),
        ({}, 3, {"axis": -1}, [(1, 3, 20, 10)] * 3),
        ({}, 3, {"axis": 2}, [(1, 3, 7, 30), (1, 3, 7, 30), (1, 3, 6, 30)]),
        ({}, 1, {}, [IMAGE]),
        ({}, 2, {"axis": 2, "split": [20, 0]}, [IMAGE, (1, 3, 0, 30)]),
    ],
)
def test_parts_are_stated_or_equal(
    given: dict[int, Any], gives: int, how: dict[str, Any], result: list[Shape]
) -> None:
    assert shape_of("Split", IMAGE, given=given, gives=gives, **how) == result


@pytest.mark.parametrize(
    ("parts", "gives", "words"),
    [
        ([4, 15], 2, "parts [4, 15] of 20"),
        ([21, -1], 2, "parts [21, -1] of 20"),
        ([4, 16], 3, "3 outputs, expected 2"),
    ],
)
def test_parts_that_are_not_all_are_told(parts: list[int], gives: int, words: str) -> None:
    assert error_of("Split", IMAGE, given={1: parts}, gives=gives, axis=2) == words


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ({1: [2], 2: [10], 3: [2]}, (1, 3, 8, 30)),
        ({1: [0, 1], 2: [1, 99]}, (1, 2, 20, 30)),
        ({1: [-1], 2: [-99], 3: [-1], 4: [-4]}, (1, 3, 20, 8)),
        ({1: [1, 1], 2: [9, 9], 3: [2, 3], 4: [2, 5]}, (1, 3, 4, 2)),
    ],
)
def test_a_slice_is_pythons(given: dict[int, Any], result: Shape) -> None:
    assert shape_of("Slice", IMAGE, given=given) == [result]


def test_a_slice_whose_parts_do_not_fit_is_told() -> None:
    assert "zip()" in error_of("Slice", IMAGE, given={1: [1, 2], 2: [9]})
    assert error_of("Slice", IMAGE, given={1: [1], 2: [9], 3: [4]}) == "axis 4 of 4 dimensions"
    unknown = "input 1 is no small constant, so its shape is unknown"
    assert error_of("Slice", IMAGE, (1,)) == unknown


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ({2: [1, 1, 2, 1.7]}, (1, 3, 40, 51)),
        ({2: [1, 1, 0.5, 1]}, (1, 3, 10, 30)),
        ({3: [1, 3, 7, 8]}, (1, 3, 7, 8)),
        ({2: [1, 1, 4096, 1]}, (1, 3, 81_920, 30)),
    ],
)
def test_a_size_is_scaled_or_stated(given: dict[int, Any], result: Shape) -> None:
    assert shape_of("Resize", IMAGE, given=given) == [result]


@pytest.mark.parametrize("given", [{}, {2: [1, 1]}, {2: [1, 1, 0, 1]}, {2: [1, 1, 4097, 1]}])
def test_scales_that_are_none_are_told(given: dict[int, Any]) -> None:
    words = "expected as many constant scales as dimensions"
    assert error_of("Resize", IMAGE, given=given) == words


def test_pads_are_added_on_both_sides() -> None:
    pads = [0, 1, 2, 3, 4, 5, 6, 7]
    assert shape_of("Pad", IMAGE, given={1: pads}) == [(5, 9, 28, 40)]
    for wrong in (pads[:7], [*pads[:7], -1], [*pads[:7], 4097]):
        assert error_of("Pad", IMAGE, given={1: wrong}) == f"pads {wrong} of [1, 3, 20, 30]"
    assert "pads" in error_of("Pad", IMAGE, given={1: pads, 3: [1]})  # of some axes only
    assert shape_of("Pad", IMAGE, given={1: [*pads[:7], 4096]}) == [(5, 9, 28, 4_129)]


def test_lengths_of_one_come_and_go() -> None:
    assert shape_of("Unsqueeze", (3, 4), given={1: [0, -1]}) == [(1, 3, 4, 1)]
    assert shape_of("Unsqueeze", (3, 4), axes=[2, 1]) == [(3, 1, 1, 4)]
    assert error_of("Unsqueeze", (3, 4), axes=[3]) == "axis 3 of 3 dimensions"
    assert shape_of("Squeeze", (1, 3, 1, 4), given={1: [0, -2]}) == [(3, 4)]
    assert shape_of("Squeeze", (1, 3, 1, 4), axes=[2]) == [(1, 3, 4)]
    assert error_of("Squeeze", (1, 3), axes=[1, 0]) == "axes [0, 1] of [1, 3] are not 1 long"


def test_what_no_gate_has_is_told() -> None:
    words = "a gate has no such operator, only Add, AveragePool, BatchNormalization"
    assert error_of("Loop", IMAGE).startswith(words)
    assert error_of("Relu", IMAGE, gives=2) == "2 outputs, expected 1"
    node = Node("Relu", ("", "x"), ("y",), {})
    with pytest.raises(ValueError, match=r"^takes 'x', which no node before it gives$"):
        module._results(node, {}, {})


def test_a_constant_in_the_graph_is_known_to_those_behind_it() -> None:
    small = Constant((2,), (6, 300))
    nodes = (
        Node("Constant", (), ("to",), {"value": small}),
        Node("Reshape", ("images", "to"), ("answer",), {}),
    )
    assert check_graph(Graph("images", IMAGE, "answer", nodes)) == (6, 300)
    for attributes, outputs in (
        ({}, ("to",)),
        ({"value": 3}, ("to",)),
        ({"value": small}, ("a", "b")),
    ):
        broken = (Node("Constant", (), outputs, attributes),)
        words = r"^node 0, Constant: expected one tensor as value$"
        with pytest.raises(ValueError, match=words):
            check_graph(Graph("images", IMAGE, "answer", broken))


def relu(name: str = "images", to: str = "answer") -> Node:
    return Node("Relu", (name,), (to,), {})


def checked(*nodes: Node, shape: Shape = (1, 3, 4, 4), **constants: Constant) -> Shape:
    return check_graph(Graph("images", shape, "answer", nodes, constants))


def refused(*nodes: Node, **how: Any) -> str:
    try:
        shape = checked(*nodes, **how)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{shape} was not refused")


def test_names_are_given_once_and_the_answer_has_one() -> None:
    assert checked(relu()) == (1, 3, 4, 4)
    assert refused(relu(to="other")) == "no node gives the output 'answer'"
    assert refused(relu(to="images")) == "node 0, Relu: two values are named 'images'"
    same = Constant((1,), None)
    assert refused(relu(), images=same) == "two values are named 'images'"
    # An output that nobody takes has no name.
    nodes = [relu(to=""), relu(to=""), relu()]
    assert checked(*nodes) == (1, 3, 4, 4)


def enlarged(length: int) -> Node:
    return Node("Resize", ("images", "", "", "to"), ("answer",), {})


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)])
def test_no_value_is_larger_than_any_gates(more: int, fits: bool) -> None:
    """Of an input of 4 x 4 pixels: 128 values for each."""
    elements = MAX_VALUE * 16 + more
    to = Constant((1,), (elements,))
    if fits:
        assert checked(enlarged(elements), to=to) == (elements,)
    else:
        words = f"node 0, Resize: a value of shape [{elements}] is larger than any gate's"
        assert refused(enlarged(elements), to=to) == words


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)])
def test_all_values_together_are_bounded(more: int, fits: bool) -> None:
    each = MAX_VALUE * 16
    to, rest = Constant((1,), (each,)), Constant((1,), (each - 1 + more,))
    one = Constant((1,), (1,))
    number = MAX_ALL // MAX_VALUE
    nodes = [Node("Resize", ("images", "", "", "to"), (f"v{n}",), {}) for n in range(number - 1)]
    nodes.append(Node("Resize", ("images", "", "", "rest"), ("v",), {}))
    nodes.append(Node("Resize", ("images", "", "", "one"), ("answer",), {}))
    how: dict[str, Any] = {"to": to, "rest": rest, "one": one}
    if fits:
        assert checked(*nodes, **how) == (1,)
    else:
        words = f"node {number}, Resize: more memory or work than any gate needs up to here"
        assert refused(*nodes, **how) == words


@pytest.mark.parametrize(
    ("node", "shapes", "work"),
    [
        (Node("Conv", ("x", "w"), ("y",), {}), {"x": (1, 3, 4, 4), "w": (8, 3, 2, 2)}, 12 * 72),
        (Node("MatMul", ("x", "w"), ("y",), {}), {"x": (7, 5), "w": (5, 6)}, 5 * 42),
        (Node("MaxPool", ("x",), ("y",), {"kernel_shape": [2, 3]}), {"x": (1, 3, 4, 4)}, 6 * 18),
        (
            Node("AveragePool", ("x",), ("y",), {"kernel_shape": [2, 2]}),
            {"x": (1, 3, 4, 4)},
            4 * 27,
        ),
        (Node("Relu", ("x",), ("y",), {}), {"x": (1, 3, 4, 4)}, 48),
    ],
)
def test_multiplications_are_counted(node: Node, shapes: dict[str, Shape], work: float) -> None:
    results = module._results(node, shapes, {})
    assert module._work(node, shapes, results) == work


@pytest.mark.parametrize(("columns", "fits"), [(10**12, True), (10**12 + 1, False)])
def test_work_is_bounded(columns: int, fits: bool) -> None:
    assert MAX_WORK == 1e12
    wide, tall = Constant((1, columns), None), Constant((columns, 1), None)
    node = Node("MatMul", ("wide", "tall"), ("answer",), {})
    if fits:
        assert checked(node, wide=wide, tall=tall) == (1, 1)
    else:
        words = "node 0, MatMul: more memory or work than any gate needs up to here"
        assert refused(node, wide=wide, tall=tall) == words


def test_work_adds_up_from_node_to_node() -> None:
    wide, tall = Constant((1, 6 * 10**11), None), Constant((6 * 10**11, 1), None)
    nodes = [Node("MatMul", ("wide", "tall"), (name,), {}) for name in ("one", "answer")]
    words = "node 1, MatMul: more memory or work than any gate needs up to here"
    assert refused(*nodes, wide=wide, tall=tall) == words


def test_pads_are_never_worked_out() -> None:
    words = "auto_pad or ceil_mode is set: expected pads that are stated"
    assert error_of("MaxPool", IMAGE, ceil_mode=1) == words


def test_shapes_that_no_library_takes_are_told() -> None:
    assert "no shape of at most 8 lengths" in refused(
        Node("Reshape", ("images", "to"), ("answer",), {}),
        to=Constant((9,), (48, *[1] * 8)),
    )
    assert math.prod(checked(relu(), shape=(1, 1, 1, 1))) == 1
