"""Scores, answers and signals from files, and what is refused by file and line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dat_runtime.errors import DataError, ManifestError
from dat_runtime.files import write_json_lines
from dat_runtime.stage import Stage
from eval.routing.read_scored import read_mllm_reports, read_scored, read_signals
from tests.eval.routing.world import answer


def predictions(tmp_path: Path, texts: dict[str, str], kind: str = "predictions") -> Path:
    with Stage(tmp_path / "row", kind=kind, inputs={}, config={}) as folder:
        lines = [{"image_id": name, "text": text} for name, text in texts.items()]
        write_json_lines(folder / "predictions.jsonl", lines)
    return tmp_path / "row"


def test_a_failed_or_missing_answer_is_the_wrong_one(tmp_path: Path) -> None:
    row = predictions(tmp_path, {"a": "no JSON", "b": answer(True), "c": answer(False)})
    said, failed = read_mllm_reports(row, ["a", "b", "c", "d"], np.array([True, True, True, False]))
    assert said.tolist() == [False, True, False, True]
    assert failed == 2


def test_answers_about_other_frames_are_refused(tmp_path: Path) -> None:
    row = predictions(tmp_path, {"x": answer(True), "c": answer(True), "a": answer(True)})
    words = (
        r"row/predictions\.jsonl: 2 frames of other parts, such as 'c': the row must be about the "
        r"frames that eval\.gating scored \(eval\.predict --part val for validation\)$"
    )
    with pytest.raises(DataError, match=words):
        read_mllm_reports(row, ["a"], np.array([True]))


def test_a_folder_of_another_stage_is_refused(tmp_path: Path) -> None:
    row = predictions(tmp_path, {"a": answer(True)}, kind="proof")
    with pytest.raises(ManifestError, match="predictions"):
        read_mllm_reports(row, ["a"], np.array([True]))


def test_a_second_answer_about_a_frame_is_refused_with_file_and_line(tmp_path: Path) -> None:
    row = predictions(tmp_path, {"a": answer(True)})
    path = row / "predictions.jsonl"
    text = path.read_text() * 2
    with Stage(tmp_path / "twice", kind="predictions", inputs={}, config={}) as folder:
        (folder / "predictions.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"predictions\.jsonl:2: a second prediction for image 'a'"):
        read_mllm_reports(tmp_path / "twice", ["a"], np.array([True]))


def score_line(**changes: object) -> str:
    line = {"image_id": "a", "score": 0.5, "accident": True, "severe": False, **changes}
    return json.dumps({k: v for k, v in line.items() if v != "-"}) + "\n"


def test_every_frame_keeps_its_score_its_truth_its_answer_and_its_signals(tmp_path: Path) -> None:
    lines = [
        score_line(image_id="a", score=1, severe=True),
        score_line(image_id="b", score=0.25),
        score_line(image_id="c", score=0.0, accident=False),
    ]
    (tmp_path / "scores_test.jsonl").write_text("".join(lines))
    alone = read_scored(tmp_path, "test", None, None)
    assert (alone.signals, alone.mllm_reports, alone.failed) == ({}, None, 0)
    row = predictions(tmp_path, {"a": answer(False), "c": "no JSON"})
    (tmp_path / "signals.csv").write_text("image_id,sound\nc,1\nb,0\n")
    frames = read_scored(tmp_path, "test", row, tmp_path / "signals.csv")
    assert frames.score.tolist() == [1.0, 0.25, 0.0]
    assert frames.accident.tolist() == [True, True, False]
    assert frames.severe.tolist() == [True, False, False]
    assert np.array_equal(frames.signals["sound"], [np.nan, 0, 1], equal_nan=True)
    assert frames.mllm_reports.tolist() == [False, False, True]
    assert frames.failed == 2
    assert {frames.accident.dtype, frames.severe.dtype, frames.mllm_reports.dtype} == {
        np.dtype(bool)
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 of 0 frames show an accident"),
        (
            score_line() * 2,
            r"^: 2 of 2 frames show an accident: thresholds are fitted and judged on frames with "
            r"and frames without one \(data\.prep\.importers\.cctv\)$",
        ),
        (score_line() + "no JSON\n", r":2: is not JSON"),
        (score_line() + "[" * 100_000, r":2: is not JSON"),
        (score_line() + "[]\n", r":2: is not a JSON object"),
        (score_line(score="-"), r":1: score of eval.gating: score is missing"),
        (score_line(score=float("nan")), r":1: .*score is nan"),
        (score_line(score=1.5), r":1: .*score is 1.5"),
        (score_line(score="0.5"), r":1: .*score is '0.5'"),
        (score_line(accident=1), r":1: .*accident is 1, expected true or false"),
    ],
)
def test_scores_of_another_kind_are_refused_with_file_and_line(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "scores_val.jsonl"
    path.write_text(text)
    with pytest.raises(DataError) as refused:
        read_scored(tmp_path, "val", None, None)
    assert re.search(words, str(refused.value).removeprefix(str(path)))


def test_signals_are_read_from_a_file_that_a_spreadsheet_wrote(tmp_path: Path) -> None:
    path = tmp_path / "signals.csv"
    path.write_bytes(b'\xef\xbb\xbfimage_id,sound\r\na,0.5\r\n"two\r\nlines", 1 \r\n')
    assert read_signals(path, ["a", "two\r\nlines"])["sound"].tolist() == [0.5, 1]


def test_signals_are_read_with_their_gaps(tmp_path: Path) -> None:
    path = tmp_path / "signals.csv"
    path.write_text("image_id,sound,speed\nb,0.5,\na,,1\n")
    found = read_signals(path, ["a", "b", "c"])
    assert np.array_equal(found["sound"], [np.nan, 0.5, np.nan], equal_nan=True)
    assert np.array_equal(found["speed"], [1, np.nan, np.nan], equal_nan=True)


def signals_of(count: int) -> str:
    return ",".join(["image_id", *map(str, range(count))]) + "\na" + ",0.5" * count + "\n"


def test_sixteen_signals_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "signals.csv"
    path.write_text(signals_of(16))
    assert list(read_signals(path, ["a"])) == [str(k) for k in range(16)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "^:1: expected the columns image_id and one per signal$"),
        ("image_id\na\n", "columns image_id"),
        ("name,sound\na,1\n", "columns image_id"),
        (signals_of(17), "columns image_id"),
        ('image_id,sound\n"a"b,0.5\n', r"^: cannot be read as CSV \(.* expected after"),
        ("image_id,sound\na,0.5\nb,loud\n", ":3: sound is 'loud'"),
        ("image_id,sound\na,1.5\n", ":2: sound is '1.5'"),
        ("image_id,sound\na,nan\n", "sound is 'nan'"),
        ("image_id,sound\na,0.5\na,0.6\n", ":3: 'a' is there twice"),
        ("image_id,sound\nz,0.5\n", "^: has no score for any of the frames$"),
    ],
)
def test_signals_of_another_kind_are_refused_with_file_and_line(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "signals.csv"
    path.write_text(text)
    with pytest.raises(DataError) as refused:
        read_signals(path, ["a", "b"])
    assert re.search(words, str(refused.value).removeprefix(str(path)))
