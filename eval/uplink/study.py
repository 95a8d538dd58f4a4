"""The whole transmission study: Table 3 and everything around it, as plain values."""

from typing import Any

from eval.paper import printed
from eval.uplink import beyond, cameras, claims, exactness, gaps, studies, trace
from eval.uplink.replay import TABLE_3_PATTERNS, TABLE_3_SCALE, compare, compare_at_table_3
from eval.uplink.setting import Setting
from eval.uplink.timeliness import COLUMNS, averages
from eval.uplink.trace import Rates

A, B, C = "A. Medium (0.25x)", "B. Burst (0.25x)", "C. Carrier (burst, 0.25x)"
PATTERNS = {A: "medium", B: "burst", C: "burst"}
"""The arrival pattern of each block of Table 3."""

QUICK_SEEDS = 5
"""Runs per row of a quick study, at most."""

DRAWS = 100
"""Perturbed settings that are drawn."""

GAP_INSTANCES = 60
"""Random instances for each number of visuals and each budget."""

OTHER_STUDY_SEEDS = 10
"""Runs per row of the studies whose rows differ by far more than their spread."""

CAMERA_SEEDS = 3
"""Runs per row of the study of cameras."""


def table_3(setting: Setting, rates: Rates, seeds: int) -> list[dict[str, Any]]:
    """The rows of Table 3: ours as mean and standard deviation over seeds, and the paper's.

    Seconds and percent, as the paper prints them. `no_alert` is the number of a run's events for
    which a scheme without JSON never raised an alert; `w_alarm_of_alerted` leaves these out.
    """
    means = {}
    for pattern in TABLE_3_PATTERNS:
        runs = [compare(setting, rates, pattern, TABLE_3_SCALE, seed) for seed in range(seeds)]
        means[pattern] = averages(runs, (*COLUMNS, "no_alert", "w_alarm_of_alerted"))
    rows = []
    for paper in printed.table(3):
        block, method = paper["block"], paper["method"]
        rows.append(
            {
                "block": block,
                "method": method,
                **means[PATTERNS[block]][method],
                "paper": {column: paper[column] for column in COLUMNS},
            }
        )
    return rows


def claims_on_c0(setting: Setting, rates: Rates, seeds: int) -> dict[str, Any]:
    """In how many of the runs behind Table 3 its orderings hold, one by one."""
    runs = [compare_at_table_3(setting, rates, seed) for seed in range(seeds)]
    return {"runs": seeds, **claims.held_by_group(runs)}


def evidence(setting: Setting, bandwidth: Rates, seeds: int, draws: int) -> dict[str, Any]:
    """The part of the study that `acceptance.evidence` reads: what a link shows of each claim.

    Args:
        bandwidth: the whole trace.
        draws: perturbed settings.
    """
    rates = trace.window(bandwidth, setting.trace)
    few = min(seeds, OTHER_STUDY_SEEDS)
    return {
        "parse_json": setting.parse["json"],
        "table3": table_3(setting, rates, seeds),
        "fig5": studies.deadline_study(setting, rates, seeds),
        "fig6": studies.priority_study(setting, rates, seeds),
        "claims_c0": claims_on_c0(setting, rates, seeds),
        "perturbation": studies.perturbation_study(setting, bandwidth, draws),
        "other_links": studies.other_links(setting, bandwidth),
        "beyond": beyond.beyond_table(setting, rates, seeds),
        "forecast": beyond.forecast_study(setting, rates, few),
    }


def study(setting: Setting, bandwidth: Rates, seeds: int, quick: bool) -> dict[str, Any]:
    """All results by name, as study.json holds them.

    Args:
        bandwidth: the whole trace; the setting says which window of it is replayed.
        quick: Table 3 and Figures 5 and 6 alone.
    """
    rates = trace.window(bandwidth, setting.trace)
    start = trace.window_start(bandwidth, setting.trace)
    fingerprint = trace.fingerprint(bandwidth, setting.trace)
    results: dict[str, Any] = {
        "seeds": seeds,
        "parse_json": setting.parse["json"],
        "fitted_here": fingerprint == setting.trace.fitted_to,
        "window": f"seconds {start} to {start + len(rates)} of {len(bandwidth)} of the trace",
    }
    results["table3"] = table_3(setting, rates, seeds)
    print(f"[transmission] Table 3, {seeds} seeds", flush=True)
    results["fig5"] = studies.deadline_study(setting, rates, seeds)
    results["fig6"] = studies.priority_study(setting, rates, seeds)
    print("[transmission] Figures 5 and 6", flush=True)
    if quick:
        return results
    few = min(seeds, OTHER_STUDY_SEEDS)
    results["claims_c0"] = claims_on_c0(setting, rates, seeds)
    results["settings"] = studies.all_settings(setting, rates, few)
    results["perturbation"] = studies.perturbation_study(setting, bandwidth, DRAWS)
    results["other_links"] = studies.other_links(setting, bandwidth)
    results["beyond"] = beyond.beyond_table(setting, rates, seeds)
    results["forecast"] = beyond.forecast_study(setting, rates, few)
    results["cameras"] = cameras.camera_study(setting, rates, CAMERA_SEEDS)
    results["gaps"] = gaps.gap_study(GAP_INSTANCES)
    results["exact"] = exactness.exact_properties(setting, rates, seeds)
    return results
