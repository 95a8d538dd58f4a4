"""A discrete-event uplink: one server, bandwidth constant within each second of a trace."""

import bisect
import random
from collections import deque
from dataclasses import dataclass

from eval.uplink.trace import Rates

DEEP_BUFFER = 300_000
"""Bytes that wait before the bottleneck: 6 s at 50 kB/s, as deep as mobile uplinks have them."""


class Link:
    """When bytes arrive. The trace repeats without end."""

    def __init__(self, bandwidth: Rates):
        self._rates = list(bandwidth)
        # Entry i: bytes that a busy link carries before second i; the last one, in a whole round.
        self._before = [0.0]
        for rate in self._rates:
            self._before.append(self._before[-1] + rate)
        if not self._before[-1]:
            raise ValueError("a link without any bandwidth never delivers")

    def bandwidth(self, second: float) -> float:
        """Bytes per second at this time."""
        return self._rates[int(second) % len(self._rates)]

    def carried(self, time: float) -> float:
        """Bytes that a busy link carries from time 0 until `time`."""
        rounds, second = divmod(int(time), len(self._rates))
        part = (time - int(time)) * self._rates[second]
        return rounds * self._before[-1] + self._before[second] + part

    def finish(self, start: float, size: float) -> float:
        """When the last of `size` bytes is sent, the first going out at `start`."""
        second = int(start)
        rate = self._rates[second % len(self._rates)]
        if rate and start + size / rate <= second + 1:  # it ends in the second in which it begins
            return start + size / rate
        # Otherwise look up when the link has carried everything before `start`, and these bytes.
        rounds, rest = divmod(self.carried(start) + size, self._before[-1])
        index = bisect.bisect_left(self._before, rest) - 1
        if index < 0:
            # Nothing is left after whole rounds: the unit ended in the round before, in its last
            # second with bandwidth.
            rounds -= 1
            rest = self._before[-1]
            index = len(self._rates) - 1
            while not self._rates[index]:
                index -= 1
        within = (rest - self._before[index]) / self._rates[index]
        # Rounding may put the end of a tiny unit before its start.
        return max(start, rounds * len(self._rates) + index + within)


@dataclass(frozen=True)
class LinkSettings:
    """A link with a buffer before its bottleneck, a round trip and losses.

    Attributes:
        rates: bytes of IP packets a second from node to receiver, one entry a second, repeating.
        round_trip: seconds of propagation there and back, half of it each way.
        buffer: bytes that wait before the bottleneck; what comes to a full one is dropped.
        loss: share of the packets from node to receiver that are lost at random.
        seed: of the losses.
    """

    rates: Rates
    round_trip: float = 0.0
    buffer: int = DEEP_BUFFER
    loss: float = 0.0
    seed: int = 0


class Bottleneck:
    """When a packet that comes to the link leaves it at the other end; None when it is dropped.

    The simulator and the emulated link both ask it.
    """

    def __init__(self, settings: LinkSettings):
        self._settings = settings
        self._link = Link(settings.rates)
        self._random = random.Random(settings.seed)
        self._free_at = 0.0
        self._leaving: deque[tuple[float, int]] = deque()  # (when sent, size) of what is buffered
        self._buffered = 0

    def arrival(self, now: float, size: int) -> float | None:
        """Times must not fall from call to call."""
        while self._leaving and self._leaving[0][0] <= now:
            self._buffered -= self._leaving.popleft()[1]
        if self._buffered + size > self._settings.buffer:
            return None
        self._free_at = self._link.finish(max(now, self._free_at), size)
        self._leaving.append((self._free_at, size))
        self._buffered += size
        if self._random.random() < self._settings.loss:
            return None  # on the way, after it has used the link
        return self._free_at + self._settings.round_trip / 2
