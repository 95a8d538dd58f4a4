"""What an OpenVINO `.xml` may hold; real ones are read in `test_engines` and `test_gate_export`."""

from pathlib import Path

import pytest

from dat_runtime.edge.gate_model.openvino_ir import check_ir
from dat_runtime.edge.gate_model.trial import check_file
from dat_runtime.edge.settings import GateSettings
from dat_runtime.errors import ModelError
from dat_runtime.types import SEVERITIES

CONST = '<data element_type="f32" shape="2, 3" offset="0" size="24"/>'


def net(layers: str, before: str = "", after: str = "") -> bytes:
    text = f'<?xml version="1.0"?>{before}<net><layers>{layers}</layers><edges/>{after}</net>'
    return text.encode()


def layer(kind: str, inner: str = "", version: str = "opset1") -> str:
    return f'<layer id="0" name="x" type="{kind}" version="{version}">{inner}</layer>'


def output(*lengths: object) -> str:
    dims = "".join(f"<dim>{length}</dim>" for length in lengths)
    return f'<output><port id="0">{dims}</port></output>'


def test_a_sound_graph_passes_with_anything_in_its_notes() -> None:
    notes = "<rt_info><anything><deep a='b'/></anything></rt_info>"
    check_ir(net(layer("Const", CONST + output(2, 3)), after=notes), 64, 24)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (net(layer("Loop")), "layer 1, Loop of 'opset1': a gate has no such operator, only Add"),
        (net(layer("Tile")), "Tile"),
        (net(layer("Add", version="extension")), "Add of 'extension'"),
        (net(layer("Add", "<body/>")), "holds <body>"),
        (net(layer("Add", output(1, 1 << 20, 1 << 20))), "layer 1: a value larger than any"),
        (net(layer("Add", output(*[1] * 9))), "a value larger than any"),
        (net(layer("Add", output(-1))), "'-1' is no fixed length"),
        (net(layer("Add", output("9" * 400))), "is no fixed length"),
        (net(layer("Const", CONST.replace("24", "20"))), "whose size is not its shape's"),
        (net(layer("Const", CONST.replace('"0"', '"8"'))), "behind the end of the weights"),
        (net(layer("Const", CONST.replace("f32", "string"))), "whose size is not its shape's"),
        (net("", '<!DOCTYPE net [<!ENTITY a "aa">]>'), "defines a document type or entities"),
        (net(layer("Add")).replace(b"</net>", b""), "is not XML"),
        (net(layer("Add")).decode().encode("utf-16"), "is not XML"),
    ],
)
def test_a_graph_that_is_no_gate_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "gate.xml").write_bytes(content)
    (tmp_path / "gate.bin").write_bytes(bytes(24))
    with pytest.raises(ModelError, match=r"gate\.xml: not a gate's model: ") as refusal:
        check_file(tmp_path / "gate.xml", GateSettings(classes=SEVERITIES, imgsz=64))
    assert words in str(refusal.value)


def error_of(content: bytes, side: int = 4, weights: int = 24) -> str | None:
    try:
        check_ir(content, side, weights)
    except ValueError as error:
        return str(error)
    return None


TOO_LARGE = "layer 1: a value larger than any gate's"


@pytest.mark.parametrize(
    ("lengths", "weights", "words"),
    [
        ([1, 128, 16], 24, None),  # 128 for each of 4 x 4 pixels
        ([1, 129, 16], 24, TOO_LARGE),
        ([1, 2049], 2049, None),  # or as many as the weights have bytes
        ([1, 2050], 2049, TOO_LARGE),
        ([1] * 8, 24, None),
        ([1] * 9, 24, TOO_LARGE),
        ([2048, 2, 0], 24, TOO_LARGE),  # at the first length that is too much
        ([0, 5000], 24, None),
    ],
)
def test_no_value_is_larger_than_any_gates(
    lengths: list[int], weights: int, words: str | None
) -> None:
    assert error_of(net(layer("Add", output(*lengths))), weights=weights) == words


def test_lengths_outside_of_a_port_count_too() -> None:
    assert error_of(net("<dim>1</dim>" * 8)) is None
    assert error_of(net("<dim>1</dim>" * 9)) == TOO_LARGE.replace("1", "0")


def test_each_port_counts_for_itself() -> None:
    ports = output(1, 128, 16).replace("</output>", "") + output(1, 128, 16).replace("<output>", "")
    assert error_of(net(layer("Add", ports) * 2)) is None
    assert error_of(net(layer("Add") + layer("Add", output(3000)))) == TOO_LARGE.replace("1", "2")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"size": "23"}, "a constant whose size is not its shape's"),
        ({"offset": "1"}, "a constant behind the end of the weights"),
        ({"element_type": "f16", "size": "12"}, None),
        ({"element_type": "i64", "size": "48"}, "a constant behind the end of the weights"),
        ({"element_type": "i32"}, None),
        ({"element_type": "i8", "size": "6"}, None),
        ({"element_type": "u8", "size": "6", "offset": "18"}, None),
        ({"element_type": "u8", "size": "6", "offset": "19"}, "behind the end of the weights"),
        ({"element_type": "f64", "size": "48"}, "a constant whose size is not its shape's"),
        ({"shape": "", "size": "4"}, None),
        ({"shape": " 6 ", "size": "24"}, None),
        ({"shape": "1,1,1,1,1,1,2,3"}, None),
        ({"shape": "1,1,1,1,1,1,1,2,3"}, "a constant whose size is not its shape's"),
        ({"shape": "2,x"}, "'x' is no fixed length"),
        ({"shape": "2,-3"}, "'-3' is no fixed length"),
        ({"offset": ""}, "'' is no fixed length"),
        ({"size": "2" * 13}, "'2222222222222' is no fixed length"),
    ],
)
def test_a_constant_lies_in_the_weights_with_its_shape(
    changes: dict[str, str], words: str | None
) -> None:
    stated = {"element_type": "f32", "shape": "2, 3", "offset": "0", "size": "24"} | changes
    data = "<data " + " ".join(f'{name}="{value}"' for name, value in stated.items()) + "/>"
    found = error_of(net(layer("Const", data)))
    if words is None:
        assert found is None
        assert error_of(net(layer("Add", data.replace("24", "23")))) is None  # no constant
    else:
        assert found is not None
        assert found.endswith(words)
        assert found.startswith("layer 1: ") or "fixed length" in words


def test_a_constant_that_states_nothing_is_refused() -> None:
    assert error_of(net(layer("Const", "<data/>"))) == "'' is no fixed length"
    assert error_of(net(layer("Const", '<data offset="0"/>'))) == "'' is no fixed length"
    nothing = '<data offset="0" size="1"/>'
    words = "layer 1: a constant whose size is not its shape's"
    assert error_of(net(layer("Const", nothing))) == words


def test_an_operator_is_one_of_a_gates_of_openvinos_own_sets() -> None:
    assert error_of(net(layer("Swish", version="opset4"))) is None
    assert str(error_of(net("<layer/>"))).startswith("layer 1,  of '': a gate has no such operator")
    long = str(error_of(net(layer("Add") + layer("x" * 41, version="y" * 41))))
    assert long.startswith(
        f"layer 2, {'x' * 40} of {'y' * 40!r}: a gate has no such operator, only"
    )
    assert long.endswith(", Transpose, Unsqueeze, VariadicSplit")
    nothing = str(error_of(net('<layer type="Add"/>')))
    assert nothing.startswith(
        "layer 1, Add of '': a gate has no such operator, only Add, AvgPool, "
    )


def test_so_many_layers_are_read() -> None:
    assert error_of(net(layer("Add") * 20_000)) is None
    assert error_of(net(layer("Add") * 20_001)) == "more than 20,000 layers"


def test_tags_that_no_gate_needs_are_told_and_cut() -> None:
    assert error_of(net(layer("Add", "<" + "b" * 50 + "/>"))) == (
        f"holds <{'b' * 40}>, which no gate needs"
    )
    assert error_of(net('<edge from-layer="0"/>')) is None
    # Behind the notes everything is looked at again.
    notes = "<rt_info><rt_info><x/></rt_info><dim>-1</dim></rt_info>"
    assert error_of(net(layer("Add"), after=notes)) is None
    assert error_of(net(layer("Add"), after=f"{notes}<x/>")) == "holds <x>, which no gate needs"
    assert error_of(net(layer("Add", f"{notes}<y/>"))) == "holds <y>, which no gate needs"


def test_a_length_may_come_in_parts_but_not_without_end() -> None:
    parts = "<output><port><dim>1<!-- -->2</dim><dim> 7 </dim></port></output>"
    assert error_of(net(layer("Add", parts))) is None
    twelve = "<output><port><dim>000000000007</dim><dim><dim>3</dim></dim></port></output>"
    assert error_of(net(layer("Add", twelve))) is None
    many = "<output><port><dim>" + "0<!-- -->" * 40 + "</dim></port></output>"
    assert error_of(net(layer("Add", many))) == "'0000000000000' is no fixed length"


def test_what_is_no_xml_in_utf_8_is_refused() -> None:
    assert error_of(b"<net/>") == "is not XML in UTF-8"
    assert error_of(b"\xef\xbb\xbf" + net("")) == "is not XML in UTF-8"
    assert str(error_of(b"<?xml version='1.0'?><net>")).startswith("is not XML (no element found")
    other = net("").replace(b'"1.0"', b'"1.0" encoding="iso-8859-1"')
    assert error_of(other) is None
    assert str(error_of(other.replace(b"<net>", b"<net a='\xe9'>"))).startswith("is not XML (")
    entity = '<!DOCTYPE net SYSTEM "http://h/x">'
    assert error_of(net("", entity)) == "defines a document type or entities"
