"""What the answers about a clip's frames come to."""

import json
from pathlib import Path
from typing import Any

import pytest

from dat_runtime import answer
from dat_runtime.errors import DataError
from dat_runtime.types import Accident, Box, Size
from eval.outside.accident_score import Claim, Label
from eval.outside.clip_answers import Clip, naive, read_clips, submission, told, worst_accident

CAMERA = Size(200, 100)
QUIET = answer.dump(answer.target([]))
LABEL = Label(Claim(3.0, 0.5, 0.5, "t-bone"), 0.2, 0.2)


def accident(x1: int, y1: int, x2: int, y2: int, severity: Any = "moderate") -> Accident:
    return Accident(Box(x1, y1, x2, y2, CAMERA), severity)


def alarm(*accidents: Accident) -> str:
    return answer.dump(answer.target(list(accidents)))


def clip(*times: float) -> Clip:
    return Clip("videos/a.mp4", 12.0, LABEL, {f"a-{i}": time for i, time in enumerate(times)})


def said(clip: Clip, *texts: str) -> Claim:
    answers = dict(zip(clip.times, texts, strict=False))
    (claim,) = told([clip], answers, dict.fromkeys(clip.times, CAMERA)).claims
    return claim


def test_the_first_frame_that_tells_of_an_accident_says_when_and_where() -> None:
    first, later = alarm(accident(20, 10, 60, 30)), alarm(accident(0, 0, 200, 100))
    assert said(clip(1.0, 1.5, 2.0), QUIET, first, later) == Claim(1.5, 0.2, 0.2, "single")


def test_without_an_alarm_the_claim_is_the_naive_one() -> None:
    assert said(clip(1.0, 1.5), QUIET, QUIET) == Claim(6.0, 0.5, 0.5, "single")
    assert said(clip()) == naive(clip()) == Claim(6.0, 0.5, 0.5, "single")


def not_compliant(**changes: Any) -> str:
    return json.dumps(json.loads(alarm(accident(20, 10, 60, 30))) | changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "An accident!",
        not_compliant(count=2),
        not_compliant(note="x"),
        not_compliant(accidents=[{"bbox": [20, 10, 260, 30], "severity": "moderate"}]),
    ],
)
def test_an_answer_that_is_not_compliant_raises_no_alarm(text: str) -> None:
    later = alarm(accident(20, 10, 60, 30))
    assert said(clip(1.0, 2.5), text, later).time == 2.5


def test_of_several_accidents_the_largest_of_the_severest_is_it() -> None:
    told_of = alarm(
        accident(0, 0, 150, 90),
        accident(10, 10, 20, 20, "severe"),
        accident(100, 40, 160, 80, "severe"),
    )
    worst = worst_accident(told_of, CAMERA)
    assert worst is not None
    assert worst.box[:4] == (100, 40, 160, 80)
    assert worst_accident(QUIET, CAMERA) is None


def test_alarms_questions_and_gaps_are_counted() -> None:
    clips = [clip(1.0, 2.0), Clip("videos/b.mp4", 4.0, LABEL, {"b-0": 0.5})]
    answers = {"a-1": alarm(accident(20, 10, 60, 30))}
    found = told(clips, answers, dict.fromkeys(["a-0", "a-1", "b-0"], CAMERA))
    assert (found.alarms, found.questions, found.unanswered) == (1, 3, 2)


def test_the_submission_is_in_the_published_form() -> None:
    clips = [clip(), Clip("videos/b, c.mp4", 4.0, LABEL, {})]
    text = submission(clips, [Claim(14.98351, 0.5, 1 / 3, "single"), naive(clips[1])])
    assert text == (
        "path,accident_time,center_x,center_y,type\n"
        "videos/a.mp4,14.9835,0.5,0.333333,single\n"
        '"videos/b, c.mp4",2,0.5,0.5,single\n'
    )


SOUND = {
    "path": "videos/a.mp4",
    "type": "t-bone",
    "accident_time": 3.0,
    "duration": 12.0,
    "center": [0.5, 0.5],
    "box": [0.4, 0.4, 0.6, 0.6],
    "looked_at": 24,
    "damaged": 0,
    "frames": [{"image_id": "a-0001", "time": 0.0}],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accident_time": "3"}, "accident_time is '3', expected a number from 0"),
        ({"duration": 0}, "duration is 0, expected a number above 0"),
        ({"center": [0.5]}, "center is [0.5], expected a list of 2 values"),
        ({"box": [0.4, 0.4, 0.4, 0.6]}, "no box"),
        ({"frames": [{"image_id": "a"}]}, "frame: time is missing"),
        ({"frames": None}, "frames is None, expected a list"),
        ({"path": ""}, "path is ''"),
    ],
)
def test_a_line_that_no_importer_writes_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    file = tmp_path / "clips.jsonl"
    file.write_text(json.dumps(SOUND) + "\n")
    (read,) = read_clips(tmp_path)
    assert read.label.truth == Claim(3.0, 0.5, 0.5, "t-bone")
    assert (read.label.width, read.label.height) == pytest.approx((0.2, 0.2))
    file.write_text(json.dumps(SOUND) + "\n" + json.dumps(SOUND | change) + "\n")
    with pytest.raises(DataError) as refusal:
        read_clips(tmp_path)
    assert str(refusal.value).startswith(f"{file}:2: ")
    assert words in str(refusal.value)


def test_a_folder_of_other_instructions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.prep\.accident_clips makes it"):
        read_clips(tmp_path)
    (tmp_path / "clips.jsonl").touch()
    with pytest.raises(DataError, match="no clip in it"):
        read_clips(tmp_path)
