"""Optimal one-to-one matching of true and predicted boxes by IoU, for many frames at once."""

from itertools import permutations
from math import perm

import numpy as np
from numpy.typing import NDArray

from eval.statistics.bootstrap import Floats

Counts = NDArray[np.int64]

TRIED = 24
"""Up to this many matchings of a frame are all tried, for all frames of one shape at once; SciPy's
solver takes one frame at a time. 24 covers four boxes against four."""


def iou(a: Floats, b: Floats) -> Floats:
    """IoU of boxes (..., t, 4) with boxes (..., p, 4): (..., t, p); an empty box overlaps none."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., 2:], b[..., 2:])
    overlap = (high - low).clip(0).prod(axis=-1)
    union = _area(a) + _area(b) - overlap
    return np.divide(overlap, union, out=np.zeros_like(union), where=union > 0)


def _area(boxes: Floats) -> Floats:
    """Areas of boxes (..., 4); 0 where the corners are reversed."""
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).clip(0).prod(axis=-1))


def matched_iou(
    true: Floats, true_counts: Counts, predicted: Floats, predicted_counts: Counts
) -> Floats:
    """IoU of each true box under its frame's optimal one-to-one matching; 0 when unmatched.

    Frames with equally many boxes are matched together.

    Args:
        true: all true boxes (m, 4), frame after frame; `true_counts` (n,) says how many per frame.
        predicted: all predicted boxes, likewise.
    """
    matched = np.zeros(len(true))
    true_start = np.cumsum(true_counts) - true_counts
    predicted_start = np.cumsum(predicted_counts) - predicted_counts
    # One number per pair of counts, so that frames of one shape have the same number.
    shape_of = true_counts * (int(predicted_counts.max(initial=0)) + 1) + predicted_counts
    with_both = np.flatnonzero((true_counts > 0) & (predicted_counts > 0))
    shapes, shape_index = np.unique(shape_of[with_both], return_inverse=True)
    for i in range(len(shapes)):
        members = with_both[shape_index == i]
        t, p = int(true_counts[members[0]]), int(predicted_counts[members[0]])
        # Where the boxes of each member lie: (frames, t) and (frames, p).
        rows = true_start[members][:, None] + np.arange(t)
        columns = predicted_start[members][:, None] + np.arange(p)
        matched[rows] = _best(iou(true[rows], predicted[columns]))
    return matched


def _best(ious: Floats) -> Floats:
    """Per matrix of (k, t, p): the IoU that each of the t rows gets in an optimal matching."""
    _, t, p = ious.shape
    if perm(max(t, p), min(t, p)) > TRIED:
        return np.stack([_hungarian(matrix) for matrix in ious])
    if t <= p:  # every choice of t columns for the t rows
        choices = np.array(list(permutations(range(p), t)))
        picked = ious[:, np.arange(t), choices]
    else:  # every choice of p rows for the p columns
        choices = np.array(list(permutations(range(t), p)))
        picked = ious[:, choices, np.arange(p)]
    # picked: (k, choices, pairs), the IoUs that each choice would match.
    best = picked.sum(axis=-1).argmax(axis=-1)
    values = np.take_along_axis(picked, best[:, None, None], axis=1)[:, 0]
    if t <= p:
        return np.asarray(values)
    result = np.zeros(ious.shape[:2])  # the rows that were not chosen keep 0
    np.put_along_axis(result, choices[best], values, axis=1)
    return result


def _hungarian(matrix: Floats) -> Floats:
    """The same for one matrix (t, p) of any size."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(matrix, maximize=True)
    result = np.zeros(len(matrix))
    result[rows] = matrix[rows, columns]
    return result
