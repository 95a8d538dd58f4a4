"""How the boxes and pictures of a set are distributed."""

import re
from pathlib import Path

import numpy as np

from dat_runtime.types import Size
from data.prep.pictures import records
from data.prep.reporting import distributions
from tests.data.prep.reporting.small_set import FRAMES, MODERATE, kept

SIZES = """\
<div>
<h3>Picture sizes</h3>
<table class="shares">
<tr><th>pixels</th><th>frames</th><th>share</th></tr>
<tr><td>64 x 48</td><td>5</td><td><i style="width:83.3%"></i></td></tr>
<tr><td>48 x 64</td><td>1</td><td><i style="width:16.7%"></i></td></tr></table></div>"""

BOXES = """\
<div>
<h3>moderate: where 4 boxes lie in the frame</h3>
<rect x="48.0" y="8.0" width="302.00" height="302.00" fill="#f1f1ee" fill-opacity="1.00"><title></title></rect>
<rect x="60.6" y="8.0" width="12.58" height="12.58" fill="#c77700" fill-opacity="1.00"><title>4</title></rect></div>
<div>
<h3>moderate: box sizes, in shares of the frame</h3>
<rect x="48.0" y="8.0" width="302.00" height="302.00" fill="#f1f1ee" fill-opacity="1.00"><title></title></rect>
<rect x="73.2" y="284.8" width="12.58" height="12.58" fill="#c77700" fill-opacity="1.00"><title>4</title></rect></div>
<div>
<h3>severe: where 8 boxes lie in the frame</h3>
<rect x="48.0" y="8.0" width="302.00" height="302.00" fill="#f1f1ee" fill-opacity="1.00"><title></title></rect>
<rect x="199.0" y="234.5" width="12.58" height="12.58" fill="#c0262d" fill-opacity="1.00"><title>8</title></rect></div>
<div>
<h3>severe: box sizes, in shares of the frame</h3>
<rect x="48.0" y="8.0" width="302.00" height="302.00" fill="#f1f1ee" fill-opacity="1.00"><title></title></rect>
<rect x="199.0" y="146.4" width="12.58" height="12.58" fill="#c0262d" fill-opacity="1.00"><title>8</title></rect></div>"""  # noqa: E501
"""Of each map its cells."""


def lines(chart: str) -> str:
    kinds = "svg|rect|text|line|polyline|div|p|tr|details|table|h3"
    return re.sub(rf"(?<=>)(?=<(?:{kinds}))", "\n", chart)


def counted(chart: str) -> dict[str, int]:
    """The name of each bar and what it counts."""
    found = re.findall(r"<title>([^:]*): ([\d,]+)</title>", chart)
    return {name: int(count.replace(",", "")) for name, count in found}


def test_boxes_lie_where_their_centres_are_and_heights_grow_upwards() -> None:
    cells = re.sub(r"<text.*?</text>|<svg[^>]*>|</svg>", "", distributions.boxes(FRAMES))
    assert lines(cells) == BOXES


def test_frames_are_counted_by_their_boxes_six_and_more_together() -> None:
    shown = distributions.per_frame(FRAMES)
    assert counted(shown) == {"0": 2, "1": 1, "2": 2, "3": 0, "4": 0, "5": 0, "6+": 1}
    assert shown.startswith("<div><h3>Boxes per frame</h3><svg")
    assert 'aria-label="frames by boxes"' in shown
    assert counted(distributions.per_frame(FRAMES[4:])) == {"0": 1, "1": 0, "2": 1}
    assert counted(distributions.per_frame([])) == {"0": 0}
    six = kept(0, "train", *[MODERATE] * 6)
    assert counted(distributions.per_frame([six]))["6+"] == 1


def test_sizes_are_named_by_how_many_frames_have_them() -> None:
    assert lines(distributions.picture_sizes(FRAMES)) == SIZES
    many = [kept(i, "train", size=Size(10 + i // 2, 10)) for i in range(20)]
    rows = re.findall(r"<td>([^<]*)</td><td>([^<]*)</td>", distributions.picture_sizes(many))
    assert rows[0] == ("10 x 10", "2")
    assert len(rows) == 9
    assert rows[-1] == ("2 other sizes", "4")


def brightness(folder: Path, frames: list[int], greys: list[int]) -> str:
    made = np.zeros(len(greys), records.RECORD)
    made["view"] = np.array(greys, np.uint8)[:, None, None]
    (folder / records.NAME).write_bytes(made.tobytes())
    chosen = [kept(i, "train", negative=i == 5) for i in frames]
    return distributions.brightness(folder, chosen)


def test_brightness_is_the_mean_of_the_picture_as_the_set_has_it(tmp_path: Path) -> None:
    shown = brightness(tmp_path, [0, 1, 2, 4, 5], [0, 15, 16, 99, 255, 120])
    found = counted(shown)
    # The negative's 120 is corrected to 136, which is of the ninth step.
    expected = {"0": 2, "16": 1, "240": 1, "128": 1}
    assert {name: count for name, count in found.items() if count} == expected
    assert list(found) == [str(16 * step) for step in range(16)]
    assert shown.startswith("<div><h3>Brightness</h3><svg")
    assert "frames by mean grey level, 0 black to 255 white" in shown


def test_of_very_many_pictures_some_are_measured(tmp_path: Path) -> None:
    shown = brightness(tmp_path, [0] * 10_001, [7])
    assert "<h3>Brightness of 10,000 drawn at random</h3>" in shown
    assert counted(shown)["0"] == 10_000
