"""The alert lane: each alert at once, several together when they queue."""

import asyncio
from collections.abc import Callable

from dat_runtime.edge.spool import SpoolError
from dat_runtime.edge.uplink.lane import Pauses, Running, Way, wait
from dat_runtime.edge.uplink.outbox import DueAlert
from dat_runtime.edge.uplink.sender import OutgoingAlert, SendError

MOST_REQUESTS = 8
"""At once."""

MOST_IN_BATCH = 100

QUEUE_SECONDS = 0.05
"""How long an alert may wait behind alerts that are on their way already."""

STATUS_SECONDS = 10.0
"""Between two statuses: the receiver tells by them, and not by alerts, that a node is well."""


class AlertLane:
    """Sends what is due over one way until it is cancelled; what is not answered waits again."""

    def __init__(self, way: Way, status: Callable[[], bytes]):
        self._way = way
        self._status = status
        self._wake = asyncio.Event()
        self._pauses = Pauses(way)
        self._sending = Running(self._wake)
        self._unanswered = 0
        self._status_at = 0.0

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        self._way.outbox.wake_on_change(self._wake)
        try:
            while True:
                self._wake.clear()
                self._sending.check()
                now = clock()
                if now >= self._pauses.until:
                    self._start_alerts()
                    self._start_status(now)
                self._way.alerts_under_way = len(self._sending)
                later = max(self._pauses.until, self._status_at) if not self._sending else now + 1
                if self._pauses.until > now:
                    later = min(later, self._pauses.until)
                await wait(self._wake, max(0.001, later - now))
        finally:
            self._way.outbox.forget_wake(self._wake)
            await self._sending.end()

    def _start_alerts(self) -> None:
        """Start requests while the bytes on their way delay an alert by little."""
        while len(self._sending) < MOST_REQUESTS:
            batch = self._next_batch()
            if not batch:
                return
            self._sending.start(self._send(batch))

    def _next_batch(self) -> list[DueAlert]:
        path = self._way.path
        room = path.rate * (path.round_trip + QUEUE_SECONDS) - self._unanswered
        outbox = self._way.outbox
        first = outbox.take_alert(None if not self._unanswered else int(room))
        if first is None:
            return []
        batch, size = [first], first.size
        while len(batch) < MOST_IN_BATCH:
            further = outbox.take_alert(int(room) - size)
            if further is None:
                break
            batch.append(further)
            size += further.size
        return batch

    async def _send(self, batch: list[DueAlert]) -> None:
        outbox, size = self._way.outbox, sum(due.size for due in batch)
        waiting = list(batch)
        self._unanswered += size
        try:
            outgoing = []
            for due in batch:
                content = await outbox.read_alert(due)
                if content is None:
                    waiting.remove(due)
                else:
                    outgoing.append(OutgoingAlert(due.id, content))
            if not outgoing:
                return
            answers = await self._way.sender.send_alerts(outgoing)
            for due, answer in zip(tuple(waiting), answers, strict=True):
                waiting.remove(due)
                if answer.taken:
                    outbox.alert_taken(due)
                else:
                    outbox.alert_refused(due, answer.reason)
            self._worked()
        except (SendError, SpoolError) as error:
            self._failed(error)
        finally:
            self._unanswered -= size
            for due in waiting:
                outbox.return_alert(due)

    def _start_status(self, now: float) -> None:
        if self._sending or now < self._status_at:
            return
        self._status_at = now + STATUS_SECONDS
        self._sending.start(self._send_status())

    async def _send_status(self) -> None:
        try:
            await self._way.sender.send_status(self._status())
            self._worked()
        except SendError as error:
            self._failed(error)

    def _worked(self) -> None:
        self._pauses.worked(asyncio.get_running_loop().time())

    def _failed(self, error: SendError | SpoolError) -> None:
        now = asyncio.get_running_loop().time()
        self._status_at = now  # the first to ask whether the way works again
        told = error if isinstance(error, SendError) else SendError(str(error))
        self._pauses.failed(now, told)
