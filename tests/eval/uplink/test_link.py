import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.uplink.link import Bottleneck, Link, LinkSettings

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


def bottleneck(rates, **settings):
    return Bottleneck(LinkSettings(rates, **settings))


def test_packets_leave_one_after_the_other_at_the_rate():
    link = bottleneck([1_000.0], round_trip=0.2)
    assert [link.arrival(0.0, 100) for _ in range(3)] == pytest.approx([0.2, 0.3, 0.4])


def test_a_full_buffer_drops_and_one_just_full_does_not():
    link = bottleneck([1_000.0], buffer=200)
    assert [link.arrival(0.0, 100) is None for _ in range(3)] == [False, False, True]
    assert link.arrival(0.1, 100) is not None  # the first has left


def test_a_lost_packet_has_used_the_link():
    link = bottleneck([1_000.0], loss=1.0)
    assert link.arrival(0.0, 100) is None
    assert bottleneck([1_000.0]).arrival(0.0, 100) == pytest.approx(0.1)
    assert link._free_at == pytest.approx(0.1)


def test_losses_are_as_many_as_stated_and_the_same_again():
    def lost(seed):
        link = bottleneck([1e9], buffer=10**9, loss=0.02, seed=seed)
        return [link.arrival(float(i), 100) is None for i in range(10_000)]

    assert 150 < sum(lost(1)) < 250
    assert lost(1) == lost(1) != lost(2)
