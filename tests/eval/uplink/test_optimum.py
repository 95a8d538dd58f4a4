import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.planning.live import Bandwidth, LiveQueue
from eval.uplink.arrivals import Event
from eval.uplink.link import Link
from eval.uplink.optimum import (
    best_by_enumeration,
    best_by_milp,
    least_mean_delay,
    least_weighted_alarm,
    priority_bound,
    vtr_bound,
    weighted_alarm,
)
from eval.uplink.sending import run_live

visual = st.tuples(st.floats(0.01, 1), st.integers(1, 40), st.integers(1, 100))


@given(st.lists(visual, min_size=1, max_size=8), st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_the_two_references_agree(visuals, sent):
    weights, sizes, due = zip(*visuals, strict=True)
    assert math.isclose(
        best_by_milp(weights, sizes, due, sent),
        best_by_enumeration(weights, sizes, due, sent),
        abs_tol=1e-9,
    )


def test_the_program_knows_the_trap_of_algorithm_1():
    assert best_by_milp([1.0, 0.07], [950, 60], [1000, 1000]) == 1.0


def test_smiths_rule_is_the_least_weighted_alarm():
    assert least_weighted_alarm([1.0, 0.1], [10, 1]) == weighted_alarm([(1.0, 10), (0.1, 1)])


def events(*drawn):
    return [Event(f"e{i}", at, at, 0.5, 1, size, size, None) for i, (at, size) in enumerate(drawn)]


def test_the_bound_is_met_where_everything_fits_and_counts_what_cannot():
    link = Link([100.0])
    assert vtr_bound(events((0, 20), (0, 20)), link, 0.5) == 100.0
    assert vtr_bound(events((0, 40), (0, 40)), link, 0.5) == 50.0
    assert vtr_bound(events((0, 40), (0.1, 10), (9, 51)), link, 0.5) == pytest.approx(200 / 3)


def test_the_least_delay_lets_a_short_visual_overtake_a_long_one():
    link = Link([100.0])
    assert least_mean_delay(events((0, 100), (0.5, 10)), link) == pytest.approx((1.1 + 0.1) / 2)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 90)), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_no_run_beats_the_clairvoyant_bounds(drawn):
    link, queued = Link([100.0]), events(*sorted(drawn))
    found = run_live(queued, link, LiveQueue(Bandwidth(100.0)))
    delays = [d.visual_at - d.event.captured_at for d in found]
    on_time = 100 * sum(delay <= 0.5 for delay in delays) / len(delays)
    assert on_time <= vtr_bound(queued, link, 0.5) + 1e-9
    assert sum(delays) / len(delays) >= least_mean_delay(queued, link) - 1e-9


def test_the_bound_of_priority_shows_the_weightier_of_two():
    link = Link([100.0])
    light, heavy = events((0, 30), (0, 40))
    both = [light, replace(heavy, priority=0.75)]
    assert priority_bound(both, link, 0.5) == pytest.approx(60.0)  # 0.75 of 1.25
    assert vtr_bound(both, link, 0.5) == 50.0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 90)), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_where_priorities_are_equal_both_bounds_are(drawn):
    link, queued = Link([100.0]), events(*sorted(drawn))
    assert priority_bound(queued, link, 0.5) == pytest.approx(vtr_bound(queued, link, 0.5))


def test_no_online_order_reaches_the_bound_on_two_links_that_look_alike_until_it_matters():
    """Until 9 s the links are the same; the first needs all bytes from 6 s on for the second
    visual, the other needs every one of them for the first visual and loses neither."""
    first, second = events((0, 1000), (6, 300))
    ends, goes_on = Link([100.0] * 9 + [0.0] * 91), Link([100.0] * 100)
    within = 10
    bounds = [vtr_bound([first, second], link, within) for link in (ends, goes_on)]
    assert bounds == [50.0, 100.0]
    for to_second in range(0, 301):  # of the 300 bytes between 6 and 9 s, in any mixture
        left_of_first = 1000 - 600 - (300 - to_second)
        left_of_second = 300 - to_second
        where_it_ends = int(left_of_first == 0) + int(left_of_second == 0)
        in_time_first = 9 + left_of_first / 100 <= 0 + within
        both_by = 9 + (left_of_first + left_of_second) / 100
        where_it_goes_on = int(in_time_first) + int(both_by <= 6 + within)
        assert where_it_ends + where_it_goes_on < 1 + 2
