"""Codes of weak nodes among alerts and visuals (docs/decisions/028-offload-table.md)."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.planning.codes import bytes_before, codes_of, visuals_of
from dat_runtime.planning.live import Bandwidth, LiveQueue
from dat_runtime.planning.waiting_codes import LOOKED_AT, WaitingCodes
from dat_runtime.schedule import PendingEvent, Transmission, plan

POLICIES = ["dat", "dat_plus", "dat_live"]


def event(name="a", priority=0.5, json=100, roi=None, code=None, at=0.0, json_sent=False):
    return PendingEvent(name, priority, json, roi, None, at, json_sent, code)


def sent(planned):
    return [(unit.event_id, unit.kind) for unit in planned]


def literal(events, bandwidth, interval, deadline, now):
    """Algorithm 1 with codes, unit by unit, as the decision words it."""
    if not bandwidth:
        return []
    capacity, order = bandwidth * interval, []
    alerts_only = [replace(e, roi_bytes=None, code_bytes=None) for e in events]
    order += map(tuple, plan(alerts_only, bandwidth, interval, deadline, now))
    used = sum(unit[2] for unit in order)
    done = {unit[0] for unit in order} | {e.id for e in events if e.json_sent}

    def fits(e, size, is_code):
        age = 0.0 if now is None else now - e.captured_at
        in_time = is_code or age + (used + size) / bandwidth <= deadline
        return used + size <= capacity and in_time

    def denser(pair):
        (e, size) = pair
        return -(e.priority / size if size else math.inf)

    def send(e, kind, size):
        nonlocal used
        used += size
        order.append((e.id, kind, size, used / bandwidth))

    ready = [e for e in events if e.id in done]
    codes = [(e, e.code_bytes) for e in ready if e.code_bytes is not None]
    visuals = [(e, e.roi_bytes) for e in ready if e.roi_bytes is not None]
    visuals = sorted((v for v in visuals if fits(*v, False)), key=denser)
    for visual in [*visuals, None]:
        of_as_much = [c for c in codes if visual is None or c[0].priority >= visual[0].priority]
        for code in sorted(of_as_much, key=denser):
            codes.remove(code)
            if fits(*code, True):
                send(code[0], "code", code[1])
        if visual is not None and fits(*visual, False):
            send(visual[0], "roi", visual[1])
    return order


priorities = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0.01, 1)
sizes = st.none() | st.integers(0, 30) | st.integers(0, 40_000)
some_events = st.builds(
    event,
    name=st.just(""),
    priority=priorities,
    json=st.integers(0, 600),
    roi=sizes,
    code=sizes,
    at=st.floats(-2.0, 0.0),
    json_sent=st.booleans(),
)


@st.composite
def instances(draw, most=15):
    drawn = draw(st.lists(some_events, max_size=most))
    events = [replace(e, id=f"e{i}") for i, e in enumerate(drawn)]
    bandwidth = draw(st.sampled_from([0, 40, 1_000, 47_500, 475_000.0, 1e7]))
    interval = draw(st.sampled_from([0.25, 1.0, 2.0]))
    deadline = draw(st.sampled_from([0.0, 0.5, 1.5]))
    now = draw(st.none() | st.floats(0.0, 2.0))
    return events, bandwidth, interval, deadline, now


@given(instances(most=70))
def test_dat_sends_codes_as_the_decision_words_it(instance):
    assert [tuple(unit) for unit in plan(*instance)] == literal(*instance)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=60)
@given(instance=instances())
def test_a_code_goes_behind_all_alerts_and_before_visuals_that_matter_no_more(policy, instance):
    events, bandwidth, interval, deadline, now = instance
    priority = {e.id: e.priority for e in events}
    planned = plan(*instance, policy=policy)
    kinds = [unit.kind for unit in planned]
    assert "json" not in kinds[kinds.count("json") :]
    alerted = {u.event_id for u in planned if u.kind == "json"}
    alerted |= {e.id for e in events if e.json_sent}
    assert {unit.event_id for unit in planned} <= alerted
    for i, code in enumerate(planned):
        if code.kind == "code":
            before = [unit for unit in planned[:i] if unit.kind == "roi"]
            assert all(priority[v.event_id] > priority[code.event_id] for v in before)
    if policy != "dat_live":
        assert sum(unit.size for unit in planned) <= bandwidth * interval
        ages = {e.id: 0.0 if now is None else now - e.captured_at for e in events}
        visuals = [unit for unit in planned if unit.kind == "roi"]
        assert all(ages[v.event_id] + v.done_at <= deadline for v in visuals)


@given(instances(most=30))
@settings(max_examples=60)
def test_dat_plus_never_shows_less_priority_than_dat(instance):
    priority = {e.id: e.priority for e in instance[0]}

    def shown(policy):
        planned = plan(*instance, policy=policy)
        return math.fsum(priority[unit.event_id] for unit in planned if unit.kind == "roi")

    assert shown("dat_plus") >= shown("dat")


@given(instances())
def test_dat_live_sends_every_unit_once(instance):
    events, bandwidth, *_ = instance
    units = [(e.id, "json") for e in events if not e.json_sent]
    units += [(e.id, "code") for e in events if e.code_bytes is not None]
    units += [(e.id, "roi") for e in events if e.roi_bytes is not None]
    expected = sorted(units) if bandwidth else []
    assert sorted(sent(plan(*instance, policy="dat_live"))) == expected


@pytest.mark.parametrize("policy", POLICIES)
class TestOrder:
    def test_of_one_event(self, policy):
        one = event(roi=1_000, code=2_000)
        assert plan([one], 10_000, policy=policy) == [
            Transmission("a", "json", 100, 0.01),
            Transmission("a", "code", 2_000, 0.21),
            Transmission("a", "roi", 1_000, 0.31),
        ]

    def test_a_visual_that_matters_more_goes_before_the_code(self, policy):
        units = [
            event("low", 0.2, 0, code=1_000, json_sent=True),
            event("high", 0.9, 0, roi=5_000, json_sent=True),
        ]
        assert sent(plan(units, 10_000, policy=policy)) == [("high", "roi"), ("low", "code")]
        units[0] = replace(units[0], priority=0.9)
        assert sent(plan(units, 10_000, policy=policy)) == [("low", "code"), ("high", "roi")]

    def test_codes_go_by_priority_gained_per_byte(self, policy):
        units = [event("large", 0.9, code=3_000), event("small", 0.5, code=1_000)]
        codes = [unit for unit in plan(units, 10_000, policy=policy) if unit.kind == "code"]
        assert [unit.event_id for unit in codes] == ["small", "large"]

    def test_codes_of_equal_score_keep_the_input_order(self, policy):
        half = event("half", 0.4, 0, code=500, json_sent=True)
        whole = event("whole", 0.8, 0, code=1_000, json_sent=True)
        for units in ([half, whole], [whole, half]):
            planned = plan(units, 10_000, policy=policy)
            assert [unit.event_id for unit in planned] == [unit.id for unit in units]

    def test_a_code_is_never_too_late(self, policy):
        old = event(code=1_000, roi=1_000, at=-100.0, json_sent=True)
        planned = sent(plan([old], 10_000, now=0.0, policy=policy))
        assert planned[0] == ("a", "code")
        assert (("a", "roi") in planned) == (policy == "dat_live")  # late, but it goes

    @pytest.mark.parametrize("value", [-1, math.nan, math.inf])
    @pytest.mark.parametrize("count", [1, 60])
    def test_a_wrong_size_is_named(self, policy, value, count):
        events = [event(f"{i}", code=5) for i in range(count - 1)] + [event("last", code=value)]
        with pytest.raises(ValueError, match="code_bytes of event 'last' must be finite"):
            plan(events, 1_000, policy=policy)


def test_a_code_waits_for_its_alert():
    assert sent(plan([event(json=900, code=50)], 800)) == []
    assert sent(plan([event(json=700, code=50)], 800)) == [("a", "json"), ("a", "code")]


def test_a_code_that_does_not_fit_the_interval_lets_others_pass():
    units = [event("large", 0.9, 0, roi=100, code=1_001), event("small", 0.5, 0, code=900)]
    assert sent(plan(units, 1_000))[2:] == [("large", "roi"), ("small", "code")]
    units[0] = replace(units[0], code_bytes=1_000)
    assert sent(plan(units, 1_000))[2:] == [("large", "code")]


def test_a_visual_that_cannot_go_calls_no_code_before_others():
    """The late one is the densest, and matters less than both."""
    late = event("late", 0.1, 0, roi=1, at=-9.0, json_sent=True)
    code = event("code", 0.2, 0, code=1_000, json_sent=True)
    high = event("high", 0.9, 0, roi=5_000, json_sent=True)
    assert sent(plan([late, code, high], 10_000, now=0.0)) == [("high", "roi"), ("code", "code")]


def test_dat_plus_counts_the_codes_that_go_before_a_visual():
    """Behind its code the great visual would be late: the two others are shown instead."""
    great = event("great", 1.0, 0, roi=9_000, code=2_000, json_sent=True)
    others = [event(f"{i}", 0.4, 0, roi=3_000, json_sent=True) for i in range(2)]
    planned = plan([great, *others], 10_000, policy="dat_plus")
    assert sent(planned) == [("great", "code"), ("0", "roi"), ("1", "roi")]


def test_dat_plus_selects_for_the_room_that_codes_leave():
    """Of 10,000 bytes 2,000 are the code's: 8,000 hold `good`, and not `small` beside it."""
    great = event("great", 1.0, 0, roi=9_000, code=2_000, json_sent=True)
    good = event("good", 0.9, 0, roi=7_900, json_sent=True)
    small = event("small", 0.07, 0, roi=600, json_sent=True)
    units = [great, good, small]
    assert sent(plan(units, 10_000)) == [("great", "code"), ("small", "roi")]
    assert sent(plan(units, 10_000, policy="dat_plus")) == [("great", "code"), ("good", "roi")]


@pytest.mark.parametrize("kind", ["roi", "box"])
def test_dat_plus_is_algorithm_1_where_a_code_that_is_called_forward_costs_more(kind):
    """`low` would go first, for its due bytes, and its code would keep `high` out."""

    def shown(name, priority, size, code):
        bare = event(name, priority, 0, code=code, json_sent=True)
        return replace(bare, **{f"{kind}_bytes": size})

    events = [shown("high", 0.3, 2, None), shown("low", 0.1, 6, 3)]
    assert sent(plan(events, 10, policy="dat_plus")) == [("high", kind), ("low", "code")]


def test_dat_live_sends_codes_before_late_visuals_that_matter_more():
    late = event("late", 0.9, 0, roi=1_000, at=-9.0, json_sent=True)
    code = event("code", 0.1, 0, code=1_000, json_sent=True)
    planned = plan([late, code], 10_000, now=0.0, policy="dat_live")
    assert sent(planned) == [("code", "code"), ("late", "roi")]


def test_bytes_before_a_visual_are_those_of_codes_of_its_priority_or_more():
    codes = codes_of([event("a", 0.9, code=7), event("b", 0.5, code=20), event("c", 0.1, code=300)])
    visuals = visuals_of([event(f"{p}", p, roi=1) for p in (1.0, 0.9, 0.5, 0.3, 0.0)])
    assert bytes_before(codes, visuals) == [0, 7, 27, 27, 327]
    assert bytes_before([], visuals) == [0] * 5


def queue(rate=100_000.0):
    return LiveQueue(Bandwidth(rate))


def drained(waiting, now=0.0):
    """(id, kind) of every unit, when its last byte is sent."""
    units = []
    while chunk := waiting.next_chunk(now):
        waiting.sent(chunk)
        now += chunk.size / waiting.bandwidth.rate
        if chunk.last:
            units.append((chunk.event_id, chunk.kind))
    return units


@given(instances())
@settings(max_examples=60)
def test_the_live_queue_sends_every_unit_once(instance):
    events = instance[0]
    waiting = queue()
    for e in events:
        waiting.add(e)
    ready = drained(waiting)
    assert len(waiting) == 0
    assert sorted(ready) == sorted(sent(plan(events, 1.0, policy="dat_live")))


def test_the_live_queue_sends_codes_in_chunks_behind_alerts():
    waiting = queue(rate=1e6)
    waiting.add(event(roi=5_000, code=6_000))
    assert waiting.codes_waiting == 1
    assert len(waiting) == 3
    steps = []
    while chunk := waiting.next_chunk(0.0):
        waiting.sent(chunk)
        steps.append((chunk.kind, chunk.offset, chunk.size, chunk.last))
    assert steps == [
        ("json", 0, 100, True),
        ("code", 0, 4_000, False),
        ("code", 4_000, 2_000, True),
        ("roi", 0, 4_000, False),
        ("roi", 4_000, 1_000, True),
    ]


def test_a_chunk_of_a_code_is_no_larger_than_the_path_has_room_for():
    waiting = queue(rate=1e6)
    waiting.add(event(code=6_000, json_sent=True))
    assert waiting.next_visual(0.0, 1_000).size == 1_000


def test_a_code_under_way_gives_way_to_a_visual_that_matters_more_and_goes_on():
    waiting = queue(rate=1e6)
    waiting.add(event("low", 0.2, code=6_000, json_sent=True))
    waiting.sent(waiting.next_visual(0.0))
    waiting.add(event("high", 0.9, roi=4_000, json_sent=True))
    assert waiting.next_visual(0.0).kind == "roi"
    waiting.sent(waiting.next_visual(0.0))
    chunk = waiting.next_visual(0.0)
    assert (chunk.kind, chunk.offset, chunk.size, chunk.last) == ("code", 4_000, 2_000, True)


def test_late_visuals_and_refinements_wait_for_all_codes():
    waiting = LiveQueue(Bandwidth(1e6), first_layer=0.5)
    waiting.add(event("refined", 0.9, roi=4_000, json_sent=True))
    waiting.sent(waiting.next_visual(0.0))
    waiting.add(event("late", 0.9, roi=1_000, at=-9.0, json_sent=True))
    waiting.add(event("code", 0.1, code=1_000, json_sent=True))
    assert waiting.next_visual(0.0).kind == "code"


def test_a_code_comes_again_from_where_it_stopped_and_a_newer_one_replaces_it():
    waiting = queue(rate=1e6)
    waiting.add(event(code=6_000, json_sent=True), code_offset=5_000)
    assert waiting.next_visual(0.0).offset == 5_000
    waiting.add(event(code=3_000, json_sent=True))
    stale = waiting.next_visual(0.0)
    assert (stale.offset, stale.size) == (0, 3_000)
    waiting.add(event(code=3_000, json_sent=True), code_offset=1_000)
    waiting.sent(stale)  # passed over: these bytes are not what is missing
    assert waiting.next_visual(0.0).offset == 1_000
    waiting.add(event(code=3_000, json_sent=True), code_offset=3_000)  # it arrived whole
    assert waiting.next_visual(0.0) is None
    waiting.sent(stale)  # passed over
    assert len(waiting) == 0


def test_what_waits_of_an_event_can_be_taken_out():
    waiting = queue()
    waiting.add(event(roi=10, code=20))
    waiting.remove("a", "code")
    assert (waiting.alerts_waiting, waiting.codes_waiting, waiting.visuals_waiting) == (1, 0, 1)
    waiting.add(event(roi=10, code=20, json_sent=True))
    waiting.remove("a", "roi")
    assert (waiting.alerts_waiting, waiting.codes_waiting, waiting.visuals_waiting) == (1, 1, 0)
    waiting.remove("a")
    assert len(waiting) == 0


def test_of_many_codes_one_of_enough_priority_is_found():
    waiting = queue()
    for i in range(LOOKED_AT + 1):
        waiting.add(event(f"dense {i}", 0.1, code=10, json_sent=True))
    waiting.add(event("denser", 0.6, code=5_000, json_sent=True))  # not looked at
    waiting.add(event("great", 0.9, code=9_000, json_sent=True))
    waiting.add(event("visual", 0.5, roi=4_000, json_sent=True))
    assert waiting.next_visual(0.0).event_id == "great"
    waiting.remove("visual")
    assert waiting.next_visual(0.0).event_id == "dense 0"


def test_a_code_ends_with_its_last_byte():
    waiting = WaitingCodes()
    waiting.add(event(), 6_000, 1, 0)
    assert waiting.sent("b", 0, 6_000) is False
    assert waiting.sent("a", 0, 4_000) is False
    assert waiting.sent("a", 0, 6_000) is False  # gone already
    assert waiting.sent("a", 4_000, 2_000) is True


def test_of_codes_of_the_visuals_own_priority_the_densest_goes_first():
    waiting = queue()
    waiting.add(event("large", 0.5, code=9_000, json_sent=True))
    waiting.add(event("small", 0.5, code=1_000, json_sent=True))
    waiting.add(event("visual", 0.5, roi=4_000, json_sent=True))
    assert waiting.next_visual(0.0).event_id == "small"
