"""ApproxBit's Tables 1 and 2 from tensor shapes alone, and the misprints that this reveals.

A row's latency at a bandwidth is t(B) = base + 8 d / B: `base` is computing, the same in all
columns, and d the bytes that are sent. With d from a shape and `base` from the fastest column, the
other columns follow. Figures are printed with one decimal, so two that agree differ by 0.1 ms at
most.
"""

import math
from dataclasses import dataclass
from itertools import combinations

from eval.offloading.printed import Model, Printed

TOLERANCE_MS = 0.1
_FLOATS = 1e-6
"""Milliseconds by which floats differ from what is printed."""


@dataclass(frozen=True)
class Misprint:
    """A cell that contradicts the others of its row."""

    model: str
    method: str
    mbps: float
    printed_ms: float
    expected_ms: float


@dataclass(frozen=True)
class Checked:
    """What a row's shape and columns say of each other.

    Attributes:
        size: d, bytes: the shape's where the columns follow from it, else what explains them.
        from_shape: whether all columns, but for a misprint, follow from the shape.
        base_ms: computing, on both sides.
        predicted_ms: by column, from `base_ms` and `size`.
        misprint: the cell that nothing explains.
    """

    row: Printed
    size: float
    from_shape: bool
    base_ms: float
    predicted_ms: tuple[float, ...]
    misprint: Misprint | None

    @property
    def worst_ms(self) -> float:
        """The largest deviation of a cell that is no misprint."""
        wrong = None if self.misprint is None else self.misprint.printed_ms
        pairs = zip(self.row.latency_ms, self.predicted_ms, strict=True)
        return max(abs(printed - ours) for printed, ours in pairs if printed != wrong)


def check(model: Model) -> list[Checked]:
    """All rows that send something, in order."""
    return [_check(model, row) for row in model.rows if row.level != "edge"]


def _check(model: Model, row: Printed) -> Checked:
    """What explains the row: its shape, else some d, else either of them but for a misprint."""
    shape = row.shape_bytes
    slowest, *_, fastest = range(len(model.mbps))
    outer = _size(model, row, slowest, fastest)
    of_shape = None if shape is None else _explained(model, row, shape, from_shape=True)
    of_columns = _explained(model, row, outer, from_shape=False)
    for explained in (of_shape, of_columns):
        if explained is not None and explained.misprint is None:
            return explained
    if of_shape is not None:
        return of_shape
    # Two columns are right: those whose d is the nearest to the shape's, which says about how much.
    pairs = combinations(range(len(model.mbps)), 2)
    sizes = [size for a, b in pairs if (size := _size(model, row, a, b)) > 0]
    nearest = min(sizes, key=lambda size: abs(math.log(size / (shape or outer))))
    explained = _explained(model, row, nearest, from_shape=False)
    assert explained is not None  # both columns agree with their own d
    return explained


def _size(model: Model, row: Printed, a: int, b: int) -> float:
    """The bytes that explain the difference of two columns."""
    seconds = (row.latency_ms[a] - row.latency_ms[b]) / 1000
    return seconds / (8e-6 / model.mbps[a] - 8e-6 / model.mbps[b])


def _explained(model: Model, row: Printed, size: float, from_shape: bool) -> Checked | None:
    """The row with this d, if two columns or more agree with it; the base is the fastest's."""
    network = [8 * size / (1000 * mbps) for mbps in model.mbps]  # milliseconds
    for column in reversed(range(len(network))):
        base = row.latency_ms[column] - network[column]
        predicted = tuple(base + ms for ms in network)
        pairs = zip(row.latency_ms, predicted, strict=True)
        wrong = [i for i, (t, ours) in enumerate(pairs) if abs(t - ours) > TOLERANCE_MS + _FLOATS]
        if len(wrong) <= len(network) - 2:
            misprint = None
            if wrong:
                at = wrong[0]
                printed, expected = row.latency_ms[at], round(predicted[at], 1)
                misprint = Misprint(model.name, row.method, model.mbps[at], printed, expected)
            return Checked(row, size, from_shape, base, predicted, misprint)
    return None


@dataclass(frozen=True)
class Exchanged:
    """A pair "-Low" and "-High" (compression) of which High sends more bytes than Low.

    Attributes:
        more_accurate: whether it is also more accurate: then the names are exchanged, else the
            latencies are.
    """

    model: str
    method: str
    low_bytes: float
    high_bytes: float
    more_accurate: bool


def exchanged(model: Model, rows: list[Checked]) -> list[Exchanged]:
    """Pairs in which more compression sends more."""
    by_method = {checked.row.method: checked for checked in rows}
    found = []
    for method, low in by_method.items():
        high = by_method.get(method.removesuffix("-Low") + "-High")
        if method.endswith("-Low") and high is not None and high.size > low.size:
            better = high.row.accuracy[0] > low.row.accuracy[0]
            name = method.removesuffix("-Low")
            found.append(Exchanged(model.name, name, low.size, high.size, better))
    return found
