"""What is read of an `.onnx` file, from bytes that are put together here."""

import struct
from typing import Any

import pytest

from dat_runtime.edge.gate_model import onnx_graph as module
from dat_runtime.edge.gate_model.onnx_graph import Constant, Node, elements_of, read_graph


def number(value: int) -> bytes:
    content = b""
    value %= 1 << 64
    while value >= 0x80:
        content += bytes([value & 0x7F | 0x80])
        value >>= 7
    return content + bytes([value])


def fields(*parts: tuple[int, Any]) -> bytes:
    """A message: whole numbers, texts and bytes, and floats, by their field's number."""
    content = b""
    for place, value in parts:
        if isinstance(value, int):
            content += number(place << 3) + number(value)
        elif isinstance(value, float):
            content += number(place << 3 | 5) + struct.pack("<f", value)
        else:
            data = value.encode() if isinstance(value, str) else value
            content += number(place << 3 | 2) + number(len(data)) + data
    return content


def value(name: str, *lengths: int) -> bytes:
    shape = fields(*[(1, fields((1, length))) for length in lengths])
    return fields((1, name), (2, fields((1, fields((1, 1), (2, shape))))))


def tensor(name: str, lengths: tuple[int, ...], kind: int, *held: tuple[int, Any]) -> bytes:
    return fields(*[(1, length) for length in lengths], (2, kind), (8, name), *held)


OPSET = (8, fields((2, 17)))
IMAGES, ANSWER = (11, value("images", 1, 3, 4, 4)), (12, value("answer", 1, 6))


def model(*parts: tuple[int, Any], opsets: tuple[tuple[int, Any], ...] = (OPSET,)) -> bytes:
    graph = fields(IMAGES, ANSWER, *parts)
    return fields((1, 8), (2, "us"), *opsets, (7, graph))


def error_of(content: bytes) -> str:
    try:
        read_graph(content)
    except ValueError as error:
        return str(error)
    raise AssertionError("it was not refused")


def constant(*about: Any) -> Constant:
    return read_graph(model((5, tensor("c", *about)))).constants["c"]


def test_a_graph_states_what_goes_in_and_out_and_its_nodes_in_order() -> None:
    first = fields(
        (1, "images"), (1, ""), (2, "a"), (2, "b"), (3, "name"), (4, "Split"), (7, "ai.onnx")
    )
    second = fields((1, "a"), (2, "answer"), (4, "Relu"), (7, ""))
    graph = read_graph(model((1, first), (1, second), (2, "gate")))
    assert (graph.input, graph.input_shape, graph.output) == ("images", (1, 3, 4, 4), "answer")
    assert graph.nodes == (
        Node("Split", ("images", ""), ("a", "b"), {}),
        Node("Relu", ("a",), ("answer",), {}),
    )
    assert graph.constants == {}


@pytest.mark.parametrize(
    ("part", "held"),
    [
        ([(3, 7)], 7),
        ([(3, -7), (20, 2)], -7),
        ([(4, "NOTSET")], "NOTSET"),
        ([(5, tensor("", (2,), 7, (7, 5), (7, 6)))], Constant((2,), (5, 6))),
        ([(8, 3), (8, 4)], [3, 4]),
        ([(8, number(3) + number(400))], [3, 400]),
        ([], []),
        ([(2, 0.5)], None),
        ([(7, 0.5), (7, 1.5)], None),
    ],
)
def test_an_attribute_is_what_a_shape_may_depend_on(part: list[Any], held: Any) -> None:
    node = fields((4, "Conv"), (5, fields((1, "how"), *part)))
    assert read_graph(model((1, node))).nodes[0].attributes == {"how": held}


def test_an_attribute_stands_once() -> None:
    how = (5, fields((1, "how"), (3, 1)))
    assert error_of(model((1, fields((4, "Conv"), how, how)))) == "a node states how twice"


RAW = struct.pack("<3f", 0.5, 1, 2)


@pytest.mark.parametrize(
    ("kind", "held", "values"),
    [
        (1, [(9, RAW)], (0.5, 1, 2)),
        (1, [(4, RAW)], (0.5, 1, 2)),
        (2, [(9, b"\x01\x02\xff")], (1, 2, 255)),
        (3, [(9, b"\x01\x02\xff")], (1, 2, -1)),
        (6, [(9, struct.pack("<3i", 1, -2, 3))], (1, -2, 3)),
        (6, [(5, 1), (5, -2), (5, 3)], (1, -2, 3)),
        (7, [(9, struct.pack("<3q", 1, -2, 1 << 40))], (1, -2, 1 << 40)),
        (7, [(7, 1), (7, -2), (7, 3)], (1, -2, 3)),
    ],
)
def test_small_constants_have_their_values(kind: int, held: list[Any], values: Any) -> None:
    assert constant((3,), kind, *held) == Constant((3,), values)


@pytest.mark.parametrize(("length", "known"), [(64, True), (65, False)])
def test_of_large_constants_only_the_shape_is_kept(length: int, known: bool) -> None:
    found = constant((length,), 2, (9, b"\x07" * length))
    assert found == Constant((length,), (7,) * length if known else None)


def test_a_constant_may_be_one_number_or_none() -> None:
    assert constant((), 7, (7, 9)) == Constant((), (9,))
    assert constant((0,), 1) == Constant((0,), ())
    assert constant((2, 3), 2, (9, b"\x01" * 6)).shape == (2, 3)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        (((3,), 10, (9, b"123456")), "tensor 'c' is of type 10, expected float32, int8"),
        (((3,), 1, (9, RAW[:8])), "tensor 'c' states [3] and holds 2 values"),
        (((3,), 1), "tensor 'c' states [3] and holds 0 values"),
        (((2,), 1, (9, RAW)), "tensor 'c' states [2] and holds 3 values"),
        (((3,), 1, (9, RAW + b"x")), "tensor 'c' holds no whole values in one field"),
        (((3,), 1, (4, RAW + b"x")), "tensor 'c' holds no whole values in one field"),
        (((3,), 1, (9, RAW), (4, RAW)), "tensor 'c' holds no whole values in one field"),
        (((1,), 6, (5, 1), (7, 1)), "tensor 'c' holds no whole values in one field"),
        (((1,), 7, (9, bytes(8)), (7, 1)), "tensor 'c' holds no whole values in one field"),
        (((-1,), 2, (9, b"")), "no shape of at most 8 lengths: [-1]"),
        (((1,) * 9, 2, (9, b"1")), f"no shape of at most 8 lengths: {[1] * 9}"),
    ],
)
def test_a_constant_holds_what_it_states(about: Any, words: str) -> None:
    assert words in error_of(model((5, tensor("c", *about))))


def test_a_tensor_without_a_type_is_refused() -> None:
    words = "tensor 'c' is of type None, expected float32, int8, int32, int64"
    assert error_of(model((5, fields((8, "c"))))) == words


def test_two_constants_of_one_name_are_refused() -> None:
    one = (5, tensor("c", (1,), 7, (7, 1)))
    assert error_of(model(one, one)) == "two constants are named 'c'"


def test_lengths_are_counted_exactly() -> None:
    assert elements_of((2, 3, 4)) == 24
    assert elements_of(()) == 1
    assert elements_of((1 << 40, 1 << 40)) == 1 << 80
    with pytest.raises(ValueError, match=rf"^no shape of at most 8 lengths: \[{'1, ' * 8}1\]$"):
        elements_of((1,) * 20)


@pytest.mark.parametrize(("version", "fits"), [(10, False), (11, True), (23, True), (24, False)])
def test_versions_whose_shapes_are_known(version: int, fits: bool) -> None:
    content = model(opsets=((8, fields((1, "ai.onnx"), (2, version))),))
    if fits:
        read_graph(content)
    else:
        assert error_of(content) == f"operator version {version}, expected 11 to 23"


def test_operators_of_others_are_refused() -> None:
    other = (8, fields((1, "com.microsoft"), (2, 1)))
    assert error_of(model(opsets=(OPSET, other))) == (
        "operators of 'com.microsoft', expected ONNX's own"
    )
    assert error_of(model(opsets=((8, b""),))) == "operator version None, expected 11 to 23"
    node = fields((4, "Gelu"), (7, "com.microsoft"))
    words = "an operator of 'com.microsoft', expected ONNX's own"
    assert error_of(model((1, node))) == words


def test_one_picture_goes_in_and_one_answer_out() -> None:
    words = "{} inputs and {} outputs, expected one of each"
    assert error_of(model((11, value("more", 1)))) == words.format(2, 1)
    assert error_of(model((12, value("more", 1)))) == words.format(1, 2)
    assert error_of(fields(OPSET, (7, b""))) == words.format(0, 0)
    assert error_of(fields(OPSET)) == "the model has no graph"


@pytest.mark.parametrize(("nodes", "fits"), [(3, True), (4, False)])
def test_nodes_are_bounded(monkeypatch: pytest.MonkeyPatch, nodes: int, fits: bool) -> None:
    assert module.MAX_NODES == 10_000
    monkeypatch.setattr(module, "MAX_NODES", 3)
    content = model(*[(1, fields((4, "Relu")))] * nodes)
    if fits:
        assert len(read_graph(content).nodes) == 3
    else:
        assert error_of(content) == "4 nodes, at most 3 are read"


@pytest.mark.parametrize(
    ("stated", "missing"),
    [
        (fields((1, "x")), "type"),
        (fields((1, "x"), (2, b"")), "tensor_type"),
        (fields((1, "x"), (2, fields((1, fields((1, 1)))))), "shape"),
        (
            fields((1, "x"), (2, fields((1, fields((2, fields((1, fields((2, "height")))))))))),
            "dim_value",
        ),
    ],
)
def test_an_input_whose_shape_is_not_fixed_is_refused(stated: bytes, missing: str) -> None:
    graph = fields((11, stated), ANSWER)
    words = f"'x' has no {missing}: expected a fixed shape"
    assert error_of(fields(OPSET, (7, graph))) == words
    graph = fields(IMAGES, (12, stated))
    assert error_of(fields(OPSET, (7, graph))) == words


def test_a_negative_length_is_none() -> None:
    graph = fields((11, value("x", 1, -2)), ANSWER)
    assert error_of(fields(OPSET, (7, graph))) == "no shape of at most 8 lengths: [1, -2]"


@pytest.mark.parametrize(("length", "fits"), [(512, True), (513, False)])
def test_names_are_bounded_texts(length: int, fits: bool) -> None:
    content = model((1, fields((4, "x" * length))))
    if fits:
        assert read_graph(content).nodes[0].operator == "x" * 512
    else:
        assert error_of(content) == "a name of 513 bytes, at most 512 are read"
    assert "utf-8" in error_of(model((1, fields((1, b"\xff")))))


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (fields((15, 1)), "the model has field 15"),
        (fields((8, fields((3, 1)))), "opset_import has field 3"),
        (fields((7, fields((3, 1)))), "the graph has field 3"),
        (model((5, fields((3, 1)))), "a tensor has field 3"),
        (model((1, fields((8, 1)))), "a node has field 8"),
        (model((1, fields((5, fields((6, b"")))))), "an attribute has field 6"),
        (fields((7, fields((11, fields((5, 1))), ANSWER))), "an input or output has field 5"),
        (fields((7, fields((11, fields((2, fields((4, b""))))), ANSWER))), "its type has field 4"),
        (
            fields((7, fields((11, fields((2, fields((1, fields((3, 1))))))), ANSWER))),
            "its tensor has field 3",
        ),
        (
            fields(
                (7, fields((11, fields((2, fields((1, fields((2, fields((2, 1))))))))), ANSWER))
            ),
            "its shape has field 2",
        ),
        (
            fields(
                (
                    7,
                    fields(
                        (11, fields((2, fields((1, fields((2, fields((1, fields((4, 1))))))))))),
                        ANSWER,
                    ),
                )
            ),
            "a length has field 4",
        ),
    ],
)
def test_what_no_gate_needs_is_refused_where_it_stands(content: bytes, where: str) -> None:
    assert error_of(content) == f"{where}, which no gate needs"
