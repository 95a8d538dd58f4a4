import math
import random
import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.planning import ontime
from dat_runtime.planning.ontime import Jobs

visual = st.tuples(st.floats(0, 1), st.integers(0, 40), st.integers(-5, 120))


def meets_deadlines(order, jobs):
    total = jobs.sent
    for i in order:
        total += jobs.sizes[i]
        if total > jobs.due[i]:
            return False
    return True


def weight(jobs, chosen):
    return math.fsum(jobs.weights[i] for i in chosen)


def best_by_enumeration(jobs):
    return max(
        weight(jobs, chosen)
        for count in range(len(jobs) + 1)
        for chosen in combinations(range(len(jobs)), count)
        if meets_deadlines(sorted(chosen, key=lambda i: jobs.due[i]), jobs)
    )


def jobs_of(visuals, sent):
    weights, sizes, due = zip(*visuals, strict=True) if visuals else ((), (), ())
    return Jobs(weights, sizes, due, sent)


@given(st.lists(visual, max_size=8), st.integers(0, 30))
@settings(max_examples=80)
def test_the_best_selection_is_the_optimum(visuals, sent):
    jobs = jobs_of(visuals, sent)
    chosen = ontime.best_selection(jobs, [])
    assert meets_deadlines(jobs.by_due(chosen), jobs)
    assert math.isclose(weight(jobs, chosen), best_by_enumeration(jobs), rel_tol=1e-9)


@pytest.mark.parametrize("select", [ontime.insertion, ontime.moore_hodgson])
@given(visuals=st.lists(visual, max_size=25), sent=st.integers(0, 30))
def test_each_rule_takes_a_selection_that_meets_its_deadlines(select, visuals, sent):
    jobs = jobs_of(visuals, sent)
    chosen = select(jobs)
    assert len(set(chosen)) == len(chosen)
    assert meets_deadlines(jobs.by_due(chosen), jobs)


@given(st.lists(visual, max_size=25), st.integers(0, 30))
def test_the_sending_order_meets_the_deadlines_of_all_that_were_chosen(visuals, sent):
    jobs = jobs_of(visuals, sent)
    chosen = ontime.moore_hodgson(jobs)
    order = ontime.sending_order(jobs, chosen)
    assert sorted(order) == sorted(chosen)
    assert meets_deadlines(order, jobs)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 40)), max_size=12))
def test_without_pressing_deadlines_the_order_is_by_weight_per_byte(visuals):
    jobs = jobs_of([(weight, size, 10_000) for weight, size in visuals], sent=0)
    assert ontime.sending_order(jobs, range(len(jobs))) == jobs.by_density()


def test_a_search_with_too_many_states_falls_back_to_the_rules():
    draw = random.Random(0)
    sizes = [draw.randint(100_000, 1_000_000) for _ in range(40)]
    weights = [size / 1e6 for size in sizes]  # every subset is worth what it costs
    due = [sum(sizes) // 2 + 1] * 40
    jobs = Jobs(weights, sizes, due, sent=0)
    assert ontime.pareto(jobs) is None
    greedy = ontime.insertion(jobs)
    chosen = ontime.best_selection(jobs, greedy)
    assert weight(jobs, chosen) >= weight(jobs, greedy)


def test_forty_hard_visuals_take_less_time_than_one_sort_of_the_most_states():
    weights = [1.0 + (i * 7919 % 97) / 97 for i in range(40)]
    sizes = [1_000 + (i * 104_729 % 9_973) for i in range(40)]
    due = [sum(sizes) // 2] * 40
    jobs = Jobs(weights, sizes, due, sent=0)
    start = time.process_time()
    ontime.best_selection(jobs, [])
    solving = time.process_time() - start

    states = np.random.default_rng(0).random((2, ontime.MOST_STATES))
    start = time.process_time()
    np.lexsort(states)
    sorting = time.process_time() - start
    assert solving < sorting


RULES = [ontime.insertion, ontime.moore_hodgson, ontime.pareto]


@pytest.mark.parametrize("select", RULES)
def test_a_visual_that_is_through_at_its_very_deadline_is_in_time_and_no_byte_later(select):
    assert select(Jobs([1.0], [10], [15], sent=5)) == [0]
    assert not select(Jobs([1.0], [10], [14], sent=5))
    # The second goes first, is through at 5, and the first then at 15.
    assert sorted(select(Jobs([9.0, 1.0], [10, 5], [15, 5], sent=0))) == [0, 1]
    assert select(Jobs([9.0, 1.0], [10, 5], [14, 5], sent=0)) == [0]
    assert select(Jobs([9.0, 1.0], [10, 5], [15, 4], sent=0)) == [0]


@pytest.mark.parametrize("select", RULES[:2])
def test_of_equal_deadlines_the_heavier_visuals_per_byte_are_taken(select):
    jobs = Jobs([1.0, 4.0, 3.0], [10, 10, 10], [20, 20, 20], sent=0)
    assert sorted(select(jobs)) == [1, 2]


def test_of_equal_densities_insertion_takes_the_first_and_moore_hodgson_gives_up_the_largest():
    jobs = Jobs([2.0, 1.0], [20, 10], [20, 20], sent=0)
    assert ontime.insertion(jobs) == [0]
    assert ontime.moore_hodgson(jobs) == [1]
    assert ontime.insertion(jobs, start=[1]) == [1]


def test_insertion_adds_to_its_start_what_still_fits_in_order_of_deadline():
    jobs = Jobs([1.0, 1.0, 1.0, 0.05], [10, 10, 10, 1], [30, 20, 10, 30], sent=0)
    assert ontime.insertion(jobs, start=[0, 2]) == [2, 1, 0]
    assert ontime.insertion(Jobs([], [], [], sent=0)) == []


def test_a_visual_of_no_bytes_is_the_densest_and_always_fits():
    jobs = Jobs([5.0, 0.0], [10, 0], [10, 0], sent=0)
    assert jobs.by_density() == [1, 0]
    assert ontime.insertion(jobs) == [1, 0]


def test_the_exact_search_beats_its_incumbent_or_gives_none():
    jobs = Jobs([1.0, 0.07], [950, 60], [1000, 1000], sent=0)
    assert ontime.pareto(jobs, [1]) == [0]
    assert ontime.pareto(jobs, [0]) is None
    assert ontime.pareto(jobs) == [0]


@pytest.mark.parametrize(("count", "best"), [(40, [0]), (41, [1])])
def test_up_to_forty_visuals_the_best_selection_is_searched_exactly(count, best):
    hopeless = count - 2
    jobs = Jobs(
        [1.0, 0.07] + [1.0] * hopeless,
        [950, 60] + [1] * hopeless,
        [1000, 1000] + [-1] * hopeless,
        sent=0,
    )
    assert ontime.best_selection(jobs, [1]) == best


def test_beyond_forty_the_heaviest_of_greedy_insertion_and_moore_hodgson_is_taken():
    hopeless = 40
    jobs = Jobs([1.0, 0.07] + [1.0] * hopeless, [950, 60] + [1] * hopeless,
                [1000, 1000] + [-1] * hopeless, sent=0)  # fmt: skip
    assert ontime.best_selection(jobs, [0]) == [0]
    assert ontime.best_selection(jobs, []) == [1]
    small = Jobs([1.0, 1.0], [1, 1], [2, 2], sent=0)
    assert ontime.best_selection(small, [1, 0]) == [1, 0]  # all of them: as it was given


@pytest.mark.parametrize(("count", "taken"), [(2000, [0, 1]), (2001, [1])])
def test_of_more_than_two_thousand_visuals_insertion_adds_nothing(count, taken):
    hopeless = count - 2
    jobs = Jobs([1.0] * count, [1] * count, [1, 2] + [-1] * hopeless, sent=0)
    assert ontime.insertion(jobs, start=[1]) == taken


def test_the_last_to_go_is_the_least_dense_that_may_be_last():
    assert ontime.sending_order(Jobs([1.0, 2.0], [10, 10], [25, 25], sent=5), [0, 1]) == [1, 0]
    assert ontime.sending_order(Jobs([1.0, 2.0], [10, 10], [24, 25], sent=5), [0, 1]) == [0, 1]
    assert ontime.sending_order(Jobs([2.0, 1.0], [10, 10], [25, 15], sent=5), [0, 1]) == [1, 0]
    assert ontime.sending_order(Jobs([1.0, 1.0], [10, 10], [25, 25], sent=5), [1, 0]) == [0, 1]


def test_states_that_another_dominates_are_dropped_or_twenty_visuals_alike_would_be_a_million():
    jobs = Jobs([1.0] * 20, [1] * 20, [10] * 20, sent=0)
    assert len(ontime.pareto(jobs)) == 10


def test_what_is_heavier_by_less_than_a_billionth_is_found_all_the_same():
    jobs = Jobs([1.0, 0.5, 0.5 + 4e-13], [10, 5, 5], [10, 10, 10], sent=0)
    assert sorted(ontime.pareto(jobs, [0])) == [1, 2]


@pytest.mark.parametrize("greedy", [[0], [1]])
def test_what_algorithm_1_chose_stands_where_nothing_is_heavier(greedy):
    assert ontime.best_selection(Jobs([1.0, 1.0], [10, 10], [10, 10], sent=0), greedy) == greedy


def test_insertion_goes_on_after_a_visual_that_cannot_be_in_time():
    assert ontime.insertion(Jobs([9.0, 1.0], [10, 5], [5, 20], sent=0)) == [1]
