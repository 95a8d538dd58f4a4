"""A row on the ACCIDENT benchmark, from published files to its score."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av")

from dat_runtime import answer
from dat_runtime.stage import Stage
from dat_runtime.types import Accident, Box, Size
from data.prep import accident_clips as importer
from eval import accident_clips, predict
from tests.data.prep.accident_builder import write_clips

CAMERA = Size(160, 96)
QUIET = answer.dump(answer.target([]))
FULL = answer.dump(answer.target([Accident(Box(64, 10, 96, 38, CAMERA), "severe")]))
"""An accident in the middle of (0.5, 0.25), as the label has it."""


@pytest.fixture
def clips(tmp_path: Path, gate_folder: Path) -> Path:
    """Two published clips of three seconds, six questions about each."""
    second = {"path": "real_videos/d_01.mp4", "type": "single", "accident_time": 0.5}
    write_clips(tmp_path / "accident", {}, second)
    given = ["--source", str(tmp_path / "accident"), "--gate", str(gate_folder)]
    assert importer.main([*given, "--out", str(tmp_path / "clips")]) == 0
    return tmp_path / "clips"


def answered(clips: Path, out: Path, texts: dict[str, str]) -> Path:
    """A row as `eval.predict` leaves it."""
    with Stage(out, kind="predictions", inputs={"instructions": clips}, config={}) as folder:
        lines = [json.dumps({"image_id": i, "text": t, "latency_s": 0.1}) for i, t in texts.items()]
        (folder / "predictions.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return out


def quiet_answers(clips: Path) -> dict[str, str]:
    questions = json.loads((clips / "boxed_test.json").read_text())
    return {question["image_id"]: QUIET for question in questions}


def scored(clips: Path, row: Path, out: Path) -> dict[str, Any]:
    given = ["--clips", str(clips), "--predictions", str(row), "--out", str(out)]
    assert accident_clips.main(given) == 0
    return json.loads((out / "scores.json").read_text())


def test_a_right_alarm_scores_one_and_a_silent_row_what_the_naive_claims_score(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = quiet_answers(clips) | {"aB-c_00-0004": FULL, "d_01-0002": FULL, "d_01-0006": QUIET}
    scores = scored(clips, answered(clips, tmp_path / "row", right), tmp_path / "score")
    row, naive = scores["row"], scores["naive"]
    assert row["temporal"]["0.5"]["value"] == row["spatial"]["0.5"]["value"] == 1.0
    assert row["type_accuracy"]["value"] == 0.5  # one of the two is `single`
    assert row["unified_score"]["value"] == pytest.approx(3 / (1 + 1 + 2))
    assert naive["unified_score"]["value"] < row["unified_score"]["value"]
    assert (scores["clips"], scores["alarms"], scores["questions"]) == (2, 2, 12)
    shown = capsys.readouterr().out
    assert "2 clips, 2 with an alarm; 0 of 12 frames without an answer" in shown
    assert "row       1.0000  1.0000  0.5000  0.7500" in shown
    with (tmp_path / "score/submission.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "path": "real_videos/d_01.mp4",
        "accident_time": "0.5",
        "center_x": "0.5",
        "center_y": "0.25",
        "type": "single",
    }

    silent = answered(clips, tmp_path / "silent", quiet_answers(clips))
    scores = scored(clips, silent, tmp_path / "silent-score")
    assert scores["alarms"] == 0
    assert scores["row"] == scores["naive"]


def test_answers_that_are_missing_are_counted(clips: Path, tmp_path: Path) -> None:
    row = answered(clips, tmp_path / "row", {"aB-c_00-0004": FULL})
    scores = scored(clips, row, tmp_path / "score")
    assert (scores["alarms"], scores["unanswered"]) == (1, 11)


def test_answers_to_other_questions_are_refused(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--clips", str(clips), "--out", str(tmp_path / "score"), "--predictions"]
    unknown = answered(clips, tmp_path / "unknown", {"other-0001": QUIET})
    assert accident_clips.main([*options, str(unknown)]) == 1
    assert "nobody was asked about the image 'other-0001'" in capsys.readouterr().err
    with Stage(tmp_path / "else", kind="instructions", inputs={}, config={}) as folder:
        (folder / "clips.jsonl").write_text("{}\n")
    others = answered(tmp_path / "else", tmp_path / "others", quiet_answers(clips))
    assert accident_clips.main([*options, str(others)]) == 1
    assert "answers other instructions than" in capsys.readouterr().err
    assert not (tmp_path / "score").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_published_files_become_a_score_by_way_of_a_model(clips: Path, tmp_path: Path) -> None:
    """Random weights, whose answers the rules make compliant: every command of the row runs."""
    from dat_runtime.prompt import SYSTEM
    from train.mllm import tiny_model

    tiny_model.build(tmp_path / "model", [SYSTEM, QUIET, FULL] * 5, 384, 168 * 168, 0)
    row = tmp_path / "row"
    given = ["--instructions", str(clips), "--inputs", "boxed", "--constrained", "rules"]
    given += ["--model", str(tmp_path / "model"), "--out", str(row)]
    assert predict.main(given) == 0
    scores = scored(clips, row, tmp_path / "score")
    assert (scores["questions"], scores["unanswered"]) == (12, 0)
    answers = [json.loads(line) for line in (row / "predictions.jsonl").read_text().splitlines()]
    alarmed = {a["image_id"][:-5] for a in answers if json.loads(a["text"])["count"]}
    assert scores["alarms"] == len(alarmed)
