"""Fig. 4 as tables and as a picture."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dat_runtime.files import write_atomically

AVERAGE_PRECISION = {
    "mAP50": "mAP50",
    "mAP50-95": "mAP50-95",
    "one_class_mAP50": "mAP50, severity left out",
    "one_class_mAP50-95": "mAP50-95, severity left out",
}
RATES = {
    "balanced_accuracy": "Balanced accuracy",
    "suspect_precision": "Suspect precision",
    "false_positive_rate": "False positives",
    "missed_severe": "Missed severe",
    "mllm_load": "MLLM load",
}
TASKS = (
    "mAP over the classes of a gate is another task for one class than for two: a box of the wrong "
    "severity is wrong for the one and right for the other. With severity left out the task is the "
    "same for both; a box told twice, as moderate and as severe, then counts as a false one."
)
_COLOURS = ("#1b6ca8", "#d1495b", "#5aa469", "#e39c37")
_FAINT = "#8a939c"


def write(report: Mapping[str, Any], folder: Path) -> None:
    """gating.json, gating.md, gating.csv and gating.png."""
    write_atomically(folder / "gating.json", json.dumps(report, indent=1) + "\n")
    write_atomically(folder / "gating.md", words(report) + "\n")
    write_atomically(folder / "gating.csv", _csv(report))
    draw(report, folder / "gating.png")


def words(report: Mapping[str, Any]) -> str:
    """The tables in Markdown: detection, gating, and the differences between gates."""
    parts = [_markdown(_detection_rows(report)), _markdown(_gating_rows(report))]
    if report["differences"]:
        told = f"Differences from {report['compared_with']}, on the same resampled frames; "
        told += "an interval without 0 is one that chance does not explain:"
        parts += [TASKS, told, _markdown(_difference_rows(report))]
    return "\n\n".join(parts)


def _detection_rows(report: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["Split", "Gate", "Classes", *AVERAGE_PRECISION.values(), "Frames"]
    for split in _splits(report):
        for name, gate in report["gates"].items():
            of = gate["splits"][split]
            cells = [_cell(of[measure]) for measure in AVERAGE_PRECISION]
            yield [split, name, " and ".join(gate["classes"]), *cells, str(of["frames"])]


def _gating_rows(report: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["Split", "τ", "Gate", *RATES.values(), "False positive frames"]
    for split in _splits(report):
        for at, tau in report["thresholds"].items():
            for name, gate in report["gates"].items():
                of = gate["splits"][split]
                cells = [_cell(of[f"{rate}_{at}"]) for rate in RATES]
                yield [split, f"{tau:g}", name, *cells, str(of["false_positives"][at])]


def _difference_rows(report: Mapping[str, Any]) -> Iterator[list[str]]:
    shown = list(AVERAGE_PRECISION)[2:]
    yield ["Split", "τ", "Gate", *RATES.values(), *(AVERAGE_PRECISION[m] for m in shown)]
    for split in _splits(report):
        for at, tau in report["thresholds"].items():
            for name, of_split in report["differences"].items():
                of = of_split[split]
                cells = [_cell(of[f"{rate}_{at}"], "+") for rate in RATES]
                precision = [_cell(of[measure], "+") for measure in shown]
                yield [split, f"{tau:g}", name, *cells, *precision]


def _splits(report: Mapping[str, Any]) -> list[str]:
    return list(next(iter(report["gates"].values()))["splits"])


def _markdown(rows: Iterator[list[str]]) -> str:
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body))


def _cell(interval: Mapping[str, float | None], sign: str = "") -> str:
    if interval["value"] is None:
        return "–"
    value, low, high = (f"{interval[k]:{sign}.3f}" for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _csv(report: Mapping[str, Any]) -> str:
    """One line a measure; differences have the gate that they are from in `minus`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["split", "gate", "minus", "measure", "threshold", "value", "low", "high"])
    for minus, gates in (
        ("", {name: gate["splits"] for name, gate in report["gates"].items()}),
        (report["compared_with"], report["differences"]),
    ):
        for name, splits in gates.items():
            for split, measures in splits.items():
                for measure, interval in measures.items():
                    if isinstance(interval, dict) and "value" in interval:
                        row = [*_named(measure, report["thresholds"]), *interval.values()]
                        writer.writerow([split, name, minus, *row])
    return file.getvalue()


def _named(measure: str, thresholds: Mapping[str, float]) -> tuple[str, str]:
    rate, _, at = measure.rpartition("_")
    return (rate, f"{thresholds[at]:g}") if at in thresholds else (measure, "")


def draw(report: Mapping[str, Any], path: Path) -> None:
    """The measures on the test frames, side by side: a dot a gate with its interval."""
    from matplotlib.figure import Figure

    panels = [
        ("mAP50", {"own classes": "mAP50", "severity\nleft out": "one_class_mAP50"}),
        ("mAP50-95", {"own classes": "mAP50-95", "severity\nleft out": "one_class_mAP50-95"}),
        *(
            (title, {f"τ = {tau:g}": f"{rate}_{at}" for at, tau in report["thresholds"].items()})
            for rate, title in RATES.items()
        ),
    ]
    figure = Figure(figsize=(13, 4.6))
    grid = figure.subplots(2, 4, gridspec_kw={"hspace": 0.75, "wspace": 0.45}).ravel()
    for axis, (title, rows) in zip(grid, panels, strict=False):
        _panel(axis, report, title, rows)
    _legend(grid[-1], report)
    frames = next(iter(report["gates"].values()))["splits"]["test"]["frames"]
    figure.suptitle(
        f"What the gate lets through: {frames} test frames, bars are 95 % intervals", x=0.125,
        ha="left", y=1.0,
    )  # fmt: skip
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})


_BETTER = {
    "False positives": "of accident-free frames; less is better",
    "Missed severe": "of severe frames; less is better",
    "MLLM load": "of all frames",
}


def _panel(axis: Any, report: Mapping[str, Any], title: str, rows: Mapping[str, str]) -> None:
    gates = list(report["gates"].items())
    for i, measure in enumerate(rows.values()):
        for k, (_, gate) in enumerate(gates):
            found = gate["splits"]["test"][measure]
            y = i + 0.22 * (k - (len(gates) - 1) / 2)
            colour = _COLOURS[k % len(_COLOURS)]
            if found["value"] is None:
                axis.text(0, y, "not defined", color=colour, fontsize=7, va="center")
                continue
            axis.plot([found["low"], found["high"]], [y, y], color=colour, linewidth=2, alpha=0.5)
            axis.plot(found["value"], y, "o", color=colour, markersize=5)
            axis.annotate(f"{found['value']:.2f}", (found["value"], y), (0, 5 if k == 0 else -11),
                          textcoords="offset points", ha="center", fontsize=7,
                          color=colour)  # fmt: skip
    axis.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)))
    axis.set_yticklabels(rows, fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.grid(axis="x", color=_FAINT, alpha=0.25, linewidth=0.6)
    axis.set_title(title, fontsize=10, loc="left", pad=14)
    axis.text(0, 1.03, _BETTER.get(title, "more is better"), fontsize=7, color=_FAINT,
              transform=axis.transAxes)  # fmt: skip


def _legend(axis: Any, report: Mapping[str, Any]) -> None:
    axis.axis("off")
    for k, (name, gate) in enumerate(report["gates"].items()):
        label = f"{name}: {' and '.join(gate['classes'])}"
        axis.plot([], [], "o-", color=_COLOURS[k % len(_COLOURS)], linewidth=2, label=label)
    axis.legend(frameon=False, fontsize=9, loc="center left")
