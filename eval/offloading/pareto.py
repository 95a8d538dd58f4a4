"""Which alternatives no other one beats: ApproxBit's Fig. 6, at each bandwidth of its tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.offloading.printed import Model
from eval.offloading.shapes import Checked


@dataclass(frozen=True)
class Point:
    """One alternative at one bandwidth.

    Attributes:
        latency_ms: as printed, a misprint as it should be.
        accuracy: percent.
        best: no other is as fast and as accurate, and better in one of both.
    """

    method: str
    level: str
    latency_ms: float
    accuracy: float
    best: bool


def points(model: Model, rows: Sequence[Checked]) -> dict[float, list[Point]]:
    """The alternatives at each bandwidth (Mbps), fastest first."""
    return {mbps: _points(model, rows, column) for column, mbps in enumerate(model.mbps)}


def _points(model: Model, rows: Sequence[Checked], column: int) -> list[Point]:
    wrong = {c.row.method: c.misprint for c in rows if c.misprint is not None}
    latency = {}
    for row in model.rows:
        misprint = wrong.get(row.method)
        is_wrong = misprint is not None and misprint.mbps == model.mbps[column]
        latency[row.method] = misprint.expected_ms if is_wrong else row.latency_ms[column]
    # Fastest first, of equally fast ones the most accurate: a row is best when it is more accurate
    # than all before it.
    ordered = sorted(model.rows, key=lambda row: (latency[row.method], -row.accuracy[0]))
    found: list[Point] = []
    most = 0.0
    for row in ordered:
        accuracy = row.accuracy[0]
        found.append(
            Point(row.method, row.level, latency[row.method], accuracy, best=accuracy > most)
        )
        most = max(most, accuracy)
    return found
