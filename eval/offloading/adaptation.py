"""The controller over a link that changes: ApproxBit's Figs. 9 and 10.

Clips come evenly, a row is selected for each, and what it sends queues for the link. The controller
knows the link's past only. Whether a target could be kept at all is judged by the link as it really
was, behind the same queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dat_runtime.offload_table import LOW_QUANTILE, RECENT, RecentBandwidth, Row, select
from eval.uplink.link import Link
from eval.uplink.trace import Rates


@dataclass(frozen=True)
class Window:
    """Seconds `start` to `end`, with one of both targets."""

    start: int
    end: int
    max_latency: float | None = None
    min_accuracy: float | None = None

    @property
    def target(self) -> dict[str, float | None]:
        """As `select` takes it."""
        return {"max_latency": self.max_latency, "min_accuracy": self.min_accuracy}

    def is_kept(self, latency: float, accuracy: float) -> bool:
        if self.max_latency is not None:
            return latency <= self.max_latency
        return self.min_accuracy is not None and accuracy >= self.min_accuracy


@dataclass(frozen=True)
class Controller:
    """How the bandwidth is foreseen: a quantile of the last samples, one a second.

    `counts_queue` is whether what waits already counts (Eq. 10), or d/B alone.
    """

    name: str
    samples: int
    quantile: float
    counts_queue: bool = True


LAST = Controller("last sample", 1, 0.0)
LOW = Controller("q10 of 8 samples", RECENT, LOW_QUANTILE)
CONTROLLERS = (
    LAST,
    LOW,
    replace(LAST, name="last sample, d/B alone", counts_queue=False),
    replace(LOW, name="q10 of 8 samples, d/B alone", counts_queue=False),
)


@dataclass(frozen=True)
class Clip:
    """What became of one clip.

    Attributes:
        at: seconds.
        window: its place among the windows.
        possible: whether some row would have kept the target.
        kept: whether the selected one did.
        best_accuracy, best_latency: of the rows that would have; None where none would.
    """

    at: float
    window: int
    row: str
    accuracy: float
    latency: float
    possible: bool
    kept: bool
    best_accuracy: float | None
    best_latency: float | None


def follow(
    rows: Sequence[Row],
    rates: Rates,
    windows: Sequence[Window],
    controller: Controller,
    clips_a_second: int = 1,
) -> list[Clip]:
    """All clips of all windows, in order.

    Args:
        rates: bytes per second of the link, one entry a second.
        clips_a_second: of as many cameras on one link, one after the other.
    """
    recent = RecentBandwidth(rates[0], controller.samples, controller.quantile)
    uplink = _Uplink(rates)
    clips = []
    for place, window in enumerate(windows):
        for second in range(window.start, window.end):
            if second:
                recent.add(rates[second - 1])
            for camera in range(clips_a_second):
                now = second + camera / clips_a_second
                queued = uplink.waiting(now) if controller.counts_queue else 0
                row, _ = select(rows, recent.value, queued=queued, **window.target)
                clips.append(_judged(rows, row, uplink, now, window, place))
                uplink.send(row, now)
    return clips


def _judged(
    rows: Sequence[Row], row: Row, uplink: "_Uplink", now: float, window: Window, place: int
) -> Clip:
    """What becomes of a clip with this row, beside what would have with any other."""
    latencies = {each.name: uplink.latency(each, now) for each in rows}
    would = [each for each in rows if window.is_kept(latencies[each.name], each.accuracy)]
    return Clip(
        at=now,
        window=place,
        row=row.name,
        accuracy=row.accuracy,
        latency=latencies[row.name],
        possible=bool(would),
        kept=row in would,
        best_accuracy=max((each.accuracy for each in would), default=None),
        best_latency=min((latencies[each.name] for each in would), default=None),
    )


class _Uplink:
    """A link with what waits for it, in the order in which rows were selected."""

    def __init__(self, rates: Rates):
        self._link = Link(rates)
        self._free_at = 0.0
        self._waiting: list[tuple[float, float, int]] = []  # (from, until, bytes) on the link

    def waiting(self, now: float) -> float:
        """Bytes that are promised to the link and not sent yet."""
        self._waiting = [unit for unit in self._waiting if unit[1] > now]
        total = 0.0
        for start, until, size in self._waiting:
            carried = self._link.carried(until) - self._link.carried(now)
            total += size if start >= now else min(size, carried)
        return total

    def latency(self, row: Row, now: float) -> float:
        """What the row will really take: all its computing, and the way over the link."""
        computing = row.edge_s + row.encode_s
        done = self._done(row, now) if row.bytes else now + computing
        return done - now + row.decode_s + row.server_s

    def send(self, row: Row, now: float) -> None:
        if row.bytes:
            start = max(self._free_at, now + row.edge_s + row.encode_s)
            self._free_at = self._done(row, now)
            self._waiting.append((start, self._free_at, row.bytes))

    def _done(self, row: Row, now: float) -> float:
        ready = now + row.edge_s + row.encode_s
        return self._link.finish(max(self._free_at, ready), row.bytes)
