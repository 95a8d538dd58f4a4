"""docs/data.md says what the commands and rules are."""

from pathlib import Path

from data.prep import build, download
from data.prep.importers.faults import RULES
from data.prep.pictures.looks import SAME_PICTURE, SAME_PLACE
from data.prep.pictures.unchanged import SAME_PIXELS
from data.prep.splitting import agreement, conflicts, resolution

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text()


def test_every_option_of_the_build_is_documented():
    options = {o for action in build.parser()._actions for o in action.option_strings}
    assert [o for o in options - {"-h", "--help"} if o not in PAGE] == []


def test_every_fault_is_documented_with_its_rule():
    assert [kind for kind, rule in RULES.items() if f"| {kind} | {rule} |" not in PAGE] == []


def test_the_sets_and_radii_of_the_page_are_those_of_the_code():
    assert all(name in PAGE for name in download.PUBLIC)
    assert f"at most {SAME_PICTURE} bits in one" in PAGE
    assert f"at most {SAME_PLACE} bits" in PAGE


def test_the_rule_of_contradictions_on_the_page_is_that_of_the_code():
    assert all(f"| {kind} |" in PAGE for kind in agreement.KINDS)
    assert all(f"| `{choice}`" in PAGE for choice in resolution.CHOICES)
    assert f"at most {conflicts.RADIUS} bits in one of eight" in PAGE
    assert f"to less than IoU {agreement.SAME_BOX}" in PAGE
    assert f"a correlation of {SAME_PIXELS}" in PAGE
