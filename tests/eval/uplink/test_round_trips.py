import math
from pathlib import Path

import pytest

from eval.uplink import report
from eval.uplink.arrivals import draw
from eval.uplink.lanes import LaneDelivery
from eval.uplink.round_trips import (
    CONSTANT_RATES,
    LONGEST_WAIT,
    LOSS,
    ROUND_TRIPS,
    SETTLED,
    TRACE,
    apart,
    cases,
    compare,
    figures,
)
from eval.uplink.setting import load_setting
from tests.eval.uplink.events import event

SETTING = load_setting(Path("configs/transmission/c0.yaml"))


@pytest.fixture(scope="module")
def rows():
    events = [each for each in draw(SETTING, "burst", 0) if each.entered_at < 60]
    return compare(SETTING, events, [400e3, 100e3, 900e3], real=False)


def delivered(wait, round_trip=0.0, at=2 * SETTLED):
    sent, there = event("a", entered=at), at + wait + round_trip
    return LaneDelivery(sent, there, there, "box", alert_known_at=there)


def test_every_rate_is_crossed_with_every_round_trip_and_the_constant_ones_with_losses():
    found = [(c.rate, c.link.round_trip, c.link.loss) for c in cases([1.0]) if not c.fifo]
    for rate in (*CONSTANT_RATES, TRACE):
        for round_trip in ROUND_TRIPS:
            assert (rate, round_trip, 0.0) in found
            assert ((rate, round_trip, LOSS) in found) == (rate != TRACE)


@pytest.mark.parametrize(("wait", "share"), [(0.03125, 100.0), (0.0625, 0.0)])
def test_an_alert_is_in_time_up_to_50_ms_beyond_the_round_trip(wait, share):
    assert figures(SETTING, [delivered(wait, 0.25)], 0.25)["in_time"] == share


@pytest.mark.parametrize("at", [SETTLED, SETTLED - 0.5])
def test_what_enters_before_the_run_has_settled_is_a_figure_of_its_own(at):
    early = delivered(0.5, at=at)
    found = figures(SETTING, [early, delivered(0.125)], 0.0)
    assert (found["first_visual_delay"] == 0.5) == (at < SETTLED)
    assert (found["avg_visual_delay"] == 0.125) == (at < SETTLED)


def test_how_far_apart_two_runs_are_is_a_ratio_of_sums_with_an_interval_over_the_bursts():
    bursts = [2 * SETTLED, 3 * SETTLED]
    simulated = [delivered(0.25, at=at) for at in bursts]
    real = [delivered(wait, at=at) for wait, at in zip((0.25, 0.5), bursts, strict=True)]
    found = apart(simulated, real)
    for of in ("alerts", "visuals"):
        assert found[of] == pytest.approx((50.0, 0.0, 100.0)), of
    assert apart(simulated, real, parse=0.25)["alerts"] == pytest.approx((25.0, 0.0, 50.0))
    assert apart(simulated, simulated)["visuals"] == (0.0, 0.0, 0.0)


def test_a_unit_that_did_not_come_both_ways_is_left_out():
    lost = LaneDelivery(event("b", entered=2 * SETTLED))
    assert apart([delivered(0.25), lost], [delivered(0.5), lost])["visuals"][0] == 100.0
    assert apart([lost], [lost])["visuals"] == (None, None, None)


def test_an_alert_of_which_nothing_is_known_is_never_there():
    lost = LaneDelivery(event("b", entered=2 * SETTLED))
    found = figures(SETTING, [delivered(0.02, 0.25), lost], 0.25)
    assert found["waits"]["p50"] == pytest.approx(0.02)
    assert found["waits"]["max"] is None
    assert found["in_time"] == 50.0
    assert found["no_alert"] == 1


def test_in_the_simulation_the_lanes_hold_what_is_demanded(rows):
    for row in rows:
        run = row["simulated"]
        if row["sender"] == "FIFO" or row["loss"]:
            continue
        if row["rate"] != TRACE:  # what is on its way when a link falls to a quarter has to drain
            assert run["in_time"] == 100
        assert run["vtr_1"] >= row["moved"] - 3


def test_and_a_fifo_does_not(rows):
    slow = next(row for row in rows if row["sender"] == "FIFO")
    assert slow["simulated"]["waits"]["p95"] > 10 * LONGEST_WAIT


def test_losses_cost_the_visuals_little(rows):
    def vtr(rate, round_trip, loss):
        for row in rows:
            if (row["rate"], row["round_trip"], row["loss"]) == (rate, round_trip, loss):
                return row["simulated"]["vtr_1"]
        return math.nan

    for round_trip in ROUND_TRIPS:
        assert vtr("250 kB/s", round_trip, LOSS) >= vtr("250 kB/s", round_trip, 0.0) - 3


def test_the_table_has_a_line_for_every_row_simulated_and_real(rows):
    with_real = [{**row, "real": row["simulated"]} for row in rows]
    lines = report.round_trips(with_real, 60, 60).splitlines()
    assert sum(line.startswith("| 250 kB/s, ") for line in lines) == 13
    assert sum("2 % loss, CUBIC" in line for line in lines) == len(ROUND_TRIPS)
    assert all(line.count(r"\|") == 6 for line in lines if line.startswith("| 250 kB/s, "))
