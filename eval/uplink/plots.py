"""Plots of the transmission study. Titles say what to see; a reader needs nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, OTHERS, PAPER = "#1b6ca8", "#b0b7bf", "#d1495b"


def draw_all(found: Mapping[str, Any], folder: Path) -> None:
    """One PNG a subject, those that the study has results for."""
    import matplotlib

    matplotlib.use("Agg")
    plots = {"table3": _table_3, "fig5": _deadline, "fig6": _source}
    if "beyond" in found:
        plots |= {"beyond": _beyond, "gaps": _gaps, "cameras": _cameras}
    for name, plot in plots.items():
        figure = plot(found)
        figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight", metadata=_UNDATED)
        figure.clear()


_UNDATED = {"Software": None}


def _axes(count: int, width: float, height: float = 3.6) -> tuple[Any, list["Axes"]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = figure.subplots(1, count, squeeze=False)[0].tolist()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _bars(
    axis: "Axes", names: list[str], values: list[float], errors: list[float], ours: str
) -> None:
    colours = [OURS if name.startswith(ours) else OTHERS for name in names]
    axis.barh(names, values, xerr=errors, color=colours, height=0.6, error_kw={"lw": 1})
    axis.invert_yaxis()
    for y, value in enumerate(values):
        label = f"{value:.3f}" if 0 < value < 10 else f"{value:.1f}"
        axis.text(value + errors[y] + 0.02 * max(values), y, label, va="center", fontsize=8)
    axis.set_xlim(0, 1.25 * max(v + e for v, e in zip(values, errors, strict=True)))


def _table_3(found: Mapping[str, Any]) -> Any:
    """Seven schemes at burst, 0.25x: alarm delay, visuals in time, visual delay."""
    rows = {r["method"]: r for r in found["table3"] if not r["block"].startswith("A")}
    names = sorted(rows, key=lambda name: rows[name]["w_alarm"]["mean"])
    names.remove("DAT")
    names.insert(0, "DAT")
    figure, axes = _axes(3, 14, 3.4)
    columns = (
        ("w_alarm", "Seconds until the alert is there\n(weighted by priority; less is better)"),
        ("vtr_05", "Visuals that arrive within 0.5 s\n(% of events; more is better)"),
        (
            "avg_visual_delay",
            "Mean seconds until a visual arrives\n(delivered ones; less is better)",
        ),
    )
    for axis, (column, title) in zip(axes, columns, strict=True):
        shown = [name for name in names if rows[name][column] is not None]
        means = [rows[name][column]["mean"] for name in shown]
        errors = [rows[name][column]["std"] for name in shown]
        _bars(axis, shown, means, errors, "DAT")
        paper = [rows[name]["paper"][column] for name in shown]
        axis.plot(paper, range(len(shown)), "D", color=PAPER, ms=4, label="the paper's figure")
        axis.set_title(title, fontsize=10, loc="left")
    axes[0].legend(frameon=False, fontsize=8, loc="upper right")
    figure.suptitle(
        "Bursts of 4-7 accidents over a quarter of a 5G uplink (C0, fitted to the paper)", y=1.04
    )
    figure.subplots_adjust(wspace=0.5)
    return figure


def _deadline(found: Mapping[str, Any]) -> Any:
    rows = found["fig5"]
    deadlines = [row["visual_deadline"] for row in rows]
    figure, (rates, delays) = _axes(2, 10)
    for column, label, colour in (
        ("vtr_1", "within 1 s", OURS),
        ("vtr_05", "within 0.5 s", PAPER),
    ):
        means = [row[column]["mean"] for row in rows]
        errors = [row[column]["std"] for row in rows]
        rates.errorbar(deadlines, means, errors, marker="o", ms=4, color=colour, label=label)
    rates.set_ylabel("visuals that arrive (% of events)")
    rates.set_title("Beyond 1.5 s a longer deadline brings nothing", fontsize=10, loc="left")
    rates.legend(frameon=False)
    for column, label, colour in (
        ("avg_visual_delay", "visual", OURS),
        ("w_alarm", "alert", PAPER),
    ):
        delays.plot(
            deadlines, [r[column]["mean"] for r in rows], "o-", ms=4, color=colour, label=label
        )
    delays.set_ylabel("mean delay (s)")
    delays.set_ylim(0)
    delays.set_title("The alert does not feel the deadline", fontsize=10, loc="left")
    delays.legend(frameon=False)
    for axis in (rates, delays):
        axis.axvline(1.5, color=OTHERS, lw=1, ls="--")
        axis.set_xlabel("D_vis: how old a visual may get (s since capture)")
    figure.subplots_adjust(wspace=0.25)
    return figure


def _source(found: Mapping[str, Any]) -> Any:
    rows = {(r["method"], r["source"]): r for r in found["fig6"]}
    keys = sorted(rows)
    names = [f"{method}\n{source}" for method, source in keys]
    figure, axes = _axes(3, 13, 2.8)
    for axis, (column, title) in zip(
        axes,
        (
            ("w_alarm", "Seconds until the alert is there"),
            ("vtr_05", "Visuals within 0.5 s (%)"),
            ("avg_visual_delay", "Mean seconds until a visual"),
        ),
        strict=True,
    ):
        means = [rows[key][column]["mean"] for key in keys]
        _bars(axis, names, means, [rows[key][column]["std"] for key in keys], "DAT")
        axis.set_title(title, fontsize=10, loc="left")
    figure.suptitle("DAT's lead does not come from lucky priorities (burst, 0.25x)", y=1.06)
    figure.subplots_adjust(wspace=0.55)
    return figure


def _beyond(found: Mapping[str, Any]) -> Any:
    spread_over = [r for r in found["beyond"] if r["arrival"] == "spread over 1 s"]
    ample = {r["planner"]: r for r in spread_over if r["scale"] == 0.25}
    scarce = {r["planner"]: r for r in spread_over if r["scale"] == 0.1}
    names = ["dat", "dat_plus", "dat_live"]
    figure, axes = _axes(3, 14, 2.4)
    cells = (
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
    for axis, (rows, column, title) in zip(axes, cells, strict=True):
        means = [rows[name][column]["mean"] for name in names]
        _bars(axis, names, means, [rows[name][column]["std"] for name in names], "dat_live")
        axis.set_title(title, fontsize=10, loc="left")
    axes[1].axvline(ample["clairvoyant bound"]["vtr_05"]["mean"], color=PAPER, lw=1.5)
    figure.suptitle(
        "Beyond the paper: bursts captured within a second, delays from capture", y=1.16
    )
    figure.subplots_adjust(wspace=0.4)
    return figure


def _gaps(found: Mapping[str, Any]) -> Any:
    figure, (axis,) = _axes(1, 6.5)
    for policy, colour in (("dat", PAPER), ("dat_plus", OURS)):
        label = {"dat": "dat (Algorithm 1)", "dat_plus": "dat_plus"}[policy]
        for share, style in ((0.25, "o-"), (0.75, "s--")):
            rows = [row for row in found["gaps"] if row["budget"] == share]
            counts = [str(row["visuals"]) for row in rows]
            means = [row[policy]["mean"] for row in rows]
            axis.plot(
                counts, means, style, color=colour, label=f"{label}, room for {100 * share:.0f} %"
            )
    axis.set_xlabel("visuals that wait")
    axis.set_ylabel("priority lost against the optimum (%)")
    axis.set_title("What one slot's plan loses to the best possible one", fontsize=10, loc="left")
    axis.legend(frameon=False, fontsize=8)
    return figure


def _cameras(found: Mapping[str, Any]) -> Any:
    figure, axes = _axes(2, 11)
    for axis, crowded in zip(axes, (False, True), strict=True):
        rows = [row for row in found["cameras"] if row["crowded"] == crowded]
        for planner, colour, style in (
            ("dat", PAPER, "o-"),
            ("dat_plus", "#e39c37", "o-"),
            ("dat_live", OURS, "o-"),
            ("dat_live, fair", OURS, "s--"),
        ):
            own = [row for row in rows if row["planner"] == planner]
            counts = [str(row["cameras"]) for row in own]
            axis.plot(
                counts, [r["worst"]["mean"] for r in own], style, ms=5, color=colour, label=planner
            )
        axis.set_xlabel("cameras on the link")
        which = "worst of the others" if crowded else "worst camera"
        axis.set_ylabel(f"{which}: priority shown in time (%)")
        title = "one camera has five times the bursts" if crowded else "all cameras alike"
        axis.set_title(title, fontsize=10, loc="left")
    axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle("Several cameras on a tenth of a 5G uplink")
    figure.subplots_adjust(wspace=0.25)
    return figure
