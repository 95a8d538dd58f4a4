"""Our own curve in words and tables: what codes and pictures are worth at equal bytes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dat_runtime.offload_table import Table, select
from eval.offloading.curve import SEEN
from eval.offloading.scenarios import MBPS
from eval.offloading.sections import Grid, Section

Results = Mapping[str, Any]

NOT_LOOKING = (
    "This model answers about a grey picture as well as about the whole one: it goes by the gate's "
    "boxes in its prompt. So no accuracy here tells one way from another, and the node's table "
    "prefers the fastest of them. What tells them apart is the error of what the language model "
    "sees."
)

NAMES = {"count_em": "Count EM", "sev_f1": "SevF1", "bbox_miou": "BBox mIoU"}

PICKED_AT = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 3, 10)
"""Mbps for which the controller's choice is shown."""
SPARE = (0.05, 0.2, 1.0)
"""Seconds for the network in the targets shown, beyond the computing of a picture."""


def of_curve(curve: Results, table: Table) -> Iterator[Section]:
    """The measured rows with intervals, and what a node would select from them."""
    yield _measured(curve)
    yield _picked(table)


def _measured(curve: Results) -> Section:
    rows = []
    for row in curve["rows"]:
        figures = [_interval(row[metric]) for metric in NAMES]
        seen = "-" if row[SEEN] is None else f"{row[SEEN]:.3f}"
        rows.append([row["name"], f"{row['bytes']:,.0f}", seen, *figures])
    says = (
        "What answers are worth by the bytes that leave the node beyond the alert, on "
        f"{curve['frames']} test frames, with 95 % intervals. "
    )
    if curve["picture_matters"]:
        remarks = [_led(curve["leads"], metric) for metric in NAMES if curve["leads"][metric]]
    else:
        says += NOT_LOOKING
        remarks = []
    remarks.append(_seen(curve["leads"][SEEN]))
    remarks.append(_gate(curve["rows"][0]))
    remarks += _goal(curve["goal"])
    grid = Grid(["Way", "Bytes", "Error of what is seen", *NAMES.values()], rows)
    return Section("Our own accuracy by bytes", says, "curve", remarks, [grid])


def _seen(leads: Sequence[Results]) -> str:
    """At which bytes the language model sees a picture better than a code."""
    parts = [
        f"from {lead['from_bytes']:,.0f} bytes a {lead['kind']} (best: {lead['best']['name']}, "
        f"{lead['best']['bytes']:,.0f} bytes, {lead['best'][SEEN]:.3f})"
        for lead in leads
    ]
    return (
        "Error of what is seen, as a share of the variance of the vision tower's output (less is "
        f"better), the best that fits: {'; '.join(parts)}."
    )


def _interval(score: Results) -> str:
    if score["value"] is None:
        return "-"
    return f"{score['value']:.3f} ({score['low']:.3f}-{score['high']:.3f})"


def _led(leads: Mapping[str, Sequence[Results]], metric: str) -> str:
    """At which bytes codes beat pictures in one metric, and pictures codes."""
    parts = []
    for lead in leads[metric]:
        best = lead["best"]
        parts.append(
            f"from {lead['from_bytes']:,.0f} bytes a {lead['kind']} (best: {best['name']}, "
            f"{best['bytes']:,.0f} bytes, {best[metric]['value']:.3f})"
        )
    return f"{NAMES[metric]}, the best that fits: {'; '.join(parts)}."


def _gate(row: Results) -> str:
    figures = ", ".join(f"{NAMES[metric]} {_interval(row[metric])}" for metric in NAMES)
    return f"The gate alone, which sends no byte more: {figures}."


def _goal(goal: Results | None) -> list[str]:
    """The paired comparison that `eval.codes` made."""
    if goal is None:
        return []
    count = len(goal["against"])
    return [
        f"Paired over the same frames, in Count EM and SevF1 together: {goal['code']} "
        f"({goal['bytes']:,.0f} bytes) is better beyond chance than {len(goal['beaten'])} of "
        f"{count} pictures of up to 8 kB, and worse beyond chance than {len(goal['lost'])}."
    ]


def _picked(table: Table) -> Section:
    """What the controller selects, by bandwidth and target."""
    pictures = [row for row in table.rows if row.kind in ("jpeg", "webp")]
    computing = max(row.latency(float("inf")) for row in pictures)
    targets = [computing + spare for spare in SPARE]
    enough = max(0.0, max(row.accuracy for row in table.rows) - 0.01)
    rows = []
    for mbps in PICKED_AT:
        bandwidth = mbps * MBPS
        chosen = [select(table.rows, bandwidth, max_latency=target) for target in targets]
        chosen.append(select(table.rows, bandwidth, min_accuracy=enough))
        cells = [choice.row.name + ("" if choice.feasible else " *") for choice in chosen]
        rows.append([f"{mbps:g}", *cells])
    says = (
        "What a node selects from the table at each bandwidth: the most accurate row within a "
        "latency, or the fastest within a hundredth of the best accuracy."
    )
    columns = ["Mbps", *(f"within {target:.2f} s" for target in targets), f"at least {enough:.3f}"]
    remarks = [
        "* the target cannot be kept: the fastest row.",
        f"Of each latency a picture's answer takes {computing:.2f} s of computing, on the machine "
        "that measured it; the rest is for the network.",
    ]
    return Section(
        "What the controller selects", says, remarks=remarks, grids=[Grid(columns, rows)]
    )
