"""The metrics against scikit-learn and counting by hand."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.answer import dump, target
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Severity, Size
from eval.statistics import bootstrap
from eval.understanding import metrics
from eval.understanding.metrics import OVERALL, Measures

SIZE = Size(100, 80)


def frame(*accidents: tuple[list[int], Severity], image_id: str = "a") -> Frame:
    return Frame(
        image_id, "", SIZE, tuple(Accident(Box(*box, frame=SIZE), s) for box, s in accidents)
    )


def answer(*accidents: tuple[list[int], Severity]) -> str:
    return dump(target([Accident(Box(*box, frame=SIZE), s) for box, s in accidents]))


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


def test_an_answer_that_does_not_parse_is_there_and_one_that_never_came_is_missing() -> None:
    measures = metrics.measure([frame(), frame(), frame()], ["no JSON", None, answer()])
    assert measures.missing.tolist() == [False, True, False]
    assert measures.verdicts[:, 0].tolist() == [False, False, True]


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
    # These are floats, and the area of a box of such sides is none.
    huge["accidents"][0]["bbox"] = [-1e300, -1e300, 1e300, 1e300]
    assert values([frame((RIGHT, "severe"))], [json.dumps(huge)])["recall_50"] == 1


def test_no_frames_have_no_measures() -> None:
    m = metrics.measure([], [])
    assert (len(m), m.verdicts.shape, m.iou.shape) == (0, (0, 4), (0,))
    assert {m.verdicts.dtype, m.missing.dtype} == {np.dtype(bool)}
    assert m.severity.dtype == m.box_frame.dtype == np.int64
    assert metrics.measure([frame()], [answer()]).count_error.dtype == np.float64


def test_a_subset_holds_its_frames_and_their_boxes() -> None:
    frames = [frame((LEFT, "severe"), (RIGHT, "moderate")), frame(), frame((LEFT, "moderate"))]
    texts: list[str | None] = [answer((LEFT, "severe")), None, answer((LEFT, "moderate"))]
    m = metrics.measure(frames, texts)
    for members in ([True, False, True], [False, True, True], [False, False, False]):
        kept = [i for i, member in enumerate(members) if member]
        expected = metrics.measure([frames[i] for i in kept], [texts[i] for i in kept])
        part = metrics.subset(m, np.array(members))
        for name, column in vars(expected).items():
            np.testing.assert_array_equal(getattr(part, name), column, err_msg=name)


def test_the_metrics_of_many_sums_are_those_of_each() -> None:
    m = metrics.measure(*noisy(12, 6, 0.6))
    sums = np.array([metrics.per_frame(m)[i:].sum(axis=0) for i in range(5)])
    together = metrics.from_sums(sums)
    for i, row in enumerate(sums):
        assert {n: v[i] for n, v in together.items()} == metrics.from_sums(row)


def test_the_matching_is_the_best_not_the_greedy_one() -> None:
    """Greedy takes the pair of 0.8 and leaves 0 for the other box."""
    frames = [frame(([0, 0, 10, 10], "severe"), ([4, 0, 14, 10], "severe"))]
    texts: list[str | None] = [answer(([1, 0, 11, 10], "severe"), ([0, 0, 6, 10], "severe"))]
    m = metrics.measure(frames, texts)
    assert m.iou.tolist() == pytest.approx([0.6, 7 / 13])


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


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=30))
def test_severity_scores_equal_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score

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
    both: list[tuple[list[int], Severity]] = [(LEFT, "severe"), (RIGHT, "moderate")]
    frames: list[Frame] = []
    texts: list[str | None] = []
    for i in range(n):
        boxes = both[: int(truth.integers(1, 3))]
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
    n = 3 * bootstrap.MAX_BLOCKS
    rng = np.random.default_rng(5)
    quantities = metrics.per_frame(measures_of([0] * n, (rng.random(n) < 0.1).astype(int).tolist()))
    resampled = metrics.from_sums(bootstrap.resampled_sums(quantities))
    spread = resampled["sev_acc"].std()
    assert spread == pytest.approx((0.1 * 0.9 / n) ** 0.5, rel=0.1)


def test_the_bootstrap_is_reproducible() -> None:
    m = metrics.measure(*noisy(60, 2, 0.7))
    assert metrics.score(m) == metrics.score(m)
    other = metrics.measure(*noisy(60, 2, 0.4))
    once = [metrics.score(m, resamples=1), metrics.difference(m, other, resamples=1)]
    assert all(found.low == found.high for one in once for found in one.values())


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
    one = metrics.measure([frame((LEFT, "severe"))], [answer()])
    for other in (frame(), frame((LEFT, "severe"), (RIGHT, "severe")), frame((LEFT, "moderate"))):
        with pytest.raises(ValueError, match=r"^a paired comparison needs both rows on the same"):
            metrics.difference(one, metrics.measure([other], [answer()]))


@pytest.mark.parametrize(
    ("found", "more", "less"),
    [
        ((0.2, 0.1, 0.3), "better", "worse"),
        ((-0.2, -0.3, -0.1), "worse", "better"),
        ((0.2, 0.0, 0.3), "same", "same"),
        ((-0.2, -0.3, 0.0), "same", "same"),
        ((2.0, 0.5, 3.0), "better", "worse"),
        ((0.0, 0.1, 0.2), "worse", "better"),
        ((None, 0.1, 0.2), "", ""),
        ((0.1, None, 0.2), "", ""),
        ((0.1, 0.1, None), "", ""),
    ],
)
def test_a_difference_tells_which_is_better_by_its_whole_interval(
    found: Any, more: str, less: str
) -> None:
    interval = bootstrap.Interval(*found)
    assert metrics.verdict("recall_50", interval) == more
    assert {metrics.verdict(name, interval) for name in metrics.LOWER_IS_BETTER} == {less}


@pytest.mark.parametrize("name", OVERALL)
def test_overall_severities_are_those_of_the_schema(name: Any) -> None:
    from dat_runtime.schema import ANSWER_SCHEMA

    assert name in ANSWER_SCHEMA["properties"]["severity"]["enum"]
