"""One frame from its detections to an event with three units: JSON, ROI and boxed image.

`question` is what the MLLM is asked, and `event_of` takes its answer; both are pure.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dat_runtime.answer import as_json, target
from dat_runtime.draw import (
    MAX_PIXELS,
    Image,
    boxed_image,
    encode_jpeg,
    encode_png,
    model_frame,
    representative_roi,
    resize,
    size_of,
)
from dat_runtime.priority import semantic_priority
from dat_runtime.prompt import SYSTEM, task_prompt
from dat_runtime.schedule import PendingEvent
from dat_runtime.schema import Check, check
from dat_runtime.types import Accident, Assessment, Detection, Size

Source = Literal["mllm", "gate"]
"""Whose assessment an event carries."""


@dataclass(frozen=True)
class Question:
    """What the MLLM is asked about one frame (Î, D⁺ and p of Eq. 3).

    Attributes:
        png: the image at its model frame, boxed or raw, PNG.
        system: the system message; never changes.
        prompt: the user message that follows the image.
        frame: the size of the image that is sent; the answer's boxes are in its pixels.
    """

    png: bytes
    system: str
    prompt: str
    frame: Size


@dataclass(frozen=True)
class Event:
    """One event as it waits for transmission (Eq. 6).

    Attributes:
        id: unique at its node.
        assessment: count, severities, score and boxes, in pixels of the original frame.
        source: "mllm", or "gate" when there was no compliant answer.
        check: the verdict on the answer, boxes in the frame in which it was given; `None` when
            there was no answer.
        priority: S of Eq. 7.
        json, roi, boxed: the units in bytes; `roi` is `None` without a detection.
        captured_at: seconds, the caller's clock.
    """

    id: str
    assessment: Assessment
    source: Source
    check: Check | None
    priority: float
    json: bytes
    roi: bytes | None
    boxed: bytes
    captured_at: float

    def pending(self) -> PendingEvent:
        """The event as the scheduler sees it: its priority and the sizes of its units."""
        return PendingEvent(
            id=self.id,
            priority=self.priority,
            json_bytes=len(self.json),
            roi_bytes=None if self.roi is None else len(self.roi),
            box_bytes=len(self.boxed),
            captured_at=self.captured_at,
        )


def question(
    image: Image, detections: Sequence[Detection] | None, max_pixels: int = MAX_PIXELS
) -> Question:
    """What to ask about a frame: boxed with the kept detections D⁺, or raw (`None`, Table 1).

    The frame is resized first and the boxes are drawn after, so that their lines keep their width.
    """
    frame = model_frame(size_of(image), max_pixels)
    boxed = boxed_image(resize(image, frame), detections or ())
    return Question(encode_png(boxed), SYSTEM, task_prompt(frame, detections), frame)


def event_of(
    id: str,
    image: Image,
    detections: Sequence[Detection],
    answer: str | None,
    frame: Size,
    captured_at: float = 0.0,
) -> Event:
    """The event of a frame whose question was answered.

    An answer that is not fully compliant does not reach the cloud: the event is then made from the
    gate's detections, as it is when no answer came, so that an alert goes out in any case.

    Args:
        id: unique at this node.
        image: the original frame.
        detections: D⁺, in any frame of the picture.
        answer: the text of the MLLM, boxes in pixels of `frame`; `None` when none came.
        frame: the size of the image that was sent.
        captured_at: seconds, the caller's clock.
    """
    size = size_of(image)
    verdict = None if answer is None else check(answer, frame.width, frame.height)
    compliant = _compliant(verdict)
    source: Source
    if compliant is not None:
        assessment, source = _moved(compliant, size), "mllm"
    else:
        assessment, source = _from_gate(detections, size), "gate"
    priority = semantic_priority(assessment.level, assessment.score)
    return Event(
        id=id,
        assessment=assessment,
        source=source,
        check=verdict,
        priority=priority,
        json=_alert(id, assessment, source, priority, captured_at),
        roi=representative_roi(image, detections),
        boxed=encode_jpeg(boxed_image(image, detections)),
        captured_at=captured_at,
    )


def _compliant(verdict: Check | None) -> Assessment | None:
    if verdict is None or not verdict.rule or verdict.violation:
        return None
    return verdict.assessment


def _moved(assessment: Assessment, frame: Size) -> Assessment:
    """The assessment with its boxes in another frame of the same picture."""
    accidents = tuple(
        Accident(accident.box.to(frame), accident.severity) for accident in assessment.accidents
    )
    return replace(assessment, accidents=accidents)


def _from_gate(detections: Sequence[Detection], size: Size) -> Assessment:
    """The assessment of the gate alone; unknown severity counts as severe."""
    accidents = []
    for detection in detections:
        box = detection.box.to(size).clipped()
        accidents.append(Accident(box, detection.severity or "severe"))
    return target(accidents)


def _alert(
    id: str, assessment: Assessment, source: Source, priority: float, captured_at: float
) -> bytes:
    """The JSON unit: compact, UTF-8."""
    alert = {
        "id": id,
        "captured_at": captured_at,
        "source": source,
        "priority": round(priority, 4),
        "answer": as_json(assessment),
    }
    return json.dumps(alert, ensure_ascii=False, separators=(",", ":")).encode()
