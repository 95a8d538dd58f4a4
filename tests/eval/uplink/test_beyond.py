"""The planners beyond the paper on a link that is too slow, figure by figure."""

from dataclasses import replace

import pytest
import scipy.optimize  # noqa: F401  the study's workers are forked and share it

from eval.uplink import beyond
from eval.uplink.arrivals import draw
from eval.uplink.link import Link
from eval.uplink.timeliness import COLUMNS_FROM_CAPTURE
from tests.eval.uplink.crowded import RATES, SETTING, figures

SPREAD_OVER_A_SECOND = {
    "dat": [0.5812, 16.6667, 61.1111, 0.7349, 73.1651],
    "dat_plus": [0.5812, 16.6667, 61.1111, 0.7349, 73.1651],
    "dat, slots of 0.05 s": [0.082, 22.2222, 22.2222, 0.0619, 30.5749],
    "dat_live": [0.0573, 72.2222, 100.0, 0.2914, 100.0],
    "dat_live, first layer 25 %": [0.0561, 100.0, 100.0, 0.0543, 100.0],
    "json_live": [0.0533, 0.0, 0.0, None, 0.0],
}
"""W-Alarm, VTR@0.5, VTR@1, visual delay, priority shown in time."""

SIMULTANEOUS = {
    "dat": [0.0579, 83.3333, 100.0, 0.2344, 100.0],
    "dat_plus": [0.0579, 83.3333, 100.0, 0.2344, 100.0],
    "dat, slots of 0.05 s": [0.0579, 50.0, 50.0, 0.0767, 51.537],
    "dat_live": [0.0579, 83.3333, 100.0, 0.2344, 100.0],
    "dat_live, first layer 25 %": [0.0579, 100.0, 100.0, 0.0738, 100.0],
    "json_live": [0.0579, 0.0, 0.0, None, 0.0],
}

BELIEVED = {
    "dat, true": [0.5957, 11.1111, 16.6667, 1.0399, 63.0693],
    "dat, the last second's": [0.5957, 11.1111, 16.6667, 1.0312, 64.7222],
    "dat, 30 % too low": [0.5957, 11.1111, 22.2222, 0.8236, 41.5606],
    "dat, 30 % too high": [0.5957, 11.1111, 16.6667, 1.0312, 64.7222],
    "dat, log-normal error, sd 0.3": [0.5957, 11.1111, 16.6667, 1.0399, 63.0693],
    "dat_plus, true": [0.5957, 11.1111, 16.6667, 1.0936, 64.2828],
    "dat_plus, the last second's": [0.5957, 11.1111, 16.6667, 1.0808, 65.9358],
    "dat_plus, 30 % too low": [0.5957, 5.5556, 11.1111, 0.9903, 57.0971],
    "dat_plus, 30 % too high": [0.5957, 11.1111, 16.6667, 1.0808, 65.9358],
    "dat_plus, log-normal error, sd 0.3": [0.5957, 11.1111, 16.6667, 1.0936, 64.2828],
    "dat_live, true": [0.0686, 44.4444, 61.1111, 1.0403, 86.3854],
    "dat_live, 30 % too low": [0.0668, 38.8889, 50.0, 1.0213, 87.9599],
    "dat_live, 30 % too high": [0.0686, 50.0, 55.5556, 1.0559, 94.7275],
}


def test_every_planner_has_its_figures_and_the_first_seeds_their_bounds() -> None:
    runs, bounds = beyond._beyond_run(SETTING, RATES, (0.25, 1.0, beyond.SPREAD_ARRIVAL, 0))
    assert figures(runs) == SPREAD_OVER_A_SECOND
    assert bounds is not None
    assert [round(bound, 4) for bound in bounds] == [
        83.3333,
        87.9599,
        0.2497,
        72.2222,
        84.7507,
        83.3333,
    ]
    _, last = beyond._beyond_run(SETTING, RATES, (0.25, 1.0, beyond.SPREAD_ARRIVAL, 4))
    assert last is not None


def test_a_burst_at_once_is_planned_as_such_and_later_seeds_have_no_bounds() -> None:
    runs, bounds = beyond._beyond_run(SETTING, RATES, (0.25, 1.0, beyond.SIMULTANEOUS_ARRIVAL, 5))
    assert figures(runs) == SIMULTANEOUS
    assert bounds is None


def test_a_wrong_bandwidth_costs_what_it_costs() -> None:
    slow = [0.4 * rate for rate in RATES]
    assert figures(beyond._forecast_run(SETTING, slow, 0)) == BELIEVED


def test_a_planner_believes_what_its_forecast_says() -> None:
    link = Link([100.0, 200.0, 50.0])
    believed = beyond._forecasts(link, 3, 0)
    assert [believed["true"](at) for at in (0.0, 1.5, 2.0)] == [100, 200, 50]
    assert [believed["the last second's"](at) for at in (0.0, 1.0, 2.5)] == [100, 100, 200]
    assert believed["30 % too low"](1.0) == pytest.approx(140)
    assert believed["30 % too high"](1.0) == pytest.approx(260)
    errors = [believed["log-normal error, sd 0.3"](at) / link.bandwidth(at) for at in (0, 1, 2, 4)]
    assert errors[3] == errors[1]  # the window repeats
    assert errors[:3] == pytest.approx([0.962307, 0.892036, 1.100062], abs=1e-6)


def test_a_row_of_the_table_is_one_planner_at_one_case() -> None:
    rows = beyond.beyond_table(SETTING, RATES, 1)
    cases = [(0.25, 1.5), (0.25, 1.5), (0.1, 1.0), (0.1, 1.0)]
    assert [(row["scale"], row["visual_deadline"]) for row in rows[::7]] == cases
    assert [row["arrival"] for row in rows[::7]] == ["spread over 1 s", "simultaneous"] * 2
    assert [row["planner"] for row in rows[:7]] == [*SPREAD_OVER_A_SECOND, "clairvoyant bound"]
    assert len(rows) == 28
    alone, _ = beyond._beyond_run(SETTING, RATES, (0.1, 1.0, beyond.SPREAD_ARRIVAL, 0))
    for row in rows[14:20]:
        found = {row["planner"]: alone[row["planner"]]}
        told = [row[column] and round(row[column]["mean"], 4) for column in COLUMNS_FROM_CAPTURE]
        assert figures(found) == {row["planner"]: told}


def test_bounds_are_averaged_over_the_runs_that_have_them() -> None:
    bounds = [beyond.Bounds(*(step * n for n in range(1, 7))) for step in (1.0, 3.0)]
    columns = beyond._bound_columns(bounds)
    assert {name: column["mean"] for name, column in columns.items()} == {
        "vtr_05": 2,
        "dat_live_vtr_05": 8,
        "dat_live_vtr_05_if_equal": 12,
        "priority_05": 4,
        "dat_live_priority_05": 10,
        "avg_visual_delay": 6,
    }
    assert columns["vtr_05"]["std"] == pytest.approx(2**0.5)


def test_a_row_of_the_forecasts_is_one_planner_and_what_it_believes() -> None:
    slow = [0.4 * rate for rate in RATES]
    rows = beyond.forecast_study(SETTING, slow, 2)
    runs = [beyond._forecast_run(SETTING, slow, seed) for seed in range(2)]
    assert [row["case"] for row in rows] == list(BELIEVED)
    for row in rows:
        alarms = [run[row["case"]].w_alarm for run in runs]
        assert row["w_alarm"]["mean"] == pytest.approx(sum(alarms) / 2)
        assert set(row) == {"case", *COLUMNS_FROM_CAPTURE}


def test_events_of_a_log_enter_at_the_next_interval_and_wait_for_its_deadline() -> None:
    events = draw(SETTING, "burst", 0)
    entered = beyond.entering(events, 0.5)
    assert [event.entered_at for event in entered] == sorted(e.entered_at for e in entered)
    for event in entered:
        assert event.entered_at % 0.5 == 0
        assert 0 <= event.entered_at - event.captured_at < 0.5
    slow = [rate / 4 for rate in RATES]
    rows = beyond.my_link(SETTING, events, slow)
    assert [row["planner"] for row in rows] == list(SPREAD_OVER_A_SECOND)
    told = {row["planner"]: round(row["on_time"], 4) for row in rows}
    assert told == {
        "dat": 94.719,
        "dat_plus": 97.4887,
        "dat, slots of 0.05 s": 30.5749,
        "dat_live": 100.0,
        "dat_live, first layer 25 %": 100.0,
        "json_live": 0.0,
    }
    hurried = replace(SETTING, visual_deadline=0.25)
    rows = beyond.my_link(hurried, events, slow)
    told = {row["planner"]: round(row["on_time"], 4) for row in rows}
    assert told == {
        "dat": 10.5694,
        "dat_plus": 10.5694,
        "dat, slots of 0.05 s": 30.5749,
        "dat_live": 65.839,
        "dat_live, first layer 25 %": 100.0,
        "json_live": 0.0,
    }
    assert {row["no_alert"] for row in rows} == {0}


def test_a_link_that_begins_with_an_outage_is_estimated_above_0() -> None:
    assert beyond.live_queue(SETTING, Link([0.0, 9.0])).bandwidth.rate == 1
    assert beyond.live_queue(SETTING, Link([9.0])).bandwidth.rate == 9
