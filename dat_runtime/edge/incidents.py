"""One accident is one event with updates, not one a frame: which frames are news to an operator.

An incident is a place in a camera's view, remembered as the boxes that were seen there. What is
detected within reach of them is the same incident, however the detections flicker; what appears
elsewhere is a new one. Positions are shares of the frame, times seconds of a monotonic clock. Reads
no clock and no file; the reasons for the numbers are in docs/decisions/016-incidents-and-asking.md.
"""

import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dat_runtime.schema import MAX_ACCIDENTS
from dat_runtime.types import Box, Detection, Size

GONE = 120.0
"""Seconds without a sighting after which an incident has ended. A lorry that stands in front of a
stopped car, or a gate that is unsure for a minute, does not make a second event of it; a second
crash into the first within that time is an update, since its boxes are more or surer."""

REACH = 0.05
"""Shares of the frame's sides up to which two boxes belong together; half of the smaller box's side
where that is more. Boxes jitter by less, and what an accident throws about lies within it. Also how
far an edge of the whole has to move until the incident is seen to have moved or grown."""

SOONEST = 3.0
"""Seconds between two pieces of news of one incident, at least: what a person can take in."""

STILL_THERE = 300.0
"""Seconds after which an incident that only goes on is news: it has not been cleared. No pause
between two updates is longer, though each doubles it."""

AGAIN = 10.0
"""Seconds after which news that the MLLM did not answer is worth another question, at least."""

SURER = 0.2
"""Rise of the highest confidence that is news: at most four times in an incident's life."""

MOST = 8
"""Incidents that are alive in one view. Beyond, a detection belongs to the nearest one: a drop on
the lens or a camera that turns must not flood the uplink."""

_MOST_BOXES = 16
"""Boxes that are remembered of an incident."""

_WHOLE = Size(1, 1)


class Sighting(NamedTuple):
    """What a frame shows of an incident.

    Attributes:
        id: of the event, unique at the node.
        is_news: whether the frame is worth an alert: a new incident, or one that got worse, moved
            or grew, was not answered yet, or has gone on for long.
        detections: those of the frame that belong to it.
    """

    id: str
    is_news: bool
    detections: tuple[Detection, ...]


class _Look(NamedTuple):
    """What a frame says of an incident.

    Attributes:
        severity: 1 for severe or unknown, as in the event made from it; 0 for moderate.
        extent: the box around all boxes.
    """

    severity: int
    number: int
    confidence: float
    extent: Box


@dataclass
class _Incident:
    """An incident that has not ended.

    Attributes:
        boxes: where its detections were and when last, in shares of the frame.
        told: what its latest news said, the highest of each so far; `None` before the first.
        told_at: when that was.
        pause: seconds from then to the next news that is not a rise of severity.
        answered: whether the MLLM answered about the latest news, as far as is known.
    """

    id: str
    boxes: dict[Box, float]
    seen_at: float
    told: _Look | None = None
    told_at: float = 0.0
    pause: float = SOONEST
    answered: bool = True


def new_id(camera: str) -> str:
    """An event's id, unique at the node: neither a restart nor a clock that steps repeats one."""
    return f"{camera}-{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}"


class Incidents:
    """The incidents in the views of all cameras.

    Args:
        new_id: makes the id of a camera's next event.
    """

    def __init__(self, new_id: Callable[[str], str] = new_id):
        self._new_id = new_id
        self._alive: dict[str, tuple[_Incident, ...]] = {}

    def see(self, camera: str, now: float, detections: Sequence[Detection]) -> Sighting | None:
        """What a frame shows; `None` when it shows nothing. Of one camera in order of time.

        A frame makes at most one event: all that is new in it is one incident. Where it has news of
        several, the others keep theirs until the next frame.

        Args:
            now: when the frame was taken, seconds of a monotonic clock.
            detections: D⁺, the kept ones; beyond what an alert can hold, only the surest count.
        """
        if len(detections) > MAX_ACCIDENTS:
            detections = sorted(detections, key=lambda d: -d.confidence)[:MAX_ACCIDENTS]
        # Looked up, not taken out: `answered` may look for one of them at this moment.
        alive = [i for i in self._alive.get(camera, ()) if now - i.seen_at <= GONE]
        shown: dict[int, list[Detection]] = {}
        for detection in detections:
            place = _place(alive, detection.box.to(_WHOLE))
            shown.setdefault(place, []).append(detection)
        if len(alive) in shown:
            alive.append(_Incident(self._new_id(camera), {}, now))
        if alive:
            self._alive[camera] = tuple(alive)
        else:
            self._alive.pop(camera, None)
        for place, found in shown.items():
            _remember(alive[place], [d.box.to(_WHOLE) for d in found], now)
        looks = {place: _look(alive[place], found) for place, found in shown.items()}
        # What nobody was told of comes first, then the worst.
        order = sorted(shown, key=lambda p: (alive[p].told is not None, -looks[p].severity))
        for place in order:
            if _is_news(alive[place], looks[place], now):
                _tell(alive[place], looks[place], now)
                return _sighting(alive[place], shown[place], is_news=True)
        return _sighting(alive[order[0]], shown[order[0]], is_news=False) if order else None

    def answered(self, camera: str, id: str, yes: bool) -> None:
        """Note whether the MLLM answered about the latest news of an incident.

        One without an answer is news again when it is next seen, from `AGAIN` seconds on. Safe to
        call from another thread than `see`.
        """
        for incident in self._alive.get(camera, ()):
            if incident.id == id:
                incident.answered = yes


def _place(alive: Sequence[_Incident], box: Box) -> int:
    """The place of the incident that a box belongs to; one past the last for a new one."""
    if not alive:
        return 0
    distances = [min(_distance(box, known) for known in i.boxes) for i in alive]
    place = min(range(len(alive)), key=distances.__getitem__)
    is_known = distances[place][0] <= 1.0 or len(alive) >= MOST
    return place if is_known else len(alive)


def _distance(a: Box, b: Box) -> tuple[float, float]:
    """The gap between two boxes in reaches, 0 when they touch; then less for more overlap."""
    reach_x = max(REACH, min(a.x2 - a.x1, b.x2 - b.x1) / 2)
    reach_y = max(REACH, min(a.y2 - a.y1, b.y2 - b.y1) / 2)
    gap_x = max(a.x1 - b.x2, b.x1 - a.x2, 0.0) / reach_x
    gap_y = max(a.y1 - b.y2, b.y1 - a.y2, 0.0) / reach_y
    gap = max(gap_x, gap_y)
    return gap, 0.0 if gap else -a.iou(b)


def _remember(incident: _Incident, boxes: Sequence[Box], now: float) -> None:
    """Each box takes the place of the nearest one within reach, so that nothing leaves a trail."""
    incident.seen_at = now
    known = {box: at for box, at in incident.boxes.items() if now - at <= GONE}
    kept: dict[Box, float] = {}
    for box in boxes[:_MOST_BOXES]:
        former = min(known, key=lambda k: _distance(box, k), default=None)
        if former is not None and _distance(box, former)[0] <= 1.0:
            del known[former]
        kept[box] = now
    newest = sorted(known.items(), key=lambda item: -item[1])
    kept.update(newest[: _MOST_BOXES - len(kept)])
    incident.boxes = kept


def _look(incident: _Incident, found: Sequence[Detection]) -> _Look:
    return _Look(
        severity=int(any(d.severity != "moderate" for d in found)),
        number=len(found),
        confidence=max(d.confidence for d in found),
        # Of all boxes remembered: one that flickers makes no incident grow, shrink and grow.
        extent=_around(incident.boxes),
    )


def _around(boxes: Collection[Box]) -> Box:
    return Box(
        min(b.x1 for b in boxes),
        min(b.y1 for b in boxes),
        max(b.x2 for b in boxes),
        max(b.y2 for b in boxes),
        _WHOLE,
    )


def _is_news(incident: _Incident, look: _Look, now: float) -> bool:
    told, since = incident.told, now - incident.told_at
    if told is None:
        return True
    if since < SOONEST:
        return False
    if look.severity > told.severity or since >= STILL_THERE:
        return True
    if since < incident.pause:
        return False
    return (
        (not incident.answered and since >= AGAIN)
        or look.number > told.number
        or look.confidence >= told.confidence + SURER
        or _has_changed(told.extent, look.extent)
    )


def _has_changed(told: Box, extent: Box) -> bool:
    """Whether it has moved or grown: an edge lies elsewhere by more than jitter."""
    reach_x = max(REACH, (told.x2 - told.x1) / 2)
    reach_y = max(REACH, (told.y2 - told.y1) / 2)
    shift_x = max(abs(extent.x1 - told.x1), abs(extent.x2 - told.x2))
    shift_y = max(abs(extent.y1 - told.y1), abs(extent.y2 - told.y2))
    return shift_x > reach_x or shift_y > reach_y


def _tell(incident: _Incident, look: _Look, now: float) -> None:
    told = incident.told
    if told is None:
        incident.told = look
    else:
        incident.told = _Look(
            max(look.severity, told.severity),
            max(look.number, told.number),
            max(look.confidence, told.confidence),
            look.extent,
        )
        incident.pause *= 2  # past `STILL_THERE` it does not matter any more
    incident.told_at = now
    incident.answered = True


def _sighting(incident: _Incident, found: Sequence[Detection], is_news: bool) -> Sighting:
    return Sighting(incident.id, is_news, tuple(found))
