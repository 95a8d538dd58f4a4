import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.uplink.link import Link

rates = st.lists(st.sampled_from([0.0, 1.0, 10.0, 1000.0]), min_size=1, max_size=6).filter(any)


@given(rates, st.floats(0, 30), st.floats(0.5, 5000))
def test_the_link_carries_a_units_bytes_between_its_start_and_its_finish(trace, start, size):
    link = Link(trace)
    done = link.finish(start, size)
    assert done >= start
    assert math.isclose(link.carried(done) - link.carried(start), size, rel_tol=1e-6, abs_tol=1e-6)


@given(rates, st.floats(0, 30), st.floats(0.5, 5000))
def test_a_unit_is_finished_at_the_first_moment_it_can_be(trace, start, size):
    link = Link(trace)
    done = link.finish(start, size)
    assert link.carried(done - 1e-3) - link.carried(start) < size


def test_a_unit_waits_through_seconds_without_bandwidth():
    assert Link([100, 0, 0, 100]).finish(0.5, 100) == 3.5


def test_a_link_that_never_delivers_is_refused():
    with pytest.raises(ValueError, match="never delivers"):
        Link([0, 0])
