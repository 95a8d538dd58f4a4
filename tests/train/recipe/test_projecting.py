"""How long a whole run takes, by an interval worked out by hand, and the page that says so."""

import pytest

from train.recipe.projecting import in_hours, page, seconds_each

T = 4.302653
"""Student's 97.5th percentile with two degrees of freedom."""


def test_parts_of_one_speed_leave_no_doubt() -> None:
    assert seconds_each([2, 4, 6], [1, 2, 3]) == pytest.approx((2, 2, 2))


def test_the_interval_is_students_of_a_ratio_of_means() -> None:
    half = T * (1 / 3) ** 0.5  # the residuals are -1, 0 and 1
    assert seconds_each([9, 10, 11], [1, 1, 1]) == pytest.approx((10, 10 - half, 10 + half))
    assert seconds_each([9, 10, 11], [5, 5, 5]) == pytest.approx((2, 2 - half / 5, 2 + half / 5))
    # What takes longer has more in it: only what is left of the ratio is chance.
    for seconds, squares in (([11, 19, 30], 2), ([12, 19, 29], 6)):
        half = T * (squares / 2 / 3) ** 0.5 / 2
        assert seconds_each(seconds, [1, 2, 3]) == pytest.approx((10, 10 - half, 10 + half))


def test_no_time_is_negative() -> None:
    assert seconds_each([1, 2, 3], [1, 1, 1])[1] == 0


def test_a_duration_is_told_in_hours_with_its_bounds() -> None:
    assert in_hours((3600, 1800, 7236)) == "1.00 hours, 95 % interval 0.50 to 2.01"


def test_a_page_holds_every_table_and_takes_no_text_for_markup() -> None:
    text = page("A < B", {"One & two": [("<what>", "3 > 2"), ("x", "y")], "Last": []})
    assert text.startswith(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>A &lt; B</title>'
        '<meta name="viewport" content="width=device-width"><style>'
    )
    assert text.endswith(
        "</style><h1>A &lt; B</h1><h2>One &amp; two</h2><table>"
        "<tr><th>&lt;what&gt;</th><td>3 &gt; 2</td></tr><tr><th>x</th><td>y</td></tr></table>"
        "<h2>Last</h2><table></table>"
        "<p>The hours hold while nothing else uses the machine.</p></html>\n"
    )
