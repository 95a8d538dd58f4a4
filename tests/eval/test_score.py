"""The command that scores: what it writes, what it refuses, what `--require` does."""

import json
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.answer import dump, target
from dat_runtime.types import Accident, Box, Size
from eval.score import main
from eval.understanding.metrics import METRICS

ACCIDENT = {"bbox": [10, 10, 50, 40], "severity": "severe"}
ANSWER = dump(target([Accident(Box(10, 10, 50, 40, Size(100, 80)), "severe")]))
QUIET = dump(target([]))


def truth(image_id: str, *accidents: Any, **changes: Any) -> dict[str, Any]:
    size = {"image": f"images/test/{image_id}.jpg", "width": 100, "height": 80}
    return {"image_id": image_id, **size, "accidents": list(accidents)} | changes


def prediction(image_id: Any, text: Any = ANSWER) -> dict[str, Any]:
    return {"image_id": image_id, "text": text, "latency_s": 0.1}


TRUTH = [truth("a", ACCIDENT), truth("b")]
PREDICTIONS = [prediction("b", QUIET), prediction("a")]


class Folder:
    """A folder with both files, and the command run on them."""

    def __init__(self, path: Path):
        self.path = path
        self.write("truth", TRUTH)
        self.write("predictions", PREDICTIONS)

    def write(self, name: str, lines: list[Any]) -> None:
        text = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
        (self.path / f"{name}.jsonl").write_text(text, "utf-8")

    def run(self, *options: str) -> int:
        files = [f"--{n}={self.path / n}.jsonl" for n in ("truth", "predictions")]
        return main([*files, "--out", str(self.path / "out"), *options])

    @property
    def scores(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "out" / "scores.json").read_text("utf-8"))
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_scores_hold_every_metric_with_its_interval(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folder.run() == 0
    assert set(folder.scores) == {"n", "missing", *METRICS}
    assert folder.scores["n"] == 2
    assert folder.scores["missing"] == 0
    assert folder.scores["sev_f1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert folder.scores["viol"]["value"] == 0.0
    printed = capsys.readouterr().out
    assert all(name in printed for name in METRICS)
    assert "n = 2 frames" in printed


def test_the_output_folder_may_hold_other_files(folder: Folder) -> None:
    (folder.path / "out").mkdir()
    (folder.path / "out" / "kept.txt").write_text("mine")
    assert folder.run() == 0
    assert (folder.path / "out" / "kept.txt").read_text() == "mine"


def test_a_missing_prediction_is_a_failed_answer_and_is_reported(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write("predictions", [prediction("a")])
    assert folder.run() == 0
    assert folder.scores["missing"] == 1
    assert folder.scores["parse"]["value"] == 0.5
    assert folder.scores["count_em"]["value"] == 0.5
    assert "1 without an answer" in capsys.readouterr().out


def test_without_true_boxes_the_box_metrics_are_null(folder: Folder) -> None:
    folder.write("truth", [truth("a"), truth("b")])
    assert folder.run() == 0
    assert folder.scores["bbox_miou"] == {"value": None, "low": None, "high": None}


GOOD_LINE = json.dumps(prediction("b", QUIET))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (prediction("z"), "image 'z' is not in the truth"),
        (prediction("b"), "a second prediction for image 'b'"),
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not a JSON object"),
        ({"image_id": "a"}, "needs image_id and text"),
        (prediction("a", None), "needs image_id and text"),
        (prediction(3), "needs image_id and text"),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_a_faulty_prediction_is_named_by_file_and_line(
    folder: Folder, capsys: pytest.CaptureFixture[str], line: Any, reason: str
) -> None:
    folder.write("predictions", [GOOD_LINE, line])
    assert folder.run() == 1
    error = capsys.readouterr().err
    assert f"predictions.jsonl:2: {reason}" in error
    assert not (folder.path / "out").exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (truth("a"), "image 'a' is already on line 1"),
        (truth(""), "image_id is '', expected a text that is not empty"),
        (truth("c", width=0), "width is 0, expected a whole number from 1"),
        (truth("c", height="80"), "height is '80', expected a whole number from 1"),
        (truth("c", accidents=None), "accidents is None, expected a list"),
        (truth("c", 5), "accident: 5 is not an object"),
        (truth("c", {**ACCIDENT, "severity": "none"}), "severity is 'none', expected one of"),
        (
            truth("c", {**ACCIDENT, "severity": ["severe"]}),
            "severity is ['severe'], expected one of",
        ),
        (truth("c", {**ACCIDENT, "bbox": [1, 2, 3]}), "bbox is [1, 2, 3], expected a list of 4"),
        (
            truth("c", {**ACCIDENT, "bbox": [1, 2, 3, float("nan")]}),
            "[1, 2, 3, nan] is not a box inside 100 x 80",
        ),
        (truth("c", {**ACCIDENT, "bbox": [50, 10, 10, 40]}), "is not a box inside 100 x 80"),
        (truth("c", {**ACCIDENT, "bbox": [10, 10, 101, 40]}), "is not a box inside 100 x 80"),
        ("null", "is not a JSON object"),
        ("not JSON", "is not JSON"),
    ],
    ids=lambda value: ascii(value)[-40:],
)
def test_a_faulty_truth_is_named_by_file_and_line(
    folder: Folder, capsys: pytest.CaptureFixture[str], line: Any, reason: str
) -> None:
    folder.write("truth", [TRUTH[0], line, TRUTH[1]])
    assert folder.run() == 1
    error = capsys.readouterr().err
    assert "truth.jsonl:2: " in error
    assert reason in error


def test_bytes_that_are_not_utf8_are_named_by_line(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.path / "truth.jsonl").write_bytes(json.dumps(TRUTH[0]).encode() + b"\n\xff\n")
    assert folder.run() == 1
    assert "truth.jsonl:2: is not UTF-8" in capsys.readouterr().err


def test_a_missing_or_empty_file_is_named(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write("truth", [])
    assert folder.run() == 1
    assert "truth.jsonl: no frame in it" in capsys.readouterr().err
    (folder.path / "truth.jsonl").unlink()
    assert folder.run() == 1
    assert "truth.jsonl: cannot be read" in capsys.readouterr().err


def test_separators_inside_a_text_do_not_end_a_line(folder: Folder) -> None:
    text = ANSWER.replace("Accidents", "\u2028\x85 Accidents")
    lines = [json.dumps(p, ensure_ascii=False) for p in (prediction("a", text), PREDICTIONS[0])]
    folder.write("predictions", lines)
    assert folder.run() == 0
    assert folder.scores["schema"]["value"] == 1.0


def test_met_requirements_pass(folder: Folder) -> None:
    assert folder.run("--require", "parse>=1.0", "sev_f1 >= 0.9", "viol<=0", "n>=2") == 0


def test_an_unmet_requirement_fails_with_the_reason_and_keeps_the_scores(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write("predictions", [prediction("a")])
    assert folder.run("--require", "parse>=1", "missing<=0", "viol<=0") == 1
    error = capsys.readouterr().err
    assert "parse is 0.5, not >= 1" in error
    assert "missing is 1, not <= 0" in error
    assert "viol" not in error
    assert folder.scores["n"] == 2


def test_an_undefined_metric_meets_no_requirement(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write("truth", [truth("a"), truth("b")])
    assert folder.run("--require", "recall_50>=0") == 1
    assert "recall_50 is undefined" in capsys.readouterr().err


def shipped(folder: Folder) -> Path:
    """The scores of another adapter on the same truth."""
    assert folder.run() == 0
    return (folder.path / "out").rename(folder.path / "shipped") / "scores.json"


def test_an_adapter_is_held_to_the_shipped_ones_scores(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shipped(folder)
    demands = (f"sev_f1>=@{other}", f"count_mae <= @{other}", f"missing<=@{other}")
    assert folder.run("--require", *demands) == 0
    folder.write("predictions", [prediction("a")])
    assert folder.run("--require", *demands) == 1
    error = capsys.readouterr().err
    assert f"sev_f1 is 0.5, not >= 1 of {other}" in error
    assert f"missing is 1, not <= 0 of {other}" in error


def test_scores_on_other_frames_are_no_measure(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shipped(folder)
    folder.write("truth", [*TRUTH, truth("c")])
    assert folder.run("--require", f"sev_f1>=@{other}") == 1
    assert "scores 2 frames, these are 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not JSON"),
        ("[]", "has no sev_f1 to compare with"),
        ("{}", "has no sev_f1 to compare with"),
        ('{"n": 2, "sev_f1": {"value": null}}', "has no sev_f1 to compare with"),
        (None, "cannot be read"),
    ],
)
def test_scores_that_cannot_be_compared_with_are_named(
    folder: Folder, capsys: pytest.CaptureFixture[str], content: str | None, reason: str
) -> None:
    other = folder.path / "shipped.json"
    if content is not None:
        other.write_text(content)
    assert folder.run("--require", f"sev_f1>=@{other}") == 1
    assert f"shipped.json: {reason}" in capsys.readouterr().err
    assert not (folder.path / "out").exists()


@pytest.mark.parametrize("text", ["map>=0.5", "parse", "parse>1", "parse==1", "parse>=high", ">=1"])
def test_a_requirement_that_cannot_be_read_is_refused_before_the_work(
    folder: Folder, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert folder.run("--require", text) == 1
    assert "expected METRIC>=VALUE" in capsys.readouterr().err
    assert not (folder.path / "out").exists()


def test_a_file_is_no_folder_for_the_scores(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.path / "out").write_text("kept")
    assert folder.run() == 1
    assert "out: cannot be written" in capsys.readouterr().err
    assert (folder.path / "out").read_text() == "kept"
