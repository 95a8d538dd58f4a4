import math
import random
import time
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.planning import ontime

visual = st.tuples(st.floats(0, 1), st.integers(0, 40), st.integers(-5, 120))


def meets_deadlines(order, sizes, due, sent):
    total = sent
    for i in order:
        total += sizes[i]
        if total > due[i]:
            return False
    return True


def weight(weights, chosen):
    return math.fsum(weights[i] for i in chosen)


def by_due(chosen, due):
    return sorted(chosen, key=lambda i: due[i])


def best_by_enumeration(weights, sizes, due, sent):
    return max(
        weight(weights, chosen)
        for count in range(len(sizes) + 1)
        for chosen in combinations(range(len(sizes)), count)
        if meets_deadlines(by_due(chosen, due), sizes, due, sent)
    )


def unpacked(visuals):
    return [list(column) for column in zip(*visuals, strict=True)] if visuals else [[], [], []]


@given(st.lists(visual, max_size=8), st.integers(0, 30))
@settings(max_examples=80)
def test_the_best_selection_is_the_optimum(visuals, sent):
    weights, sizes, due = unpacked(visuals)
    chosen = ontime.best_selection(weights, sizes, due, sent, [])
    assert meets_deadlines(by_due(chosen, due), sizes, due, sent)
    best = best_by_enumeration(weights, sizes, due, sent)
    assert math.isclose(weight(weights, chosen), best, rel_tol=1e-9)


@pytest.mark.parametrize("select", [ontime.insertion, ontime.moore_hodgson])
@given(visuals=st.lists(visual, max_size=25), sent=st.integers(0, 30))
def test_each_rule_takes_a_selection_that_meets_its_deadlines(select, visuals, sent):
    weights, sizes, due = unpacked(visuals)
    chosen = select(weights, sizes, due, sent)
    assert len(set(chosen)) == len(chosen)
    assert meets_deadlines(by_due(chosen, due), sizes, due, sent)


@given(st.lists(visual, max_size=25), st.integers(0, 30))
def test_the_sending_order_meets_the_deadlines_of_all_that_were_chosen(visuals, sent):
    weights, sizes, due = unpacked(visuals)
    chosen = ontime.moore_hodgson(weights, sizes, due, sent)
    order = ontime.sending_order(weights, sizes, due, sent, chosen)
    assert sorted(order) == sorted(chosen)
    assert meets_deadlines(order, sizes, due, sent)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 40)), max_size=12))
def test_without_pressing_deadlines_the_order_is_by_weight_per_byte(visuals):
    weights, sizes = (list(c) for c in zip(*visuals, strict=True)) if visuals else ([], [])
    due = [10_000] * len(sizes)
    order = ontime.sending_order(weights, sizes, due, 0, range(len(sizes)))
    assert order == ontime.by_density(weights, sizes)


def test_a_search_with_too_many_states_falls_back_to_the_rules():
    draw = random.Random(0)
    sizes = [draw.randint(100_000, 1_000_000) for _ in range(40)]
    weights = [size / 1e6 for size in sizes]  # every subset is worth what it costs
    due = [sum(sizes) // 2 + 1] * 40
    assert ontime.pareto(weights, sizes, due, 0) is None
    greedy = ontime.insertion(weights, sizes, due, 0)
    chosen = ontime.best_selection(weights, sizes, due, 0, greedy)
    assert weight(weights, chosen) >= weight(weights, greedy)


def test_forty_hard_visuals_are_solved_within_the_interval():
    weights = [1.0 + (i * 7919 % 97) / 97 for i in range(40)]
    sizes = [1_000 + (i * 104_729 % 9_973) for i in range(40)]
    due = [sum(sizes) // 2] * 40
    start = time.perf_counter()
    ontime.best_selection(weights, sizes, due, 0, [])
    assert time.perf_counter() - start < 5.0
