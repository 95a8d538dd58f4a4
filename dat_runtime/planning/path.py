"""What the way to the receiver carries, learnt from acknowledged bytes, and how much may lie in it.

A socket takes bytes long before the link carries them: an alert then waits behind what was written.
`Path` bounds it. As BBR does (Cardwell et al. 2016), it keeps the delivery rate as a maximum over a
short window and the round trip as a minimum over a long one; their product is what the wires hold,
and little more may be on its way. Pure: the caller brings a monotonic clock and the bytes.

    path = Path(initial=200e3)
    path.acknowledged(now, 0, handshake)        # the round trip of connecting, if it is known
    while waiting:
        if path.room(now) >= size:              # else wait for an acknowledgement, or a moment
            path.sent(now, size)                # just written to the socket
        path.acknowledged(now, arrived)         # whenever the kernel says that more has arrived
    path.idle()                                 # nothing waits: the rate is not to blame
"""

import math
from collections import deque
from dataclasses import dataclass

from dat_runtime.planning.pending import require

PACKET = 1_400
"""About what one packet carries, bytes."""

PROBE = 200
"""Least bytes of a packet that measures the round trip; on a slow link a full one takes long."""

QUEUE_SECONDS = 0.02
"""How long a byte may wait in the path's buffer, so that the link never runs dry."""

SHORTEST_SAMPLE = 0.05
"""Seconds over which a delivery rate is measured at least: acknowledgements come in clumps."""

LEAST_RATE = 100.0
"""Bytes per second below which the rate never falls."""

GAINS = (1.0, 1.25, 1.5, 2.0)
"""Times the window that is tried after so many round trips in a row without a queue."""

PACING = 1.02
"""Times the rate at which bytes are let out: a little faster than they drain, or a queue that
should show what the link carries never forms."""

MINIMA = 10
"""Number of periods over which the least round trip is kept."""

PERIOD = 1.0
"""Seconds of a period at least."""

PERIOD_SAMPLES = 8
"""Round trips measured in a period at least: a period without traffic says nothing."""


@dataclass
class _Written:
    """One write of a lane: its last byte's place, and when."""

    end: int
    at: float
    size: int


class _Lane:
    """One connection: bytes written to it, arrived, and arrived beyond a gap."""

    def __init__(self, written: int = 0) -> None:
        self.written = written
        self.arrived = 0
        self.beyond = 0
        self.log: deque[_Written] = deque()

    @property
    def in_flight(self) -> int:
        return self.written - self.arrived - self.beyond

    def take(self, size: int, beyond: int) -> _Written | None:
        """Count what arrived; gives the newest write that is through, unless a gap delayed it."""
        had_gap = self.beyond > 0
        self.arrived += max(0, min(size, self.written - self.arrived))
        self.beyond = max(0, min(beyond, self.written - self.arrived))
        newest = None
        while self.log and self.log[0].end <= self.arrived:
            newest = self.log.popleft()
        return None if had_gap or self.beyond else newest


class Path:
    """The way to one receiver, over one or several connections ("lanes") that share it.

    Times are seconds of a monotonic clock; one that steps back counts as standing still. Sizes are
    bytes as the kernel counts them (with TLS, what is written after encryption). A size that makes
    no sense is cut to what is possible.
    """

    def __init__(self, initial: float):
        """`initial` is believed until something better is known, bytes per second."""
        require(math.isfinite(initial) and initial > 0, "initial", initial)
        self._rate = initial
        self._now = -math.inf
        self._lanes: dict[str, _Lane] = {}
        self._in_flight = 0
        self._delivered = 0
        self._arrivals: deque[tuple[float, int]] = deque()  # (when, bytes delivered until then)
        self._rates: deque[tuple[float, float]] = deque()  # falling; the first is the largest
        self._limited_until = 0  # samples that begin before so many delivered bytes are limited
        self._nothing_waits = True
        # Of each period the least round trip, and the size of what measured it.
        self._minima: deque[tuple[float, int]] = deque(maxlen=MINIMA)
        self._told: float | None = None
        self._period_began, self._period_samples = 0.0, 0
        self._queue, self._queue_at = 0.0, -math.inf  # what should lie in the path's buffer
        self._waited = 0.0  # in the path's buffer, as the newest round trip shows
        self._round_until = 0  # delivered bytes at which the round ends
        self._round_is_clear = False
        self._clear_rounds = 0
        self._draining_until = 0

    @property
    def rate(self) -> float:
        """Bytes per second that the path delivers."""
        return self._rate

    @property
    def round_trip(self) -> float:
        """The least round trip seen lately, seconds; 0 before any was."""
        if not self._minima:
            return 0.0
        seconds, size = min(self._minima)
        return max(0.0, seconds - self._own(size))

    def _own(self, size: int) -> float:
        """The part of a round trip that the bytes themselves took to go through.

        Bounded, lest a rate that is far too low makes the way look short.
        """
        return min(size / self._rate, QUEUE_SECONDS / 2)

    @property
    def delay(self) -> float:
        """Seconds from when a byte has left to its arrival."""
        return self.round_trip / 2

    @property
    def in_flight(self) -> int:
        """Bytes written and not acknowledged, in all lanes."""
        return self._in_flight

    def wait(self, now: float) -> float:
        """Seconds that what is written now should wait in the path's buffer."""
        return self._queued(self._forward(now)) / self._rate

    def sent(self, now: float, size: int, lane: str = "") -> None:
        """Learn that `size` bytes were just written to the lane's connection."""
        if size <= 0:
            return
        now = self._forward(now)
        last_arrival = self._arrivals[-1][0] if self._arrivals else -math.inf
        if not self._in_flight and now - last_arrival > SHORTEST_SAMPLE:
            self._nothing_waits = True  # the caller did not say so
        if self._nothing_waits:
            self._limited_until = self._delivered + self._in_flight + 1
            self._nothing_waits = False
            if not self._in_flight:
                self._arrivals = deque([(now, self._delivered)])
                self._round_until = self._delivered + size
                self._round_is_clear = False
        self._queue = self._queued(now) + size
        self._queue_at = now
        state = self._lanes.setdefault(lane, _Lane())
        state.written += size
        state.log.append(_Written(state.written, now, size))
        self._in_flight += size

    def idle(self) -> None:
        """Learn that nothing waits although there is room."""
        self._nothing_waits = True
        # As in BBR: until what is in flight now has arrived, deliveries say less than the path can.
        self._limited_until = self._delivered + self._in_flight

    def lost(self, lane: str = "", left: int = 0) -> None:
        """Learn that the lane's connection is gone, with all that was in flight on it.

        Of a lane of several connections `left` bytes are in flight on the others. When each of them
        was written is not known any more: none measures a round trip.
        """
        state = self._lanes.pop(lane, _Lane())
        self._in_flight += left - state.in_flight
        self._lanes[lane] = _Lane(left)
        self._nothing_waits = True
        self._draining_until = 0

    def acknowledged(
        self,
        now: float,
        size: int,
        round_trip: float | None = None,
        lane: str = "",
        beyond: int = 0,
    ) -> None:
        """Learn that `size` more bytes of the lane have arrived.

        `round_trip` is one that the caller knows better than from write to acknowledgement: of the
        handshake (with a `size` of 0), or the kernel's. The kernel keeps its least one for minutes,
        in which the way may have changed: the same value again is not news.
        `beyond` bytes in all have arrived after a gap, where a packet was lost (selective
        acknowledgements): they no longer count as in flight.
        """
        now = self._forward(now)
        if round_trip is not None and round_trip != self._told and 0 <= round_trip < math.inf:
            self._told = round_trip
            self._saw_round_trip(now, round_trip, 0)
        state = self._lanes.get(lane, _Lane())
        self._queue, self._queue_at = self._queued(now), now
        before = state.in_flight
        newest = state.take(size, beyond)
        arrived = before - state.in_flight
        self._in_flight -= arrived
        if arrived <= 0:  # nothing, or bytes beyond a gap that the caller took back
            return
        self._delivered += arrived
        if newest is not None:
            took = now - newest.at
            self._saw_round_trip(now, took, newest.size)
            self._waited = max(0.0, took - self._own(newest.size) - self.round_trip)
        self._measure(now)
        self._end_round()

    def room(self, now: float) -> int:
        """Bytes that may be written now: what then lies in the path's buffer is little.

        Little is one packet or `QUEUE_SECONDS` at the rate, whichever is more. An alert need not
        ask: it is written at once, and counts.
        """
        now = self._forward(now)
        held = self._rate * self.round_trip
        if self._delivered < self._draining_until:
            # The queue runs empty, and packets measure the round trip whose own time is known.
            probe = min(PACKET, max(PROBE, self._rate * QUEUE_SECONDS / 2))
            room = probe if not self._in_flight else min(probe, 0.75 * held - self._in_flight)
            if room < PROBE:
                return 0
        elif not self._in_flight:
            room = self._allowance
        else:
            by_window = self._gain * held + self._allowance - self._in_flight
            room = min(by_window, self._allowance - self._queued(now))
            # Many small packets would fill the path with headers.
            if room < min(PACKET, self._allowance / 2):
                return 0
        return max(0, int(room))

    @property
    def _allowance(self) -> float:
        """Bytes that may lie in the path's buffer."""
        return max(PACKET, self._rate * QUEUE_SECONDS)

    @property
    def _gain(self) -> float:
        return GAINS[min(self._clear_rounds, len(GAINS) - 1)]

    def _forward(self, now: float) -> float:
        if math.isfinite(now) and now > self._now:
            self._now = now
        return self._now if math.isfinite(self._now) else 0.0

    def _queued(self, now: float) -> float:
        """Bytes that should still lie in the path's buffer: written, less what drained since."""
        drained = PACING * self._gain * self._rate * (now - self._queue_at)
        return max(0.0, min(self._queue, self._in_flight) - drained)

    def _saw_round_trip(self, now: float, seconds: float, size: int) -> None:
        is_over = now - self._period_began >= PERIOD and self._period_samples >= PERIOD_SAMPLES
        if not self._minima or is_over:
            self._minima.append((seconds, size))
            self._period_began, self._period_samples = now, 0
            self._drain_if_due()
        self._minima[-1] = min(self._minima[-1], (seconds, size))
        self._period_samples += 1

    def _drain_if_due(self) -> None:
        """Let the queue run empty when the least round trip is about to be forgotten.

        Without it a queue that never empties would pass for a longer path, and grow.
        """
        if len(self._minima) < MINIMA:
            return
        oldest, *later = self._minima
        if min(later)[0] > oldest[0] + QUEUE_SECONDS / 4:
            self._draining_until = self._delivered + max(1, self._in_flight)
            # What is written while it drains arrives a round trip later, and says little too.
            self._limited_until = self._delivered + 2 * self._in_flight

    def _measure(self, now: float) -> None:
        """Take a sample of the delivery rate, over a round trip or `SHORTEST_SAMPLE`."""
        span = max(SHORTEST_SAMPLE, self.round_trip)
        self._arrivals.append((now, self._delivered))
        while self._arrivals[1][0] <= now - span:
            self._arrivals.popleft()
        began, before = self._arrivals[0]
        if now - began < SHORTEST_SAMPLE:
            return
        rate = max(LEAST_RATE, (self._delivered - before) / (now - began))
        limited = before < self._limited_until
        if limited and rate <= self._rate:
            return
        if self._waited > 2 * self._allowance / self._rate:
            self._rates.clear()  # more lies in the buffer than should: the link has slowed down
        while self._rates and self._rates[-1][1] <= rate:
            self._rates.pop()
        self._rates.append((now, rate))
        while self._rates[0][0] < now - 2 * span:
            self._rates.popleft()
        self._rate = self._rates[0][1]

    def _end_round(self) -> None:
        """After a whole round trip without a queue more is tried, up to twice the rate."""
        if self._waited > self._allowance / self._rate / 2:
            self._round_is_clear = False
            self._clear_rounds = 0
        if self._delivered < self._round_until:
            return
        self._clear_rounds += self._round_is_clear
        # A round that begins while little is on its way cannot show a queue.
        limited = self._nothing_waits or self._delivered < self._limited_until
        self._round_is_clear = not limited
        self._round_until = self._delivered + max(1, self._in_flight)
