"""IoU and the optimal matching against the runtime's IoU and brute force."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.types import Box, Size
from eval.understanding.matching import iou, matched_iou


def brute_force(ious: np.ndarray) -> float:
    """The greatest sum over all one-to-one matchings."""
    if ious.shape[0] > ious.shape[1]:
        ious = ious.T
    rows = range(ious.shape[0])
    return max(
        sum(ious[r, c] for r, c in zip(rows, chosen, strict=True))
        for chosen in permutations(range(ious.shape[1]), len(rows))
    )


def random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    corner = rng.integers(0, 40, (n, 2))
    return np.hstack([corner, corner + rng.integers(1, 40, (n, 2))]).astype(float)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_matching_equals_brute_force(shapes: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = [random_boxes(rng, t) for t, _ in shapes]
    found = [random_boxes(rng, p) for _, p in shapes]
    counts = np.array(shapes)
    matched = matched_iou(np.vstack(true), counts[:, 0], np.vstack(found), counts[:, 1])
    per_frame = np.split(matched, np.cumsum(counts[:, 0])[:-1])
    for t, p, ious in zip(true, found, per_frame, strict=True):
        best = brute_force(iou(t, p)) if len(t) and len(p) else 0.0
        assert ious.sum() == pytest.approx(best)
        assert (ious > 0).sum() <= min(len(t), len(p))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_iou_equals_the_runtimes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_boxes(rng, 3), random_boxes(rng, 2)
    size = Size(100, 100)
    one_by_one = [[Box(*x, frame=size).iou(Box(*y, frame=size)) for y in b] for x in a]
    assert iou(a, b) == pytest.approx(np.array(one_by_one))


def test_empty_and_reversed_boxes_overlap_nothing() -> None:
    degenerate = np.array([[5, 5, 5, 9], [9, 9, 2, 2]], dtype=float)
    assert iou(degenerate, np.array([[0, 0, 10, 10]], dtype=float)).tolist() == [[0], [0]]
