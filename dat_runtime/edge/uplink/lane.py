"""What both lanes share: the way that they use, what it carries, its health, and how tasks end."""

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass, field

from dat_runtime.edge.spool import SpoolError
from dat_runtime.edge.uplink.losses import Losses
from dat_runtime.edge.uplink.outbox import Outbox
from dat_runtime.edge.uplink.retry import pause
from dat_runtime.edge.uplink.sender import Sender, SendError
from dat_runtime.planning.path import Path

LONGEST_LOOK = 0.01
"""Seconds between two looks at the path at most, while bytes are in flight."""

SHORT_ROUND_TRIP = 0.025
"""Seconds below which it is a packet more or less on the way that an alert waits for."""


@dataclass
class Health:
    """Of one way, on the event loop's clock.

    Attributes:
        failing_since: when the failures in a row began; `None` while all is well.
        worked_at: when the receiver last answered as it should.
    """

    connected: bool = False
    failing_since: float | None = None
    worked_at: float | None = None
    problem: str = ""

    def worked(self, now: float) -> None:
        self.connected, self.failing_since, self.problem = True, None, ""
        self.worked_at = now

    def failed(self, now: float, problem: str) -> None:
        self.connected, self.problem = False, problem
        if self.failing_since is None:
            self.failing_since = now


class Meter:
    """Tells a path what a sender wrote and what of it arrived since it was last asked."""

    def __init__(self, sender: Sender, path: Path):
        self._sender = sender
        self._path = path
        path.lost()  # what an earlier sender had on its way ended with it
        self._looked_at = 0.0
        self._written = 0
        self._acknowledged = 0
        self.losses = Losses()

    def read(self, now: float) -> None:
        """Look: after a write, and every few milliseconds while bytes are in flight."""
        progress = self._sender.progress()
        self.losses.read(progress)
        written = progress.acknowledged + progress.in_flight
        # What was written since the last look counts from then: a round trip is never too short.
        since = self._looked_at
        if written < self._written:  # a connection broke, with all that was in flight on it
            self._path.lost(left=progress.in_flight)
        else:
            self._path.sent(since, written - self._written)
            arrived = progress.acknowledged - self._acknowledged
            if arrived > 0 or progress.beyond:
                told = progress.round_trip
                self._path.acknowledged(now, arrived, told, beyond=progress.beyond)
        if progress.unsent:  # the kernel holds back: what arrives says less than the path can do
            self._path.idle()
        self._looked_at = now
        self._written, self._acknowledged = written, progress.acknowledged


@dataclass
class Way:
    """A way in use: what sends, and what is known of the path.

    Attributes:
        alerts_under_way: requests of the alert lane.
        copies_due: alerts that go once more unless they are answered at once.
    """

    sender: Sender
    path: Path
    metered: bool
    outbox: Outbox
    health: Health
    alerts_under_way: int = 0
    copies_due: int = 0
    meter: Meter = field(init=False)

    def __post_init__(self) -> None:
        self.meter = Meter(self.sender, self.path)


@dataclass
class Pauses:
    """The waits of one lane after failures in a row.

    Attributes:
        until: when the lane may send again, on the event loop's clock.
    """

    way: Way
    until: float = 0.0
    failures: int = 0
    _asked: float = 0.0
    """Until when the receiver has asked to be left alone."""

    def worked(self) -> None:
        # An answer to an earlier request does not take back what the receiver asked for since.
        now = asyncio.get_running_loop().time()
        self.until, self.failures = max(now, self._asked), 0
        self.way.health.worked(now)

    def failed(self, error: SendError | SpoolError) -> None:
        now = asyncio.get_running_loop().time()
        told = error if isinstance(error, SendError) else SendError(str(error))
        # Requests that were under way together fail together: they count once.
        if now >= self.until:
            self.failures += 1
            self.until = now + pause(told, self.failures)
        if told.retry_after is not None:
            self._asked = max(self._asked, now + told.retry_after)
            self.until = max(self.until, self._asked)
        self.way.health.failed(now, str(error))


async def wait(event: asyncio.Event, seconds: float | None) -> None:
    """Until the event is set, or so many seconds are over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class Running:
    """Tasks of a lane. One that ends sets `wake`; `check` raises what it raised, a defect."""

    def __init__(self, wake: asyncio.Event):
        self._wake = wake
        self._tasks: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._fault = task.exception() or self._fault
        self._wake.set()

    def check(self) -> None:
        if self._fault is not None:
            raise self._fault

    async def end(self) -> None:
        """Cancel all, and wait until they have ended."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
