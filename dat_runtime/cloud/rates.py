"""How much one node may send, and ask for: a token bucket for each."""

import math
import time
from collections.abc import Callable

from fastapi import HTTPException

MAX_NODES = 10_000
"""Buckets that are remembered; past it, those that are full again are forgotten."""


class Rates:
    """Token buckets by name, for one worker.

    Args:
        rate: tokens a second that each gains.
        burst: tokens that each holds at most, and begins with.
        clock: seconds that only rise.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic):
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str, count: int = 1) -> None:
        """Take tokens; a count above the burst is allowed to a full bucket, which then owes.

        Raises:
            HTTPException: 429 with Retry-After: it has not enough, and none are taken.
        """
        now = self._clock()
        held = self._held(name, now)
        wanted = min(count, self.burst)
        if held < wanted:
            seconds = math.ceil((wanted - held) / self.rate)
            raise HTTPException(
                429,
                f"{name}: more than {self.rate:g} a second",
                {"Retry-After": str(max(1, seconds))},
            )
        if len(self._buckets) >= MAX_NODES and name not in self._buckets:
            self._forget(now)
        self._buckets[name] = held - count, now

    def _held(self, name: str, now: float) -> float:
        held, at = self._buckets.get(name, (self.burst, now))
        return min(self.burst, held + (now - at) * self.rate)

    def _forget(self, now: float) -> None:
        full = [name for name in self._buckets if self._held(name, now) >= self.burst]
        for name in full:
            del self._buckets[name]
