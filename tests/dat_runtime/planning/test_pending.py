"""Until when a visual has to be through: the test of line 20 decides, whatever the rounding."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.planning.pending import EXACT, Limits

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
