import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.errors import DataError
from dat_runtime.planning.live import Bandwidth, LiveQueue
from eval.uplink.arrivals import Event, Window
from eval.uplink.baselines import bandwidth_only, dat, fixed, priority_only, schemes
from eval.uplink.link import (
    Delivery,
    Link,
    Scheme,
    read_trace,
    run_live,
    run_slotted,
    waiting,
    window,
)
from eval.uplink.timeliness import measure, spread

PARSE = {"json": 0.05, "box": 0.30, "roi": 0.31}


def event(name="a", entered=1.0, priority=0.5, json=100, roi=200, box=400, age=0.0):
    return Event(name, entered, entered - age, priority, json, roi, 2 * roi, box)


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


def test_alerts_are_counted_from_the_interval_that_they_entered():
    found = run_slotted([event(age=0.4)], Link([1000.0]), Scheme("dat", dat()))
    assert found[0].json_at == pytest.approx(1.1)
    assert found[0].visual_at == pytest.approx(1.3)


def test_what_has_no_room_in_an_interval_goes_in_the_next():
    sizes = {"roi": 850, "box": 850}
    events = [event("first", priority=1.0, **sizes), event("second", priority=0.1, **sizes)]
    found = run_slotted(events, Link([1000.0]), Scheme("dat", dat(), expires=True))
    assert [d.visual_at for d in found] == [None, None]  # two alerts leave 800 bytes a second
    found = run_slotted(events, Link([1100.0]), Scheme("dat", dat()), visual_deadline=5.0)
    assert found[0].visual_at == pytest.approx(1 + 1050 / 1100)
    assert found[1].visual_at == pytest.approx(2 + 850 / 1100)


def test_a_unit_under_way_is_finished_before_the_next_plan_begins():
    events = [event("long", box=1500, priority=0.1), event("next", entered=2.0, priority=1.0)]
    found = run_slotted(events, Link([1000.0]), Scheme("box", fixed(("box",)), alert="box"))
    assert found[0].visual_at == pytest.approx(2.5)
    assert found[1].visual_at == pytest.approx(2.9)


def test_an_event_that_a_scheme_cannot_alert_of_is_left_out_and_counted():
    without_roi = replace(event(), roi_bytes=None, rois_bytes=None)
    scheme = Scheme("roi", fixed(("roi",)), alert="roi", all_rois=True)
    found = run_slotted([without_roi, event("b")], Link([1e6]), scheme)
    assert found[0] == Delivery(without_roi)
    assert measure(found, PARSE).no_alert == 1


def test_live_alerts_go_at_capture_and_not_at_the_interval():
    found = run_live([event(age=0.4)], Link([1000.0]), LiveQueue(Bandwidth(1000.0)))
    assert found[0].json_at == pytest.approx(0.7)


def test_a_scheme_is_told_the_forecast_and_served_by_the_link():
    events = [event("a", roi=700, box=700)]
    optimist = run_slotted(
        events, Link([1000.0, 500.0]), Scheme("dat", dat()), forecast=lambda now: 1000.0
    )
    assert optimist[0].visual_at == pytest.approx(2.3)  # 400 bytes until 2 s, 300 after
    pessimist = run_slotted(
        events,
        Link([1000.0]),
        Scheme("dat", dat(), expires=True),
        forecast=lambda now: 500.0,
    )
    assert pessimist[0].visual_at is None


class TestBaselines:
    def pending(self, *events):
        return [waiting(e, Scheme("x", dat())) for e in events]

    def units(self, planned):
        return [(unit.event_id, unit.kind) for unit in planned]

    def test_fixed_is_first_in_first_out_and_knows_no_budget(self):
        events = self.pending(event("a", priority=0.1), event("b", priority=0.9))
        planned = fixed(("box",))(events, 1.0)
        assert self.units(planned) == [("a", "json"), ("a", "box"), ("b", "json"), ("b", "box")]

    def test_priority_only_sends_boxes_of_severe_events_and_rois_of_others(self):
        events = self.pending(event("mild", priority=0.2), event("severe", priority=0.8))
        assert self.units(priority_only(events, 1.0)) == [
            ("severe", "json"),
            ("severe", "box"),
            ("mild", "json"),
            ("mild", "roi"),
        ]

    @pytest.mark.parametrize(
        ("rate", "kinds"), [(700, ["json", "box"]), (500, ["json", "roi"]), (300, ["json"])]
    )
    def test_bandwidth_only_chooses_the_visual_by_bandwidth_alone(self, rate, kinds):
        planner = bandwidth_only(1000.0, 0.7, 0.4)
        planned = planner(self.pending(event()), rate)
        assert [unit.kind for unit in planned] == kinds

    def test_bandwidth_only_keeps_its_budget(self):
        planner = bandwidth_only(100.0, 0.7, 0.4)
        planned = planner(self.pending(event("a"), event("b")), 550)
        assert self.units(planned) == [("a", "json"), ("a", "box")]

    @pytest.mark.parametrize("scheme", schemes(1000.0, 0.7, 0.4), ids=lambda s: s.name)
    def test_every_scheme_has_the_signature_of_plan_and_sends_nothing_without_bandwidth(
        self, scheme
    ):
        assert scheme.planner(self.pending(event()), 0.0, 1.0, 1.5, None) == []


def test_timeliness_counts_misses_in_the_rates_and_not_in_the_mean():
    there = Delivery(event("a", priority=0.75), 1.1, 1.4, "roi")
    missed = Delivery(event("b", priority=0.25), 1.3, None)
    found = measure([there, missed], PARSE)
    assert found.w_alarm == pytest.approx(0.75 * 0.15 + 0.25 * 0.35)
    assert (found.vtr_05, found.vtr_1) == (50.0, 50.0)
    assert found.avg_visual_delay == pytest.approx(0.4)


def test_a_visual_that_raises_the_alert_is_parsed_as_what_it_is():
    found = measure([Delivery(event(), None, 1.4, "roi")], PARSE)
    assert found.w_alarm == pytest.approx(0.4 + 0.31)


def test_a_spread_of_one_run_has_no_deviation_and_of_none_is_none():
    assert spread([2.0]) == {"mean": 2.0, "std": 0.0}
    assert spread([None]) is None


def test_a_window_is_rescaled_to_its_mean_and_moved_into_a_short_trace():
    trace = [float(i) for i in range(100)]
    assert window(trace, Window(4300, 10, 1000.0, "")) == pytest.approx(
        [rate * 1000 / 94.5 for rate in trace[90:]]
    )
    assert len(window(trace, Window(0, 700, 1.0, ""))) == 100


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("second,rate\n0,1\n", ":1: expected the header"),
        ("second,uplink_bytes_per_s\n0,1\n1,fast\n", ":3: expected second"),
        ("second,uplink_bytes_per_s\n0,-1\n", ":2: bandwidth must be finite"),
        ("second,uplink_bytes_per_s\n0,nan\n", ":2: bandwidth must be finite"),
        ("second,uplink_bytes_per_s\n0,0\n", "holds no bandwidth"),
        ("second,uplink_bytes_per_s\n0,5\n2,5\n", ":3: second 0 is followed by 2"),
        ("second,uplink_bytes_per_s\n0,5\n0,5\n", ":3: second 0 is followed by 0"),
        ("second,uplink_bytes_per_s\nnow,5\n", ":2: expected second"),
    ],
)
def test_a_bad_trace_is_refused_by_file_and_line(tmp_path, text, place):
    path = tmp_path / "bandwidth.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=place):
        read_trace(path)


def test_a_trace_from_a_spreadsheet_is_read_and_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "bandwidth.csv"
    path.write_bytes(b"\xef\xbb\xbfsecond,uplink_bytes_per_s\r\n7,5\r\n8,6\r\n")
    assert read_trace(path) == [5.0, 6.0]
    path.write_bytes(b"second,uplink_bytes_per_s\n0,5\n1,\xff\n")
    with pytest.raises(DataError, match=":3: is not UTF-8"):
        read_trace(path)
