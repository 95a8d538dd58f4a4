"""Our own curve: who leads at which bytes, and the table that a node reads."""

from dataclasses import replace
from pathlib import Path

import pytest

from dat_runtime.errors import DataError, ManifestError
from dat_runtime.offload_table import Row
from eval.offloading import curve_report, study
from eval.offloading.curve import leads, read_curve, table_of
from tests.eval.offloading import measured


def made(path: Path, **changes: object) -> dict[str, Path]:
    folders = {
        "instructions": measured.instructions(path / "instructions"),
        "codec": measured.codec(path / "codec"),
    }
    return folders | {"codes": measured.codes(path / "codes", dict(folders), **changes)}


def test_a_code_leads_only_where_no_picture_of_so_many_bytes_is_as_good() -> None:
    rows = [measured.row(*known) for known in measured.ROWS]
    found = [(lead.kind, lead.from_bytes, lead.best["name"]) for lead in leads(rows, "count_em")]
    assert found == [
        ("code", 88, "code, 8 channels"),
        ("picture", 250, "webp q1"),
        ("code", 280, "code, 32 channels"),
        ("picture", 3_000, "webp q9, camera's size"),
    ]
    assert leads(rows, "merger_error") == leads(rows, "count_em")  # less is better there


def test_of_equally_good_ones_the_picture_leads_and_the_smaller_is_named() -> None:
    rows = [
        measured.row("code, 8 channels", "code", 100, 0.5),
        measured.row("jpeg q9", "jpeg", 90, 0.5),
        measured.row("jpeg q5", "jpeg", 80, 0.5),
    ]
    (lead,) = leads(rows, "count_em")
    assert (lead.kind, lead.from_bytes, lead.best["name"]) == ("picture", 80, "jpeg q5")
    assert leads(rows, "bbox_miou") == []  # nothing was measured


def test_the_gate_alone_is_scored_on_the_same_frames(tmp_path: Path) -> None:
    curve = read_curve(**made(tmp_path))
    gate = curve.rows[0]
    assert (gate["kind"], gate["bytes"], gate["n"]) == ("gate", 0, measured.FRAMES)
    assert gate["count_em"]["value"] == 0.75  # of four frames one has a box too many
    assert curve.seconds["answer"] == pytest.approx(0.15)


def test_a_nodes_table_has_what_a_node_can_send(tmp_path: Path) -> None:
    curve = read_curve(**made(tmp_path))
    table = table_of(curve, "tiny model")
    assert (table.measure, table.measured_on) == ("count_em", "tiny model")
    assert table.codec == curve.codec.id
    code = {"edge_s": 0.002, "encode_s": 0.001, "decode_s": 0.004, "server_s": 0.008 + 0.15}
    at = {"offload_point": 7, "spatial": False}
    whole = 0.010 + 0.15
    assert [row.name for row in table.rows] == [
        "gate alone",
        "code, 8 channels",
        "code, 32 channels",
        "webp q1",
        "jpeg q5",
        "webp q50",
    ]
    expected = [
        Row("gate alone", "edge", 0, 0.75),
        Row("code, 8 channels", "code", 88, 0.4, **code, **at, channels=8),
        Row("webp q1", "webp", 255, 0.5, server_s=whole, quality=1),
    ]
    for row, ours in zip(expected, (table.rows[i] for i in (0, 1, 3)), strict=True):
        assert ours.latency(1e5) == pytest.approx(row.latency(1e5))
        assert (ours.kind, ours.bytes, ours.accuracy) == (row.kind, row.bytes, row.accuracy)
        assert (ours.offload_point, ours.channels) == (row.offload_point, row.channels)
    assert table.rows[1].edge_s == 0.002
    assert table.rows[3].quality == 1


def test_without_a_small_webp_there_is_no_table(tmp_path: Path) -> None:
    rows = [measured.row(*known) for known in measured.ROWS if known[1] != "webp"]
    curve = read_curve(**made(tmp_path, rows=rows))
    with pytest.raises(
        DataError, match='makes no look-up table: rows: expected one of kind "webp"'
    ):
        table_of(curve, "tiny model")


def test_a_curve_of_another_codec_is_refused(tmp_path: Path) -> None:
    folders = made(tmp_path)
    folders["codec"] = measured.codec(tmp_path / "other", spatial=True)
    with pytest.raises(DataError, match=r"codes: was made with another codec than .*other"):
        read_curve(**folders)


def test_boxes_of_the_labels_are_no_gate(tmp_path: Path) -> None:
    folders = {
        "instructions": measured.instructions(tmp_path / "instructions", gate=False),
        "codec": measured.codec(tmp_path / "codec"),
    }
    codes = measured.codes(tmp_path / "codes", dict(folders))
    with pytest.raises(DataError, match=r"instructions: holds the labels' boxes"):
        read_curve(codes, **folders)


def test_answers_that_a_grey_picture_gives_too_praise_no_way(tmp_path: Path) -> None:
    curve = read_curve(**made(tmp_path, picture={"matters": False}))
    section, _ = curve_report.of_curve(study.of_curve(curve), table_of(curve, "tiny model"))
    words = "\n".join([section.says, *section.remarks])
    assert "answers about a grey picture as well as about the whole one" in section.says
    assert "Count EM, the best that fits" not in words
    assert "is better), the best that fits: from 88 bytes a code (best: code, 8 channels" in words
    assert "from 250 bytes a picture (best: webp q1, 250 bytes, 0.500)" in words


def test_a_model_that_answers_nothing_right_has_a_report_too(tmp_path: Path) -> None:
    curve = read_curve(**made(tmp_path))
    table = table_of(curve, "tiny model")
    wrong = replace(table, rows=tuple(replace(row, accuracy=0.0) for row in table.rows))
    *_, picked = curve_report.of_curve(study.of_curve(curve), wrong)
    assert picked.title == "What the controller selects"
    assert picked.grids[0].columns[-1] == "at least 0.000"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 3}, "rows is 3, expected a list"),
        ({"milliseconds": {}}, "milliseconds: head is missing"),
        ({"picture": {}}, "picture: matters is missing"),
        ({"rows": [{"name": "x"}]}, r"rows\[0\]: kind is missing"),
        (
            {"rows": [measured.row("webp q1", "webp", 10, 0.5) | {"sev_f1": {"value": 2}}]},
            r"rows\[0\]\.sev_f1: value is 2",
        ),
    ],
)
def test_a_wrong_accuracy_file_is_refused_by_name(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=f"accuracy.json: {message}"):
        read_curve(**made(tmp_path, **changes))


def test_a_changed_folder_is_refused(tmp_path: Path) -> None:
    folders = made(tmp_path)
    (folders["codes"] / "accuracy.json").write_text("{}", "utf-8")
    with pytest.raises(ManifestError, match=r"accuracy\.json"):
        read_curve(**folders)
