"""What both lanes share: the way that they use, its health, and the wait after a failure."""

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass, field

from dat_runtime.edge.uplink.meter import Meter
from dat_runtime.edge.uplink.outbox import Outbox
from dat_runtime.edge.uplink.retry import pause
from dat_runtime.edge.uplink.sender import Sender, SendError
from dat_runtime.planning.path import Path


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


@dataclass
class Way:
    """A way in use: what sends, and what is known of the path.

    Attributes:
        alerts_under_way: requests of the alert lane.
    """

    sender: Sender
    path: Path
    metered: bool
    outbox: Outbox
    health: Health
    alerts_under_way: int = 0
    meter: Meter = field(init=False)

    def __post_init__(self) -> None:
        self.meter = Meter(self.sender, self.path)


@dataclass
class Pauses:
    """The waits of one lane after failures in a row."""

    way: Way
    until: float = 0.0
    failures: int = 0

    def worked(self, now: float) -> None:
        self.until, self.failures = now, 0
        self.way.health.worked(now)

    def failed(self, now: float, error: SendError) -> None:
        # Requests that were under way together fail together: they count once.
        if now >= self.until:
            self.failures += 1
            self.until = now + pause(error, self.failures)
        elif error.retry_after is not None:
            self.until = max(self.until, now + error.retry_after)
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
