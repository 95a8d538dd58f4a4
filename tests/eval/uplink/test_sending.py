from dataclasses import replace

import pytest

from dat_runtime.planning.live import Bandwidth, LiveQueue
from eval.uplink.baselines import dat, fixed
from eval.uplink.link import Link
from eval.uplink.sending import Delivery, Scheme, run_live, run_slotted
from eval.uplink.timeliness import measure
from tests.eval.uplink.events import PARSE, event


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
