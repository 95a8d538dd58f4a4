"""The alert lane: each alert at once, several together when they queue."""

import asyncio
from collections.abc import Callable, Sequence

from dat_runtime.edge.spool import SpoolError
from dat_runtime.edge.uplink.lane import SHORT_ROUND_TRIP, Pauses, Running, Way, wait
from dat_runtime.edge.uplink.outbox import DueAlert
from dat_runtime.edge.uplink.sender import OutgoingAlert, SendError

MOST_REQUESTS = 16
"""At once, copies among them: at a round trip of 300 ms and ten events a second eight were often
all under way, and an alert without a copy waited for TCP's repair."""

MOST_IN_BATCH = 100

QUEUE_SECONDS = 0.05
"""How long an alert may wait behind alerts that are on their way already."""

ANSWER_SECONDS = 0.004
"""That a receiver may take to answer before an alert goes once more."""

STATUS_SECONDS = 10.0
"""Between two statuses: the receiver tells by them, and not by alerts, that a node is well."""

OVERDUE = 5.0
"""Seconds that a status waits for alerts under way; the receiver calls a node late after more."""


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
        self._status_at = clock()
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
                pause = self._pauses.until
                await wait(self._wake, (pause if pause > now else self._status_due) - now)
        finally:
            self._way.outbox.forget_wake(self._wake)
            await self._sending.end()

    def _start_alerts(self) -> None:
        """Start requests while the bytes on their way delay an alert by little."""
        # After a failure one request finds out whether the way works again.
        most = 1 if self._pauses.failures else MOST_REQUESTS
        while len(self._sending) < most:
            batch = self._next_batch()
            if not batch:
                return
            sending = _Sending(batch)
            self._count(sending)
            self._sending.start(self._send(sending))

    def _count(self, sending: "_Sending") -> None:
        """One copy more of these alerts is on its way."""
        self._unanswered += sending.size
        sending.counted += sending.size

    def _release(self, sending: "_Sending", most: int | None = None) -> None:
        """They hold up no other: answered or given up. A copy that got lost is not on its way.

        Args:
            most: bytes of a copy that has ended; of both by default.
        """
        size = sending.counted if most is None else min(most, sending.counted)
        self._unanswered -= size
        sending.counted -= size

    @property
    def _room(self) -> int:
        """Bytes that may be on their way yet."""
        path = self._way.path
        return int(path.rate * (path.round_trip + QUEUE_SECONDS)) - self._unanswered

    def _next_batch(self) -> list[DueAlert]:
        outbox = self._way.outbox
        room = self._room
        # While nothing is under way an alert goes, however large it is.
        most = room if self._unanswered else None
        batch: list[DueAlert] = []
        while len(batch) < MOST_IN_BATCH and (due := outbox.take_alert(most)) is not None:
            batch.append(due)
            room -= due.size
            most = room
        return batch

    async def _send(self, sending: "_Sending") -> None:
        try:
            for due in tuple(sending.waiting):
                content = await self._read(due)
                if content is None:
                    sending.waiting.remove(due)
                else:
                    sending.outgoing.append(OutgoingAlert(due.id, content))
            if sending.outgoing and self._affords_copy():
                self._sending.start(self._send_copy(sending))
            if sending.outgoing:
                await self._carry(sending)
        finally:
            self._ended(sending)

    async def _read(self, due: DueAlert) -> bytes | None:
        """Its JSON; `None` where there is none any more, or it cannot be read now."""
        try:
            return await self._way.outbox.read_alert(due)
        except SpoolError as error:  # one bad block of the disk: the others are not to wait for it
            self._way.outbox.return_alert(due)
            self._failed(error)
            return None

    async def _send_copy(self, sending: "_Sending") -> None:
        """The alerts once more, where they are not answered when it is time."""
        if not sending.copies:  # the first one failed at once: they wait again
            return
        sending.copies += 1
        try:
            await self._wait_before_copy(sending)
            if sending.waiting:
                self._count(sending)
                await self._carry(sending)
        finally:
            self._ended(sending)

    async def _wait_before_copy(self, sending: "_Sending") -> None:
        """Until a copy is due and there is room for it, or the alerts are answered."""
        pause = self._copy_pause(sending.outgoing)
        self._way.copies_due += 1
        try:
            await wait(sending.is_answered, pause)
        finally:
            self._way.copies_due -= 1
        # As of a batch: while nothing is under way it goes, however large it is.
        while sending.waiting and self._unanswered and sending.size > self._room:
            await wait(sending.is_answered, ANSWER_SECONDS)

    def _copy_pause(self, alerts: Sequence[OutgoingAlert]) -> float:
        """Seconds until alerts that are written now have left the link, so that others go before.

        Where the way is short, until their answer is due too: it nearly always saves the copy.
        """
        path = self._way.path
        leaves = path.wait(asyncio.get_running_loop().time())
        leaves += self._way.sender.alert_bytes(alerts) / path.rate
        is_short = path.round_trip < SHORT_ROUND_TRIP
        return leaves + (path.round_trip + ANSWER_SECONDS if is_short else 0.0)

    def _affords_copy(self) -> bool:
        """Whether alerts may go twice: packets get lost.

        A lost packet comes a round trip and a repair later, which no lane can take back.
        """
        way = self._way
        if not way.meter.losses.is_lossy or way.metered or self._pauses.failures:
            return False
        return len(self._sending) < MOST_REQUESTS

    async def _carry(self, sending: "_Sending") -> None:
        """Send one copy. Of two the first answer counts, and they failed when both have."""
        outbox, waiting = self._way.outbox, sending.waiting

        def written() -> None:
            for due in waiting:
                outbox.alert_written(due)

        try:
            answers = await self._way.sender.send_alerts(sending.outgoing, written)
            if not waiting:  # the other copy was answered first
                return
            sending.is_answered.set()
            self._release(sending)
            for due, answer in zip(tuple(waiting), answers, strict=True):
                waiting.remove(due)
                if answer.taken:
                    outbox.alert_taken(due)
                else:
                    outbox.alert_refused(due, answer.reason)
            self._pauses.worked()
        except (SendError, SpoolError) as error:
            if waiting and sending.copies == 1:
                self._failed(error)
        finally:
            self._release(sending, sending.size)

    def _ended(self, sending: "_Sending") -> None:
        """One copy less is under way; what none brought waits again."""
        sending.copies -= 1
        if not sending.copies:
            self._release(sending)
            for due in sending.waiting:
                self._way.outbox.return_alert(due)

    @property
    def _status_due(self) -> float:
        return self._status_at + (OVERDUE if self._sending else 0.0)

    def _start_status(self, now: float) -> None:
        """Alerts go first, but a node that always has one is heard of too."""
        if now < self._status_due:
            return
        self._status_at = now + STATUS_SECONDS
        self._sending.start(self._send_status())

    async def _send_status(self) -> None:
        try:
            await self._way.sender.send_status(self._status())
            self._pauses.worked()
        except SendError as error:
            self._failed(error)

    def _failed(self, error: SendError | SpoolError) -> None:
        # Where no alert waits, a status asks whether the way works again.
        self._status_at = asyncio.get_running_loop().time()
        self._pauses.failed(error)


class _Sending:
    """Alerts on their way, in one copy or two.

    Attributes:
        waiting: those that are not answered yet.
        outgoing: all of them, as they are sent.
        is_answered: set with the first answer.
        copies: how many are under way, or due.
        counted: bytes of them that count as on their way.
    """

    def __init__(self, batch: Sequence[DueAlert]):
        self.size = _size(batch)
        self.waiting = list(batch)
        self.outgoing: list[OutgoingAlert] = []
        self.is_answered = asyncio.Event()
        self.copies = 1
        self.counted = 0


def _size(batch: Sequence[DueAlert]) -> int:
    return sum(due.size for due in batch)
