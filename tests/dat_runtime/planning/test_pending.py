"""Until when a visual has to be through: the test of line 20 decides, whatever the rounding."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.planning.pending import (
    EXACT,
    Limits,
    PendingEvent,
    require_valid,
    score,
    smaller_visual,
)

POSITIVE = st.floats(1e-6, 1e12)


@settings(max_examples=500, deadline=None)
@given(POSITIVE, POSITIVE, POSITIVE, st.floats(-1e19, 1e19))
def test_due_is_the_last_total_that_fits_and_is_in_time(
    bandwidth: float, interval: float, visual_deadline: float, age: float
) -> None:
    limits = Limits.of(bandwidth, interval, visual_deadline, None)
    due = limits.due(age)
    highest = math.floor(min(limits.capacity, EXACT))
    assert -1 <= due <= highest
    assert due == -1 or limits.in_time(age, due)
    assert due == highest or not limits.in_time(age, due + 1)


def test_due_counts_the_byte_at_the_deadline_itself() -> None:
    limits = Limits.of(1000.0, 5.0, 1.5, None)
    assert [limits.due(age) for age in (0.0, 0.5, 1.5, 1.6, -9.0)] == [1500, 1000, 0, -1, 5000]


def test_times_in_nanoseconds_end_at_once() -> None:
    limits = Limits.of(1e9, 1e9, 1.5, None)
    assert limits.due(512.0) == -1
    assert limits.due(-1e18) == EXACT


EVENT = PendingEvent("a", 0.5, 100, 70, 80, captured_at=2.0)


def test_limits_are_of_one_interval_and_ages_of_its_clock() -> None:
    limits = Limits.of(1000.0, 2.0, 1.5, 5.0)
    assert limits == Limits(1000.0, 2000.0, 1.5, 5.0)
    assert limits.age(EVENT) == 3.0
    assert replace(limits, now=None).age(EVENT) == 0.0
    assert Limits.of(0, 0, 0, -1.0) == Limits(0, 0, 0, -1.0)


@pytest.mark.parametrize(
    ("roi", "box", "unit"),
    [
        (70, 80, ("roi", 70)),
        (70, 70, ("roi", 70)),
        (71, 70, ("box", 70)),
        (0, None, ("roi", 0)),
        (None, 0, ("box", 0)),
        (None, None, None),
    ],
)
def test_the_cheaper_visual_is_the_one_to_send(
    roi: int | None, box: int | None, unit: tuple[str, int] | None
) -> None:
    assert smaller_visual(replace(EVENT, roi_bytes=roi, box_bytes=box)) == unit


def test_a_score_is_priority_per_byte() -> None:
    assert (score(0.5, 100), score(0.0, 0), score(0.5, 1)) == (0.005, math.inf, 0.5)


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, "9"])
def test_each_refusal_names_field_event_and_number(bad: float) -> None:
    for name in ("bandwidth", "interval", "visual_deadline"):
        numbers = {"bandwidth": 1.0, "interval": 1.0, "visual_deadline": 1.0} | {name: bad}
        with pytest.raises(ValueError) as refused:  # noqa: PT011
            Limits.of(**numbers, now=None)
        assert str(refused.value) == f"{name} must be finite and not negative, got {bad!r}"
    for name in ("priority", "json_bytes", "roi_bytes", "box_bytes", "code_bytes"):
        with pytest.raises(ValueError) as refused:  # noqa: PT011
            require_valid([EVENT, replace(EVENT, id="b", **{name: bad})])
        expected = f"{name} of event 'b' must be finite and not negative, got {bad!r}"
        assert str(refused.value) == expected


def test_what_stands_behind_a_visual_that_is_missing_is_looked_at_too() -> None:
    with pytest.raises(ValueError, match="box_bytes of event 'a'"):
        require_valid([replace(EVENT, roi_bytes=None, box_bytes=-1)])


def test_times_may_be_negative_and_no_more() -> None:
    require_valid([replace(EVENT, captured_at=-1.0, priority=0, json_bytes=0, code_bytes=0)])
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        require_valid([replace(EVENT, captured_at=math.nan)])
    assert str(refused.value) == "captured_at of event 'a' must be finite, got nan"
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        Limits.of(1.0, 1.0, 1.0, math.inf)
    assert str(refused.value) == "now must be finite, got inf"
