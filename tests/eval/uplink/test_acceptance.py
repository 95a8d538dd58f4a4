from dataclasses import replace

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
