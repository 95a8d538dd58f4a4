"""One frame from its detections to an event with three units: JSON, ROI and boxed image.

`question` is what the MLLM is asked, and `event_of` takes its answer; both are pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dat_runtime import alert
from dat_runtime.alert import Alert, Origin, Source
from dat_runtime.answer import target
from dat_runtime.draw import (
    MAX_PIXELS,
    Image,
    boxed_at,
    boxed_image,
    encode_jpeg,
    encode_seen,
    model_frame,
    representative_roi,
    seen_as_png,
    size_of,
)
from dat_runtime.family import QWEN2_5_VL, Family
from dat_runtime.gate import HIGH_THRESHOLD
from dat_runtime.priority import semantic_priority
from dat_runtime.prompt import system_message, task_prompt
from dat_runtime.schedule import PendingEvent
from dat_runtime.schema import MAX_ACCIDENTS, Check, check
from dat_runtime.types import Accident, Assessment, Detection, Size, highest_severity

NOT_COMPLIANT = "the answer is not compliant"

UNNAMED = Origin("node", "camera", {})
"""Of an event that no node made."""


@dataclass(frozen=True)
class Question:
    """What the MLLM is asked about one frame (Î, D⁺ and p of Eq. 3).

    Attributes:
        png: the image at its model frame, boxed or raw, PNG.
        system: the system message; never changes.
        prompt: the user message that follows the image.
        frame: in which prompt and answer count, for Qwen2.5-VL the size of the image.
    """

    png: bytes
    system: str
    prompt: str
    frame: Size


@dataclass(frozen=True)
class Event:
    """One event as it waits for transmission (Eq. 6).

    Attributes:
        alert: what the JSON unit says: id, assessment, priority S of Eq. 7, source and the rest.
        check: the verdict on the answer, boxes in the frame in which it was given; `None` when
            there was no answer.
        json, roi, boxed: the units in bytes; `roi` is `None` without a detection.
    """

    alert: Alert
    check: Check | None
    json: bytes
    roi: bytes | None
    boxed: bytes

    @property
    def id(self) -> str:
        return self.alert.id

    @property
    def assessment(self) -> Assessment:
        """Count, severities, score and boxes, in pixels of the original frame."""
        return self.alert.answer

    @property
    def source(self) -> Source:
        return self.alert.source

    @property
    def priority(self) -> float:
        return self.alert.priority

    @property
    def captured_at(self) -> float:
        """Seconds, the caller's clock."""
        return self.alert.captured_at

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
    image: Image,
    detections: Sequence[Detection] | None,
    max_pixels: int = MAX_PIXELS,
    family: Family = QWEN2_5_VL,
) -> Question:
    """What to ask about a frame: boxed with the kept detections D⁺, or raw (`None`, Table 1)."""
    seen, frame = seen_image(image, detections, max_pixels, family)
    prompt = task_prompt(frame, detections)
    return Question(seen_as_png(seen), system_message(family), prompt, frame)


def seen_image(
    image: Image,
    detections: Sequence[Detection] | None,
    max_pixels: int = MAX_PIXELS,
    family: Family = QWEN2_5_VL,
) -> tuple[bytes, Size]:
    """The image of a question as the JPEG that training stores, and the frame of its coordinates.

    The frame is resized first and the boxes are drawn after, so that their lines keep their width.
    Here alone it is decided in which frame prompt and answer count; whoever reads an answer is told
    it (`answer.in_frame`, `event_of`).

    Raises:
        ValueError: the sides of the frame are too unequal for the model.
    """
    size = model_frame(size_of(image), max_pixels, family.least_pixels, family.unit)
    return encode_seen(boxed_at(image, size, detections or ())), family.frame_of(size)


def event_of(
    id: str,
    image: Image,
    detections: Sequence[Detection],
    answer: str | None,
    frame: Size,
    captured_at: float = 0.0,
    *,
    origin: Origin = UNNAMED,
    degraded: str | None = None,
    revision: int = 0,
    least_priority: float = 0.0,
) -> Event:
    """The event of a frame whose question was answered, or was not.

    An answer that is not fully compliant does not reach the cloud: the event is then made from the
    gate's detections, as it is when no answer came, so that an alert goes out in any case. Nor does
    a compliant answer silence a sure gate: where the gate saw something worse, from
    `gate.HIGH_THRESHOLD` on, its assessment stands, and the alert says that there is a conflict.

    Args:
        id: unique at this node.
        image: the original frame.
        detections: D⁺, in any frame of the picture.
        answer: the text of the MLLM, boxes in `frame`; `None` when none came.
        frame: of the question, in which it counts.
        captured_at: seconds since 1970, the caller's clock.
        degraded: why there is no answer, when there should be one. An answer that is not compliant
            is a reason of its own.
        revision: from 0, for later assessments of the same event.
        least_priority: of earlier frames of the event: what was urgent does not become less so
            because a later frame shows less of it.

    Raises:
        ValueError: an id, a name or a time that an alert cannot carry.
    """
    size = size_of(image)
    verdict = None if answer is None else check(answer, frame.width, frame.height)
    compliant = _compliant(verdict)
    told = None if compliant is None else _moved(compliant, size)
    if verdict is not None and told is None:
        degraded = NOT_COMPLIANT
    assessment, source, conflict = _decided(told, detections, size)
    roi = representative_roi(image, detections)
    said = Alert(
        id=id,
        origin=origin,
        captured_at=captured_at,
        priority=max(
            least_priority, _priority(assessment), 0.0 if told is None else _priority(told)
        ),
        source=source,
        degraded=degraded,
        conflict=conflict,
        frame=size,
        roi=None if roi is None else roi.corners,
        answer=assessment,
        revision=revision,
    )
    return Event(
        alert=said,
        check=verdict,
        json=alert.dump(said),
        roi=None if roi is None else roi.jpeg,
        boxed=encode_jpeg(boxed_image(image, detections)),
    )


def _priority(assessment: Assessment) -> float:
    return semantic_priority(assessment.level, assessment.score)


def finished(
    said: Alert,
    detections: Sequence[Detection],
    answer: str | None,
    frame: Size,
    versions: Mapping[str, str],
    degraded: str | None = None,
) -> Alert:
    """The next revision of a gate's alert, once the MLLM was asked elsewhere about its frame.

    The rules are those of `event_of`: an answer that is not compliant changes nothing, and one that
    says less than a sure gate saw does not stand.

    Args:
        detections: D⁺, as the question stated them.
        answer: the MLLM's text, boxes in `frame`; `None` when none will come.
        versions: what answered, beside the versions that the alert states.
        degraded: why there is no answer.
    """
    verdict = None if answer is None else check(answer, frame.width, frame.height)
    compliant = _compliant(verdict)
    told = None if compliant is None else _moved(compliant, said.frame)
    if verdict is not None and told is None:
        degraded = NOT_COMPLIANT
    conflict = told is not None and _says_less(told, detections)
    stands = said.answer if told is None or conflict else told
    # Above its own, a gate's priority is that of an earlier frame, which stays.
    is_earlier = round(said.priority, 4) > round(_priority(said.answer), 4)
    earlier = said.priority if is_earlier else 0.0
    return replace(
        said,
        origin=replace(said.origin, versions={**said.origin.versions, **versions}),
        priority=max(earlier, _priority(stands), 0.0 if told is None else _priority(told)),
        source="mllm" if stands is told else "gate",
        degraded=degraded,
        conflict=conflict,
        answer=stands,
        revision=said.revision + 1,
    )


def _decided(
    told: Assessment | None, detections: Sequence[Detection], size: Size
) -> tuple[Assessment, Source, bool]:
    """Whose assessment stands, and whether the other one said less than a sure gate saw."""
    if told is None:
        return told_by_gate(detections, size), "gate", False
    if _says_less(told, detections):
        return told_by_gate(detections, size), "gate", True
    return told, "mllm", False


def _says_less(told: Assessment, detections: Sequence[Detection]) -> bool:
    """Whether the gate is sure of something worse."""
    # A gate of one class says that there is an accident, not how bad it is.
    sure = [d.severity or "moderate" for d in detections if d.confidence >= HIGH_THRESHOLD]
    return _RISING.index(highest_severity(sure)) > _RISING.index(told.severity)


_RISING = ("none", "moderate", "severe")


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


def told_by_gate(detections: Sequence[Detection], size: Size) -> Assessment:
    """The assessment of the gate alone; unknown severity counts as severe."""
    surest = sorted(detections, key=lambda d: -d.confidence)[:MAX_ACCIDENTS]
    accidents = []
    for detection in surest:
        box = detection.box.to(size).clipped()
        accidents.append(Accident(box, detection.severity or "severe"))
    return target(accidents)
