from dataclasses import replace

import pytest

from eval.uplink import claims
from eval.uplink.claims import FIXED, held_by_group, no_worse
from eval.uplink.timeliness import Timeliness


def timeliness(**changes):
    good = Timeliness(0.05, 99.0, 100.0, 0.1, 600, 0, 100.0)
    return replace(good, **changes)


@pytest.mark.parametrize(
    "worse",
    [{"w_alarm": 0.06}, {"vtr_05": 98.0}, {"vtr_1": 99.0}, {"avg_visual_delay": 0.2}],
)
def test_a_scheme_that_is_worse_in_one_column_is_found(worse):
    assert no_worse(timeliness(), timeliness())
    assert not no_worse(timeliness(**worse), timeliness())


def test_one_event_of_600_is_a_tie_and_not_strictly_one():
    ours = timeliness(vtr_1=100 - 100 / 600)
    assert no_worse(ours, timeliness())
    assert not no_worse(ours, timeliness(), lost_events=0)


@pytest.mark.parametrize("column", ["vtr_05", "vtr_1"])
def test_a_tie_is_one_event_and_no_more(column):
    for lost, holds in ((1, True), (2, False)):
        ours = timeliness(**{column: getattr(timeliness(), column) - 100 * lost / 600})
        assert no_worse(ours, timeliness()) == holds
    # The tie is of the events of ours, and the last billionth is rounding's.
    few = timeliness(events=10, vtr_1=90.0)
    assert no_worse(few, timeliness())
    assert no_worse(timeliness(vtr_1=100 - 5e-10), timeliness(), lost_events=0)
    assert not no_worse(timeliness(vtr_1=100 - 2e-9), timeliness(), lost_events=0)


def test_alarms_up_to_half_a_millisecond_apart_are_a_tie():
    assert no_worse(timeliness(w_alarm=0.05 + 5e-4), timeliness())
    assert not no_worse(timeliness(w_alarm=0.05 + 6e-4), timeliness())


@pytest.mark.parametrize("missing", ["ours", "theirs"])
def test_without_a_visual_there_is_no_delay_to_compare(missing):
    late, none = timeliness(avg_visual_delay=9.0), timeliness(avg_visual_delay=None)
    assert no_worse(*((none, late) if missing == "ours" else (late, none)))


def runs(**changes):
    """Both patterns with the paper's order; the changed schemes are changed at burst."""
    alarms = {"DAT": 0.05, "JSON-Only": 0.05, "Fixed JSON+Box": 0.06, "Fixed Box Upload": 0.07}
    names = (*alarms, "Fixed ROI Upload", "Priority-Only", "Bandwidth-Only")
    alike = {name: timeliness(w_alarm=alarms.get(name, 0.08)) for name in names}
    burst = dict(alike)
    for name, columns in changes.items():
        name = {"dat": "DAT", "box": "Fixed Box Upload", "roi": "Fixed ROI Upload"}.get(name, name)
        burst[name] = replace(burst[name], **columns)
    return {"medium": alike, "burst": burst}


@pytest.mark.parametrize(("lost_events", "holds"), [(0, False), (1, True)])
def test_dat_is_held_to_every_named_scheme_of_the_pattern(lost_events, holds):
    last = {FIXED[-1]: {"vtr_1": 100.0}, "dat": {"vtr_1": 100 - 100 / 600}}
    claim = claims._dat_against(FIXED, "burst", lost_events)
    assert claim(runs(**last)) == holds
    assert claims._dat_against(FIXED, "burst")(runs(**last))
    assert claims._dat_against(FIXED, "medium", lost_events)(runs(**last))
    assert not claims._dat_against(FIXED, "burst")(runs(dat={"w_alarm": 0.0706}))
    assert claims._dat_against(FIXED[1:], "burst")(runs(dat={"w_alarm": 0.0604}))


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"dat": {"w_alarm": 0.05 + 1e-12}}, True),
        ({"dat": {"w_alarm": 0.05 + 5e-11 * 3}}, False),
        ({"Fixed JSON+Box": {"w_alarm": 0.05}}, False),
        ({"Fixed JSON+Box": {"w_alarm": 0.07}}, False),
        ({"roi": {"w_alarm": 0.06}}, False),
        ({"roi": {"w_alarm": 0.065}}, True),
    ],
)
def test_carriers_alert_in_order(changes, holds):
    assert claims._carriers_in_order(runs(**changes)) is holds


def test_what_depends_on_the_setting_is_strict():
    ties = list(held_by_group([runs()])["fragile"].values())
    assert ties == [1, 0, 0, 0]
    changed = runs(
        box={"w_alarm": 0.08, "vtr_1": 100.5},
        roi={"vtr_1": 100.25, "avg_visual_delay": 0.09},
    )
    assert list(held_by_group([changed])["fragile"].values()) == [0, 1, 1, 1]
    never = runs(roi={"avg_visual_delay": None})
    assert list(held_by_group([never])["fragile"].values())[3] == 0
    assert (
        list(
            held_by_group([runs(**{"Fixed JSON+Box": {"avg_visual_delay": None}})])[
                "fragile"
            ].values()
        )[3]
        == 1
    )


def test_claims_are_counted_over_the_runs():
    found = held_by_group([runs(), runs(dat={"w_alarm": 0.09})])
    assert found["must_hold"] == {
        "DAT no worse than Priority-Only, burst": 1,
        "DAT no worse than Priority-Only, medium": 2,
        "DAT no worse than every fixed scheme, burst": 1,
        "DAT no worse than every fixed scheme, medium": 2,
        "W-Alarm: JSON-Only = DAT < JSON+Box < Box and ROI, burst": 1,
    }
    assert list(found) == ["must_hold", "strictly", "fragile"]
