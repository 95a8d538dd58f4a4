"""Plots of the offloading study, each with a title that says what to see."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eval.statistics import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Results = Mapping[str, Any]

OURS, OTHERS, WRONG, EDGE = "#1b6ca8", "#8a939c", "#d1495b", "#e39c37"
TICKS_MS = (200, 300, 400, 600, 1_000, 2_000, 4_000, 10_000)
TICKS_BYTES = (100, 300, 1_000, 3_000, 10_000, 100_000, 1_000_000)
MBPS = 125_000
"""Bytes per second of one megabit per second."""


def figures(results: Results) -> dict[str, "Figure"]:
    """A figure for each subject that there are results for, by the name of its file."""
    paper = results["paper"]
    plots = {"shapes": _shapes(paper), "best": _best(paper["best"])}
    for link in results["links"]:
        plots[link_name(link["name"])] = _link(link)
    if "curve" in results:
        plots["curve"] = _curve(results["curve"]["rows"])
    return plots


def link_name(name: str) -> str:
    """The plot's name of a scenario."""
    return "link-" + re.sub(r"[^a-z0-9]+", "-", name.lower())


def _shapes(paper: Results) -> "Figure":
    """Predicted against printed latencies at 3 and 6 Mbps."""
    figure, (axis,) = canvas.panels([3.6])
    wrong = {(m["model"], m["method"], m["mbps"]) for m in paper["misprints"]}
    cells: dict[str, list[tuple[float, float]]] = {"shape": [], "columns": [], "misprint": []}
    for table in paper["tables"]:
        for row in table["rows"]:
            for mbps, ours, printed in zip(
                table["mbps"][:-1], row["predicted_ms"], row["latency_ms"], strict=False
            ):
                is_wrong = (table["model"], row["method"], mbps) in wrong
                by = "shape" if row["from_shape"] else "columns"
                cells["misprint" if is_wrong else by].append((printed, ours))
    for name, label, colour, marker in (
        ("columns", "d from two columns (checks the third)", OTHERS, "x"),
        ("shape", "d from the tensor's shape", OURS, "o"),
        ("misprint", "misprints", WRONG, "D"),
    ):
        printed_ms, ours_ms = zip(*cells[name], strict=True)
        axis.scatter(printed_ms, ours_ms, s=26, color=colour, marker=marker, label=label, zorder=3)
    ends = [200, 200_000]
    axis.plot(ends, ends, color=OTHERS, lw=0.8, ls=":")
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    axis.set(xlabel="printed latency (ms)", ylabel="from d and the 50 Mbps column (ms)")
    canvas.titled(axis, "Printed latencies follow from the bytes; two cells do not")
    canvas.legend(axis)
    return figure


def _best(best: Sequence[Results]) -> "Figure":
    """Fig. 6: accuracy against latency at each bandwidth, for the first model."""
    model = best[0]["model"]
    parts = [part for part in best if part["model"] == model]
    title = f"{model}: what lies on the line is beaten by nothing (up and left is better)"
    figure, axes = canvas.panels([2.6] * len(parts), title)
    for axis, part in zip(axes, parts, strict=True):
        for label, colour, points in _groups(part["points"]):
            xs = [point["latency_ms"] for point in points]
            ys = [point["accuracy"] for point in points]
            axis.scatter(xs, ys, s=24, color=colour, label=label, zorder=3)
        line = [point for point in part["points"] if point["best"]]
        xs, ys = [p["latency_ms"] for p in line], [p["accuracy"] for p in line]
        axis.plot(xs, ys, color=OURS, lw=1, drawstyle="steps-post")
        axis.set(xscale="log", ylabel="accuracy (%)")
        _ticks(axis, TICKS_MS)
        canvas.titled(axis, f"{part['mbps']:g} Mbps")
    axes[-1].set_xlabel("latency (ms)")
    canvas.legend(axes[0], loc="lower right")
    return figure


def _ticks(axis: "Axes", places: Sequence[int]) -> None:
    """Plain numbers at a logarithmic axis, those of `places` that are on it."""
    low, high = axis.get_xlim()
    shown = [place for place in places if low < place < high]
    axis.minorticks_off()
    axis.set_xticks(shown, [f"{place:,}" for place in shown])


def _groups(points: Sequence[Results]) -> list[tuple[str, str, list[Results]]]:
    """Codes, the edge alone, and the others."""
    codes = [p for p in points if p["method"].startswith("ApproxBit")]
    edge = [p for p in points if p["level"] == "edge"]
    rest = [p for p in points if p not in codes and p not in edge]
    return [("others", OTHERS, rest), ("codes", OURS, codes), ("edge alone", EDGE, edge)]


def _link(link: Results) -> "Figure":
    """Bandwidth, latency and accuracy of one camera over time, with the targets."""
    course = link["course"]
    rates = [rate / MBPS for rate in course["bytes_per_s"]]
    seconds = range(len(course["latency"]))
    title = (
        "Red: the targets. The controller keeps them while it can, with as much accuracy, then as "
        "little latency, as the link allows"
    )
    figure, (link_axis, latency, accuracy) = canvas.panels([1.8, 2.2, 2.2], title)
    link_axis.plot(range(len(rates)), rates, color=OTHERS, lw=0.8)
    link_axis.set(yscale="symlog", ylabel="link (Mbps)", ylim=(0, None))
    link_axis.set_yticks(ticks := [0, 1, 3, 10, 50], [str(tick) for tick in ticks])
    latency.plot(seconds, [1000 * t for t in course["latency"]], ".", color=OURS, ms=3)
    latency.set(ylabel="latency (ms)", ylim=(250, 1000))
    above = sum(t > 1 for t in course["latency"])
    canvas.titled(
        latency, f"Latency of each clip ({above} above 1 s are not shown)" if above else ""
    )
    accuracy.plot(seconds, [100 * a for a in course["accuracy"]], ".", color=OURS, ms=3)
    accuracy.set(ylabel="accuracy (%)", xlabel="seconds")
    for window in course["windows"]:
        span = [window["start"], window["end"]]
        if window["max_latency"] is not None:
            latency.plot(span, [1000 * window["max_latency"]] * 2, color=WRONG, lw=1.5)
        else:
            accuracy.plot(span, [100 * window["min_accuracy"]] * 2, color=WRONG, lw=1.5)
    for axis in (link_axis, latency, accuracy):
        axis.set_xlim(0, len(rates))
    return figure


_KINDS = {
    "code": ("learned codes", OURS, "o"),
    "webp": ("WebP", WRONG, "s"),
    "jpeg": ("JPEG", EDGE, "^"),
    "sign": ("unlearned sign codes", "#7a5195", "v"),
    "float": ("features as floats", OTHERS, "x"),
    "png": ("PNG", "black", "*"),
}
_LEVELS = {"gate": ("the gate alone", "-"), "boxes": ("boxes alone", ":")}
"""What takes no bytes is a line."""


def _curve(rows: Sequence[Results]) -> "Figure":
    """Count EM and SevF1 against bytes, with intervals."""
    figure, axes = canvas.panels(
        [3.2, 4.2], "Accuracy by the bytes that leave the node (up and left is better)"
    )
    for axis, metric, label in zip(
        axes, ("count_em", "sev_f1"), ("Count EM", "SevF1"), strict=True
    ):
        for kind in _KINDS:
            _points(axis, [row for row in rows if row["kind"] == kind], kind, metric)
        for kind, (name, style) in _LEVELS.items():
            for row in rows:
                if row["kind"] == kind and row[metric]["value"] is not None:
                    axis.axhline(row[metric]["value"], color=OTHERS, lw=1, ls=style, label=name)
        axis.set(xscale="log", ylabel=label)
        _ticks(axis, TICKS_BYTES)
    axes[-1].set_xlabel("bytes")
    canvas.legend(axes[-1], loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2)
    return figure


def _points(axis: "Axes", rows: Sequence[Results], kind: str, metric: str) -> None:
    """The rows of one kind with their intervals, and for codes a line through them."""
    known = sorted(
        (r for r in rows if r[metric]["value"] is not None and r["bytes"] > 0),
        key=lambda row: row["bytes"],
    )
    if not known:
        return
    name, colour, marker = _KINDS[kind]
    values = [row[metric]["value"] for row in known]
    below = [row[metric]["value"] - row[metric]["low"] for row in known]
    over = [row[metric]["high"] - row[metric]["value"] for row in known]
    axis.errorbar(
        [row["bytes"] for row in known],
        values,
        [below, over],
        marker=marker,
        ms=5,
        color=colour,
        lw=1.2 if kind == "code" else 0,
        elinewidth=0.8,
        label=name,
    )
