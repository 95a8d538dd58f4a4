from dataclasses import replace

import pytest

from eval.uplink import acceptance


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
