import json

import cv2
import numpy as np
import pytest

from dat_runtime.draw import boxed_image, encode_jpeg, representative_roi, resize
from dat_runtime.event import event_of, question
from dat_runtime.prompt import SYSTEM, task_prompt
from dat_runtime.types import Box, Detection, Size

FRAME = Size(350, 175)
SENT = Size(336, 168)
IMAGE = np.random.default_rng(1).integers(0, 256, (175, 350, 3), np.uint8)
DETECTIONS = (
    Detection(Box(20, 20, 80, 90, FRAME), "severe", 0.9),
    Detection(Box(200, 40, 260, 100, FRAME), "moderate", 0.5),
)


def answer(**changes: object) -> str:
    value = {
        "count": 1,
        "severity": "severe",
        "level": 1,
        "score": 0.8,
        "accidents": [{"bbox": [24, 24, 72, 72], "severity": "severe"}],
        "summary": "One car overturned.",
    }
    return json.dumps(value | changes)


def test_the_mllm_is_shown_boxes_drawn_at_the_size_that_it_sees() -> None:
    asked = question(IMAGE, DETECTIONS)
    assert asked.frame == SENT
    shown = cv2.imdecode(np.frombuffer(asked.png, np.uint8), cv2.IMREAD_COLOR)
    assert (shown == boxed_image(resize(IMAGE, SENT), DETECTIONS)).all()
    assert (asked.system, asked.prompt) == (SYSTEM, task_prompt(SENT, DETECTIONS))


def test_the_pixel_limit_bounds_what_is_shown() -> None:
    assert question(IMAGE, DETECTIONS, max_pixels=12544).frame == Size(140, 56)


def test_a_compliant_answer_makes_the_event_in_pixels_of_the_original_frame() -> None:
    event = event_of("e", IMAGE, DETECTIONS, answer(), SENT, captured_at=12.5)
    assert event.source == "mllm"
    assert event.assessment.accidents[0].box == Box(25, 25, 75, 75, FRAME)
    assert event.priority == pytest.approx(0.9)
    assert json.loads(event.json) == {
        "id": "e",
        "captured_at": 12.5,
        "source": "mllm",
        "priority": 0.9,
        "answer": json.loads(answer(accidents=[{"bbox": [25, 25, 75, 75], "severity": "severe"}])),
    }


def test_the_units_of_an_event_are_what_the_planner_is_told() -> None:
    event = event_of("e", IMAGE, DETECTIONS, answer(), SENT, captured_at=3)
    assert event.boxed == encode_jpeg(boxed_image(IMAGE, DETECTIONS))
    assert event.roi == representative_roi(IMAGE, DETECTIONS)
    pending = event.pending()
    sizes = (pending.json_bytes, pending.roi_bytes, pending.box_bytes)
    assert sizes == (len(event.json), len(event.roi or b""), len(event.boxed))
    assert (pending.id, pending.priority, pending.captured_at) == ("e", event.priority, 3)
    assert len(event.json) < 450


@pytest.mark.parametrize(
    "text",
    [
        None,
        "I see two cars.",
        "```json\n" + answer() + "\n```",
        answer(extra=1),
        answer(count=3),
        answer(level=0),
        answer(score=1.5),
        answer(accidents=[{"bbox": [24, 24, 9999, 72], "severity": "severe"}]),
    ],
)
def test_without_a_compliant_answer_the_gate_makes_the_event(text: str | None) -> None:
    event = event_of("e", IMAGE, DETECTIONS, text, SENT)
    assert event.source == "gate"
    assert (event.assessment.count, event.assessment.severity) == (2, "severe")
    assert json.loads(event.json)["source"] == "gate"
    assert event.priority > 0.75
    assert (event.check is None) == (text is None)


def test_an_answer_of_no_accident_is_kept() -> None:
    empty = answer(count=0, severity="none", level=0, score=0, accidents=[], summary="")
    event = event_of("e", IMAGE, DETECTIONS, empty, SENT)
    assert (event.source, event.priority) == ("mllm", 0)


def test_what_the_gate_kept_makes_the_event_however_low_its_threshold() -> None:
    unsure = Detection(Box(20, 20, 80, 90, FRAME), "moderate", 0.1)
    event = event_of("e", IMAGE, [unsure], None, SENT)
    assert (event.assessment.count, event.assessment.severity) == (1, "moderate")


def test_a_severity_that_the_gate_does_not_know_is_told_as_severe() -> None:
    accident = Detection(DETECTIONS[1].box, None, 0.5)
    event = event_of("e", IMAGE, [accident], None, SENT)
    assert (event.assessment.severity, event.assessment.level) == ("severe", 1)
    assert event.priority > 0.75


def test_half_a_character_in_the_summary_goes_out_as_a_question_mark() -> None:
    event = event_of("e", IMAGE, DETECTIONS, answer(summary="x \ud800"), SENT)
    assert event.source == "mllm"
    assert json.loads(event.json)["answer"]["summary"] == "x ?"
