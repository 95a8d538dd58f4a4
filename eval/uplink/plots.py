"""Plots of the transmission study, with titles that explain what to see."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.uplink.beyond import SPREAD_ARRIVAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Study = Mapping[str, Any]
Row = Mapping[str, Any]

OURS, OTHERS, PAPER = "#1b6ca8", "#b0b7bf", "#d1495b"
SECOND_SLOTTED = "#e39c37"
"""Colour of `dat_plus` where `dat` and `dat_live` have the first two."""

UNDATED = {"Software": None}
"""Leaves Matplotlib's version out of the file, so that the same study gives the same bytes."""


def draw_all(study: Study, folder: Path) -> None:
    """Write one PNG for each subject that the study has results for."""
    import matplotlib

    matplotlib.use("Agg")
    plots = {"table3": _table_3, "fig5": _deadline, "fig6": _source}
    if "beyond" in study:
        plots |= {"beyond": _beyond, "gaps": _gaps, "cameras": _cameras}
    for name, plot in plots.items():
        figure = plot(study)
        figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight", metadata=UNDATED)
        figure.clear()


def _axes(count: int, width: float, height: float = 3.6) -> tuple[Any, list["Axes"]]:
    """A figure and its axes, side by side. Inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = figure.subplots(1, count, squeeze=False)[0].tolist()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _means(rows: Sequence[Row], column: str) -> list[float]:
    return [row[column]["mean"] for row in rows]


def _deviations(rows: Sequence[Row], column: str) -> list[float]:
    return [row[column]["std"] for row in rows]


def _bars(axis: "Axes", names: Sequence[str], rows: Sequence[Row], column: str, ours: str) -> None:
    """One bar a row, with deviation and value; names that begin with `ours` stand out."""
    means = _means(rows, column)
    deviations = _deviations(rows, column)
    colours = [OURS if name.startswith(ours) else OTHERS for name in names]
    axis.barh(names, means, xerr=deviations, color=colours, height=0.6, error_kw={"lw": 1})
    axis.invert_yaxis()
    ends = [mean + deviation for mean, deviation in zip(means, deviations, strict=True)]
    for y, (mean, end) in enumerate(zip(means, ends, strict=True)):
        label = f"{mean:.3f}" if 0 < mean < 10 else f"{mean:.1f}"
        axis.text(end + 0.02 * max(means), y, label, va="center", fontsize=8)
    axis.set_xlim(0, 1.25 * max(ends))  # room for the labels


def _table_3(study: Study) -> Any:
    """Seven schemes at burst, 0.25x: alarm delay, visuals in time, visual delay."""
    rows = {row["method"]: row for row in study["table3"] if not row["block"].startswith("A")}
    names = sorted(rows, key=lambda name: rows[name]["w_alarm"]["mean"])
    names.remove("DAT")
    names.insert(0, "DAT")
    titles = {
        "w_alarm": "Seconds until the alert is there\n(weighted by priority; less is better)",
        "vtr_05": "Visuals that arrive within 0.5 s\n(% of events; more is better)",
        "avg_visual_delay": "Mean seconds until a visual arrives\n(delivered ones; less is better)",
    }
    figure, axes = _axes(3, 14, 3.4)
    for axis, (column, title) in zip(axes, titles.items(), strict=True):
        shown = [name for name in names if rows[name][column] is not None]
        _bars(axis, shown, [rows[name] for name in shown], column, ours="DAT")
        paper = [rows[name]["paper"][column] for name in shown]
        axis.plot(paper, range(len(shown)), "D", color=PAPER, ms=4, label="the paper's figure")
        axis.set_title(title, fontsize=10, loc="left")
    axes[0].legend(frameon=False, fontsize=8, loc="upper right")
    figure.suptitle(
        "Bursts of 4-7 accidents over a quarter of a 5G uplink (C0, fitted to the paper)", y=1.04
    )
    figure.subplots_adjust(wspace=0.5)
    return figure


def _deadline(study: Study) -> Any:
    """Fig. 5: visuals in time and delays, by D_vis."""
    rows = study["fig5"]
    deadlines = [row["visual_deadline"] for row in rows]
    figure, (rates, delays) = _axes(2, 10)

    for column, label, colour in (("vtr_1", "within 1 s", OURS), ("vtr_05", "within 0.5 s", PAPER)):
        means, deviations = _means(rows, column), _deviations(rows, column)
        rates.errorbar(deadlines, means, deviations, marker="o", ms=4, color=colour, label=label)
    rates.set_ylabel("visuals that arrive (% of events)")
    rates.set_title("Beyond 1.5 s a longer deadline brings nothing", fontsize=10, loc="left")
    rates.legend(frameon=False)

    for column, label, colour in (
        ("avg_visual_delay", "visual", OURS),
        ("w_alarm", "alert", PAPER),
    ):
        delays.plot(deadlines, _means(rows, column), "o-", ms=4, color=colour, label=label)
    delays.set_ylabel("mean delay (s)")
    delays.set_ylim(0)
    delays.set_title("The alert does not depend on the deadline", fontsize=10, loc="left")
    delays.legend(frameon=False)

    for axis in (rates, delays):
        axis.axvline(1.5, color=OTHERS, lw=1, ls="--")  # D_vis of section 4.1
        axis.set_xlabel("D_vis: how old a visual may get (s since capture)")
    figure.subplots_adjust(wspace=0.25)
    return figure


def _source(study: Study) -> Any:
    """Fig. 6: both schemes with predicted and with true priorities."""
    rows = sorted(study["fig6"], key=lambda row: (row["method"], row["source"]))
    names = [f"{row['method']}\n{row['source']}" for row in rows]
    titles = {
        "w_alarm": "Seconds until the alert is there",
        "vtr_05": "Visuals within 0.5 s (%)",
        "avg_visual_delay": "Mean seconds until a visual",
    }
    figure, axes = _axes(3, 13, 2.8)
    for axis, (column, title) in zip(axes, titles.items(), strict=True):
        _bars(axis, names, rows, column, ours="DAT")
        axis.set_title(title, fontsize=10, loc="left")
    figure.suptitle("DAT's lead does not come from lucky priorities (burst, 0.25x)", y=1.06)
    figure.subplots_adjust(wspace=0.55)
    return figure


def _beyond(study: Study) -> Any:
    """The three planners: alarm delay and visuals at 0.25x, priority shown at 0.1x."""
    spread_over = [row for row in study["beyond"] if row["arrival"] == SPREAD_ARRIVAL]
    ample = {row["planner"]: row for row in spread_over if row["scale"] == 0.25}
    scarce = {row["planner"]: row for row in spread_over if row["scale"] == 0.1}
    names = ["dat", "dat_plus", "dat_live"]
    panels = (
        (
            ample,
            "w_alarm",
            "Seconds from capture to alert, 0.25x\n(waiting for the slot is most of it)",
        ),
        (
            ample,
            "vtr_05",
            "Visuals within 0.5 s of capture, 0.25x\n(%; line: no scheduler can do better)",
        ),
        (scarce, "on_time", "Priority shown within 1 s of capture, 0.1x\n(%)"),
    )
    figure, axes = _axes(3, 14, 2.4)
    for axis, (rows, column, title) in zip(axes, panels, strict=True):
        _bars(axis, names, [rows[name] for name in names], column, ours="dat_live")
        axis.set_title(title, fontsize=10, loc="left")
    axes[1].axvline(ample["clairvoyant bound"]["vtr_05"]["mean"], color=PAPER, lw=1.5)
    figure.suptitle(
        "Beyond the paper: bursts captured within a second, delays from capture", y=1.16
    )
    figure.subplots_adjust(wspace=0.4)
    return figure


def _gaps(study: Study) -> Any:
    """The priority that a slot's plan loses, by number of visuals, at a low and a high budget."""
    policies = (("dat", "dat (Algorithm 1)", PAPER), ("dat_plus", "dat_plus", OURS))
    figure, (axis,) = _axes(1, 6.5)
    for policy, label, colour in policies:
        for share, style in ((0.25, "o-"), (0.75, "s--")):
            rows = [row for row in study["gaps"] if row["budget"] == share]
            counts = [str(row["visuals"]) for row in rows]
            room = f"{label}, room for {100 * share:.0f} %"
            axis.plot(counts, _means(rows, policy), style, color=colour, label=room)
    axis.set_xlabel("visuals that wait")
    axis.set_ylabel("priority lost against the optimum (%)")
    axis.set_title("What one slot's plan loses to the best possible one", fontsize=10, loc="left")
    axis.legend(frameon=False, fontsize=8)
    return figure


def _cameras(study: Study) -> Any:
    """The worst camera, by the number of cameras: all alike, and with one that crowds the link."""
    figure, axes = _axes(2, 11)
    _worst_camera(axes[0], [row for row in study["cameras"] if not row["crowded"]])
    axes[0].set_ylabel("worst camera: priority shown in time (%)")
    axes[0].set_title("all cameras alike", fontsize=10, loc="left")
    axes[0].legend(frameon=False, fontsize=8)
    _worst_camera(axes[1], [row for row in study["cameras"] if row["crowded"]])
    axes[1].set_ylabel("worst of the others: priority shown in time (%)")
    axes[1].set_title("one camera has five times the bursts", fontsize=10, loc="left")
    figure.suptitle("Several cameras on a tenth of a 5G uplink")
    figure.subplots_adjust(wspace=0.25)
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
