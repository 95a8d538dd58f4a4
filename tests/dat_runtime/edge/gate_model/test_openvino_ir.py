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
        (net(layer("Add") * 20_001), "more than 20,000 layers"),
    ],
)
def test_a_graph_that_is_no_gate_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "gate.xml").write_bytes(content)
    (tmp_path / "gate.bin").write_bytes(bytes(24))
    with pytest.raises(ModelError, match=r"gate\.xml: not a gate's model: ") as refusal:
        check_file(tmp_path / "gate.xml", GateSettings(classes=SEVERITIES, imgsz=64))
    assert words in str(refusal.value)
