"""When a fault stops a build, and what the message names."""

from pathlib import Path
from typing import Any

import pytest

from dat_runtime.errors import DataError
from data.prep.importers.faults import LOSING, REFUSED, RULES, WANTED, Fault, refuse, summary

ROOT = Path("/source")
HARMLESS = Fault("polygon-row", "a.txt", 2, "a polygon of 5 points")
WISHED = Fault("none-class", "b.txt", 3, "class none")
BAD = Fault("malformed-row", "c.txt", 4, "three numbers")


def refusal(*faults: Fault, **given: Any) -> str:
    with pytest.raises(DataError) as refused:
        refuse(faults, ROOT.joinpath, **{"strict": False, **given})
    return str(refused.value)


def test_only_what_has_no_repair_stops_a_build() -> None:
    refuse([HARMLESS, WISHED], ROOT.joinpath, strict=False)
    assert refusal(HARMLESS, WISHED, BAD) == (
        "/source/c.txt:4: malformed-row: three numbers (--on-bad-label skip leaves such frames out)"
    )
    refuse([HARMLESS, WISHED, BAD], ROOT.joinpath, strict=False, skip_bad_labels=True)


def test_strict_lets_pass_what_was_asked_for_alone() -> None:
    refuse([WISHED], ROOT.joinpath, strict=True)
    advice = " (--strict refuses every fault; without it, those with a repair are repaired)"
    told = f"/source/a.txt:2: polygon-row: a polygon of 5 points{advice}"
    assert refusal(WISHED, HARMLESS, strict=True) == told
    assert refusal(HARMLESS, strict=True, skip_bad_labels=True) == told


def test_ten_faults_are_named_and_the_others_counted() -> None:
    skip = " (--on-bad-label skip leaves such frames out)"
    whole = Fault("unreadable-label", "d.txt", None, "not UTF-8")
    assert refusal(BAD, whole, BAD) == (
        "/source/c.txt:4: malformed-row: three numbers; 2 further: d.txt unreadable-label, "
        f"c.txt:4 malformed-row{skip}"
    )
    assert refusal(whole).startswith("/source/d.txt: unreadable-label: not UTF-8")
    nine = ", ".join(["c.txt:4 malformed-row"] * 9)
    first = "/source/c.txt:4: malformed-row: three numbers"
    assert refusal(*[BAD] * 10) == f"{first}; 9 further: {nine}{skip}"
    assert refusal(*[BAD] * 11) == f"{first}; 10 further: {nine}, and 1 more{skip}"
    assert refusal(*[BAD] * 12) == f"{first}; 11 further: {nine}, and 2 more{skip}"


def test_a_kind_without_a_rule_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no rule for a fault of the kind 'odd'"):
        Fault("odd", "a.txt", None, "")


def test_a_summary_counts_kinds_in_the_order_of_their_rules() -> None:
    found = summary([BAD, HARMLESS, BAD])
    assert list(found["counts"].items()) == [("malformed-row", 2), ("polygon-row", 1)]
    assert found["rules"] == {kind: RULES[kind] for kind in ("malformed-row", "polygon-row")}
    assert found["list"][1] == {
        "kind": "polygon-row",
        "file": "a.txt",
        "line": 2,
        "detail": "a polygon of 5 points",
    }
    assert summary([]) == {"counts": {}, "rules": {}, "list": []}


def test_what_is_refused_loses_frames_and_nobody_wants_it() -> None:
    assert REFUSED < LOSING < RULES.keys()
    assert "malformed-row" in REFUSED
    assert {"orphan-image", "conflicting-labels"} <= LOSING - REFUSED
    assert not WANTED & REFUSED
    assert "polygon-row" not in LOSING
