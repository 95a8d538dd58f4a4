"""The transmission study as text: every table, and what it is worth."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eval.uplink.timeliness import COLUMNS

CALIBRATION = (
    "C0 was fitted to the paper's Table 3 on the Zoom series of the 5G Traffic sets, so agreement "
    "there is calibration, not evidence. The evidence is what holds on perturbed settings and on "
    "other links."
)
TITLES = {
    "w_alarm": "W-Alarm (s)",
    "vtr_05": "VTR@0.5s (%)",
    "vtr_1": "VTR@1s (%)",
    "avg_visual_delay": "Avg visual delay (s)",
    "on_time": "priority shown in time (%)",
}
Row = Mapping[str, Any]


def report(found: Mapping[str, Any]) -> str:
    """study.md; a quick study has the first three parts only."""
    parts = ["# Transmission study\n", table_3(found), _fig_5(found), _fig_6(found)]
    if "settings" in found:
        parts += [
            _settings(found),
            _claims(found),
            _other_links(found),
            _beyond(found),
            _forecast(found),
            _cameras(found),
            _gaps(found),
        ]
    return "\n".join(parts)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _number(column: str, value: float | None) -> str:
    return "-" if value is None else f"{value:.{2 if column[0] in 'vo' else 4}f}"


def _spread(row: Row, column: str) -> str:
    """Mean ± standard deviation."""
    ours = row.get(column)
    if ours is None:
        return "-"
    return f"{_number(column, ours['mean'])} ± {_number(column, ours['std'])}"


def _spreads(row: Row, columns: Sequence[str]) -> list[str]:
    return [_spread(row, column) for column in columns]


def table_3(found: Mapping[str, Any]) -> str:
    """Table 3, ours with the paper's figure in brackets."""
    rows, block = [], ""
    for row in found["table3"]:
        if row["block"] != block:
            block = row["block"]
            rows.append([f"**Block {block}**", *[""] * len(COLUMNS)])
        cells = [
            f"{_spread(row, c)} ({_number(c, row['paper'][c])})" if row[c] else "-" for c in COLUMNS
        ]
        rows.append([row["method"], *cells])
    return (
        f"## Table 3\n\nMean ± standard deviation over {found['seeds']} seeds, the paper's figure "
        f"in brackets. {CALIBRATION}\n\n" + _table(["Method", *(TITLES[c] for c in COLUMNS)], rows)
    )


def _fig_5(found: Mapping[str, Any]) -> str:
    rows = [[f"{row['visual_deadline']:g}", *_spreads(row, COLUMNS)] for row in found["fig5"]]
    return (
        "## Fig. 5: visual deadline\n\nDAT, burst, 0.25x. A visual's age counts from capture: "
        "counted from queue entry no deadline of 1 s or more could ever bind.\n\n"
        + _table(["D_vis (s)", *(TITLES[c] for c in COLUMNS)], rows)
    )


def _fig_6(found: Mapping[str, Any]) -> str:
    rows = [[row["source"], row["method"], *_spreads(row, COLUMNS)] for row in found["fig6"]]
    return (
        "## Fig. 6: source of priorities\n\nBurst, 0.25x. Predicted priorities have 1.17 % wrong "
        "levels (1 - SevAcc of Table 1) and scores with noise of 0.1, our choice; W-Alarm is "
        "weighted by the true ones in all rows.\n\n"
        + _table(["Priorities", "Method", *(TITLES[c] for c in COLUMNS)], rows)
    )


def _settings(found: Mapping[str, Any]) -> str:
    rows = [
        [row["pattern"], f"{row['scale']:g}x", row["method"], *_spreads(row, COLUMNS)]
        for row in found["settings"]
    ]
    return "## All arrival patterns and bandwidth scales\n\n" + _table(
        ["Arrivals", "Bandwidth", "Method", *(TITLES[c] for c in COLUMNS)], rows
    )


def _claims(found: Mapping[str, Any]) -> str:
    c0, perturbed = found["claims_c0"], found["perturbation"]
    words = {"must_hold": "", "strictly": "strictly: ", "fragile": "fragile: "}
    rows = [
        [word + name, f"{c0[group][name]} of {c0['runs']}", f"{count} of {perturbed['draws']}"]
        for group, word in words.items()
        for name, count in perturbed[group].items()
    ]
    return (
        "## What holds elsewhere\n\nHow often each ordering holds: on C0's seeds, and when sizes, "
        "arrival rates, bandwidth and window are drawn at random within ±50 %. DAT drops a visual "
        "that is too old since capture and a baseline sends it all the same, so a difference of "
        "one event of 600 counts as a tie, except where it says strictly. The paper's own order in "
        "the fragile ones depends on the setting.\n\n"
        + _table(["Ordering", "C0 (calibration)", "Perturbed (evidence)"], rows)
    )


def _other_links(found: Mapping[str, Any]) -> str:
    rows = []
    for row in found["other_links"]:
        held = [value for name, value in row.items() if isinstance(value, bool)]
        cells = [
            f"{_number(c, row['dat'][c])} / {_number(c, row['priority_only'][c])}" for c in COLUMNS
        ]
        rows.append([row["link"], f"{sum(held)} of {len(held)}", *cells])
    return (
        "## Links that C0 was not fitted to\n\nDAT / Priority-Only at burst, 0.25x, one run each, "
        "and how many of the orderings that must hold do.\n\n"
        + _table(["Link", "Hold", *(TITLES[c] for c in COLUMNS)], rows)
    )


def _beyond(found: Mapping[str, Any]) -> str:
    columns = (*COLUMNS, "on_time")
    rows = [
        [
            f"{row['scale']:g}x, {row['visual_deadline']:g} s",
            row["arrival"],
            row["planner"],
            *_spreads(row, columns),
        ]
        for row in found["beyond"]
    ]
    return (
        "## Beyond the paper, counted from capture\n\nBurst. `dat` is Algorithm 1, `dat_plus` "
        "selects the visuals of a slot optimally, short slots keep back what is larger than one, "
        "`dat_live` does not wait for slots; with a first "
        "layer a visual counts once a quarter of its bytes is there. `json_live` sends alerts "
        "only. No scheduler beats the clairvoyant bounds (visuals within 0.5 s; mean delay when "
        "all are delivered).\n\n"
        + _table(
            ["Bandwidth, D_vis", "Burst arrives", "Planner", *(TITLES[c] for c in columns)], rows
        )
    )


def _forecast(found: Mapping[str, Any]) -> str:
    columns = (*COLUMNS, "on_time")
    rows = [[row["case"], *_spreads(row, columns)] for row in found["forecast"]]
    return (
        "## A wrong bandwidth\n\nBurst, 0.25x, counted from capture: what the planner is told "
        "differs from what the link carries.\n\n"
        + _table(["Planner, bandwidth", *(TITLES[c] for c in columns)], rows)
    )


def _cameras(found: Mapping[str, Any]) -> str:
    rows = [
        [
            str(row["cameras"]),
            "one has five times the bursts" if row["crowded"] else "alike",
            row["planner"],
            _spread(row, "w_alarm"),
            _spread(row, "on_time"),
            _spread({"v": row["worst"]}, "v"),
        ]
        for row in found["cameras"]
    ]
    return (
        "## Several cameras on one link\n\nBurst, 0.1x, counted from capture. Where "
        "one camera crowds the link, the last column is the worst of the others.\n\n"
        + _table(
            [
                *("Cameras", "Load", "Planner", TITLES["w_alarm"], TITLES["on_time"]),
                "worst camera's (%)",
            ],
            rows,
        )
    )


def _gaps(found: Mapping[str, Any]) -> str:
    rows = [
        [
            str(row["visuals"]),
            f"{100 * row['budget']:.0f} %",
            *(f"{row[p]['mean']:.2f} / {row[p]['worst']:.2f}" for p in ("dat", "dat_plus")),
        ]
        for row in found["gaps"]
    ]
    count = found["gaps"][0]["instances"]
    return (
        "## Distance from the optimum\n\nPriority shown in time that one interval's plan loses "
        f"against the optimum (mixed-integer program, HiGHS), mean / worst of {count} random "
        "instances, percent.\n\n" + _table(["Visuals", "Budget / bytes", "dat", "dat_plus"], rows)
    )


def my_link(rows: Sequence[Row], events: int, seconds: int) -> str:
    """my_link.md."""
    columns = (*COLUMNS, "on_time", "no_alert")
    titles = {**TITLES, "no_alert": "alerts never sent"}
    cells = [
        [
            row["planner"],
            *(str(row[c]) if c == "no_alert" else _number(c, row[c]) for c in columns),
        ]
        for row in rows
    ]
    return (
        f"# What this link would have done\n\n{events} events over {seconds} s of bandwidth "
        "(repeated if the events last longer), delays counted from capture.\n\n"
        + _table(["Planner", *(titles[c] for c in columns)], cells)
    )
