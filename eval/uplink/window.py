"""TCP's window over the packets of one simulated connection, as the kernel's BBR has it."""

import math
from collections import deque
from dataclasses import dataclass

from dat_runtime.planning.live import Chunk

FIRST_WINDOW = 10
"""Packets that TCP lets out before the first acknowledgement (RFC 6928)."""

MIN_ROUND_TRIP_SECONDS = 10.0
"""For which BBR believes its least round trip. Then it lets the path run empty, to see it anew."""

PROBE_PACKETS, PROBE_SECONDS = 4, 0.2
"""How many packets may be on the way meanwhile, and how long once there are no more."""

CLEARLY = 1e-4
"""Seconds by which a round trip is shorter than another one: clocks and cores are no better."""


@dataclass(eq=False)
class Packet:
    lane: str
    size: int
    end: Chunk | None
    """The chunk that ends with it."""
    turn: int = 0
    """Of all that was put on the link, in order."""
    sent_at: float = 0.0
    arrived: bool = False


class Connection:
    """Packets of one lane, and TCP's window over them: what BBR has that `Path` meets.

    The window begins with ten packets and takes one more for each that arrives, while it is what
    holds the rest back, as in the startup of BBR. What stays below it never sees it. Every ten
    seconds or so, in the middle of sending, it closes to four packets: BBR's PROBE_RTT.
    """

    def __init__(self) -> None:
        self.missing: deque[Packet] = deque()
        """What has not arrived with all before it, in order of writing."""
        self.unsent: deque[Packet] = deque()
        self._window = FIRST_WINDOW
        self._sent = 0
        self._was_full = False
        self._was_idle = True
        self._least = math.inf
        self._least_at = 0.0
        self._probes = False
        self._probe_ends = math.inf

    def next(self) -> Packet | None:
        """The next packet that the window lets out."""
        if not self.unsent:
            return None
        if self._sent >= (PROBE_PACKETS if self._probes else self._window):
            self._was_full = not self._probes
            return None
        self._was_idle = self._was_idle or not self._sent
        self._sent += 1
        return self.unsent.popleft()

    def known(self, now: float, round_trip: float) -> None:
        """One packet is known to have arrived, a round trip after it was sent."""
        self._sent -= 1
        if self._was_full:
            self._window += 1
        self._was_full = bool(self.unsent) and not self._probes
        self._probe(now, round_trip)
        self._was_idle = False

    def _probe(self, now: float, round_trip: float) -> None:
        """Begin and end PROBE_RTT (net/ipv4/tcp_bbr.c, `bbr_update_min_rtt`)."""
        is_old = now - self._least_at > MIN_ROUND_TRIP_SECONDS
        if round_trip < self._least - CLEARLY or is_old:
            self._least, self._least_at = round_trip, now
        # The first packet after a pause has found the path empty: nothing is to be probed.
        if is_old and not self._was_idle and not self._probes:
            self._probes, self._probe_ends = True, math.inf
        if self._probes and self._sent <= PROBE_PACKETS:
            self._probe_ends = min(self._probe_ends, now + max(PROBE_SECONDS, round_trip))
        if now >= self._probe_ends:
            self._probes, self._probe_ends = False, math.inf
            self._least_at = now
