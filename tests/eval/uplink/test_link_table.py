"""One link's claims, as what was replayed of it shows them."""

from dataclasses import replace

import scipy.optimize  # noqa: F401  the study's workers are forked and share it

from eval.uplink import acceptance, study
from eval.uplink.link_table import LinkFigures, as_markdown, link
from eval.uplink.trace import fingerprint
from tests.eval.uplink.crowded import SETTING, TRACE


def test_a_link_is_named_with_what_of_it_was_replayed_and_its_claims() -> None:
    long = TRACE * 8
    few = replace(SETTING, events=6, trace=replace(SETTING.trace, start=1000))
    fitted = replace(few, trace=replace(few.trace, fitted_to=fingerprint(long, few.trace)))
    found = link("bus", fitted, long, seeds=1, draws=1)
    assert found == LinkFigures(
        name="bus",
        seconds=1280,
        replayed="1,000 to 1,060",
        fitted_here=True,
        figures=acceptance.evidence(study.evidence(fitted, long, 1, 1)),
    )
    assert {figure.kind for figure in found.figures} == {"evidence"}
    assert found.as_json()["figures"][0]["name"] == found.figures[0].name
    short = link("cab", few, long[:1030], seeds=1, draws=1)
    assert (short.seconds, short.replayed, short.fitted_here) == (1030, "970 to 1,030", False)
    rows = as_markdown([short]).splitlines()
    assert rows[0] == "| claim | demanded | cab | holds on |"
    assert len(rows) == 3 + len(short.figures)
