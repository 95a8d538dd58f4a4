"""The orderings that Table 3 shows, as claims that a run keeps or breaks.

MUST_HOLD   what the study demands; a difference of one event in the rates counts as a tie
STRICTLY    DAT no worse than the others, without that tie
FRAGILE     what depends on the setting: shown, never demanded
"""

import math
from collections.abc import Callable, Mapping, Sequence

from eval.uplink.replay import Runs
from eval.uplink.timeliness import Timeliness

FIXED = ("Fixed Box Upload", "Fixed ROI Upload", "Fixed JSON+Box")

ALARM_TIE = 5e-4
"""Differences of W-Alarm up to this many seconds count as a tie."""

Claim = Callable[[Runs], bool]


def no_worse(ours: Timeliness, theirs: Timeliness, lost_events: int = 1) -> bool:
    """Whether `ours` is better or ties in every column of Table 3.

    DAT drops a visual that is too old since capture and a baseline sends it, so rates that
    differ by one event count as a tie; `lost_events=0` is the strict comparison.
    """
    tie = 100 * lost_events / ours.events + 1e-9  # the last term is for rounding
    alarm_holds = ours.w_alarm <= theirs.w_alarm + ALARM_TIE
    rates_hold = ours.vtr_05 >= theirs.vtr_05 - tie and ours.vtr_1 >= theirs.vtr_1 - tie
    if ours.avg_visual_delay is None or theirs.avg_visual_delay is None:
        delay_holds = True  # no visual arrived, so there is nothing to compare
    else:
        delay_holds = ours.avg_visual_delay <= theirs.avg_visual_delay
    return alarm_holds and rates_hold and delay_holds


def _dat_against(names: Sequence[str], pattern: str, lost_events: int = 1) -> Claim:
    def claim(runs: Runs) -> bool:
        schemes = runs[pattern]
        return all(no_worse(schemes["DAT"], schemes[name], lost_events) for name in names)

    return claim


def _carriers_in_order(runs: Runs) -> bool:
    """Block C: JSON sent first alerts earliest, then JSON beside boxed images, then a visual."""
    w_alarm = {name: run.w_alarm for name, run in runs["burst"].items()}
    by_visual = min(w_alarm["Fixed Box Upload"], w_alarm["Fixed ROI Upload"])
    return (
        math.isclose(w_alarm["JSON-Only"], w_alarm["DAT"], rel_tol=1e-9)
        and w_alarm["DAT"] < w_alarm["Fixed JSON+Box"] < by_visual
    )


MUST_HOLD: dict[str, Claim] = {
    "DAT no worse than Priority-Only, burst": _dat_against(["Priority-Only"], "burst"),
    "DAT no worse than Priority-Only, medium": _dat_against(["Priority-Only"], "medium"),
    "DAT no worse than every fixed scheme, burst": _dat_against(FIXED, "burst"),
    "DAT no worse than every fixed scheme, medium": _dat_against(FIXED, "medium"),
    "W-Alarm: JSON-Only = DAT < JSON+Box < Box and ROI, burst": _carriers_in_order,
}

STRICTLY: dict[str, Claim] = {
    "DAT no worse than Priority-Only, burst": _dat_against(["Priority-Only"], "burst", 0),
    "DAT no worse than Priority-Only, medium": _dat_against(["Priority-Only"], "medium", 0),
    "DAT no worse than every fixed scheme, burst": _dat_against(FIXED, "burst", 0),
    "DAT no worse than every fixed scheme, medium": _dat_against(FIXED, "medium", 0),
}


def _box_alarms_before_roi(runs: Runs) -> bool:
    burst = runs["burst"]
    return burst["Fixed Box Upload"].w_alarm < burst["Fixed ROI Upload"].w_alarm


def _box_in_time_before_roi(runs: Runs) -> bool:
    burst = runs["burst"]
    return burst["Fixed Box Upload"].vtr_1 > burst["Fixed ROI Upload"].vtr_1


def _roi_in_time_before_bandwidth_only(runs: Runs) -> bool:
    burst = runs["burst"]
    return burst["Fixed ROI Upload"].vtr_1 > burst["Bandwidth-Only"].vtr_1


def _roi_visual_before_json_box(runs: Runs) -> bool:
    burst = runs["burst"]
    roi_delay = burst["Fixed ROI Upload"].avg_visual_delay or math.inf
    json_box_delay = burst["Fixed JSON+Box"].avg_visual_delay or math.inf
    return roi_delay < json_box_delay


FRAGILE: dict[str, Claim] = {
    "W-Alarm: Fixed Box < Fixed ROI, burst": _box_alarms_before_roi,
    "VTR@1: Fixed Box > Fixed ROI, burst": _box_in_time_before_roi,
    "VTR@1: Fixed ROI > Bandwidth-Only, burst": _roi_in_time_before_bandwidth_only,
    "visual delay: Fixed ROI < Fixed JSON+Box, burst": _roi_visual_before_json_box,
}

GROUPS: dict[str, dict[str, Claim]] = {
    "must_hold": MUST_HOLD,
    "strictly": STRICTLY,
    "fragile": FRAGILE,
}


def held(runs: Sequence[Runs], claims: Mapping[str, Claim]) -> dict[str, int]:
    """In how many runs each claim held."""
    counts = dict.fromkeys(claims, 0)
    for run in runs:
        for name, claim in claims.items():
            counts[name] += claim(run)
    return counts


def held_by_group(runs: Sequence[Runs]) -> dict[str, dict[str, int]]:
    """The same for each of the three groups."""
    return {group: held(runs, claims) for group, claims in GROUPS.items()}
