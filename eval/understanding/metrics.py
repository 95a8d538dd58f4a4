"""The metrics of Tables 1 and 2, and their bootstrap intervals. Pure: arrays in, numbers out.

Rules, stated once:
    - an answer that does not meet the schema has failed, and so has a missing one: its count is not
      exact, its severity is wrong, and it has no boxes (docs/decisions/004-failed-answers.md);
    - boxes are compared in pixels of the camera's frame, under the optimal one-to-one matching of
      each frame (`matching`); a true box that is not matched counts 0;
    - every metric is a function of sums over frames (`SUMS`), so that a resample is one weighted
      sum, and thousands of resamples are one matrix product.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dat_runtime.schema import Verdict, judge
from dat_runtime.truth import Frame
from dat_runtime.types import highest_severity
from eval.statistics.bootstrap import RESAMPLES, Bools, Floats, Interval, interval, resampled_sums
from eval.understanding.matching import matched_iou

Codes = NDArray[np.int64]

OVERALL = ("none", "moderate", "severe")
"""Overall severities by code; `FAILED` is the code of an answer that states none."""
FAILED = len(OVERALL)
_CODE = {name: code for code, name in enumerate(OVERALL)}

TABLE_1 = ("count_em", "count_mae", "sev_acc", "sev_f1", "bbox_miou", "recall_50")
TABLE_2 = ("parse", "schema", "rule", "viol")
METRICS = TABLE_1 + TABLE_2
LOWER_IS_BETTER = ("count_mae", "viol")

HIT = 0.5
"""A true box counts as found from this IoU on (Recall@0.5)."""

_LARGEST = 10**9
"""Counts and coordinates are clipped to it: far beyond any frame, and exact in a float."""

_NO_ANSWER = Verdict(False, False, False, False, None)


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

    verdicts: Bools
    count_error: Floats
    true_severity: Codes
    severity: Codes
    iou: Floats
    box_frame: Codes
    missing: Bools

    def __len__(self) -> int:
        return len(self.count_error)


def subset(m: Measures, members: Bools) -> Measures:
    """The measures of some of the frames, `members` (n,)."""
    boxes = members[m.box_frame]
    # A member's number among the members is how many of them come before it.
    new_index = np.cumsum(members) - 1
    return Measures(
        verdicts=m.verdicts[members],
        count_error=m.count_error[members],
        true_severity=m.true_severity[members],
        severity=m.severity[members],
        iou=m.iou[boxes],
        box_frame=new_index[m.box_frame[boxes]],
        missing=m.missing[members],
    )


def measure(frames: Sequence[Frame], texts: Sequence[str | None]) -> Measures:
    """Judge each answer against its frame; `None` is a missing answer."""
    verdicts: list[bool] = []
    count_errors: list[float] = []
    severities: list[int] = []
    predicted: list[float] = []  # flat: many small lists would slow the garbage collector
    predicted_counts: list[int] = []
    for frame, text in zip(frames, texts, strict=True):
        verdict = _NO_ANSWER if text is None else judge(text, frame.size.width, frame.size.height)
        verdicts += verdict[:4]
        answer = verdict.answer
        true_count = len(frame.accidents)
        if answer is None:
            count_errors.append(max(1, true_count))
            severities.append(FAILED)
            predicted_counts.append(0)
            continue
        count_errors.append(min(abs(answer["count"] - true_count), _LARGEST))
        severities.append(_CODE[answer["severity"]])
        predicted_counts.append(len(answer["accidents"]))
        for accident in answer["accidents"]:
            predicted += accident["bbox"]
    true: list[float] = []
    true_counts: list[int] = []
    true_severities: list[int] = []
    for frame in frames:
        true_counts.append(len(frame.accidents))
        true_severities.append(_CODE[highest_severity(frame.severities)])
        for accident in frame.accidents:
            true += accident.box[:4]
    box_counts = np.array(true_counts, dtype=np.int64)
    return Measures(
        verdicts=np.array(verdicts, dtype=bool).reshape(-1, 4),
        count_error=np.array(count_errors, dtype=float),
        true_severity=np.array(true_severities),
        severity=np.array(severities, dtype=np.int64),
        iou=matched_iou(_boxes(true), box_counts, _boxes(predicted), np.array(predicted_counts)),
        box_frame=np.repeat(np.arange(len(frames)), box_counts),
        missing=np.array([text is None for text in texts], dtype=bool),
    )


def _boxes(coordinates: list[float]) -> Floats:
    """Boxes (m, 4) of a flat list, clipped to what a float holds exactly."""
    try:
        array = np.array(coordinates, dtype=float)
    except OverflowError:  # an integer beyond any float: far outside the frame all the same
        clipped = [max(-_LARGEST, min(_LARGEST, value)) for value in coordinates]
        array = np.array(clipped, dtype=float)
    return array.clip(-_LARGEST, _LARGEST).reshape(-1, 4)


SUMS = ("n", "exact", "error", "iou", "hits", "boxes", *TABLE_2)
"""Per-frame quantities whose sums give all metrics. Three per severity follow them: whether the
answer states it rightly, whether the answer states it, whether the truth does."""


def per_frame(m: Measures) -> Floats:
    """The quantities of `SUMS` and the severity counts per frame: (n, len(SUMS) + 9)."""

    def per_box(values: Floats) -> Floats:
        """The sum over each frame's true boxes."""
        return np.bincount(m.box_frame, weights=values, minlength=len(m))

    columns = [
        np.ones(len(m)),
        m.count_error == 0,
        m.count_error,
        per_box(m.iou),
        per_box((m.iou >= HIT).astype(float)),
        per_box(np.ones_like(m.iou)),
    ]
    columns += list(m.verdicts.T)
    right = m.severity == m.true_severity
    for code in range(len(OVERALL)):
        stated = m.severity == code
        true = m.true_severity == code
        columns += [right & true, stated, true]
    return np.column_stack(columns).astype(float)


def from_sums(sums: Floats) -> dict[str, Floats]:
    """The metrics of each row of sums (..., k); NaN where undefined (no true box at all)."""
    total = {name: sums[..., i] for i, name in enumerate(SUMS)}
    per_severity = sums[..., len(SUMS) :].reshape(*sums.shape[:-1], len(OVERALL), 3)
    right, stated, true = per_severity[..., 0], per_severity[..., 1], per_severity[..., 2]
    # F1 of a severity is 2 TP / (2 TP + FP + FN), whose denominator is stated + true. It is 0 only
    # for a severity that does not occur, which the mean leaves out anyway.
    f1 = 2 * right / np.maximum(stated + true, 1)
    occurs = true > 0
    n = total["n"]
    with np.errstate(invalid="ignore", divide="ignore"):
        metrics = {
            "count_em": total["exact"] / n,
            "count_mae": total["error"] / n,
            "sev_acc": right.sum(axis=-1) / n,
            "sev_f1": (f1 * occurs).sum(axis=-1) / occurs.sum(axis=-1),
            "bbox_miou": total["iou"] / total["boxes"],
            "recall_50": total["hits"] / total["boxes"],
        }
        for name in TABLE_2:
            metrics[name] = total[name] / n
    return metrics


def score(m: Measures, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """Every metric of Tables 1 and 2 with its interval."""
    quantities = per_frame(m)
    values = from_sums(quantities.sum(axis=0))
    resampled = from_sums(resampled_sums(quantities, resamples))
    return {name: interval(float(values[name]), resampled[name]) for name in METRICS}


def difference(a: Measures, b: Measures, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """Each metric of `a` minus `b`'s, by paired bootstrap: both rows over the same drawn frames.

    Raises:
        ValueError: the rows are not of the same frames.
    """
    if not np.array_equal(a.true_severity, b.true_severity) or len(a.iou) != len(b.iou):
        raise ValueError("a paired comparison needs both rows on the same frames")
    quantities_a, quantities_b = per_frame(a), per_frame(b)
    values_a = from_sums(quantities_a.sum(axis=0))
    values_b = from_sums(quantities_b.sum(axis=0))
    # The same seed and number of frames draw the same frames, which pairs the rows.
    resampled_a = from_sums(resampled_sums(quantities_a, resamples))
    resampled_b = from_sums(resampled_sums(quantities_b, resamples))
    differences = {}
    for name in METRICS:
        value = float(values_a[name] - values_b[name])
        differences[name] = interval(value, resampled_a[name] - resampled_b[name])
    return differences


def verdict(metric: str, found: Interval) -> str:
    """Of a difference: `better`, `worse`, `same` where its interval holds 0, "" where undefined."""
    value, low, high = found
    if value is None or low is None or high is None:
        return ""
    if low <= 0 <= high:
        return "same"
    return "better" if (value > 0) != (metric in LOWER_IS_BETTER) else "worse"
