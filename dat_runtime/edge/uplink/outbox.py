"""What waits for the uplink: the order of the live queue, the bytes in the spool.

All methods run in the uplink's event loop; the spool's own, which wait for a disk, in threads.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

from dat_runtime.edge.counts import Counts
from dat_runtime.edge.question import Question
from dat_runtime.edge.spool import Spool
from dat_runtime.edge.uplink.sender import OutgoingVisual
from dat_runtime.planning.live import Chunk, LiveQueue
from dat_runtime.planning.path import Path
from dat_runtime.planning.pending import PendingEvent, smaller_visual

P = ParamSpec("P")
R = TypeVar("R")

NOT_EARLY_SECONDS = 60.0
"""For which visuals wait for the answers to their alerts after a receiver let one wait in vain."""

SPOOL_THREADS = 2
"""That read alerts and visuals from the disk."""


@dataclass(frozen=True)
class DueAlert:
    """An alert that was taken from the queue to be sent."""

    id: str
    size: int
    revision: int


@dataclass(slots=True)
class _Event:
    """`pending.captured_at` is on the event loop's clock, which never steps."""

    pending: PendingEvent
    camera: str
    revision: int
    begun: bool = False
    """Some of its visual may be at a receiver."""
    is_taken: bool = False
    """The receiver has answered for its alert."""
    waits: bool = True
    """Its visual is not to go before that."""
    question: tuple[str, str] | None = None
    """Kind and prompt of its question, which never goes before that."""
    question_begun: bool = False


class Outbox:
    """Events until everything of them is acknowledged or refused.

    Every reading method raises `SpoolError` when the disk fails.

    Attributes:
        queue: decides what goes next.
        alerts, visuals, questions: ids of the events whose alert, visual or question waits or is
            under way. Their lengths may be read from other threads.
        acknowledged_at: when the receiver last took something, seconds since 1970, for people.
    """

    def __init__(self, spool: Spool, counts: Counts, path: Path):
        self.queue = LiveQueue(path)
        self.alerts: set[str] = set()
        self.visuals: set[str] = set()
        self.questions: set[str] = set()
        self.acknowledged_at: float | None = None
        self._spool = spool
        self._counts = counts
        self._events: dict[str, _Event] = {}
        self._threads = ThreadPoolExecutor(SPOOL_THREADS, "uplink-spool")
        self._wakes: set[asyncio.Event] = set()
        self._follow_from = 0.0

    def wake_on_change(self, wake: asyncio.Event) -> None:
        """Set this whenever there may be more to send."""
        self._wakes.add(wake)

    def forget_wake(self, wake: asyncio.Event) -> None:
        self._wakes.discard(wake)

    def _changed(self) -> None:
        for wake in self._wakes:
            wake.set()

    @property
    def bytes_ahead(self) -> int:
        """Of alerts and questions that wait or are under way; from any thread."""
        alerts = map(self._events.get, self.alerts.copy())
        questions = map(self._events.get, self.questions.copy())
        return sum(event.pending.json_bytes for event in alerts if event is not None) + sum(
            event.pending.code_bytes or 0 for event in questions if event is not None
        )

    def add(
        self,
        pending: PendingEvent,
        camera: str,
        revision: int,
        *,
        begun: bool = False,
        question: tuple[str, str] | None = None,
    ) -> None:
        """Queue an event; a newer revision replaces an older one, an older one is passed over.

        `pending.captured_at` is on the event loop's clock.

        Args:
            question: kind and prompt, where `pending` states a code.
        """
        known = self._events.get(pending.id)
        if known is not None:
            if revision <= known.revision:
                return
            begun = begun or known.begun
        sent = pending.json_sent
        event = _Event(pending, camera, revision, begun, sent, not sent, question, begun)
        self._events[pending.id] = event
        # Its visual is queued when the alert was written, and not before.
        self.queue.remove(pending.id)
        self.questions.discard(pending.id)
        if question is not None:
            self.questions.add(pending.id)
        if smaller_visual(pending) is not None:
            self.visuals.add(pending.id)
        if pending.json_sent:
            self._queue_question(pending.id)
            self._queue_visual(pending.id)
        else:
            self._queue_alert(pending)
        self._changed()

    def ask(self, question: Question, captured_at: float) -> None:
        """Queue the question about an event's newest revision; about another it is passed over.

        Args:
            captured_at: on the event loop's clock.
        """
        event = self._events.get(question.id)
        if event is None:  # its alert and visual are acknowledged
            about = (question.id, question.priority, 0, None, None)
            pending = PendingEvent(*about, captured_at, json_sent=True)
            event = _Event(pending, question.camera, question.revision, False, True, False)
            self._events[question.id] = event
        if event.revision != question.revision:
            return
        event.pending = replace(event.pending, code_bytes=len(question.content))
        event.question = question.kind, question.prompt
        self.questions.add(question.id)
        if event.is_taken:
            self._queue_question(question.id)
            self._changed()

    def _queue_alert(self, pending: PendingEvent) -> None:
        self.alerts.add(pending.id)
        self.queue.add(replace(pending, roi_bytes=None, box_bytes=None, code_bytes=None))

    def _queue_visual(self, id: str, offset: int = 0) -> None:
        event = self._events[id]
        if smaller_visual(event.pending) is not None:
            pending = replace(event.pending, json_sent=True, code_bytes=None)
            self.queue.add(pending, event.camera, offset)
        else:
            self._forget_if_done(id)

    def _queue_question(self, id: str, offset: int = 0) -> None:
        event = self._events[id]
        if event.question is not None:
            pending = replace(event.pending, json_sent=True, roi_bytes=None, box_bytes=None)
            self.queue.add(pending, event.camera, code_offset=offset)

    def _forget_if_done(self, id: str) -> None:
        """Forget an event of which nothing waits."""
        event = self._events[id]
        if event.is_taken and event.question is None and smaller_visual(event.pending) is None:
            self._forget(id)

    def _forget(self, id: str) -> None:
        self._events.pop(id, None)
        self.alerts.discard(id)
        self.visuals.discard(id)
        self.questions.discard(id)
        self.queue.remove(id)

    def is_current(self, due: DueAlert | OutgoingVisual) -> bool:
        """Whether it is still wanted: a newer revision of its event may have come."""
        event = self._events.get(due.id)
        return event is not None and event.revision == due.revision

    # Alerts

    def take_alert(self, most: int | None = None) -> DueAlert | None:
        """The best alert, out of the queue; `None` when none waits or it has more bytes."""
        chunk = self.queue.next_alert()
        if chunk is None or (most is not None and chunk.size > most):
            return None
        self.queue.sent(chunk)
        return DueAlert(chunk.event_id, chunk.size, self._events[chunk.event_id].revision)

    async def read_alert(self, due: DueAlert) -> bytes | None:
        """Its JSON; `None`, and forgotten, when the spool has none any more."""
        content = await self._in_thread(self._spool.alert, due.id)
        if content is None and self.is_current(due):
            self._forget(due.id)
        return content

    def return_alert(self, due: DueAlert) -> None:
        """It was not answered: it waits again, unless a newer revision does."""
        if self.is_current(due):
            self._queue_alert(self._events[due.id].pending)
            self._changed()

    def alert_written(self, due: DueAlert) -> None:
        """It is on its way: its visual may follow it, and the receiver lets it wait."""
        if not self.is_current(due) or time.monotonic() < self._follow_from:
            return
        event = self._events[due.id]
        if event.waits and not event.is_taken and smaller_visual(event.pending) is not None:
            event.waits = False
            self._queue_visual(due.id)
            self._changed()

    def alert_taken(self, due: DueAlert) -> None:
        """The receiver has it: now its visual may go, if it is not on its way already."""
        self._spool.acknowledge(due.id, "json", due.revision)
        self.acknowledged_at = time.time()
        self._counts.add("alerts_acknowledged")
        if self.is_current(due):
            self.alerts.discard(due.id)
            event = self._events[due.id]
            event.is_taken = True
            self._queue_question(due.id)
            if event.waits or smaller_visual(event.pending) is None:
                event.waits = False
                self._queue_visual(due.id)
            self._changed()

    def alert_refused(self, due: DueAlert, reason: str) -> None:
        """The receiver will never take it, nor its visual."""
        self._spool.refuse(due.id, "json", reason, due.revision)
        if self.is_current(due):
            self._forget(due.id)

    # Visuals, and questions, which travel like them

    def due_visual(self, chunk: Chunk) -> OutgoingVisual:
        """The visual, or the question, that a chunk is of."""
        event = self._events[chunk.event_id]
        if chunk.kind == "code":
            size, begun = event.pending.code_bytes or 0, event.question_begun
            return OutgoingVisual(
                chunk.event_id, chunk.kind, size, begun, event.revision, question=event.question
            )
        unit = smaller_visual(event.pending)
        size = 0 if unit is None else unit[1]
        early = not event.is_taken
        return OutgoingVisual(chunk.event_id, chunk.kind, size, event.begun, event.revision, early)

    def begin(self, due: OutgoingVisual) -> None:
        """From now on some of it may be at the receiver."""
        if self.is_current(due):
            event = self._events[due.id]
            event.begun |= due.kind != "code"
            event.question_begun |= due.kind == "code"

    async def read_visual(self, due: OutgoingVisual) -> bytes | None:
        """Its bytes; `None`, and forgotten, when the spool has others by now, or none."""
        content = await self._in_thread(self._spool.visual, due.id, due.kind)
        if content is not None and len(content) == due.size:
            return content
        self._visual_ended(due)
        return None

    def continue_visual(self, due: OutgoingVisual, offset: int) -> None:
        """So much of it is at the receiver; the rest waits."""
        if not self.is_current(due):
            return
        event = self._events[due.id]
        if due.kind == "code" and event.is_taken:
            self._queue_question(due.id, offset)
            self._changed()
        elif due.kind != "code" and not event.waits:
            self._queue_visual(due.id, offset)
            self._changed()

    def visual_was_early(self, due: OutgoingVisual) -> None:
        """The receiver did not let it wait for its alert: it goes when that was answered."""
        self._follow_from = time.monotonic() + NOT_EARLY_SECONDS
        if not self.is_current(due):
            return
        event = self._events[due.id]
        event.begun = due.begun
        event.waits = not event.is_taken
        if event.waits:
            self.queue.remove(due.id, due.kind)

    def visual_arrived(self, due: OutgoingVisual) -> None:
        self._spool.acknowledge(due.id, due.kind, due.revision)
        self.acknowledged_at = time.time()
        if due.kind == "code":
            self._counts.add("questions_acknowledged", kind=due.told["kind"])
        else:
            self._counts.add("visuals_acknowledged", kind=due.kind)
        self._visual_ended(due)

    def visual_refused(self, due: OutgoingVisual, reason: str) -> None:
        self._spool.refuse(due.id, due.kind, reason, due.revision)
        self._visual_ended(due)

    def _visual_ended(self, due: OutgoingVisual) -> None:
        """Nothing of the visual is to be sent; its alert may not be answered yet."""
        if not self.is_current(due):
            return
        event = self._events[due.id]
        self.queue.remove(due.id, due.kind)
        if due.kind == "code":
            event.pending, event.question = replace(event.pending, code_bytes=None), None
            self.questions.discard(due.id)
        else:
            event.pending = replace(event.pending, roi_bytes=None, box_bytes=None)
            self.visuals.discard(due.id)
        self._forget_if_done(due.id)

    # The spool

    async def load(self, now: float, wall: float) -> None:
        """Queue what an earlier run left in the spool."""
        for waiting in await self._in_thread(self._spool.waiting):
            pending = on_clock(waiting.pending, now, wall)
            about = (pending, waiting.camera, waiting.revision)
            self.add(*about, begun=pending.json_sent, question=waiting.question)

    async def expire(self) -> None:
        """Let the spool drop the visuals that are past their time."""
        await self._in_thread(self._spool.expire)

    async def _in_thread(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: work(*args, **kwargs))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def on_clock(pending: PendingEvent, now: float, wall: float) -> PendingEvent:
    """The event with `captured_at` on the clock of `now`, which never steps.

    Only this once the two clocks are compared; an event from the future counts as just captured.
    """
    age = max(0.0, wall - pending.captured_at)
    return replace(pending, captured_at=now - age)
