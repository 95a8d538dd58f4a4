import math
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dat_runtime.planning.algorithm1 import scalar_plan, vectorised_plan
from dat_runtime.planning.ontime import INSERTION_UP_TO
from dat_runtime.planning.pending import Limits
from dat_runtime.schedule import PendingEvent, Transmission, plan


def event(name="a", priority=0.5, json=100, roi=None, box=None, at=0.0, json_sent=False):
    return PendingEvent(name, priority, json, roi, box, at, json_sent)


def sent(planned):
    return [(unit.event_id, unit.kind) for unit in planned]


def visuals(planned):
    return [(unit.event_id, unit.kind) for unit in planned if unit.kind != "json"]


def on_time_weight(events, planned):
    priority = {e.id: e.priority for e in events}
    return math.fsum(priority[unit.event_id] for unit in planned if unit.kind != "json")


def literal_algorithm_1(events, bandwidth, interval, visual_deadline, now):
    """Algorithm 1 as the paper prints it, on the indices, with t = (sum of sizes) / B."""
    if bandwidth == 0:
        return []
    capacity, used, order = bandwidth * interval, 0, []
    phi = [e.priority / e.json_bytes if e.json_bytes else math.inf for e in events]
    chosen = {i for i, e in enumerate(events) if e.json_sent}
    for i in sorted(range(len(events)), key=lambda i: -phi[i]):
        if i not in chosen and used + events[i].json_bytes <= capacity:
            used += events[i].json_bytes
            order.append((events[i].id, "json", events[i].json_bytes, used / bandwidth))
            chosen.add(i)
    candidates = []
    for i in sorted(chosen):
        e = events[i]
        units = [(c, k) for k, c in (("roi", e.roi_bytes), ("box", e.box_bytes)) if c is not None]
        if units:
            c, k = min(units, key=lambda unit: unit[0])
            candidates.append((e.priority / c if c else math.inf, i, k, c))
    for _, i, k, c in sorted(candidates, key=lambda candidate: -candidate[0]):
        age = 0.0 if now is None else now - events[i].captured_at
        done = (used + c) / bandwidth
        if used + c <= capacity and age + done <= visual_deadline:
            used += c
            order.append((events[i].id, k, c, done))
    return order


sizes = st.one_of(st.integers(0, 12), st.integers(0, 60_000))
events_strategy = st.builds(
    event,
    name=st.just(""),
    priority=st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1)),
    json=st.one_of(st.integers(0, 6), st.integers(300, 600)),
    roi=st.none() | sizes,
    box=st.none() | sizes,
    at=st.floats(-2.0, 0.0),
    json_sent=st.booleans(),
)


@st.composite
def instances(draw, most=70):
    """Events with distinct ids, a bandwidth that is scarce or ample, and a clock or none."""
    drawn = draw(st.lists(events_strategy, max_size=most))
    events = [replace(e, id=f"e{i}") for i, e in enumerate(drawn)]
    bandwidth = draw(st.sampled_from([1, 7.5, 40, 1_000, 47_500, 475_000.0, 1e7]))
    interval = draw(st.sampled_from([0.25, 1.0, 2.0]))
    deadline = draw(st.sampled_from([0.0, 0.5, 1.5, 10.0]))
    now = draw(st.none() | st.floats(0.0, 2.0))
    return events, bandwidth, interval, deadline, now


@given(instances())
def test_dat_is_algorithm_1_to_the_letter(instance):
    assert [tuple(unit) for unit in plan(*instance)] == literal_algorithm_1(*instance)


@given(instances())
def test_the_vectorised_planner_selects_what_the_scalar_one_selects(instance):
    events, bandwidth, interval, deadline, now = instance
    limits = Limits(bandwidth, bandwidth * interval, deadline, now)
    assert vectorised_plan(events, limits) == scalar_plan(events, limits)


def test_both_planners_agree_where_every_round_rejects_one_unit():
    names = range(400)
    events = [event(f"e{i}", priority=1.0, json=1, box=i % 2 * (900 - i) + 1) for i in names]
    limits = Limits(1_400, 1_400, 1.5, None)
    assert vectorised_plan(events, limits) == scalar_plan(events, limits)


def test_sizes_too_large_to_add_exactly_in_floats_are_added_exactly():
    events = [event(f"e{i}", json=2**52 + 1) for i in range(60)]
    planned = plan(events, 2.0**58)
    assert len(planned) == 60
    assert planned[-1].done_at == 60 * (2**52 + 1) / 2.0**58


def test_alerts_and_visuals_that_are_too_large_together_are_added_exactly_too():
    events = [event(f"e{i}", json=2**46 + 1, box=2**46 + 1) for i in range(70)]
    totals = [unit.done_at * 2.0**58 for unit in plan(events, 2.0**58)]
    assert totals == [float(i * (2**46 + 1)) for i in range(1, 141)]


def test_whole_bytes_stay_whole_and_parts_of_them_parts_in_plans_of_many_too():
    for size, kind in ((3, int), (3.0, int), (2.5, float)):
        for now in (None, 0.0):
            planned = plan([event(f"e{i}", json=size) for i in range(60)], 1e6, now=now)
            assert {(unit.size, type(unit.size)) for unit in planned} == {(size, kind)}
    mixed = plan([event(f"e{i}", 1.0, json=2 + i / 2) for i in range(60)], 1e6)
    assert [unit.size for unit in mixed] == [2 + i / 2 for i in range(60)]


def test_a_code_among_many_events_is_sent():
    events = [event(f"e{i}", json=10) for i in range(60)]
    events[7] = replace(events[7], code_bytes=30)
    assert sent(plan(events, 1e6))[60:] == [("e7", "code")]


@pytest.mark.parametrize("policy", ["dat", "dat_plus"])
@settings(max_examples=40)
@given(instance=instances(most=15))
def test_budget_and_equation_9_hold_and_alerts_precede_visuals(policy, instance):
    events, bandwidth, interval, _deadline, _now = instance
    planned = plan(*instance, policy=policy)
    assert sum(unit.size for unit in planned) <= bandwidth * interval
    kinds = [unit.kind for unit in planned]
    alerts = kinds.count("json")
    assert "json" not in kinds[alerts:]
    with_json = {u.event_id for u in planned[:alerts]} | {e.id for e in events if e.json_sent}
    shown = [unit.event_id for unit in planned[alerts:]]
    assert set(shown) <= with_json
    assert len(set(shown)) == len(shown)


@pytest.mark.parametrize("policy", ["dat", "dat_plus", "dat_live"])
@settings(max_examples=40)
@given(instance=instances(most=15))
def test_done_at_is_the_sum_of_sizes_over_the_bandwidth(policy, instance):
    _, bandwidth, *_ = instance
    total = 0
    for unit in plan(*instance, policy=policy):
        total += unit.size
        assert unit.done_at == total / bandwidth


@pytest.mark.parametrize("policy", ["dat", "dat_plus"])
@settings(max_examples=40)
@given(instance=instances(most=15))
def test_every_planned_visual_is_in_time(policy, instance):
    events, *_, deadline, now = instance
    captured = {e.id: e.captured_at for e in events}
    for unit in plan(*instance, policy=policy):
        if unit.kind != "json":
            age = 0.0 if now is None else now - captured[unit.event_id]
            assert age + unit.done_at <= deadline


@pytest.mark.parametrize("policy", ["dat", "dat_plus", "dat_live"])
@settings(max_examples=40)
@given(instance=instances(most=12), factor=st.sampled_from([0.5, 2, 8, 1024]))
def test_the_plan_does_not_change_when_sizes_and_bandwidth_are_scaled_together(
    policy, instance, factor
):
    events, bandwidth, *rest = instance
    # Below that, priority per byte underflows and scores are no longer scaled alike.
    assume(all(e.priority == 0 or e.priority > 1e-300 for e in events))

    def scaled(size):
        return None if size is None else size * 2 * factor

    doubled = [
        replace(
            e,
            json_bytes=e.json_bytes * 2 * factor,
            roi_bytes=scaled(e.roi_bytes),
            box_bytes=scaled(e.box_bytes),
        )
        for e in events
    ]
    ours = plan(events, bandwidth, *rest, policy=policy)
    theirs = plan(doubled, bandwidth * 2 * factor, *rest, policy=policy)
    assert [(u.event_id, u.kind, u.done_at) for u in ours] == [
        (u.event_id, u.kind, u.done_at) for u in theirs
    ]


# Of a subnormal priority nothing is left when it is divided by bytes: it counts as none.
PRIORITIES = st.floats(0, 1, allow_subnormal=False)


@given(st.lists(st.tuples(PRIORITIES, st.integers(1, 900)), min_size=1, max_size=6))
def test_when_all_json_fits_its_order_is_the_optimum(drawn):
    def alarm(units):
        total, weighted = 0, 0.0
        for priority, size in units:
            total += size
            weighted += priority * total
        return weighted

    events = [event(f"{i}", priority, size) for i, (priority, size) in enumerate(drawn)]
    order = [drawn[int(unit.event_id)] for unit in plan(events, 1e6)]
    assert len(order) == len(drawn)
    assert alarm(order) <= min(map(alarm, permutations(drawn))) * (1 + 1e-12)


@given(instances(most=45))
@settings(max_examples=40)
def test_dat_plus_never_brings_less_priority_in_time_than_algorithm_1(instance):
    events = instance[0]
    ours = on_time_weight(events, plan(*instance, policy="dat_plus"))
    assert ours >= on_time_weight(events, plan(*instance))


@given(instances(most=15))
def test_dat_live_sends_everything_once_alerts_first(instance):
    events, *_ = instance
    planned = plan(*instance, policy="dat_live")
    kinds = [unit.kind for unit in planned]
    assert kinds.count("json") == sum(not e.json_sent for e in events)
    assert "json" not in kinds[kinds.count("json") :]
    shown = {unit.event_id for unit in planned if unit.kind != "json"}
    assert shown == {e.id for e in events if (e.roi_bytes, e.box_bytes) != (None, None)}


# Adversarial instances: a small visual of good score keeps a large one of great priority out.
TRAP = [event("great", 1.0, 0, box=950), event("small", 0.07, 0, box=60)]


def test_the_trap_costs_algorithm_1_most_of_the_priority_and_dat_plus_nothing():
    assert visuals(plan(TRAP, 1000)) == [("small", "box")]
    assert visuals(plan(TRAP, 1000, policy="dat_plus")) == [("great", "box")]


def test_among_thousands_that_are_late_dat_plus_still_brings_what_algorithm_1_brings():
    late = [event(f"late {i}", 1.0, 0, box=1, at=-100.0) for i in range(2000)]
    fitting = [
        event("a", 0.07, 0, box=60),
        event("b", 0.9, 0, box=950),
        event("c", 0.8, 0, box=940),
    ]
    planned = plan(late + fitting, 1000, now=0.0, policy="dat_plus")
    assert visuals(planned) == [("a", "box"), ("c", "box")]  # 1,000 of 1,000 bytes


def test_among_thousands_dat_live_sends_what_can_be_in_time_first():
    late = event("late", 1.0, box=1, at=-9.0, json_sent=True)
    others = [event(f"e{i}", box=1, json_sent=True) for i in range(INSERTION_UP_TO)]
    order = [unit.event_id for unit in plan([late, *others], 1e6, now=0.0, policy="dat_live")]
    assert order == [*(f"e{i}" for i in range(INSERTION_UP_TO)), "late"]


def test_dat_plus_sends_the_visual_that_would_expire_before_the_denser_one():
    young = event("young", 0.6, 0, box=500, at=1.0)
    old = event("old", 0.5, 0, box=500, at=0.0)
    assert visuals(plan([young, old], 1000, now=1.0)) == [("young", "box")]
    assert visuals(plan([young, old], 1000, now=1.0, policy="dat_plus")) == [
        ("old", "box"),
        ("young", "box"),
    ]


def test_a_visual_larger_than_a_slot_never_goes_however_short_the_slot():
    large = event(box=600, json_sent=True)
    assert sent(plan([large], 1000)) == [("a", "box")]
    assert plan([large], 1000, interval=0.5) == []
    assert sent(plan([large], 1000, interval=0.5, policy="dat_live")) == [("a", "box")]


@pytest.mark.parametrize("policy", ["dat", "dat_plus", "dat_live"])
class TestEdgeCases:
    def test_no_events_give_no_plan(self, policy):
        assert plan([], 1000, policy=policy) == []

    @pytest.mark.parametrize("count", [1, 60])
    def test_zero_bandwidth_gives_an_empty_plan(self, policy, count):
        events = [event(f"{i}", json=0, box=0) for i in range(count)]
        assert plan(events, 0, policy=policy) == []

    @pytest.mark.parametrize("count", [3, 60])
    def test_equal_scores_keep_the_input_order(self, policy, count):
        names = [f"e{i}" for i in range(count)]
        planned = plan([event(n, json=10, box=10) for n in names], 1e6, policy=policy)
        assert sent(planned) == [(n, "json") for n in names] + [(n, "box") for n in names]

    def test_ties_of_visuals_keep_the_input_order_not_that_of_the_alerts(self, policy):
        first, second = event("first", json=200, box=10), event("second", json=100, box=10)
        planned = plan([first, second], 1e6, policy=policy)
        assert [u.event_id for u in planned] == ["second", "first", "first", "second"]

    @pytest.mark.parametrize("count", [1, 60])
    def test_a_roi_goes_before_a_boxed_image_of_equal_size(self, policy, count):
        events = [event(f"{i}", roi=70, box=70) for i in range(count)]
        assert {kind for _, kind in visuals(plan(events, 1e6, policy=policy))} == {"roi"}

    def test_the_smaller_visual_goes(self, policy):
        assert visuals(plan([event(roi=71, box=70)], 1e6, policy=policy)) == [("a", "box")]

    @pytest.mark.parametrize("count", [1, 60])
    def test_an_event_without_roi_and_box_sends_its_json_only(self, policy, count):
        events = [event(f"{i}") for i in range(count)]
        planned = plan(events, 1e6, policy=policy)
        assert sent(planned) == [(f"{i}", "json") for i in range(count)]

    @pytest.mark.parametrize("count", [1, 60])
    def test_an_event_whose_json_was_sent_sends_its_visual_only(self, policy, count):
        events = [event(f"{i}", roi=5, json_sent=True) for i in range(count)]
        planned = plan(events, 1e6, policy=policy)
        assert sent(planned) == [(f"{i}", "roi") for i in range(count)]

    def test_units_of_no_bytes_come_first_and_take_no_time(self, policy):
        planned = plan([event("x", json=10), event("free", 0.0, json=0)], 100, policy=policy)
        assert planned[0] == Transmission("free", "json", 0, 0.0)

    @pytest.mark.parametrize("field", ["priority", "json_bytes", "roi_bytes", "box_bytes"])
    @pytest.mark.parametrize("value", [-1, math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("count", [1, 60])
    def test_a_negative_or_non_finite_field_is_named(self, policy, field, value, count):
        events = [event(f"{i}", roi=3, box=4) for i in range(count)]
        events[-1] = replace(events[-1], **{field: value})
        for bandwidth in (0, 1000):
            with pytest.raises(ValueError, match=f"{field} of event '{count - 1}'"):
                plan(events, bandwidth, policy=policy)

    @pytest.mark.parametrize("count", [1, 60])
    def test_a_capture_time_may_be_negative_but_not_unknown(self, policy, count):
        events = [event(f"{i}", at=-5.0) for i in range(count)]
        assert len(plan(events, 1e6, now=0.0, policy=policy)) == count
        events[0] = replace(events[0], captured_at=math.nan)
        for now in (None, 0.0):
            with pytest.raises(ValueError, match="captured_at"):
                plan(events, 1e6, now=now, policy=policy)

    @pytest.mark.parametrize("name", ["bandwidth", "interval", "visual_deadline"])
    @pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
    def test_a_bad_argument_is_named(self, policy, name, value):
        arguments = {"bandwidth": 1000.0, name: value}
        with pytest.raises(ValueError, match=name):
            plan([event()], policy=policy, **arguments)

    def test_a_clock_without_a_number_is_named(self, policy):
        with pytest.raises(ValueError, match="now"):
            plan([event()], 1000, now=math.nan, policy=policy)


def test_an_unknown_policy_is_refused_by_name():
    words = "^policy must be one of dat, dat_live, dat_plus, got 'greedy'$"
    with pytest.raises(ValueError, match=words):
        plan([], 1, policy="greedy")


def test_a_unit_that_fills_the_budget_exactly_goes_and_one_byte_more_does_not():
    assert sent(plan([event(json=1000)], 1000)) == [("a", "json")]
    assert plan([event(json=1001)], 1000) == []


def test_a_unit_that_does_not_fit_is_skipped_and_a_smaller_one_goes():
    events = [event("large", 1.0, json=900), event("larger", 0.99, json=950), event("s", 0.01, 90)]
    assert sent(plan(events, 1000)) == [("large", "json"), ("s", "json")]


def test_a_visual_exactly_at_its_deadline_goes_and_one_byte_later_does_not():
    late = event(json=100, box=650, at=0.25)
    assert visuals(plan([late], 1000, now=1.0)) == [("a", "box")]  # 0.75 + 0.75 = 1.5
    assert visuals(plan([replace(late, box_bytes=651)], 1000, now=1.0)) == []
    assert visuals(plan([replace(late, box_bytes=651)], 1000)) == [("a", "box")]


@pytest.mark.parametrize("planner", [scalar_plan, vectorised_plan])
def test_at_the_very_capacity_and_deadline_both_planners_take_a_unit_and_no_byte_more(planner):
    limits = Limits(1000, 1000, 1.5, 1.0)
    full = event("full", json=400, box=600, at=0.5)  # sent 1,000 of 1,000 bytes; 0.5 + 1.0 = 1.5
    assert sent(planner([full], limits)) == [("full", "json"), ("full", "box")]
    assert visuals(planner([replace(full, box_bytes=601)], limits)) == []
    assert visuals(planner([replace(full, captured_at=0.49)], limits)) == []
    assert visuals(planner([replace(full, captured_at=0.49, box_bytes=590)], limits))
    assert planner([event(json=1000)], limits)
    assert not planner([event(json=1001)], limits)


@pytest.mark.parametrize("planner", [scalar_plan, vectorised_plan])
@pytest.mark.parametrize(("now", "last", "taken"), [(None, 100, 1), (None, 101, 0), (1.0, 100, 1)])
def test_the_last_of_many_rounds_fills_the_capacity_to_the_byte(planner, now, last, taken):
    # In order of score; each large one fits alone and not after its small one: a round of its own.
    sizes = []
    for i in range(12):
        sizes += [75, 1000 - 75 * i]
    sizes.append(last)
    scored = [(100 - place) * size for place, size in enumerate(sizes)]
    events = [event(f"e{i}", scored[i], json=size) for i, size in enumerate(sizes)]
    planned = planner(events, Limits(1000, 1000, 1.5, now))
    assert sum(unit.event_id == "e24" for unit in planned) == taken
    assert len(planned) == 12 + taken


@pytest.mark.parametrize("planner", [scalar_plan, vectorised_plan])
@pytest.mark.parametrize(("now", "last", "taken"), [(None, 100, 1), (None, 101, 0), (1.0, 100, 1)])
def test_the_last_of_many_rounds_is_in_time_to_the_byte(planner, now, last, taken):
    # As above with visuals, where the deadline is what ends each round: 1,000 bytes are in time.
    sizes = [size for i in range(12) for size in (75, 1000 - 75 * i)] + [last]
    scored = [(100 - place) * size for place, size in enumerate(sizes)]
    events = [
        event(f"e{i}", scored[i], box=size, at=0.5, json_sent=True) for i, size in enumerate(sizes)
    ]
    planned = planner(events, Limits(1000, 10_000, 1.0 if now is None else 1.5, now))
    assert sum(unit.event_id == "e24" for unit in planned) == taken
    assert len(planned) == 12 + taken


def test_the_time_is_one_quotient_and_not_a_sum_of_quotients():
    events = [event(f"{i}", json=1) for i in range(10)]
    assert plan(events, 10.0, interval=1.0)[2].done_at == 3 / 10.0 != 0.1 + 0.1 + 0.1


@pytest.mark.parametrize("policy", ["dat", "dat_plus", "dat_live"])
@pytest.mark.parametrize("count", [1, 200])
@pytest.mark.parametrize("bad", [10**400, 10**5000, "12", b"1", (), math.nan], ids=range(6))
@pytest.mark.parametrize(
    "field", ["priority", "json_bytes", "roi_bytes", "box_bytes", "captured_at"]
)
def test_what_is_no_number_of_bytes_or_seconds_is_refused_by_name(field, bad, count, policy):
    events = [event(str(i), roi=5, box=9) for i in range(count)]
    events[-1] = replace(events[-1], **{field: bad})
    with pytest.raises(ValueError, match=f"{field} of event '{count - 1}' must be finite"):
        plan(events, 1000.0, policy=policy)


@pytest.mark.parametrize("count", [1, 200])
@pytest.mark.parametrize("field", ["priority", "json_bytes", "captured_at"])
def test_only_a_visual_may_be_missing(field, count):
    events = [replace(event(str(i)), **{field: None}) for i in range(count)]
    with pytest.raises(ValueError, match=f"{field} of event '0' must be finite"):
        plan(events, 1000.0)


@pytest.mark.parametrize("bad", [10**400, None, "12"])
@pytest.mark.parametrize("name", ["bandwidth", "interval", "visual_deadline", "now"])
def test_limits_that_are_no_numbers_are_refused_by_name(name, bad):
    if (name, bad) == ("now", None):
        return
    with pytest.raises(ValueError, match=f"{name} must be finite"):
        plan([event()], **{"bandwidth": 1.0, name: bad})
