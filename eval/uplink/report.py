"""The transmission study as text: every table, with what it shows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from eval.uplink.round_trips import SETTLED
from eval.uplink.timeliness import COLUMNS, COLUMNS_FROM_CAPTURE

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
    "no_alert": "alerts never sent",
}
PERCENT = ("vtr_05", "vtr_1", "on_time")
"""Columns in percent, written with two decimals; seconds have four."""

CLAIM_PREFIXES = {"must_hold": "", "strictly": "strictly: ", "fragile": "fragile: "}

Study = Mapping[str, Any]
Row = Mapping[str, Any]
Labels = Mapping[str, Callable[[Row], str]]
"""The first columns of a table: their titles, each with the text that it has for a row."""


def report(study: Study) -> str:
    """study.md; a quick study has the first three parts only."""
    parts = ["# Transmission study\n", table_3(study), _fig_5(study), _fig_6(study)]
    if "settings" in study:
        parts += [
            _settings(study),
            _claims(study),
            _other_links(study),
            _beyond(study),
            _forecast(study),
            _cameras(study),
            _gaps(study),
        ]
    return "\n".join(parts)


def _section(title: str, explanation: str, table: str) -> str:
    """One part of study.md."""
    return f"## {title}\n\n{explanation}\n\n{table}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _titles(labels: Sequence[str], columns: Sequence[str]) -> list[str]:
    """The heads of a table: those of its labels, then those of its figures."""
    return list(labels) + [TITLES[column] for column in columns]


def _number(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if column in PERCENT else f"{value:.4f}"


def _spread(column: str, values: Mapping[str, float] | None) -> str:
    """Mean ± standard deviation."""
    if values is None:
        return "-"
    return f"{_number(column, values['mean'])} ± {_number(column, values['std'])}"


def _spreads(row: Row, columns: Sequence[str] = COLUMNS) -> list[str]:
    return [_spread(column, row.get(column)) for column in columns]


def _table_of_spreads(labels: Labels, rows: Iterable[Row], columns: Sequence[str] = COLUMNS) -> str:
    """One line a row: its labels, then mean and deviation of its figures."""
    lines = []
    for row in rows:
        cells = [label(row) for label in labels.values()]
        lines.append(cells + _spreads(row, columns))
    return _table(_titles(list(labels), columns), lines)


def table_3(study: Study) -> str:
    """Table 3, ours with the paper's figure in brackets."""
    rows = []
    block = ""
    for row in study["table3"]:
        if row["block"] != block:
            block = row["block"]
            rows.append([f"**Block {block}**"] + [""] * len(COLUMNS))
        cells = [row["method"]]
        for column, ours in zip(COLUMNS, _spreads(row), strict=True):
            has_figure = row[column] is not None
            cells.append(f"{ours} ({_number(column, row['paper'][column])})" if has_figure else "-")
        rows.append(cells)
    explanation = (
        f"Mean ± standard deviation over {study['seeds']} seeds, the paper's figure in brackets. "
        f"{CALIBRATION}{_never_alerted(study)}"
    )
    return _section("Table 3", explanation, _table(_titles(["Method"], COLUMNS), rows))


def _never_alerted(study: Study) -> str:
    """Which rows have events without an alert, and what W-Alarm is without these."""
    sentences = ""
    for row in study["table3"]:
        if not row["no_alert"]["mean"]:
            continue
        alerted = _number("w_alarm", row["w_alarm_of_alerted"]["mean"])
        sentences += (
            f" {row['method']} (block {row['block'][0]}) raises no alert for "
            f"{row['no_alert']['mean']:.1f} events, which count as late as its latest one; without "
            f"them, as the paper's figure seems to be, its W-Alarm is {alerted} s."
        )
    return sentences


def _fig_5(study: Study) -> str:
    explanation = (
        "DAT, burst, 0.25x. A visual's age counts from capture: counted from queue entry, no "
        "deadline of 1 s or more could ever bind."
    )
    labels: Labels = {"D_vis (s)": lambda row: f"{row['visual_deadline']:g}"}
    table = _table_of_spreads(labels, study["fig5"])
    return _section("Fig. 5: visual deadline", explanation, table)


def _fig_6(study: Study) -> str:
    explanation = (
        "Burst, 0.25x. Predicted priorities have 1.17 % wrong levels (1 - SevAcc of Table 1) and "
        "scores with noise of 0.1, our choice; W-Alarm is weighted by the true ones in all rows."
    )
    labels: Labels = {"Priorities": itemgetter("source"), "Method": itemgetter("method")}
    table = _table_of_spreads(labels, study["fig6"])
    return _section("Fig. 6: source of priorities", explanation, table)


def _settings(study: Study) -> str:
    labels: Labels = {
        "Arrivals": itemgetter("pattern"),
        "Bandwidth": lambda row: f"{row['scale']:g}x",
        "Method": itemgetter("method"),
    }
    table = _table_of_spreads(labels, study["settings"])
    return f"## All arrival patterns and bandwidth scales\n\n{table}"


def _claims(study: Study) -> str:
    c0, perturbed = study["claims_c0"], study["perturbation"]
    rows = []
    for group, prefix in CLAIM_PREFIXES.items():
        for name, count in perturbed[group].items():
            on_c0 = f"{c0[group][name]} of {c0['runs']}"
            rows.append([prefix + name, on_c0, f"{count} of {perturbed['draws']}"])
    explanation = (
        "How often each ordering holds: on C0's seeds, and when sizes, arrival rates, bandwidth "
        "and window are drawn at random within ±50 %. DAT drops a visual that is too old since "
        "capture and a baseline sends it all the same, so a difference of one event of 600 counts "
        "as a tie, except in the rows that say strictly. Whether the paper's own order holds in "
        "the fragile ones depends on the setting."
    )
    table = _table(["Ordering", "C0 (calibration)", "Perturbed (evidence)"], rows)
    return _section("What holds elsewhere", explanation, table)


def _other_links(study: Study) -> str:
    rows = []
    for row in study["other_links"]:
        claims = [value for value in row.values() if isinstance(value, bool)]
        cells = [row["link"], f"{sum(claims)} of {len(claims)}"]
        for column in COLUMNS:
            dat = _number(column, row["dat"][column])
            priority_only = _number(column, row["priority_only"][column])
            cells.append(f"{dat} / {priority_only}")
        rows.append(cells)
    explanation = (
        "DAT / Priority-Only at burst, 0.25x, one run each, and how many of the orderings that "
        "must hold do."
    )
    table = _table(_titles(["Link", "Hold"], COLUMNS), rows)
    return _section("Links that C0 was not fitted to", explanation, table)


def _beyond(study: Study) -> str:
    explanation = (
        "Burst. `dat` is Algorithm 1, `dat_plus` selects the visuals of a slot optimally, short "
        "slots never send what is larger than one slot, `dat_live` does not wait for slots; with a "
        "first layer a visual counts once a quarter of its bytes has arrived. `json_live` sends "
        "alerts only. No scheduler beats the clairvoyant bounds (visuals within 0.5 s; mean delay "
        "when all are delivered)."
    )
    labels: Labels = {
        "Bandwidth, D_vis": lambda row: f"{row['scale']:g}x, {row['visual_deadline']:g} s",
        "Burst arrives": itemgetter("arrival"),
        "Planner": itemgetter("planner"),
    }
    table = _table_of_spreads(labels, study["beyond"], COLUMNS_FROM_CAPTURE)
    return _section("Beyond the paper, counted from capture", explanation, table)


def _forecast(study: Study) -> str:
    explanation = (
        "Burst, 0.25x, counted from capture: the bandwidth that the planner is given differs from "
        "what the link carries."
    )
    labels: Labels = {"Planner, bandwidth": itemgetter("case")}
    table = _table_of_spreads(labels, study["forecast"], COLUMNS_FROM_CAPTURE)
    return _section("A wrong bandwidth", explanation, table)


def _cameras(study: Study) -> str:
    rows = []
    for row in study["cameras"]:
        load = "one has five times the bursts" if row["crowded"] else "alike"
        alarm, on_time = _spreads(row, ("w_alarm", "on_time"))
        worst = _spread("on_time", row["worst"])
        rows.append([str(row["cameras"]), load, row["planner"], alarm, on_time, worst])
    explanation = (
        "Burst, 0.1x, counted from capture. Where one camera crowds the link, the last column is "
        "the worst of the others."
    )
    titles = _titles(["Cameras", "Load", "Planner"], ("w_alarm", "on_time"))
    table = _table([*titles, "worst camera's (%)"], rows)
    return _section("Several cameras on one link", explanation, table)


def _gaps(study: Study) -> str:
    rows = []
    for row in study["gaps"]:
        cells = [str(row["visuals"]), f"{100 * row['budget']:.0f} %"]
        for policy in ("dat", "dat_plus"):
            cells.append(f"{row[policy]['mean']:.2f} / {row[policy]['worst']:.2f}")
        rows.append(cells)
    explanation = (
        "Priority shown in time that one interval's plan loses against the optimum (mixed-integer "
        f"program, HiGHS), mean / worst of {study['gaps'][0]['instances']} random instances, "
        "percent."
    )
    table = _table(["Visuals", "Budget / bytes", "dat", "dat_plus"], rows)
    return _section("Distance from the optimum", explanation, table)


def my_link(rows: Sequence[Row], events: int, seconds: int) -> str:
    """my_link.md."""
    lines = []
    for row in rows:
        cells = [row["planner"]]
        cells += [_number(column, row[column]) for column in COLUMNS_FROM_CAPTURE]
        cells.append(str(row["no_alert"]))
        lines.append(cells)
    table = _table(_titles(["Planner"], (*COLUMNS_FROM_CAPTURE, "no_alert")), lines)
    return (
        f"# What this link would have done\n\n{events} events over {seconds} s of bandwidth "
        f"(repeated if the events last longer), delays counted from capture.\n\n{table}"
    )


def real_link(rows: Sequence[Row], events: int, seconds: int) -> str:
    """real_link.md: simulated and real, one below the other."""
    lines = []
    for row in rows:
        for link in ("simulated", "real"):
            figures = [_number(column, row[link][column]) for column in COLUMNS]
            lines.append([row["scheme"], link, *figures])
    table = _table(_titles(["Scheme", "Link"], COLUMNS), lines)
    return (
        f"Burst, 0.25x, {events} events in {seconds} s, delays from capture. Real: TCP over "
        f"loopback in a network namespace, shaped by tbf.\n\n{table}"
    )


def round_trips(rows: Sequence[Row], events: int, seconds: int) -> str:
    """round_trips.md: what is simulated, a stroke, what is real."""
    lines = []
    for row in rows:
        runs = [row[link] for link in ("simulated", "real") if link in row]
        lines.append(
            [
                f"{row['rate']}, {1000 * row['round_trip']:.0f} ms",
                _sender(row),
                _both(runs, lambda run: "/".join(map(_ms, run["waits"].values()))),
                _both(runs, lambda run: f"{run['in_time']:.1f}"),
                _both(runs, lambda run: f"{run['w_alarm']:.4f}"),
                _both(runs, lambda run: f"{run['vtr_1']:.1f}"),
                f"{row['moved']:.1f}" if "moved" in row else "",
                _both(runs, lambda run: f"{run['avg_visual_delay']:.3f}"),
                _both(runs, lambda run: f"{run['first_visual_delay']:.3f}"),
                *(_percent(row["apart"][of]) for of in ("alerts", "visuals") if "apart" in row),
            ]
        )
    titles = [
        "Rate, round trip",
        "Sender",
        "Alerts wait, P50/P95/P99/max (ms)",
        "up to 50 ms (%)",
        "W-Alarm (s)",
        "VTR@1s (%)",
        "of round trip 0, moved (%)",
        "Avg visual delay (s)",
        "at first (s)",
    ]
    if any("apart" in row for row in rows):
        titles += ["W-Alarm apart (%)", "visuals apart (%)"]
    return (
        f"Burst, {events} events in {seconds} s, delays from capture; simulated | real. The first "
        f"{SETTLED:g} s count in the last column alone. An alert's "
        "wait ends when the node knows that it has arrived, and leaves the round trip out. Moved: "
        "what the simulated link without a round trip shows, half a round trip later. Apart: how "
        "much longer it really took, with the 95 % interval over the bursts.\n\n"
        + _table(titles, lines)
    )


def _sender(row: Row) -> str:
    words = [row["sender"]]
    if row["loss"]:
        words.append(f"{100 * row['loss']:g} % loss")
    if row["congestion"] == "cubic":
        words.append("CUBIC")
    return ", ".join(words)


def _both(runs: Sequence[Row], text: Callable[[Row], str]) -> str:
    return " \\| ".join(text(run) for run in runs)


def _percent(apart: Sequence[float | None]) -> str:
    value, low, high = apart
    return "" if value is None else f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _ms(seconds: float | None) -> str:
    return "never" if seconds is None else f"{1000 * seconds:.0f}"
