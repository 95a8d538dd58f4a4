import math

import pytest

from eval.uplink.sending import Delivery
from eval.uplink.timeliness import measure, spread
from tests.eval.uplink.events import PARSE, event


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


def test_an_event_without_an_alert_is_as_late_as_the_latest_one():
    early = Delivery(event("a", priority=0.5), 1.1, None)
    latest = Delivery(event("b", priority=0.25), 3.0, None)
    never = Delivery(event("c", priority=0.25), None, None)
    found = measure([early, latest, never], PARSE)
    assert found.no_alert == 1
    assert found.w_alarm == pytest.approx(0.5 * 0.15 + 0.25 * 2.05 + 0.25 * 2.05)
    assert found.w_alarm_of_alerted == pytest.approx((0.5 * 0.15 + 0.25 * 2.05) / 0.75)


def test_never_to_alert_is_no_better_than_to_alert_last():
    alerts = [Delivery(event("a"), 1.2, None), Delivery(event("b"), 2.0, None)]
    last = measure([*alerts, Delivery(event("c"), 2.0, None)], PARSE)
    never = measure([*alerts, Delivery(event("c"), None, None)], PARSE)
    assert never.w_alarm == pytest.approx(last.w_alarm)


def test_without_any_alert_there_is_no_alarm_delay():
    found = measure([Delivery(event("a"), None, None)], PARSE)
    assert math.isnan(found.w_alarm)


def test_a_spread_of_one_run_has_no_deviation_and_of_none_is_none():
    assert spread([2.0]) == {"mean": 2.0, "std": 0.0}
    assert spread([None]) is None
