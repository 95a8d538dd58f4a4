"""The visual lane: pieces of the best visual, each when the path has room for it.

A visual that gives way to a better one is not ended: its request stays open, and goes on later.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

from dat_runtime.edge.spool import SpoolError
from dat_runtime.edge.uplink.lane import (
    LONGEST_LOOK,
    SHORT_ROUND_TRIP,
    Pauses,
    Running,
    Way,
    wait,
)
from dat_runtime.edge.uplink.sender import EarlyError, OutgoingVisual, RefusedError, SendError
from dat_runtime.planning.live import Chunk
from dat_runtime.planning.path import PACKET
from dat_runtime.planning.pending import Kind

MOST_UPLOADS = 16
"""Under way at once, those that only wait for their answer included."""

PART_SECONDS = 20.0
"""After which a part ends, so that the receiver answers how much it has."""

QUIET_SECONDS = 4.0
"""After which a part that gave way ends: receivers take a longer silence for a broken link."""

PIECE_SECONDS = 0.012
"""How long the bytes of a piece may take: on a slow link an alert waits behind a smaller piece."""

QUEUE_SECONDS = 0.025
"""How long the bytes in flight may take, beyond a short round trip."""

UNREADABLE_SECONDS = 30.0
"""After which a visual that the spool could not read is tried again; the others go meanwhile."""

SMALLEST = 300
"""Bytes of a piece: headers would take more of the link."""

SHORTEST_TICK = 0.002
"""Seconds between two looks at the path while bytes are in flight; longer where it is slow."""


class _Upload:
    """A visual under way: the pieces that its sender asks for, and that the lane gives."""

    def __init__(self, due: OutgoingVisual, first: int, now: float, wrote: Callable[[], None]):
        self.due = due
        self.began = self.given_at = now
        self.content = b""
        self.first = first
        """Where this part begins."""
        self.offset: int | None = None
        """Bytes given so far; `None` until the sender knows where to begin."""
        self.is_unwritten = False
        """Whether its sender has a piece that it has not written yet."""
        self.ending = False
        self._wrote = wrote
        self._asked: asyncio.Future[bytes] | None = None

    @property
    def asks(self) -> bool:
        """Whether its sender waits for a piece."""
        return self._asked is not None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.is_unwritten = False
        if self.ending or self.offset == self.due.size:
            raise StopAsyncIteration
        self._asked = asyncio.get_running_loop().create_future()
        self._wrote()
        try:
            piece = await self._asked
        finally:
            self._asked = None
        if not piece:
            raise StopAsyncIteration
        return piece

    def give(self, size: int, now: float) -> None:
        """The next bytes; only when it asks."""
        self.given_at = now
        assert self._asked is not None
        assert self.offset is not None
        piece = self.content[self.offset : self.offset + size]
        self.offset += len(piece)
        self.is_unwritten = True
        self._asked.set_result(piece)
        self._asked = None

    def end(self) -> None:
        """End the part here; the rest goes later."""
        self.ending = True
        if self._asked is not None:
            self._asked.set_result(b"")
            self._asked = None


class VisualLane:
    """Sends what is due over one way until it is cancelled; what is not answered waits again."""

    def __init__(self, way: Way):
        self._way = way
        self._outbox = way.outbox
        self._wake = asyncio.Event()
        self._pauses = Pauses(way)
        self._running = Running(self._wake)
        self._uploads: dict[tuple[str, bool], _Upload] = {}

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        self._outbox.wake_on_change(self._wake)
        try:
            while True:
                self._wake.clear()
                self._running.check()
                now = clock()
                self._way.meter.read(now)
                self._end_parts(now)
                wants_more = now >= self._pauses.until and self._give(now)
                await wait(self._wake, self._tick(now, wants_more))
        finally:
            self._outbox.forget_wake(self._wake)
            await self._running.end()

    def _tick(self, now: float, wants_more: bool) -> float | None:
        if now < self._pauses.until:
            return self._pauses.until - now
        if wants_more or self._way.path.in_flight or self._way.alerts_under_way:
            brief = PACKET / self._way.path.rate / 16  # the link runs dry meanwhile
            return min(max(brief, SHORTEST_TICK), LONGEST_LOOK)
        return 1.0 if self._uploads else None

    def _end_parts(self, now: float) -> None:
        """End the parts that took long, and those of which a newer revision came."""
        for upload in self._uploads.values():
            is_old = now - upload.began > PART_SECONDS
            is_quiet = upload.asks and now - upload.given_at > QUIET_SECONDS
            if is_old or is_quiet or not self._outbox.is_current(upload.due):
                upload.end()

    def _give(self, now: float) -> bool:
        """Give one piece where there is room; whether a visual waits for some."""
        if self._way.metered:
            return False
        if self._outbox.queue.next_alert() is not None:
            return False  # when it has gone, `wake` is set
        whole = self._outbox.queue.next_visual(now)
        if whole is None:
            self._way.path.idle()
            return False
        room = self._room(now)
        # Between a piece that was given and its write the path does not know of it.
        if room <= 0 or any(upload.is_unwritten for upload in self._uploads.values()):
            return True
        upload = self._uploads.get(_unit(whole.event_id, whole.kind))
        if upload is not None and upload.asks and upload.offset == whole.offset:
            chunk = self._outbox.queue.next_visual(now, most=room)
            assert chunk is not None
            upload.give(chunk.size, now)
            self._outbox.queue.sent(chunk)
            return True
        # There is room, and a connection or an answer is waited for.
        self._way.path.idle()
        if upload is None:
            self._start(whole, now)
        return True

    def _room(self, now: float) -> int:
        """Bytes that may be written now: small pieces where a packet takes long."""
        path = self._way.path
        is_short = path.round_trip < SHORT_ROUND_TRIP
        if is_short and self._way.copies_due:
            path.idle()  # the alert's copy would wait behind the piece
            return 0
        room = min(path.room(now), max(SMALLEST, int(path.rate * PIECE_SECONDS)))
        if path.in_flight and is_short:
            within = path.rate * (path.round_trip + QUEUE_SECONDS) - path.in_flight
            if within < min(room, SMALLEST):
                return 0
            room = min(room, int(within))
        return room

    def _start(self, chunk: Chunk, now: float) -> None:
        if len(self._uploads) >= MOST_UPLOADS:
            self._end_one()
            return
        upload = _Upload(self._outbox.due_visual(chunk), chunk.offset, now, self._wrote)
        self._uploads[_unit(chunk.event_id, chunk.kind)] = upload
        self._running.start(self._send(upload))

    def _wrote(self) -> None:
        self._way.meter.read(asyncio.get_running_loop().time())
        self._wake.set()

    def _end_one(self) -> None:
        """Make place: end the part of a visual that gave way, the one that has gone on longest."""
        given_way = [upload for upload in self._uploads.values() if upload.asks]
        if given_way and not any(upload.ending for upload in self._uploads.values()):
            min(given_way, key=lambda upload: upload.began).end()

    async def _send(self, upload: _Upload) -> None:
        due = upload.due
        try:
            content = await self._outbox.read_visual(due)
            if content is not None:
                upload.content = content
                await self._carry(upload)
        except SpoolError as error:
            self._pauses.failed(error)
            self._let_rest(due)
        finally:
            del self._uploads[_unit(due.id, due.kind)]

    async def _carry(self, upload: _Upload) -> None:
        due = upload.due
        arrived: int | None = None
        self._outbox.begin(due)
        try:
            arrived = await self._way.sender.send_visual(due, partial(self._begins, upload))
            self._answered(upload, arrived)
        except EarlyError:
            self._outbox.visual_was_early(due)
        except RefusedError as error:
            self._outbox.visual_refused(due, str(error))
        except SendError as error:
            self._pauses.failed(error)
        finally:
            if arrived is None:
                # How much of it is there has to be asked.
                self._outbox.continue_visual(due, 0)

    def _let_rest(self, due: OutgoingVisual) -> None:
        """One bad block of the disk: the others are not to wait for it."""
        self._outbox.queue.remove(due.id, due.kind)
        loop = asyncio.get_running_loop()
        loop.call_later(UNREADABLE_SECONDS, self._outbox.continue_visual, due, 0)

    def _begins(self, upload: _Upload, offset: int) -> AsyncIterator[bytes]:
        """The sender knows where the receiver stands."""
        # Where nothing changes it keeps its place: added anew it would be the last of its equals.
        if offset != upload.first:
            self._outbox.continue_visual(upload.due, offset)
        upload.first = upload.offset = offset
        return upload

    def _answered(self, upload: _Upload, arrived: int) -> None:
        if arrived >= upload.due.size:
            self._outbox.visual_arrived(upload.due)
        else:
            self._outbox.continue_visual(upload.due, arrived)
        if upload.offset is not None and upload.offset > upload.first >= arrived:
            self._pauses.failed(SendError("the receiver keeps nothing of a visual"))
        else:
            self._pauses.worked()


def _unit(event_id: str, kind: Kind) -> tuple[str, bool]:
    """Names one of an event's two units: its visual, of whichever kind, or its question."""
    return event_id, kind == "code"
