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
