import re
from dataclasses import replace

import pytest

from eval.uplink import acceptance
from tests.eval.uplink.small_study import small_study

FIGURES = """\
pass  calibration  burst W-Alarm against Bandwidth-Only, %  -79.0  (>= -82 and <= -74)
pass  calibration  burst W-Alarm against Priority-Only, %  -70.0  (>= -75 and <= -65)
pass  calibration  burst visual delay against Bandwidth-Only, %  -76.0  (>= -78 and <= -67)
pass  calibration  burst visual delay against Priority-Only, %  -52.0  (>= -63 and <= -45)
pass  calibration  medium visual delay against Priority-Only, %  -40.0  (>= -46 and <= -34)
pass  calibration  burst DAT VTR@0.5, %  98.00  (>= 97.5)
pass  calibration  burst DAT VTR@1, %  99.50  (>= 99)
pass  calibration  burst DAT visual delay, s  0.1200  (<= 0.125)
pass  calibration  burst DAT W-Alarm, s  0.0525  (>= 0.052 and <= 0.053)
pass  calibration  a < b (C0, seeds)  3 of 3  (all)
pass  evidence  DAT's means beat Priority-Only's, burst, columns  4 better, 0 worse  (some better, none worse)
pass  evidence  DAT's means beat Priority-Only's, medium, columns  4 better, 0 worse  (some better, none worse)
FAIL  evidence  a < b (perturbed draws)  3 of 4  (all)
FAIL  evidence  all of these on other links  1 of 2  (all)
pass  evidence  Fig. 5: VTR@1 from D_vis 1.0 to 1.5 s, points  6.0  (>= 5)
pass  evidence  Fig. 5: VTR@1 beyond 1.5 s, points  0.25  (<= 0.5)
FAIL  evidence  Fig. 5: spread of W-Alarm, s  0.010000000  (>= 0 and <= 1e-09)
pass  evidence  Fig. 6: DAT beats Priority-Only, predicted priorities, columns  4 better, 0 worse  (some better, none worse)
pass  evidence  Fig. 6: DAT beats Priority-Only, ground truth priorities, columns  4 better, 0 worse  (some better, none worse)
pass  evidence  dat_plus against dat, on-time priority at 0.1x, points  6.0  (>= 4)
FAIL  evidence  dat_live alarm against JSON-only's, simultaneous  1.100  (<= 1.05)
FAIL  evidence  dat_live alarm against JSON-only's, spread over 1 s  2.500  (<= 2)
pass  evidence  slot waiting in the slotted alarm delay, %  87.5  (>= 85 and <= 95)
pass  evidence  dat_live priority within 0.5 s below the bound, simultaneous, points  0.50  (<= 1)
pass  evidence  dat_live VTR@0.5, equal priorities, below the bound, simultaneous, points  0.50  (<= 1)
FAIL  evidence  dat_live VTR@0.5 below the bound, simultaneous, points  1.50  (<= 1)
pass  evidence  dat_live priority within 0.5 s below the bound, spread over 1 s, points  0.50  (<= 1)
pass  evidence  dat_live VTR@0.5, equal priorities, below the bound, spread over 1 s, points  0.50  (<= 1)
FAIL  evidence  dat_live VTR@0.5 below the bound, spread over 1 s, points  1.50  (<= 1)
pass  evidence  dat_live VTR@1 under a 30 % biased estimate, points  0.50  (<= 0.5)
pass  exactness  dat_plus below the optimum for N <= 40, worst, %  0.000000  (<= 1e-06)
pass  exactness  the budget is kept, violations  0  (0)
FAIL  exactness  alerts come first, violations  1  (0)
25 of 33 pass"""  # noqa: E501


def test_every_figure_has_its_value_its_demand_and_its_verdict():
    text = acceptance.as_text(acceptance.figures(small_study()))
    assert re.sub(" {2,}", "  ", text) == FIGURES
    assert text.splitlines()[0] == (
        f"pass  calibration  {'burst W-Alarm against Bandwidth-Only, %':<76} {'-79.0':>14}"
        "   (>= -82 and <= -74)"
    )


def test_on_another_link_only_what_is_exact_can_fail():
    found = acceptance.figures(small_study() | {"fitted_here": False})
    assert {figure.kind for figure in found if figure.demanded} == {"exactness"}
    assert acceptance.as_text(found).splitlines()[-2:] == [
        "2 of 3 pass",
        "another trace than the one C0 was fitted to: 23 of 30 figures hold here too",
    ]


@pytest.mark.parametrize(
    ("value", "passed"), [(0.9, False), (1.0, True), (2.0, True), (2.1, False)]
)
def test_a_bound_itself_is_still_within(value, passed):
    assert acceptance.within("speed", "a", value, 1, 2).passed == passed
    assert acceptance.at_least("speed", "a", value, 1).passed == (value >= 1)
    assert acceptance.at_most("speed", "a", value, 2).passed == (value <= 2)


def test_a_plan_may_be_slow_on_a_slow_machine():
    row = {"events": 1000, "plan_ms": 0.5, "limit_ms": 0.5, "argsorts": 2, "limit_argsorts": 0.06}
    quick, slow, too_slow, fast, none = (
        row,
        row | {"plan_ms": 0.6, "argsorts": 0.06},
        row | {"plan_ms": 0.6, "argsorts": 0.061},
        row | {"plan_ms": 0.4, "events": 100_000},
        row | {"limit_ms": None},
    )
    found = acceptance.speed_figures([quick, none, slow, too_slow, fast])
    assert [figure.passed for figure in found] == [True, True, False, True]
    assert found[2] == acceptance.Figure(
        "speed",
        "plan of 1,000 events, ms (argsorts of 100,000 in the same run)",
        "0.60 (0.061)",
        "<= 0.5 (0.060)",
        False,
    )


def test_a_figure_outside_its_range_fails_and_says_so():
    bad = acceptance.at_least("evidence", "VTR@1", 98.0, 99.0)
    assert not bad.passed
    text = acceptance.as_text([bad, acceptance.within("evidence", "delay", 0.1, 0, 0.125)])
    assert text.splitlines()[0].startswith("FAIL")
    assert text.endswith("1 of 2 pass")


def test_a_figure_set_for_another_link_is_shown_and_does_not_fail():
    shown = replace(acceptance.within("evidence", "VTR@1", 98.0, 99.0, 100.0), demanded=False)
    assert not shown.failed
    assert acceptance.as_text([shown]).startswith("no ")


def means(w_alarm, vtr_05, vtr_1, delay):
    values = {"w_alarm": w_alarm, "vtr_05": vtr_05, "vtr_1": vtr_1, "avg_visual_delay": delay}
    return {column: {"mean": value, "std": 0.0} for column, value in values.items()}


@pytest.mark.parametrize(
    ("theirs", "value", "passed"),
    [
        (means(0.06, 90.0, 95.0, 0.2), "4 better, 0 worse", True),
        (means(0.05, 100.0, 100.0, 0.2), "1 better, 0 worse", True),  # a link with room for all
        (means(0.05, 100.0, 100.0, 0.1), "0 better, 0 worse", False),
        (means(0.04, 90.0, 95.0, 0.2), "3 better, 1 worse", False),
    ],
)
def test_means_are_compared_column_by_column_and_a_tie_is_no_loss(theirs, value, passed):
    ours = means(0.05, 100.0, 100.0, 0.1)
    rows = []
    for block in ("A. Medium", "B. Burst"):
        rows.append({"block": block, "method": "DAT", **ours})
        rows.append({"block": block, "method": "Priority-Only", **theirs})
    for figure in acceptance.means_of_table_3({"table3": rows}):
        assert (figure.value, figure.passed) == (value, passed)


def test_a_column_that_one_side_lacks_is_worse():
    ours, theirs = means(0.05, 100.0, 100.0, 0.1), means(0.06, 90.0, 95.0, 0.2)
    for mine, other in ((ours | {"vtr_1": None}, theirs), (ours, theirs | {"vtr_1": None})):
        rows = []
        for block in ("A", "B"):
            rows.append({"block": block, "method": "DAT", **mine})
            rows.append({"block": block, "method": "Priority-Only", **other})
        values = [figure.value for figure in acceptance.means_of_table_3({"table3": rows})]
        assert values == ["3 better, 1 worse"] * 2
