import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from dat_runtime.alert import Origin, read_alert
from dat_runtime.answer import in_frame
from dat_runtime.draw import boxed_image, encode_jpeg, model_frame, representative_roi, resize
from dat_runtime.event import event_of, finished, question, seen_image
from dat_runtime.prompt import SYSTEM, task_prompt
from dat_runtime.schema import check
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
    seen, _ = seen_image(IMAGE, DETECTIONS)
    assert (shown == cv2.imdecode(np.frombuffer(seen, np.uint8), cv2.IMREAD_COLOR)).all()
    drawn = boxed_image(resize(IMAGE, SENT), DETECTIONS)
    assert np.abs(shown.astype(int) - drawn).mean() < 4  # of noise, the worst case
    assert (asked.system, asked.prompt) == (SYSTEM, task_prompt(SENT, DETECTIONS))


def test_the_pixel_limit_bounds_what_is_shown() -> None:
    assert question(IMAGE, DETECTIONS, max_pixels=12544).frame == Size(140, 56)


def test_a_compliant_answer_makes_the_event_in_pixels_of_the_original_frame() -> None:
    origin = Origin("n1", "north", {"prompt": 1})
    event = event_of("e", IMAGE, DETECTIONS, answer(), SENT, captured_at=12.5, origin=origin)
    assert event.source == "mllm"
    assert event.assessment.accidents[0].box == Box(25, 25, 75, 75, FRAME)
    assert event.priority == pytest.approx(0.9)
    assert json.loads(event.json) == {
        "specversion": "1.0",
        "id": "e",
        "source": "/nodes/n1/cameras/north",
        "type": "dat.alert.v1",
        "time": "1970-01-01T00:00:12.500Z",
        "data": {
            "schema": 1,
            "captured_at": 12.5,
            "priority": 0.9,
            "source": "mllm",
            "degraded": None,
            "conflict": False,
            "frame": {"width": 350, "height": 175},
            "roi": [14, 13, 86, 97],
            "answer": json.loads(
                answer(accidents=[{"bbox": [25, 25, 75, 75], "severity": "severe"}])
            ),
            "versions": {"prompt": 1},
            "revision": 0,
        },
    }


def test_the_units_of_an_event_are_what_the_planner_is_told() -> None:
    event = event_of("e", IMAGE, DETECTIONS, answer(), SENT, captured_at=3)
    assert event.boxed == encode_jpeg(boxed_image(IMAGE, DETECTIONS))
    roi = representative_roi(IMAGE, DETECTIONS)
    assert roi is not None
    assert event.roi == roi.jpeg
    pending = event.pending()
    sizes = (pending.json_bytes, pending.roi_bytes, pending.box_bytes)
    assert sizes == (len(event.json), len(event.roi or b""), len(event.boxed))
    assert (pending.id, pending.priority, pending.captured_at) == ("e", event.priority, 3)
    assert len(event.json) < 700


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
    assert json.loads(event.json)["data"]["source"] == "gate"
    assert event.alert.degraded == (None if text is None else "the answer is not compliant")
    assert not event.alert.conflict
    assert event.priority > 0.75
    assert (event.check is None) == (text is None)


def test_an_event_without_a_detection_has_no_roi_and_is_of_no_time_unless_told() -> None:
    event = event_of("e", IMAGE, (), None, SENT, revision=3)
    assert (event.roi, event.alert.roi, event.pending().roi_bytes) == (None, None, None)
    assert (event.captured_at, event.alert.revision) == (0.0, 3)


NONE = answer(count=0, severity="none", level=0, score=0, accidents=[], summary="")


def test_an_answer_of_no_accident_is_kept_where_the_gate_is_not_sure() -> None:
    unsure = [replace(d, confidence=0.79) for d in DETECTIONS]
    event = event_of("e", IMAGE, unsure, NONE, SENT)
    assert (event.source, event.priority, event.alert.conflict) == ("mllm", 0, False)


def test_a_compliant_answer_never_silences_a_sure_gate() -> None:
    sure = [Detection(DETECTIONS[0].box, "severe", 0.8)]
    moderate = [{"bbox": [24, 24, 72, 72], "severity": "moderate"}]
    for text in (NONE, answer(severity="moderate", level=0, score=0.3, accidents=moderate)):
        event = event_of("e", IMAGE, sure, text, SENT)
        alone = event_of("e", IMAGE, sure, None, SENT)
        assert (event.source, event.alert.conflict) == ("gate", True)
        assert event.assessment == alone.assessment
        assert event.priority == alone.priority > 0.75
        assert read_alert(json.loads(event.json)).conflict


def test_of_two_that_disagree_the_higher_priority_is_kept() -> None:
    small = [Detection(Box(20, 20, 26, 26, FRAME), "moderate", 0.95)]
    doubtful = answer(count=0, severity="none", level=0, score=0.49, accidents=[], summary="")
    event = event_of("e", IMAGE, small, doubtful, SENT)
    assert event.alert.conflict
    assert event.priority == pytest.approx(0.245)


@pytest.mark.parametrize("earlier", [0.0, 0.9])
def test_the_priority_of_an_earlier_frame_stays_whoever_answers(earlier: float) -> None:
    """The receiver, which finishes the answer, knows it by the alert alone."""
    gate = event_of("e", IMAGE, DETECTIONS, None, FRAME, least_priority=earlier)
    own = event_of("e", IMAGE, DETECTIONS, None, FRAME).priority
    assert gate.priority == max(own, earlier)
    none = answer(count=0, severity="none", level=0, score=0.1, accidents=[])
    told = finished(read_alert(json.loads(gate.json)), [], none, FRAME, {})
    assert told.answer.severity == "none"
    assert told.priority == max(earlier, 0.05)


def test_a_gate_that_knows_no_severity_contradicts_none_only() -> None:
    accident = [Detection(DETECTIONS[0].box, None, 0.9)]
    moderate = [{"bbox": [24, 24, 72, 72], "severity": "moderate"}]
    told = answer(severity="moderate", level=0, score=0.3, accidents=moderate)
    assert not event_of("e", IMAGE, accident, told, SENT).alert.conflict
    event = event_of("e", IMAGE, accident, NONE, SENT)
    assert event.alert.conflict
    assert event.assessment.severity == "severe"


def test_a_gate_that_sees_hundreds_of_accidents_tells_the_64_surest() -> None:
    crowd = [Detection(Box(i, 0, i + 9, 9, FRAME), "moderate", 0.3 + i / 1000) for i in range(300)]
    event = event_of("e", IMAGE, crowd, None, SENT)
    assert event.assessment.count == 64
    assert min(a.box.x1 for a in event.assessment.accidents) == 236
    assert len(event.json) < 16_384


def test_what_the_gate_saw_in_another_frame_is_told_in_the_pictures_and_inside_it() -> None:
    half = Size(175, 175)
    seen = [Detection(Box(-10, 50, 60, 180, half), "severe", 0.9)]
    event = event_of("e", IMAGE, seen, None, SENT)
    assert event.assessment.accidents[0].box == Box(0, 50, 120, 175, FRAME)
    assert event.alert.roi == (0, 38, 132, 175)


@pytest.mark.parametrize("at", [float("nan"), float("inf"), -1, 1e12])
def test_a_time_that_no_alert_can_state_is_refused(at: float) -> None:
    with pytest.raises(ValueError, match="captured_at"):
        event_of("e", IMAGE, DETECTIONS, None, SENT, captured_at=at)


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
    assert json.loads(event.json)["data"]["answer"]["summary"] == "x ?"


def random_answer(rng: np.random.Generator, frame: Size) -> str:
    """A compliant answer, its boxes of any size down to one pixel and anywhere in the frame."""
    accidents = []
    for _ in range(rng.integers(0, 4)):
        width, height = rng.integers(1, [frame.width + 1, frame.height + 1])
        if rng.random() < 0.3:
            width, height = 1, 1
        x = rng.integers(0, frame.width - width + 1)
        y = rng.integers(0, frame.height - height + 1)
        severity = "severe" if rng.random() < 0.5 else "moderate"
        bbox = [int(v) for v in (x, y, x + width, y + height)]
        accidents.append({"bbox": bbox, "severity": severity})
    severities = {accident["severity"] for accident in accidents}
    highest = next((s for s in ("severe", "moderate") if s in severities), "none")
    level = int(highest == "severe")
    score = round(0.5 * level + 0.49 * float(rng.random()), 2)
    value = {"count": len(accidents), "severity": highest, "level": level, "score": score}
    return json.dumps(value | {"accidents": accidents, "summary": "Two cars."})


def spoiled(rng: np.random.Generator, text: str, frame: Size) -> str:
    """The answer with one thing wrong in it."""
    value = json.loads(text)
    if value["accidents"] and rng.random() < 0.5:
        outside = [[0, 0, frame.width + 1, 1], [-1, 0, 1, 1], [1, 0, 1, 1], [0, 0, 1.5, 1]]
        value["accidents"][0]["bbox"] = outside[rng.integers(len(outside))]
        return json.dumps(value)
    changes = [{"count": 9}, {"score": 2}, {"level": 1 - value["level"]}, {"summary": 3}, {"x": 1}]
    return json.dumps(value | changes[rng.integers(len(changes))])


@pytest.mark.parametrize("camera", [Size(200, 160), Size(97, 61), Size(57, 400), Size(1000, 52)])
def test_an_answer_is_judged_alike_in_the_frame_it_was_given_in_and_in_the_cameras(
    camera: Size,
) -> None:
    """Another way to the same event: move the text's boxes to the camera's frame, then check."""
    rng = np.random.default_rng(camera.pixels)
    image, sent = np.zeros((camera.height, camera.width, 3), np.uint8), model_frame(camera)
    sources = {"mllm": 0, "gate": 0}
    for i in range(400):
        text = random_answer(rng, sent)
        if i % 4 == 0:
            text = spoiled(rng, text, sent)
        event = event_of("e", image, [], text, sent)
        moved = check(in_frame(text, sent, camera), camera.width, camera.height)
        compliant = moved.rule and moved.schema and not moved.violation
        assert event.source == ("mllm" if compliant else "gate")
        sources[event.source] += 1
        if not compliant:
            continue
        assert moved.assessment is not None
        told = json.loads(event.json)["data"]["answer"]
        again = check(json.dumps(told), camera.width, camera.height)
        assert (again.schema, again.rule, again.violation) == (True, True, False)
        pairs = zip(event.assessment.accidents, moved.assessment.accidents, strict=True)
        for given, (ours, theirs) in zip(told["accidents"], pairs, strict=True):
            assert ours.severity == theirs.severity == given["severity"]
            assert ours.box[:4] == pytest.approx(theirs.box[:4], abs=1)
            assert given["bbox"] == pytest.approx(theirs.box[:4], abs=1)
            assert ours.box.frame == theirs.box.frame == camera
    assert sources["mllm"] > 200
    assert sources["gate"] > 50


def test_a_box_that_was_moved_keeps_its_place_within_a_pixel_of_the_camera() -> None:
    rng = np.random.default_rng(2)
    camera = Size(1920, 1080)
    sent = model_frame(camera)
    scale = np.array([camera.width / sent.width, camera.height / sent.height] * 2)
    image = np.zeros((camera.height, camera.width, 3), np.uint8)
    for _ in range(10):
        text = random_answer(rng, sent)
        event = event_of("e", image, [], text, sent)
        for sent_out, accident in zip(
            json.loads(event.json)["data"]["answer"]["accidents"],
            json.loads(text)["accidents"],
            strict=True,
        ):
            exact = np.array(accident["bbox"]) * scale
            assert sent_out["bbox"] == pytest.approx(exact, abs=1)
