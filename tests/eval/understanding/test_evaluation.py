"""An evaluation of four frames: what it is made from, what it leaves, what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.errors import ConfigError, DataError, ManifestError
from dat_runtime.files import write_json_lines
from dat_runtime.stage import Stage
from eval.answers import usage
from eval.understanding.evaluation import (
    Evaluation,
    read_other_split,
    read_tables,
    rows_of,
    write,
)
from eval.understanding.formats import FORMATS
from eval.understanding.splits import Split
from tests.eval.understanding.four_frames import FRAMES, QUIET, TEXTS
from tests.eval.understanding.small_tables import scored


def answered(folder: Path, texts: list[str | None]) -> Path:
    folder.mkdir(parents=True)
    records = [
        {"image_id": frame.image_id, "text": text, "latency_s": 0.1}
        for frame, text in zip(FRAMES, texts, strict=True)
        if text is not None
    ]
    write_json_lines(folder / "predictions.jsonl", records)
    return folder


@pytest.fixture
def given(tmp_path: Path) -> Evaluation:
    truth = []
    for frame in FRAMES:
        found = [{"bbox": list(a.box.pixels()), "severity": a.severity} for a in frame.accidents]
        size = {"width": frame.size.width, "height": frame.size.height}
        truth.append({"image_id": frame.image_id, "image": "", **size, "accidents": found})
    instructions = tmp_path / "instructions"
    instructions.mkdir()
    write_json_lines(instructions / "truth.jsonl", truth)
    rows = [answered(tmp_path / "rows" / "mine", QUIET)]
    rows.append(answered(tmp_path / "rows" / "boxed-lora", TEXTS))
    usage.write(rows[1], usage.Usage(3, {"<missing>": "late"}, 1200, 500, 0, None, 2.0, {}))
    return Evaluation(instructions, rows, "ours: four frames", True, None, None, None)


def tables(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "tables.json").read_text("utf-8"))
    return found


def test_the_folder_has_scores_tables_and_a_report(given: Evaluation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write(out, given)
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == {
        *("boxed-lora/scores.json", "mine/scores.json", "tables.json", "report.html"),
        *(f"tables.{suffix}" for suffix in FORMATS),
    }
    found = tables(out)
    assert read_tables(out) == found
    scores = json.loads((out / "boxed-lora" / "scores.json").read_text("utf-8"))
    rows = {row["row"]: row for row in found["table_1"]}
    assert rows["boxed-lora"]["ours"] == scores
    assert (scores["n"], scores["missing"], scores["count_em"]["value"]) == (4, 1, 0.25)
    assert rows["boxed-lora"]["our_model"] == "tiny Qwen2.5-VL"
    assert rows["trivial-never"]["ours"]["count_em"]["value"] == 0.25
    assert "count_em" in rows["boxed-lora"]["marks"]
    assert (found["measured_on"], found["table_3"]) == ("ours: four frames", None)
    assert (found["split"], found["by_split"]) == (None, [])
    assert [(told["row"], told["against"]) for told in found["comparisons"]] == [
        ("mine", "boxed-lora")
    ]
    assert any("boxed-lora is no better than never an alert" in note for note in found["notes"])
    assert list(found["breakdown"]) == list(found["calibration"]) == ["boxed-lora", "mine"]
    boxed = [(part["group"], part["boxes"]) for part in found["breakdown"]["boxed-lora"]]
    assert boxed == [("moderate", 2), ("severe", 2), ("small box", 1), ("medium box", 3)]
    assert found["calibration"]["boxed-lora"]["frames"] == 2
    assert found["calibration"]["mine"]["frames"] == 4
    assert found["usage"] == {
        "boxed-lora": {**found["usage"]["boxed-lora"], "answered": 3, "prompt_tokens": 1200}
    }
    assert "| boxed-lora | 3 | 1 |" in (out / "tables.md").read_text("utf-8")
    page = (out / "report.html").read_text("utf-8")
    assert "<h3>Worst of boxed-lora</h3>" in page
    assert "; 1 x late" in page


def test_a_split_is_scored_apart_and_named(given: Evaluation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    split = Split("published", 1, frozenset({"wrong"}))
    beside = {"split": "leak-free", "table_1": [{"row": "mine", "ours": scored() | {"n": 7}}]}
    bigger = replace(given, split=split, beside=beside, tiny=False)
    write(out, bigger)
    found = tables(out)
    assert found["split"] == "published"
    assert [(line["row"], line["frames"], line["ours"]["n"]) for line in found["by_split"]] == [
        ("boxed-lora", "published split", 4),
        ("boxed-lora", "of these, without a twin", 3),
        ("mine", "published split", 4),
        ("mine", "of these, without a twin", 3),
        ("mine", "leak-free split, own training", 7),
    ]
    assert any("1 of 4 test frames have a twin" in note for note in found["notes"])
    assert {row["our_model"] for row in found["table_1"] if row["row"] == "boxed-lora"} == {"Ours"}


def test_rows_that_are_not_finished_are_left_out(given: Evaluation, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    for name in ("x.partial", "x.old"):
        shutil.copytree(rows / "mine", rows / name)
    (rows / "empty").mkdir()
    assert rows_of(rows, given.instructions) == [rows / "boxed-lora", rows / "mine"]
    with pytest.raises(ConfigError) as refused:
        rows_of(rows / "empty", given.instructions)
    assert str(refused.value) == (
        f"{rows / 'empty'} has no <row>/predictions.jsonl: run eval.predict first"
    )


def test_a_row_about_other_instructions_is_refused(given: Evaluation, tmp_path: Path) -> None:
    inputs = {"instructions": given.instructions}
    with Stage(tmp_path / "rows" / "ours", kind="predictions", inputs=inputs, config={}) as made:
        (made / "predictions.jsonl").write_text("")
    assert len(rows_of(tmp_path / "rows", given.instructions)) == 3
    other = tmp_path / "other"
    other.mkdir()
    (other / "truth.jsonl").write_text("another")
    with pytest.raises(ManifestError) as refused:
        rows_of(tmp_path / "rows", other)
    assert str(refused.value).endswith(
        f"ours answers other instructions than {other}: run eval.predict again"
    )


@pytest.mark.parametrize("text", ["[]", "{}", '{"table_1": [{}]}', '{"table_1": 1}'])
def test_tables_of_another_version_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tables.json").write_text(text)
    with pytest.raises(DataError, match="tables writes now: run it again"):
        read_tables(tmp_path)


def test_tables_that_are_not_there_name_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run the stage that makes it"):
        read_tables(tmp_path)


@pytest.mark.parametrize("split", [None, "", "leak-free"])
def test_tables_beside_have_to_name_their_split(split: str | None, tmp_path: Path) -> None:
    with Stage(tmp_path / "eval", kind="eval", inputs={}, config={}) as made:
        (made / "tables.json").write_text(json.dumps({"table_1": [], "split": split}))
    if split:
        assert read_other_split(tmp_path / "eval")["split"] == split
        with pytest.raises(ManifestError):
            read_other_split(tmp_path)
    else:
        with pytest.raises(ConfigError, match="does not say which split it is on: make it with --"):
            read_other_split(tmp_path / "eval")
