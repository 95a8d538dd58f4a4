"""Fig. 4 as tables and as a picture."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dat_runtime.files import write_atomically, write_json
from eval.routing.gated import ONE_CLASS_AP
from eval.statistics import canvas

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
    "mAP over a gate's own classes is a different task with one class than with two: a box of the "
    "wrong severity is wrong for a gate of two classes and right for a gate of one. With severity "
    "left out the task is the same for both; a box found twice, as moderate and as severe, then "
    "counts as one false positive."
)
_COLOURS = ("#1b6ca8", "#d1495b", "#5aa469", "#e39c37")
_FAINT = "#8a939c"


def write(report: Mapping[str, Any], folder: Path) -> None:
    """gating.json, gating.md, gating.csv and gating.png."""
    write_json(folder / "gating.json", report)
    write_atomically(folder / "gating.md", words(report) + "\n")
    write_atomically(folder / "gating.csv", _csv(report))
    draw(report, folder / "gating.png")


def words(report: Mapping[str, Any]) -> str:
    """The tables in Markdown: detection, gating, and the differences between gates."""
    parts = [_markdown(_detection_rows(report)), _markdown(_gating_rows(report))]
    if report["differences"]:
        parts += [
            TASKS,
            f"Differences from {report['compared_with']}, on the same resampled frames; an "
            "interval without 0 is a difference that chance does not explain:",
            _markdown(_difference_rows(report)),
        ]
    return "\n\n".join(parts)


def _detection_rows(report: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["Split", "Gate", "Classes", *AVERAGE_PRECISION.values(), "Frames"]
    for split in _splits(report):
        for name, gate in report["gates"].items():
            measures = gate["splits"][split]
            cells = [_cell(measures[measure]) for measure in AVERAGE_PRECISION]
            classes = " and ".join(gate["classes"])
            yield [split, name, classes, *cells, str(measures["frames"])]


def _gating_rows(report: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["Split", "τ", "Gate", *RATES.values(), "False positive frames"]
    for split in _splits(report):
        for level, threshold in report["thresholds"].items():
            for name, gate in report["gates"].items():
                measures = gate["splits"][split]
                cells = [_cell(measures[f"{rate}_{level}"]) for rate in RATES]
                false_positives = str(measures["false_positives"][level])
                yield [split, f"{threshold:g}", name, *cells, false_positives]


def _difference_rows(report: Mapping[str, Any]) -> Iterator[list[str]]:
    titles = [AVERAGE_PRECISION[measure] for measure in ONE_CLASS_AP]
    yield ["Split", "τ", "Gate", *RATES.values(), *titles]
    for split in _splits(report):
        for level, threshold in report["thresholds"].items():
            for name, splits in report["differences"].items():
                measures = splits[split]
                cells = [_cell(measures[f"{rate}_{level}"], "+") for rate in RATES]
                precision = [_cell(measures[measure], "+") for measure in ONE_CLASS_AP]
                yield [split, f"{threshold:g}", name, *cells, *precision]


def _splits(report: Mapping[str, Any]) -> list[str]:
    first_gate = next(iter(report["gates"].values()))
    return list(first_gate["splits"])


def _markdown(rows: Iterator[list[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(interval: Mapping[str, float | None], sign: str = "") -> str:
    """A value with its interval; `sign` "+" shows the sign of positive numbers too."""
    if interval["value"] is None:
        return "–"
    value, low, high = (f"{interval[key]:{sign}.3f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _csv(report: Mapping[str, Any]) -> str:
    """One line per measure; the line of a difference names the subtracted gate in `minus`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["split", "gate", "minus", "measure", "threshold", "value", "low", "high"])
    thresholds = report["thresholds"]
    for name, gate in report["gates"].items():
        writer.writerows(_csv_rows(name, "", gate["splits"], thresholds))
    for name, splits in report["differences"].items():
        writer.writerows(_csv_rows(name, report["compared_with"], splits, thresholds))
    return file.getvalue()


def _csv_rows(
    name: str, minus: str, splits: Mapping[str, Any], thresholds: Mapping[str, float]
) -> Iterator[list[Any]]:
    for split, measures in splits.items():
        for measure, interval in measures.items():
            # The numbers of frames and of false positives have no interval.
            if isinstance(interval, dict) and "value" in interval:
                rate, threshold = _named(measure, thresholds)
                yield [split, name, minus, rate, threshold, *interval.values()]


def _named(measure: str, thresholds: Mapping[str, float]) -> tuple[str, str]:
    """`mllm_load_low` as the rate and its threshold; a measure without one has "" for it."""
    rate, _, level = measure.rpartition("_")
    if level in thresholds:
        return rate, f"{thresholds[level]:g}"
    return measure, ""


def draw(report: Mapping[str, Any], path: Path) -> None:
    """The measures on the test frames, side by side: a dot for each gate with its interval."""
    panels = []  # title, and the measure of each row by the row's label
    for own, one_class in (("mAP50", "one_class_mAP50"), ("mAP50-95", "one_class_mAP50-95")):
        panels.append((own, {"own classes": own, "severity\nleft out": one_class}))
    for rate, title in RATES.items():
        rows = {}
        for level, threshold in report["thresholds"].items():
            rows[f"τ = {threshold:g}"] = f"{rate}_{level}"
        panels.append((title, rows))
    gates = report["gates"]
    line = 0.22 * len(gates)  # inches of a row
    heights = [0.9 + line * len(rows) for _, rows in panels]
    frames = next(iter(gates.values()))["splits"]["test"]["frames"]
    figure, axes = canvas.panels(
        [*heights, 0.3 * len(gates)],
        f"What the gate lets through: {frames} test frames, bars are 95 % intervals",
    )
    for axis, (title, rows) in zip(axes, panels, strict=False):
        _panel(axis, report, title, rows)
    _legend(axes[-1], report)
    canvas.save(figure, path)


_BETTER = {
    "False positives": "of accident-free frames; less is better",
    "Missed severe": "of severe frames; less is better",
    "MLLM load": "of all frames",
}


def _panel(axis: Any, report: Mapping[str, Any], title: str, rows: Mapping[str, str]) -> None:
    gates = list(report["gates"].values())
    for row, measure in enumerate(rows.values()):
        for k, gate in enumerate(gates):
            interval = gate["splits"]["test"][measure]
            value, low, high = interval["value"], interval["low"], interval["high"]
            y = row + 0.8 / len(gates) * (k - (len(gates) - 1) / 2)
            colour = _COLOURS[k % len(_COLOURS)]
            if value is None:
                canvas.beside(axis, y, "–", colour)
                continue
            axis.plot([low, high], [y, y], color=colour, linewidth=2, alpha=0.5)
            axis.plot(value, y, "o", color=colour, markersize=5)
            canvas.beside(axis, y, f"{value:.2f}", colour)
    axis.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)))
    axis.set_yticklabels(rows)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x", color=_FAINT, alpha=0.25, linewidth=0.6)
    canvas.titled(axis, f"{title} ({_BETTER.get(title, 'more is better')})")


def _legend(axis: Any, report: Mapping[str, Any]) -> None:
    axis.axis("off")
    for k, (name, gate) in enumerate(report["gates"].items()):
        label = f"{name}: {' and '.join(gate['classes'])}"
        axis.plot([], [], "o-", color=_COLOURS[k % len(_COLOURS)], linewidth=2, label=label)
    canvas.legend(axis, loc="center left")
