"""The figures that the transmission study must reach, each with what was found and pass or fail."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eval.uplink.replay import TABLE_3_SCALE

Study = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One demand. `kind` says what meeting it shows: calibration, evidence or exactness."""

    kind: str
    name: str
    found: str
    demand: str
    passed: bool
    demanded: bool = True
    """False on a link that the figure was not set for: shown, but no failure."""

    @property
    def failed(self) -> bool:
        return self.demanded and not self.passed


def within(kind: str, name: str, value: float, low: float, high: float, digits: int = 1) -> Figure:
    """A number in a closed range; a bound of infinity is not shown."""
    bounds = [
        f">= {low:g}" if math.isfinite(low) else "",
        f"<= {high:g}" if math.isfinite(high) else "",
    ]
    demand = " and ".join(bound for bound in bounds if bound)
    return Figure(kind, name, f"{value:.{digits}f}", demand, low <= value <= high)


def figures(study: Study) -> list[Figure]:
    """All demands on a full study. They are set for the trace that C0 was fitted to: on another
    one only the exact properties are demanded."""
    found = [
        *_calibrated(study),
        *_claims(study),
        *_visual_deadline(study),
        *_priority_source(study),
        *_planners(study),
        *_live(study),
        *_exact(study),
    ]
    here = study["fitted_here"]
    return [replace(f, demanded=here or f.kind == "exactness") for f in found]


def _mean(row: Mapping[str, Any], column: str) -> float:
    value: float = row[column]["mean"]
    return value


def _calibrated(study: Study) -> list[Figure]:
    rows = {(r["block"][0], r["method"]): r for r in study["table3"]}
    dat, b_only, p_only = (rows["B", m] for m in ("DAT", "Bandwidth-Only", "Priority-Only"))
    medium, medium_p = rows["A", "DAT"], rows["A", "Priority-Only"]

    def change(ours: Mapping[str, Any], theirs: Mapping[str, Any], column: str) -> float:
        return 100 * (_mean(ours, column) / _mean(theirs, column) - 1)

    delay, inf = "avg_visual_delay", math.inf
    against_b, against_p = "against Bandwidth-Only, %", "against Priority-Only, %"
    wanted = [
        (f"burst W-Alarm {against_b}", change(dat, b_only, "w_alarm"), -82, -74, 1),
        (f"burst W-Alarm {against_p}", change(dat, p_only, "w_alarm"), -75, -65, 1),
        (f"burst visual delay {against_b}", change(dat, b_only, delay), -78, -67, 1),
        (f"burst visual delay {against_p}", change(dat, p_only, delay), -63, -45, 1),
        (f"medium visual delay {against_p}", change(medium, medium_p, delay), -46, -34, 1),
        ("burst DAT VTR@0.5, %", _mean(dat, "vtr_05"), 97.5, inf, 2),
        ("burst DAT VTR@1, %", _mean(dat, "vtr_1"), 99.0, inf, 2),
        ("burst DAT visual delay, s", _mean(dat, delay), -inf, 0.125, 4),
        ("burst DAT W-Alarm, s", _mean(dat, "w_alarm"), 0.0520, 0.0530, 4),
    ]
    return [within("calibration", *demand) for demand in wanted]


def _claims(study: Study) -> list[Figure]:
    c0, perturbed = study["claims_c0"], study["perturbation"]
    found = [
        _all_of("calibration", f"{name} (C0, seeds)", count, c0["runs"])
        for name, count in c0["must_hold"].items()
    ]
    found += [
        _all_of("evidence", f"{name} (perturbed draws)", count, perturbed["draws"])
        for name, count in perturbed["must_hold"].items()
    ]
    links = study["other_links"]
    claims = [name for name in c0["must_hold"] if name in links[0]]
    held = sum(all(row[name] for name in claims) for row in links)
    return [*found, _all_of("evidence", "all of these on other links", held, len(links))]


def _all_of(kind: str, name: str, count: int, of: int) -> Figure:
    return Figure(kind, name, f"{count} of {of}", "all", count == of)


def _visual_deadline(study: Study) -> list[Figure]:
    rows = {row["visual_deadline"]: row for row in study["fig5"]}
    gain = _mean(rows[1.5], "vtr_1") - _mean(rows[1.0], "vtr_1")
    after = max(_mean(r, "vtr_1") for d, r in rows.items() if d > 1.5) - _mean(rows[1.5], "vtr_1")
    alarms = [_mean(row, "w_alarm") for row in rows.values()]
    inf = math.inf
    return [
        within("evidence", "Fig. 5: VTR@1 from D_vis 1.0 to 1.5 s, points", gain, 5, inf),
        within("evidence", "Fig. 5: VTR@1 beyond 1.5 s, points", after, -inf, 0.5, 2),
        within("evidence", "Fig. 5: spread of W-Alarm, s", max(alarms) - min(alarms), 0, 1e-9, 9),
    ]


def _priority_source(study: Study) -> list[Figure]:
    rows = {(row["source"], row["method"]): row for row in study["fig6"]}
    found = []
    for source in ("predicted", "ground truth"):
        dat, other = rows[source, "DAT"], rows[source, "Priority-Only"]
        better = [
            _mean(dat, "w_alarm") < _mean(other, "w_alarm"),
            _mean(dat, "vtr_05") > _mean(other, "vtr_05"),
            _mean(dat, "vtr_1") > _mean(other, "vtr_1"),
            _mean(dat, "avg_visual_delay") < _mean(other, "avg_visual_delay"),
        ]
        name = f"Fig. 6: DAT beats Priority-Only, {source} priorities, columns"
        found.append(_all_of("evidence", name, sum(better), 4))
    return found


def _beyond(study: Study, **case: Any) -> dict[str, Mapping[str, Any]]:
    return {
        row["planner"]: row
        for row in study["beyond"]
        if all(row[key] == value for key, value in case.items())
    }


def _planners(study: Study) -> list[Figure]:
    scarce = _beyond(study, scale=0.1, visual_deadline=1.0, arrival="spread over 1 s")
    gain = _mean(scarce["dat_plus"], "on_time") - _mean(scarce["dat"], "on_time")
    small = [row for row in study["gaps"] if row["visuals"] <= 40]
    worst = max(row["dat_plus"]["worst"] for row in small)
    by_gain = "dat_plus against dat, on-time priority at 0.1x, points"
    by_optimum = "dat_plus below the optimum for N <= 40, worst, %"
    return [
        within("evidence", by_gain, gain, 4, math.inf),
        within("exactness", by_optimum, worst, -math.inf, 1e-6, 6),
    ]


def _live(study: Study) -> list[Figure]:
    found, inf, parse = [], math.inf, study["parse_json"]
    for arrival, limit in (("simultaneous", 1.05), ("spread over 1 s", 2.0)):
        rows = _beyond(study, scale=TABLE_3_SCALE, arrival=arrival)
        live, alone = (_mean(rows[p], "w_alarm") - parse for p in ("dat_live", "json_live"))
        bound = rows["clairvoyant bound"]
        below = _mean(bound, "vtr_05") - _mean(bound, "dat_live_vtr_05")
        name = f"dat_live alarm against JSON-only's, {arrival}"
        found.append(within("evidence", name, live / alone, -inf, limit, 3))
        name = f"dat_live VTR@0.5 below the bound, {arrival}, points"
        found.append(within("evidence", name, below, -inf, 1.0, 2))
    rows = _beyond(study, scale=TABLE_3_SCALE, arrival="spread over 1 s")
    share = 100 * (1 - _mean(rows["dat_live"], "w_alarm") / _mean(rows["dat"], "w_alarm"))
    found.append(within("evidence", "slot waiting in the slotted alarm delay, %", share, 85, 95))
    vtr = {row["case"]: _mean(row, "vtr_1") for row in study["forecast"]}
    true = vtr["dat_live, true"]
    moved = max(abs(vtr[f"dat_live, 30 % too {side}"] - true) for side in ("low", "high"))
    name = "dat_live VTR@1 under a 30 % biased estimate, points"
    return [*found, within("evidence", name, moved, -inf, 0.5, 2)]


def _exact(study: Study) -> list[Figure]:
    return [
        Figure("exactness", f"{name}, violations", str(count), "0", count == 0)
        for name, count in study["exact"].items()
    ]


def speed_figures(rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """The planner's speed, met in milliseconds or, on a slower machine, in argsorts."""
    return [
        Figure(
            "speed",
            f"plan of {row['events']:,} events, ms (argsorts of 100,000 in the same run)",
            f"{row['plan_ms']:.2f} ({row['argsorts']:.3f})",
            f"<= {row['limit_ms']:g} ({row['limit_argsorts']:.3f})",
            row["plan_ms"] <= row["limit_ms"] or row["argsorts"] <= row["limit_argsorts"],
        )
        for row in rows
        if row["limit_ms"]
    ]


def as_text(found: Sequence[Figure]) -> str:
    """One line a figure."""
    words = {
        (True, True): "pass",
        (True, False): "FAIL",
        (False, True): "yes",
        (False, False): "no",
    }
    lines = [
        f"{words[f.demanded, f.passed]:<4}  {f.kind:<12} {f.name:<76} {f.found:>14}   ({f.demand})"
        for f in found
    ]
    demanded = [f for f in found if f.demanded]
    lines.append(f"{sum(f.passed for f in demanded)} of {len(demanded)} pass")
    if shown := [f for f in found if not f.demanded]:
        lines.append(
            f"another trace than C0 was fitted to: {sum(f.passed for f in shown)} of {len(shown)} "
            "figures hold here too"
        )
    return "\n".join(lines)
