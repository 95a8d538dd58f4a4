"""A transmission study with few rows, whose figures are easy to reckon."""

from typing import Any

from eval.uplink.beyond import SIMULTANEOUS_ARRIVAL, SPREAD_ARRIVAL
from eval.uplink.timeliness import COLUMNS, COLUMNS_FROM_CAPTURE


def spreads(*means: float, columns: tuple[str, ...] = COLUMNS) -> dict[str, Any]:
    """Each mean with a deviation of a quarter."""
    return {name: {"mean": mean, "std": 0.25} for name, mean in zip(columns, means, strict=True)}


def small_study() -> dict[str, Any]:
    dat = spreads(0.0525, 98.0, 99.5, 0.12)
    priority_only = spreads(0.175, 90.0, 95.0, 0.25)
    bandwidth_only = spreads(0.25, 80.0, 90.0, 0.5)
    claims = {"must_hold": {"a < b": 3}, "strictly": {"a < b": 2}, "fragile": {"c < d": 1}}
    return {
        "seeds": 3,
        "parse_json": 0.05,
        "fitted_here": True,
        "window": "seconds 0 to 600 of 900 of the trace",
        "table3": [
            _row("A. Medium (0.25x)", "Priority-Only", priority_only),
            _row("A. Medium (0.25x)", "DAT", dat | {"avg_visual_delay": {"mean": 0.15, "std": 0}}),
            _row("B. Burst (0.25x)", "Bandwidth-Only", bandwidth_only),
            _row("B. Burst (0.25x)", "Priority-Only", priority_only),
            _row("B. Burst (0.25x)", "DAT", dat),
            _row("C. Carrier (burst, 0.25x)", "JSON-Only", dat | {"vtr_1": None}, never=2.5),
        ],
        "fig5": [
            {"visual_deadline": 1.0, **spreads(0.05, 90.0, 92.0, 0.1)},
            {"visual_deadline": 1.5, **spreads(0.05, 90.0, 98.0, 0.1)},
            {"visual_deadline": 2.0, **spreads(0.05, 90.0, 98.25, 0.1)},
            {"visual_deadline": 3.0, **spreads(0.06, 90.0, 97.0, 0.1)},
        ],
        "fig6": [
            {"source": source, "method": method, **columns}
            for source in ("predicted", "ground truth")
            for method, columns in (("Priority-Only", priority_only), ("DAT", dat))
        ],
        "claims_c0": {"runs": 3, **claims},
        "settings": [{"pattern": "medium", "scale": 0.25, "method": "DAT", **dat}],
        "perturbation": {"draws": 4, **claims},
        "other_links": [
            {"link": "constant", "a < b": True, "dat": _of(dat), "priority_only": _of(dat)},
            {"link": "outages", "a < b": False, "dat": _of(dat), "priority_only": _of(dat)},
        ],
        "beyond": [
            *_beyond(0.25, 1.5, SPREAD_ARRIVAL, live=0.0625, dat=0.5),
            *_beyond(0.25, 1.5, SIMULTANEOUS_ARRIVAL, live=0.0555, dat=0.5),
            *_beyond(0.1, 1.0, SPREAD_ARRIVAL, live=1.0, dat=2.0),
        ],
        "forecast": [
            {"case": f"dat_live, {case}", **_from_capture(0.1, 90.0, vtr_1, 80.0)}
            for case, vtr_1 in (("true", 95.0), ("30 % too low", 94.75), ("30 % too high", 95.5))
        ],
        "cameras": [
            {
                "cameras": 2,
                "crowded": crowded,
                "planner": "dat_live",
                "w_alarm": {"mean": 0.1, "std": 0.01},
                "on_time": {"mean": 90.0, "std": 1.0},
                "worst": {"mean": 80.0, "std": 2.0},
            }
            for crowded in (False, True)
        ],
        "gaps": [
            {
                "visuals": visuals,
                "budget": 0.25,
                "instances": 60,
                "dat": {"mean": 4.0, "worst": 9.0},
                "dat_plus": {"mean": worst / 2, "worst": worst},
            }
            for visuals, worst in ((40, 0.0), (100, 1.0))
        ],
        "exact": {"the budget is kept": 0, "alerts come first": 1},
    }


def _row(block: str, method: str, columns: dict[str, Any], never: float = 0.0) -> dict[str, Any]:
    alerted = {"no_alert": {"mean": never}, "w_alarm_of_alerted": {"mean": 0.04, "std": 0.01}}
    paper = dict(zip(COLUMNS, (0.0531, 98.33, 99.17, 0.1081), strict=True))
    return {"block": block, "method": method, **columns, **alerted, "paper": paper}


def _of(columns: dict[str, Any]) -> dict[str, float]:
    return {name: found["mean"] for name, found in columns.items()}


def _from_capture(*means: float) -> dict[str, Any]:
    assert COLUMNS_FROM_CAPTURE[3:] == ("avg_visual_delay", "on_time"), COLUMNS_FROM_CAPTURE
    alarm, vtr_05, vtr_1, on_time = means
    return spreads(alarm, vtr_05, vtr_1, 0.2, on_time, columns=COLUMNS_FROM_CAPTURE)


def _beyond(
    scale: float, deadline: float, arrival: str, live: float, dat: float
) -> list[dict[str, Any]]:
    labels = {"scale": scale, "visual_deadline": deadline, "arrival": arrival}
    bound = {
        "vtr_05": 99.0,
        "dat_live_vtr_05": 97.5,
        "dat_live_vtr_05_if_equal": 98.5,
        "priority_05": 96.0,
        "dat_live_priority_05": 95.5,
        "avg_visual_delay": 0.1,
    }
    return [
        {**labels, "planner": "dat", **_from_capture(dat, 90.0, 95.0, 60.0)},
        {**labels, "planner": "dat_plus", **_from_capture(dat, 90.0, 95.0, 66.0)},
        {**labels, "planner": "dat_live", **_from_capture(live, 90.0, 95.0, 80.0)},
        {**labels, "planner": "json_live", **_from_capture(0.055, 0.0, 0.0, 0.0)},
        {
            **labels,
            "planner": "clairvoyant bound",
            **{name: {"mean": mean, "std": 0.5} for name, mean in bound.items()},
        },
    ]
