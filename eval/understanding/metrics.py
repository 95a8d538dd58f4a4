"""The metrics of Tables 1 and 2, and their bootstrap intervals. Pure: arrays in, numbers out.

Every metric is a function of sums over frames (`SUMS`), so a resample is one weighted sum and a
thousand resamples are one matrix product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import perm
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dat_runtime.schema import Verdict, judge
from dat_runtime.truth import Frame
from dat_runtime.types import highest_severity

Array = NDArray[np.float64]

OVERALL = ("none", "moderate", "severe")
"""Overall severities by code; `FAILED` is the code of an answer that states none."""
FAILED = len(OVERALL)

TABLE_1 = ("count_em", "count_mae", "sev_acc", "sev_f1", "bbox_miou", "recall_50")
TABLE_2 = ("parse", "schema", "rule", "viol")
METRICS = TABLE_1 + TABLE_2
LOWER_IS_BETTER = ("count_mae", "viol")

RESAMPLES = 2000
MAX_BLOCKS = 2048
SEED = 20260
_COORDINATE_LIMIT = 10**9


class Interval(NamedTuple):
    """A metric with its 95 % bootstrap interval (percentiles); all `None` where undefined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Measures:
    """What each frame's answer is worth; n frames, m true boxes in all.

    Attributes:
        verdicts: bool (n, 4): parse, schema, rule, violation.
        count_error: (n,) |predicted - true count|; max(1, true count) for a failed answer.
        true_severity, severity: codes (n,) into `OVERALL`; `FAILED` for a failed answer.
        iou: (m,) IoU of each true box with its matched box, 0 when unmatched, in frame order.
        box_frame: (m,) the frame of each true box.
        missing: bool (n,), frames without a prediction.
    """

    verdicts: NDArray[np.bool_]
    count_error: Array
    true_severity: NDArray[np.int64]
    severity: NDArray[np.int64]
    iou: Array
    box_frame: NDArray[np.int64]
    missing: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.count_error)


def subset(m: Measures, members: NDArray[np.bool_]) -> Measures:
    """The measures of some of the frames, `members` (n,)."""
    boxes = members[m.box_frame]
    return Measures(
        verdicts=m.verdicts[members],
        count_error=m.count_error[members],
        true_severity=m.true_severity[members],
        severity=m.severity[members],
        iou=m.iou[boxes],
        box_frame=(np.cumsum(members) - 1)[m.box_frame[boxes]],
        missing=m.missing[members],
    )


_NO_ANSWER = Verdict(False, False, False, False, None)


def measure(frames: Sequence[Frame], texts: Sequence[str | None]) -> Measures:
    """Judge each answer against its frame; `None` is a missing answer, which is a failed one.

    An answer that does not meet the schema counts as failed in Table 1: not an exact count, wrong
    severity, no boxes (`docs/decisions/004-failed-answers.md`).
    """
    verdicts: list[bool] = []
    errors: list[float] = []
    severity: list[int] = []
    found: list[float] = []  # flat coordinates: many lists kept would slow the collector
    found_counts: list[int] = []
    for frame, text in zip(frames, texts, strict=True):
        verdict = _NO_ANSWER if text is None else judge(text, frame.size.width, frame.size.height)
        verdicts += verdict[:4]
        answer = verdict[4]
        if answer is None:
            errors.append(max(1, len(frame.accidents)))
            severity.append(FAILED)
            found_counts.append(0)
            continue
        errors.append(min(abs(answer["count"] - len(frame.accidents)), _COORDINATE_LIMIT))
        severity.append(_CODE[answer["severity"]])
        found_counts.append(len(answer["accidents"]))
        for accident in answer["accidents"]:
            found += accident["bbox"]
    true: list[float] = []
    for frame in frames:
        for accident in frame.accidents:
            box = accident.box
            true += (box.x1, box.y1, box.x2, box.y2)
    true_counts = np.array([len(frame.accidents) for frame in frames], dtype=np.int64)
    return Measures(
        verdicts=np.array(verdicts, dtype=bool).reshape(-1, 4),
        count_error=np.array(errors, dtype=float),
        true_severity=np.array([_CODE[highest_severity(f.severities)] for f in frames]),
        severity=np.array(severity, dtype=np.int64),
        iou=matched_iou(_boxes(true), true_counts, _boxes(found), np.array(found_counts)),
        box_frame=np.repeat(np.arange(len(frames)), true_counts),
        missing=np.array([text is None for text in texts], dtype=bool),
    )


_CODE = {name: i for i, name in enumerate(OVERALL)}


def _boxes(coordinates: list[float]) -> Array:
    try:
        array = np.array(coordinates, dtype=float)
    except OverflowError:  # an integer beyond any float: far outside the frame all the same
        limit = _COORDINATE_LIMIT
        array = np.array([max(-limit, min(limit, v)) for v in coordinates], dtype=float)
    return array.clip(-_COORDINATE_LIMIT, _COORDINATE_LIMIT).reshape(-1, 4)


def iou(a: Array, b: Array) -> Array:
    """IoU of boxes (..., t, 4) with boxes (..., p, 4): (..., t, p); an empty box overlaps none."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    overlap = (high - low).clip(0).prod(axis=-1)
    areas = [(x[..., 2:] - x[..., :2]).clip(0).prod(axis=-1) for x in (a, b)]
    union = areas[0] + areas[1] - overlap
    return np.divide(overlap, union, out=np.zeros_like(union), where=union > 0)


def matched_iou(
    true: Array, true_counts: NDArray[np.int64], found: Array, found_counts: NDArray[np.int64]
) -> Array:
    """IoU of each true box under its frame's optimal one-to-one matching; 0 when unmatched.

    Args:
        true: all true boxes (m, 4), frame after frame; `true_counts` (n,) says how many per frame.
        found: all found boxes, likewise.

    Frames with equally many boxes are matched together: with few boxes by trying every matching,
    else one by one with SciPy's Hungarian solver.
    """
    matched = np.zeros(len(true))
    true_start = np.cumsum(true_counts) - true_counts
    found_start = np.cumsum(found_counts) - found_counts
    shape_of = true_counts * (int(found_counts.max(initial=0)) + 1) + found_counts
    both = np.flatnonzero((true_counts > 0) & (found_counts > 0))
    shapes, group = np.unique(shape_of[both], return_inverse=True)
    for i in range(len(shapes)):
        members = both[group == i]
        t, p = int(true_counts[members[0]]), int(found_counts[members[0]])
        rows = true_start[members][:, None] + np.arange(t)
        columns = found_start[members][:, None] + np.arange(p)
        matched[rows] = _assign(iou(true[rows], found[columns]))
    return matched


def _assign(ious: Array) -> Array:
    """Per matrix of (k, t, p): the IoU that each of the t rows gets in an optimal matching."""
    _, t, p = ious.shape
    if perm(max(t, p), min(t, p)) > 24:
        return np.stack([_hungarian(matrix) for matrix in ious])
    if t > p:  # every choice of p rows for the p columns
        choices = np.array(list(permutations(range(t), p)))
        picked = ious[:, choices, np.arange(p)]
    else:
        choices = np.array(list(permutations(range(p), t)))
        picked = ious[:, np.arange(t), choices]
    best = picked.sum(axis=-1).argmax(axis=-1)
    values = np.take_along_axis(picked, best[:, None, None], axis=1)[:, 0]
    if t <= p:
        return np.asarray(values)
    result = np.zeros(ious.shape[:2])
    np.put_along_axis(result, choices[best], values, axis=1)
    return result


def _hungarian(matrix: Array) -> Array:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(matrix, maximize=True)
    result = np.zeros(len(matrix))
    result[rows] = matrix[rows, columns]
    return result


SUMS = ("n", "exact", "error", "iou", "hits", "boxes", *TABLE_2)
"""Per-frame quantities whose sums give all metrics; after them per severity: right, said, true."""


def per_frame(m: Measures) -> Array:
    """The quantities of `SUMS` and the severity counts per frame: (n, len(SUMS) + 9)."""

    def over_boxes(values: Array) -> Array:
        return np.bincount(m.box_frame, weights=values, minlength=len(m))

    right = m.severity == m.true_severity
    columns = [
        np.ones(len(m)),
        (m.count_error == 0),
        m.count_error,
        over_boxes(m.iou),
        over_boxes((m.iou >= 0.5).astype(float)),
        over_boxes(np.ones_like(m.iou)),
        *m.verdicts.T,
    ]
    for severity in range(len(OVERALL)):
        said, true = m.severity == severity, m.true_severity == severity
        columns += [right & true, said, true]
    return np.column_stack(columns).astype(float)


def from_sums(sums: Array) -> dict[str, Array]:
    """The metrics of each row of sums (..., k); NaN where undefined (no true box at all)."""
    total = dict(zip(SUMS, np.moveaxis(sums[..., : len(SUMS)], -1, 0), strict=True))
    counts = sums[..., len(SUMS) :].reshape(*sums.shape[:-1], len(OVERALL), 3)
    right, said, true = np.moveaxis(counts, -1, 0)
    f1 = 2 * right / np.maximum(said + true, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "count_em": total["exact"] / total["n"],
            "count_mae": total["error"] / total["n"],
            "sev_acc": right.sum(axis=-1) / total["n"],
            "sev_f1": (f1 * (true > 0)).sum(axis=-1) / (true > 0).sum(axis=-1),
            "bbox_miou": total["iou"] / total["boxes"],
            "recall_50": total["hits"] / total["boxes"],
            **{name: total[name] / total["n"] for name in TABLE_2},
        }


def resample(quantities: Array, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, Array]:
    """The metrics of `resamples` bootstrap samples of the frames: name -> (resamples,).

    The same seed and number of frames draw the same frames, which pairs the rows of a table. More
    than `MAX_BLOCKS` frames are first dealt at random into that many blocks, which are drawn
    instead: the same interval in expectation, at a cost that no longer grows with the frames.
    """
    rng = np.random.default_rng(seed)
    if len(quantities) > MAX_BLOCKS:
        order = rng.permutation(len(quantities))
        starts = np.arange(MAX_BLOCKS) * len(quantities) // MAX_BLOCKS
        quantities = np.add.reduceat(quantities[order], starts, axis=0)
    n = len(quantities)
    sums = []
    for size in _batches(resamples, max(1, 2**20 // n)):
        drawn = rng.integers(0, n, (size, n)) + np.arange(size)[:, None] * n
        weights = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        sums.append(weights.astype(float) @ quantities)
    return from_sums(np.concatenate(sums))


def _batches(total: int, size: int) -> list[int]:
    return [min(size, total - done) for done in range(0, total, size)]


def interval(value: float, resampled: Array) -> Interval:
    """The value with the 2.5th and 97.5th percentile of its resamples."""
    if np.isnan(value):
        return Interval(None, None, None)
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))


def score(m: Measures, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """Every metric of Tables 1 and 2 with its interval."""
    quantities = per_frame(m)
    values, drawn = from_sums(quantities.sum(axis=0)), resample(quantities, resamples)
    return {name: interval(float(values[name]), drawn[name]) for name in METRICS}


def difference(a: Measures, b: Measures, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """Each metric of `a` minus `b`'s, by paired bootstrap: both rows over the same drawn frames.

    Raises:
        ValueError: the rows are not of the same frames.
    """
    if not np.array_equal(a.true_severity, b.true_severity) or len(a.iou) != len(b.iou):
        raise ValueError("a paired comparison needs both rows on the same frames")
    quantities = per_frame(a), per_frame(b)
    values = [from_sums(q.sum(axis=0)) for q in quantities]
    drawn = [resample(q, resamples) for q in quantities]
    return {
        name: interval(float(values[0][name] - values[1][name]), drawn[0][name] - drawn[1][name])
        for name in METRICS
    }
