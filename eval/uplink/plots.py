"""Plots of the transmission study, with titles that explain what to see."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.statistics import canvas
from eval.uplink.beyond import SPREAD_ARRIVAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Study = Mapping[str, Any]
Row = Mapping[str, Any]

OURS, OTHERS, PAPER = "#1b6ca8", "#b0b7bf", "#d1495b"
SECOND_SLOTTED = "#e39c37"
"""Colour of `dat_plus` where `dat` and `dat_live` have the first two."""


def draw_all(study: Study, folder: Path) -> None:
    """Write one PNG for each subject that the study has results for."""
    for name, figure in figures(study).items():
        canvas.save(figure, folder / f"{name}.png")


def figures(study: Study) -> dict[str, "Figure"]:
    """A figure for each subject that the study has results for, by the name of its file."""
    plots = {"table3": _table_3, "fig5": _deadline, "fig6": _source}
    if "beyond" in study:
        plots |= {"beyond": _beyond, "gaps": _gaps, "cameras": _cameras}
    return {name: plot(study) for name, plot in plots.items()}


def _means(rows: Sequence[Row], column: str) -> list[float]:
    return [row[column]["mean"] for row in rows]


def _deviations(rows: Sequence[Row], column: str) -> list[float]:
    return [row[column]["std"] for row in rows]


def _bars(axis: "Axes", names: Sequence[str], rows: Sequence[Row], column: str, ours: str) -> None:
    """One bar a row, with deviation and value; names that begin with `ours` stand out."""
    for y, (name, row) in enumerate(zip(names, rows, strict=True)):
        figures = row[column]
        if figures is None:
            canvas.beside(axis, y, "none")
            continue
        mean, colour = figures["mean"], OURS if name.startswith(ours) else OTHERS
        axis.barh(y, mean, xerr=figures["std"], color=colour, height=0.6, error_kw={"lw": 1})
        canvas.beside(axis, y, f"{mean:.3f}" if 0 < mean < 10 else f"{mean:.1f}")
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)  # the first row at the top
    axis.set_xlim(left=0)


def _table_3(study: Study) -> "Figure":
    """Seven schemes at burst, 0.25x, as in Table 3: alarm delay, visuals in time, visual delay."""
    rows = {row["method"]: row for row in study["table3"] if not row["block"].startswith("A")}
    names = [name for name in rows if name != "DAT"] + ["DAT"]
    titles = {
        "w_alarm": "Seconds until the alert is there\n(weighted by priority; less is better)",
        "vtr_05": "Visuals that arrive within 0.5 s\n(% of events; more is better)",
        "avg_visual_delay": "Mean seconds until a visual arrives\n(delivered ones; less is better)",
    }
    figure, axes = canvas.panels(
        [2.5] * 3,
        "Bursts of 4-7 accidents over a quarter of a 5G uplink (C0, fitted to the paper). "
        "Diamonds: the paper's figures",
    )
    for axis, (column, title) in zip(axes, titles.items(), strict=True):
        _bars(axis, names, [rows[name] for name in names], column, ours="DAT")
        places = [y for y, name in enumerate(names) if rows[name][column] is not None]
        paper = [rows[names[y]]["paper"][column] for y in places]
        axis.plot(paper, places, "D", color=PAPER, ms=5)
        canvas.titled(axis, title)
    return figure


def _deadline(study: Study) -> "Figure":
    """Fig. 5: visuals in time and delays, by D_vis."""
    rows = study["fig5"]
    deadlines = [row["visual_deadline"] for row in rows]
    figure, (rates, delays) = canvas.panels([3.2, 3.2])

    for column, label, colour in (("vtr_1", "within 1 s", OURS), ("vtr_05", "within 0.5 s", PAPER)):
        means, deviations = _means(rows, column), _deviations(rows, column)
        rates.errorbar(deadlines, means, deviations, marker="o", ms=4, color=colour, label=label)
    rates.set_ylabel("visuals that arrive (% of events)")
    canvas.titled(rates, "Beyond 1.5 s a longer deadline brings nothing")

    for column, label, colour in (
        ("avg_visual_delay", "visual", OURS),
        ("w_alarm", "alert", PAPER),
    ):
        delays.plot(deadlines, _means(rows, column), "o-", ms=4, color=colour, label=label)
    delays.set_ylabel("mean delay (s)")
    delays.set_ylim(0)
    canvas.titled(delays, "The alert does not depend on the deadline")

    for axis in (rates, delays):
        canvas.legend(axis)
        axis.axvline(1.5, color=OTHERS, lw=1, ls="--")  # D_vis of section 4.1
        axis.set_xlabel("D_vis: how old a visual may get (s since capture)")
    return figure


def _source(study: Study) -> "Figure":
    """Fig. 6: both schemes with predicted and with true priorities."""
    rows = sorted(study["fig6"], key=lambda row: (row["method"], row["source"]))
    names = [f"{row['method']}\n{row['source']}" for row in rows]
    titles = {
        "w_alarm": "Seconds until the alert is there",
        "vtr_05": "Visuals within 0.5 s (%)",
        "avg_visual_delay": "Mean seconds until a visual",
    }
    figure, axes = canvas.panels(
        [2.2] * 3, "DAT's lead does not come from lucky priorities (burst, 0.25x)"
    )
    for axis, (column, title) in zip(axes, titles.items(), strict=True):
        _bars(axis, names, rows, column, ours="DAT")
        canvas.titled(axis, title)
    return figure


def _beyond(study: Study) -> "Figure":
    """The three planners: alarm delay and visuals at 0.25x, priority shown at 0.1x."""
    spread_over = [row for row in study["beyond"] if row["arrival"] == SPREAD_ARRIVAL]
    ample = {row["planner"]: row for row in spread_over if row["scale"] == 0.25}
    scarce = {row["planner"]: row for row in spread_over if row["scale"] == 0.1}
    names = ["dat", "dat_plus", "dat_live"]
    alarm = "Seconds from capture to alert, 0.25x\n(waiting for the slot is most of it)"
    visuals = "Visuals within 0.5 s of capture, 0.25x\n(%; line: no scheduler can do better)"
    shown = "Priority shown within 1 s of capture, 0.1x (%)"
    parts = ((ample, "w_alarm", alarm), (ample, "vtr_05", visuals), (scarce, "on_time", shown))
    figure, axes = canvas.panels(
        [1.7, 1.7, 1.5], "Beyond the paper: bursts captured within a second, delays from capture"
    )
    for axis, (rows, column, title) in zip(axes, parts, strict=True):
        _bars(axis, names, [rows[name] for name in names], column, ours="dat_live")
        canvas.titled(axis, title)
    bound = ample["clairvoyant bound"]["vtr_05"]["mean"]
    axes[1].axvline(bound, color=PAPER, lw=1.5)
    axes[1].set_xlim(right=max(axes[1].get_xlim()[1], 1.02 * bound))
    return figure


def _gaps(study: Study) -> "Figure":
    """The priority that a slot's plan loses, by number of visuals, at a low and a high budget."""
    policies = (("dat", "dat (Algorithm 1)", PAPER), ("dat_plus", "dat_plus", OURS))
    figure, (axis,) = canvas.panels([3.6])
    for policy, label, colour in policies:
        for share, style in ((0.25, "o-"), (0.75, "s--")):
            rows = [row for row in study["gaps"] if row["budget"] == share]
            counts = [str(row["visuals"]) for row in rows]
            room = f"{label}, room for {100 * share:.0f} %"
            axis.plot(counts, _means(rows, policy), style, color=colour, label=room)
    axis.set_xlabel("visuals that wait")
    axis.set_ylabel("priority lost against the optimum (%)")
    canvas.titled(axis, "What one slot's plan loses to the best possible one")
    canvas.legend(axis)
    return figure


def _cameras(study: Study) -> "Figure":
    """The worst camera, by the number of cameras: all alike, and with one that crowds the link."""
    figure, axes = canvas.panels([3.2, 3.2], "Several cameras on a tenth of a 5G uplink")
    _worst_camera(axes[0], [row for row in study["cameras"] if not row["crowded"]])
    canvas.titled(axes[0], "All cameras alike: the worst one")
    _worst_camera(axes[1], [row for row in study["cameras"] if row["crowded"]])
    canvas.titled(axes[1], "One has five times the bursts: the worst of the others")
    canvas.legend(axes[0])
    return figure


def _worst_camera(axis: "Axes", rows: Sequence[Row]) -> None:
    for planner, colour, style in (
        ("dat", PAPER, "o-"),
        ("dat_plus", SECOND_SLOTTED, "o-"),
        ("dat_live", OURS, "o-"),
        ("dat_live, fair", OURS, "s--"),
    ):
        of_planner = [row for row in rows if row["planner"] == planner]
        counts = [str(row["cameras"]) for row in of_planner]
        worst = _means(of_planner, "worst")
        axis.plot(counts, worst, style, ms=5, color=colour, label=planner)
    axis.set_xlabel("cameras on the link")
    axis.set_ylabel("priority shown in time (%)")
