import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.priority import GAMMA, level_of, semantic_priority, target_score
from dat_runtime.types import Accident, Box, Severity, Size

FRAME = Size(100, 100)
SCORES = st.floats(0, 1)


def accident(severity: Severity, side: float) -> Accident:
    return Accident(Box(0, 0, side, side, FRAME), severity)


def test_equation_7_by_hand() -> None:
    assert semantic_priority(1, 0.83) == pytest.approx(0.915)
    assert semantic_priority(0, 0.4) == pytest.approx(0.2)
    assert (semantic_priority(0, 0.0), semantic_priority(1, 1.0)) == (0, 1)
    assert semantic_priority(1, 0.6, beta=0.25) == pytest.approx(0.7)
    assert semantic_priority(2, 0.5, levels=5) == pytest.approx(0.5)


@given(low=st.floats(0, GAMMA, exclude_max=True), high=st.floats(GAMMA, 1))
def test_a_severe_event_always_goes_before_a_moderate_one(low: float, high: float) -> None:
    assert semantic_priority(1, high) > semantic_priority(0, low)


@given(level=st.integers(0, 4), score=SCORES)
def test_priorities_lie_in_the_unit_interval_whatever_the_number_of_levels(
    level: int, score: float
) -> None:
    assert 0 <= semantic_priority(level, score, levels=5) <= 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"level": 2, "score": 0.5}, r"level must be in 0\.\.1,"),
        ({"level": -1, "score": 0.5}, "level"),
        ({"level": 1, "score": 1.01}, "score"),
        ({"level": 1, "score": float("nan")}, "score"),
        ({"level": 1, "score": 0.5, "beta": 1.0}, "beta"),
        ({"level": 1, "score": 0.5, "beta": 0.0}, "beta"),
        ({"level": 0, "score": 0.5, "levels": 1}, "levels"),
    ],
)
def test_values_out_of_range_are_refused_by_name(arguments: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        semantic_priority(**arguments)  # type: ignore[arg-type]


def test_only_severe_frames_have_level_1() -> None:
    assert [level_of(s) for s in ("none", "moderate", "severe")] == [0, 0, 1]


@given(
    severities=st.lists(st.sampled_from(["moderate", "severe"]), max_size=6),
    side=st.floats(0, 100),
)
def test_target_scores_keep_equation_4(severities: list[Severity], side: float) -> None:
    score = target_score([accident(s, side) for s in severities])
    if "severe" in severities:
        assert GAMMA < score <= 1
    else:
        assert 0 <= score < GAMMA


def test_target_scores_grow_with_the_scene() -> None:
    assert target_score([]) == 0
    small, large = accident("moderate", 20), accident("moderate", 60)
    assert target_score([small]) == pytest.approx(0.13)
    assert target_score([small]) < target_score([small, small]) < target_score([large])


def test_a_target_score_has_two_decimals() -> None:
    assert target_score([accident("moderate", 33)]) == 0.18
    assert target_score([accident("severe", 33)]) == 0.68
