"""What of the spool waits for the receiver, event by event."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from dat_runtime.planning.pending import Kind, PendingEvent


@dataclass(frozen=True)
class Waiting:
    """An event of which something is not acknowledged yet.

    Attributes:
        pending: as the scheduler takes it: `json_sent` when only the visual waits; of ROI and boxed
            image the one that waits.
        revision: the newest, to acknowledge what waits with.
        question: kind and prompt of the code that `pending` states.
    """

    pending: PendingEvent
    camera: str
    revision: int
    question: tuple[str, str] | None = None


def together(
    events: Iterable[tuple[Any, ...]], questions: Iterable[tuple[Any, ...]]
) -> list[Waiting]:
    """Events of which something waits, each with its question; those that have only that are last.

    Args:
        events: rows as `_waiting` takes them, in order of arrival.
        questions: rows of `spool_questions.Questions.waiting`.
    """
    waiting = {row[0]: _waiting(*row) for row in events}
    for id, camera, revision, priority, captured_at, kind, prompt, size in questions:
        if id in waiting:
            pending = waiting[id].pending
        else:  # its alert and visual are acknowledged
            pending = PendingEvent(id, priority, 0, None, None, captured_at, json_sent=True)
        asked = replace(pending, code_bytes=size)
        waiting[id] = Waiting(asked, camera, revision, (kind, prompt))
    return list(waiting.values())


def _waiting(
    id: str,
    camera: str,
    revision: int,
    priority: float,
    captured_at: float,
    json_bytes: int,
    json_sent: int,
    kind: Kind | None,
    visual_bytes: int,
) -> Waiting:
    pending = PendingEvent(
        id=id,
        priority=priority,
        json_bytes=json_bytes,
        roi_bytes=visual_bytes if kind == "roi" else None,
        box_bytes=visual_bytes if kind == "box" else None,
        captured_at=captured_at,
        json_sent=bool(json_sent),
    )
    return Waiting(pending, camera, revision)
