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


def lines(chart):
    """Its elements on lines of their own."""
    kinds = "svg|rect|text|line|polyline|div|p|tr|details|table|h3"
    return re.sub(rf"(?<=>)(?=<(?:{kinds}))", "\n", chart)


STACKED = """\
<p class="stack"><b>&lt;a&gt;</b> 2,000: 8 moderate, 2 severe, 1,990 negative</p>
<div class="stack"><span style="flex:8;background:#c77700" title="moderate"></span><span style="flex:2;background:#c0262d" title="severe"></span><span style="flex:1990;background:#3b7a57" title="negative">negative 100%</span></div>
<p class="stack"><b>b</b> 0: </p>
<div class="stack"></div>"""  # noqa: E501

BARS = """\
<svg viewBox="0 0 360 194" role="img" aria-label="frames &amp; more by boxes">
<line x1="48" x2="350" y1="158.0" y2="158.0" stroke="#b9b9b4" stroke-width="0.5"/>
<text x="43.0" y="162.0" text-anchor="end">0</text>
<line x1="48" x2="350" y1="108.0" y2="108.0" stroke="#b9b9b4" stroke-width="0.5"/>
<text x="43.0" y="112.0" text-anchor="end">1k</text>
<line x1="48" x2="350" y1="58.0" y2="58.0" stroke="#b9b9b4" stroke-width="0.5"/>
<text x="43.0" y="62.0" text-anchor="end">2k</text>
<line x1="48" x2="350" y1="8.0" y2="8.0" stroke="#b9b9b4" stroke-width="0.5"/>
<text x="43.0" y="12.0" text-anchor="end">3k</text>
<text transform="translate(11 83) rotate(-90)" text-anchor="middle">frames &amp; more</text>
<rect x="49.0" y="83.0" width="98.7" height="75.0" fill="#123456"><title>0: 1,500</title></rect>
<text x="98.3" y="172.0" text-anchor="middle">0</text>
<rect x="149.7" y="8.0" width="98.7" height="150.0" fill="#123456"><title>1: 3,000</title></rect>
<text x="199.0" y="172.0" text-anchor="middle">1</text>
<rect x="250.3" y="158.0" width="98.7" height="0.0" fill="#123456"><title>&lt;2&gt;: 0</title></rect>
<text x="299.7" y="172.0" text-anchor="middle">&lt;2&gt;</text>
<text x="199.0" y="188.0" text-anchor="middle">boxes</text></svg>"""  # noqa: E501

MAP = """\
<svg viewBox="0 0 360 346" role="img" aria-label="width against height">
<rect x="48.0" y="8.0" width="302.00" height="302.00" fill="#f1f1ee" fill-opacity="1.00"><title></title></rect>
<rect x="199.0" y="8.0" width="151.00" height="151.00" fill="#1d3557" fill-opacity="1.00"><title>4</title></rect>
<rect x="48.0" y="159.0" width="151.00" height="151.00" fill="#1d3557" fill-opacity="0.57"><title>1</title></rect>
<text x="48.0" y="324.0" text-anchor="middle">0</text>
<text x="43.0" y="12.0" text-anchor="end">0</text>
<text x="123.5" y="324.0" text-anchor="middle">0.25</text>
<text x="43.0" y="87.5" text-anchor="end">0.25</text>
<text x="199.0" y="324.0" text-anchor="middle">0.5</text>
<text x="43.0" y="163.0" text-anchor="end">0.5</text>
<text x="274.5" y="324.0" text-anchor="middle">0.75</text>
<text x="43.0" y="238.5" text-anchor="end">0.75</text>
<text x="350.0" y="324.0" text-anchor="middle">1</text>
<text x="43.0" y="314.0" text-anchor="end">1</text>
<text transform="translate(11 159) rotate(-90)" text-anchor="middle">height</text>
<text x="199.0" y="340.0" text-anchor="middle">width (darkest cell: 4)</text></svg>"""  # noqa: E501

SERIES = """\
<svg viewBox="0 0 360 194" role="img" aria-label="uplink over time">
<line x1="48" x2="350" y1="158.0" y2="158.0" stroke="#b9b9b4" stroke-width="0.5"/>
<text x="43.0" y="162.0" text-anchor="end">0</text>
<line x1="48" x2="350" y1="108.0" y2="108.0" stroke="#b9b9b4" stroke-width="0.5"/>
<text x="43.0" y="112.0" text-anchor="end">1k</text>
<line x1="48" x2="350" y1="58.0" y2="58.0" stroke="#b9b9b4" stroke-width="0.5"/>
<text x="43.0" y="62.0" text-anchor="end">2k</text>
<line x1="48" x2="350" y1="8.0" y2="8.0" stroke="#b9b9b4" stroke-width="0.5"/>
<text x="43.0" y="12.0" text-anchor="end">3k</text>
<text transform="translate(11 83) rotate(-90)" text-anchor="middle">bytes per second</text>
<polyline points="48.0,108.0 199.0,8.0 350.0,58.0" fill="none" stroke="#1d3557" stroke-width="1"/>
<text x="48.0" y="172.0" text-anchor="middle">0</text>
<text x="148.7" y="172.0" text-anchor="middle">1</text>
<text x="249.3" y="172.0" text-anchor="middle">2</text>
<text x="350.0" y="172.0" text-anchor="middle">3</text>
<text x="199.0" y="188.0" text-anchor="middle">seconds (a point is 1 s)</text></svg>"""


def test_every_chart_is_drawn_to_the_letter():
    shares = {"moderate": 8, "severe": 2, "empty": 0, "negative": 1990}
    assert lines(charts.stacked_bars({"<a>": shares, "b": {"severe": 0}})) == STACKED
    counts = {"0": 1500, "1": 3000, "<2>": 0}
    assert lines(charts.bars(counts, "boxes", "frames & more", colour="#123456")) == BARS
    assert lines(charts.heatmap([[0, 4], [1, 0]], "width", "height", from_top=True)) == MAP
    assert lines(charts.series([1000.0, 3000.0, 2000.0], "bytes per second")) == SERIES


def test_the_steps_of_an_axis_are_the_largest_round_ones_that_give_two():
    assert charts.ticks(10) == [0, 5, 10]
    assert charts.ticks(9.9) == pytest.approx([0, 2, 4, 6, 8])
    assert charts.ticks(4) == [0, 2, 4]
    assert charts.ticks(3) == [0, 1, 2, 3]
    assert charts.ticks(0.03) == pytest.approx([0, 0.01, 0.02, 0.03])
    assert charts.ticks(-1) == [0]


def test_names_of_many_bars_are_left_out_and_points_of_many_seconds_are_means():
    names = [text for text in texts(charts.bars({str(n): 1 for n in range(19)}, "", "")) if text]
    assert [name for name in names if name.isdigit() and int(name) > 1] == [
        *("3", "6", "9", "12", "15", "18")
    ]
    means = charts.series([0.0, 4.0] * 303, "")
    assert "a point is 3 s" in means
    (points,) = re.findall(r'points="([^"]*)"', means)
    assert len(points.split()) == 202
    assert "a point is 1 s" in charts.series([1.0] * 302, "")
    assert "a point is 2 s" in charts.series([1.0] * 303, "")


def test_a_share_needs_room_for_its_name():
    shown = charts.stacked_bars({"a": {"moderate": 1, "severe": 4}})
    assert ">severe 80%</span>" in shown
    assert 'title="moderate"></span>' in shown


@pytest.mark.parametrize(
    ("most", "mark"), [(2e9, "2G"), (1e9, "1G"), (2e6, "2M"), (1500, "1k"), (999, "800")]
)
def test_large_numbers_are_short(most, mark):
    assert mark in texts(charts.series([most], ""))
