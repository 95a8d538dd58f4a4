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


def test_small_boxes_overlap_too_and_two_empty_ones_do_not() -> None:
    half, empty = np.array([[0, 0, 0.5, 0.5]]), np.array([[5.0, 5, 5, 5]])
    assert iou(half, half).tolist() == [[1.0]]
    assert iou(empty, empty).tolist() == [[0.0]]


FRAMES = (
    # True and predicted boxes, a unit high, from here to there; and what each true one gets.
    ([(0, 4), (4, 8)], [(3, 8)], [0, 0.8]),
    ([(0, 4)], [(10, 12), (0, 2)], [0.5]),
    ([], [(0, 1)], []),
    ([(0, 1)], [], [0]),
    ([(0, 10), (0, 4)], [(0, 9), (4, 10)], [0.6, 4 / 9]),  # not the greatest one first
    ([(0, 4), (4, 8)], [(0, 4)], [1, 0]),
    ([(0, 4)], [(0, 1), (0, 2), (0, 1), (0, 1)], [0.5]),
    ([(10 * k, 10 * k + 1) for k in range(6)], [(10, 12)], [0, 0.5, 0, 0, 0, 0]),
    ([(10 * k, 10 * k + 1) for k in range(5)], [(10 * k, 10 * k + 2) for k in range(4)][::-1],
     [0.5, 0.5, 0.5, 0.5, 0]),
)  # fmt: skip


def test_frames_of_many_shapes_are_matched_each_by_itself() -> None:
    def boxes(sides: list[list[tuple[int, int]]]) -> np.ndarray:
        return np.array([(low, 0, high, 1) for frame in sides for low, high in frame], float)

    true, predicted, expected = (list(column) for column in zip(*FRAMES, strict=True))
    counts = [np.array([len(frame) for frame in sides]) for sides in (true, predicted)]
    matched = matched_iou(boxes(true), counts[0], boxes(predicted), counts[1])
    assert matched == pytest.approx(np.concatenate(expected))
    none = np.zeros(1, int)
    assert matched_iou(np.zeros((0, 4)), none[:0], np.zeros((0, 4)), none[:0]).tolist() == []
