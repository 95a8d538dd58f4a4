"""Charts have axes that can be read."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.prep.reporting import charts


@given(st.floats(1e-3, 1e12))
def test_ticks_are_a_few_round_numbers_up_to_the_largest_value(most):
    marks = charts.ticks(most)
    assert marks[0] == 0
    assert 3 <= len(marks) <= 6
    assert most * 0.5 <= marks[-1] <= most * 1.0001
    step = marks[1] - marks[0]
    assert f"{step:.0e}"[0] in "125"


def test_nothing_has_one_tick():
    assert charts.ticks(0) == [0.0]


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_bars_name_both_axes_and_every_bar_that_has_room():
    svg = charts.bars({"0": 3, "1": 12, "<2>": 1}, "boxes", "frames")
    assert {"0", "1", "&lt;2&gt;", "boxes", "frames", "5", "10"} <= set(texts(svg))
    assert svg.count("<rect") == 3
    many = charts.bars({str(n): n for n in range(40)}, "x", "y")
    assert len(texts(many)) < 20


@pytest.mark.parametrize("from_top", [False, True])
def test_a_map_has_ticks_on_both_axes_in_the_direction_of_its_rows(from_top):
    svg = charts.heatmap([[0, 2], [0, 0]], "width", "height", from_top=from_top)
    upright = re.findall(r'y="([\d.]+)" text-anchor="end">(\d[\d.]*)<', svg)
    heights = {share: float(y) for y, share in upright}
    assert (heights["0"] < heights["1"]) == from_top
    assert texts(svg).count("0.5") == 2
    assert "darkest cell: 2" in svg


def test_a_series_tells_its_units_and_is_flat_where_nothing_flows():
    svg = charts.series([1000.0, 3000.0], "bytes per second")
    assert {"1k", "2k", "3k", "bytes per second", "seconds (a point is 1 s)"} <= set(texts(svg))
    assert "<polyline" in charts.series([], "B/s")
    assert "<polyline" in charts.series([0.0, 0.0], "B/s")
