"""The metrics against scikit-learn, brute force and counting by hand."""

import json
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from dat_runtime.answer import dump, target
from dat_runtime.types import Accident, Box, Size
from eval.understanding import metrics
from eval.understanding.metrics import OVERALL, Frame, Measures

SIZE = Size(100, 80)


def frame(*accidents: tuple[list[int], str], image_id: str = "a") -> Frame:
    boxes = tuple(tuple(map(float, box)) for box, _ in accidents)
    return Frame(image_id, "", SIZE.width, SIZE.height, boxes, tuple(s for _, s in accidents))


def answer(*accidents: tuple[list[int], str]) -> str:
    return dump(target([Accident(Box(*box, frame=SIZE), s) for box, s in accidents]))  # type: ignore[arg-type]


def values(frames: list[Frame], texts: list[str | None]) -> dict[str, float | None]:
    found = metrics.score(metrics.measure(frames, texts), resamples=20)
    return {name: interval.value for name, interval in found.items()}


LEFT, RIGHT = [0, 0, 20, 20], [50, 0, 70, 20]


def test_perfect_answers_score_one_and_no_error() -> None:
    frames = [frame((LEFT, "severe"), (RIGHT, "moderate")), frame(), frame((LEFT, "moderate"))]
    texts: list[str | None] = [
        answer((RIGHT, "moderate"), (LEFT, "severe")),
        answer(),
        answer((LEFT, "moderate")),
    ]
    lower = metrics.LOWER_IS_BETTER
    assert values(frames, texts) == {m: 0.0 if m in lower else 1.0 for m in metrics.METRICS}


def test_each_metric_by_hand() -> None:
    """Two frames: one box of two found (half of it overlaps), one false alarm."""
    frames = [frame((LEFT, "severe"), (RIGHT, "moderate")), frame()]
    texts: list[str | None] = [answer(([0, 0, 20, 10], "severe")), answer((LEFT, "moderate"))]
    found = values(frames, texts)
    assert found["count_em"] == 0
    assert found["count_mae"] == 1
    assert found["sev_acc"] == 0.5
    assert found["sev_f1"] == 0.5  # severe 1, none 0; moderate does not occur in the truth
    assert found["bbox_miou"] == pytest.approx(0.25)
    assert found["recall_50"] == 0.5


@pytest.mark.parametrize(
    "text",
    [None, "", "```json\n{}\n```", "{}", json.dumps({**json.loads(answer()), "extra": 1})],
    ids=["missing", "empty", "fenced", "without fields", "extra key"],
)
def test_a_failed_answer_counts_against_every_metric_of_table_1(text: str | None) -> None:
    found = values([frame((LEFT, "severe"), (RIGHT, "severe"))], [text])
    expected = {"count_mae": 2.0} | dict.fromkeys(
        ("count_em", "sev_acc", "sev_f1", "bbox_miou", "recall_50"), 0.0
    )
    assert {m: found[m] for m in metrics.TABLE_1} == expected


def test_a_failed_answer_about_a_quiet_frame_is_one_off() -> None:
    assert values([frame()], ["no JSON"])["count_mae"] == 1


def test_a_missing_answer_fails_parse_schema_and_rule_and_is_no_violation() -> None:
    found = values([frame()], [None])
    assert [found[m] for m in metrics.TABLE_2] == [0, 0, 0, 0]


def test_without_true_boxes_the_box_metrics_are_undefined() -> None:
    found = metrics.score(metrics.measure([frame(), frame()], [answer(), "x"]), resamples=20)
    for name in ("bbox_miou", "recall_50"):
        assert found[name] == (None, None, None)
    assert found["sev_acc"].value == 0.5


def test_numbers_beyond_any_float_do_not_break_the_metrics() -> None:
    huge = json.loads(answer((LEFT, "severe"), (RIGHT, "severe")))
    huge["accidents"][0]["bbox"] = [0, 0, 10**400, 20]
    huge["count"] = 10**400
    found = values([frame((RIGHT, "severe"))], [json.dumps(huge)])
    assert found["recall_50"] == 1
    assert found["viol"] == 1


def test_the_matching_is_the_best_not_the_greedy_one() -> None:
    """Greedy takes the pair of 0.8 and leaves 0 for the other box."""
    frames = [frame(([0, 0, 10, 10], "severe"), ([4, 0, 14, 10], "severe"))]
    texts: list[str | None] = [answer(([1, 0, 11, 10], "severe"), ([0, 0, 6, 10], "severe"))]
    m = metrics.measure(frames, texts)
    assert m.iou.tolist() == pytest.approx([0.6, 7 / 13])


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
    matched = metrics.matched_iou(np.vstack(true), counts[:, 0], np.vstack(found), counts[:, 1])
    per_frame = np.split(matched, np.cumsum(counts[:, 0])[:-1])
    for t, p, ious in zip(true, found, per_frame, strict=True):
        best = brute_force(metrics.iou(t, p)) if len(t) and len(p) else 0.0
        assert ious.sum() == pytest.approx(best)
        assert (ious > 0).sum() <= min(len(t), len(p))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_iou_equals_the_runtimes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_boxes(rng, 3), random_boxes(rng, 2)
    size = Size(100, 100)
    one_by_one = [[Box(*x, frame=size).iou(Box(*y, frame=size)) for y in b] for x in a]
    assert metrics.iou(a, b) == pytest.approx(np.array(one_by_one))


def test_empty_and_reversed_boxes_overlap_nothing() -> None:
    degenerate = np.array([[5, 5, 5, 9], [9, 9, 2, 2]], dtype=float)
    assert metrics.iou(degenerate, np.array([[0, 0, 10, 10]], dtype=float)).tolist() == [[0], [0]]


def measures_of(true: list[int], said: list[int]) -> Measures:
    n = len(true)
    return Measures(
        verdicts=np.ones((n, 4), dtype=bool),
        count_error=np.zeros(n),
        true_severity=np.array(true),
        severity=np.array(said),
        iou=np.zeros(0),
        box_frame=np.zeros(0, dtype=int),
        missing=np.zeros(n, dtype=bool),
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=30))
def test_severity_scores_equal_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, said = [t for t, _ in pairs], [s for _, s in pairs]
    found = metrics.score(measures_of(true, said), resamples=5)
    occurring = sorted(set(true))
    expected = f1_score(true, said, labels=occurring, average="macro", zero_division=0)
    assert found["sev_f1"].value == pytest.approx(expected)
    assert found["sev_acc"].value == pytest.approx(accuracy_score(true, said))


def noisy(n: int, seed: int, quality: float) -> tuple[list[Frame], list[str | None]]:
    """Frames with one or two boxes; an answer is right with probability `quality`."""
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(0)
    frames, texts = [], []
    for i in range(n):
        boxes = [(LEFT, "severe"), (RIGHT, "moderate")][: int(truth.integers(1, 3))]
        frames.append(frame(*boxes, image_id=str(i)))
        texts.append(answer(*boxes) if rng.random() < quality else "no JSON")
    return frames, texts


def test_the_interval_of_a_rate_is_the_binomials() -> None:
    m = metrics.measure(*noisy(400, 1, 0.8))
    found = metrics.score(m)["parse"]
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    deviation = (found.value * (1 - found.value) / 400) ** 0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.08)
    assert found.low < found.value < found.high


def test_blocks_of_frames_give_the_same_interval() -> None:
    """More frames than blocks: the block bootstrap agrees with the binomial's width."""
    n = 3 * metrics.MAX_BLOCKS
    rng = np.random.default_rng(5)
    quantities = metrics.per_frame(measures_of([0] * n, (rng.random(n) < 0.1).astype(int).tolist()))
    spread = metrics.resample(quantities)["sev_acc"].std()
    assert spread == pytest.approx((0.1 * 0.9 / n) ** 0.5, rel=0.1)


def test_the_bootstrap_is_reproducible() -> None:
    m = metrics.measure(*noisy(60, 2, 0.7))
    assert metrics.score(m) == metrics.score(m)


def test_pairing_tells_apart_what_overlapping_intervals_would_not() -> None:
    """A row that fails 8 further frames of 200 is worse for sure, though intervals overlap."""
    frames, texts = noisy(200, 3, 0.8)
    good = metrics.measure(frames, texts)
    spoiled = [
        None if i in range(40, 52) and text != "no JSON" else text for i, text in enumerate(texts)
    ]
    worse = metrics.measure(frames, spoiled)
    found = metrics.difference(good, worse)["count_em"]
    alone, other = metrics.score(good)["count_em"], metrics.score(worse)["count_em"]
    assert found.low is not None
    assert found.low > 0
    assert alone.low is not None
    assert other.high is not None
    assert alone.low < other.high


def test_a_row_cannot_be_told_from_itself() -> None:
    m = metrics.measure(*noisy(30, 4, 0.5))
    assert all(d == (0, 0, 0) for d in metrics.difference(m, m).values())


def test_rows_on_other_frames_are_not_paired() -> None:
    with pytest.raises(ValueError, match="same frames"):
        metrics.difference(
            metrics.measure([frame()], [answer()]),
            metrics.measure([frame((LEFT, "severe"))], [answer()]),
        )


@pytest.mark.parametrize("name", OVERALL)
def test_overall_severities_are_those_of_the_schema(name: Any) -> None:
    from dat_runtime.schema import ANSWER_SCHEMA

    assert name in ANSWER_SCHEMA["properties"]["severity"]["enum"]
