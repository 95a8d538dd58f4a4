"""What eval.cascade found, in words and pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eval.routing.load_curve import LOADS, Curves, interval

OURS, OTHERS, GREY = "#1b6ca8", "#d1495b", "#8a939c"
_COLOURS = {"band": OURS, "entropy": "#5aa469", "top_score": OTHERS, "random": GREY}
_LABELS = {
    "band": "band: where a call pays most",
    "entropy": "entropy: nearest to 0.5",
    "top_score": "top score first",
    "random": "random frames",
}
NON_INFERIOR = 0.01
"""COEF-VQ's claim in numbers: at most this much balanced accuracy below the MLLM on all frames."""


def curve_json(found: Curves) -> dict[str, Any]:
    """The curves with intervals, what routing by benefit gains, and what the cascade loses."""
    band = found.drawn["band"]
    whole = found.quality["band"][-1]
    lost = whole - found.quality["band"]
    return {
        "loads": LOADS.tolist(),
        "routings": {
            name: {
                "quality": found.quality[name].tolist(),
                "realised_load": found.load[name].tolist(),
                **_interval(found.drawn[name]),
            }
            for name in found.quality
        },
        "band_above": {
            other: {
                "value": (found.quality["band"] - found.quality[other]).tolist(),
                **_interval(band - found.drawn[other]),
            }
            for other in ("random", "top_score", "entropy")
        },
        "band_below_mllm": {"value": lost.tolist(), **_interval(band[:, -1:] - band)},
    }


def _interval(drawn: np.ndarray) -> dict[str, list[float]]:
    low, high = interval(drawn)
    return {"low": low.tolist(), "high": high.tolist()}


def words(report: Mapping[str, Any]) -> str:
    """A few lines for the terminal, and cascade.md."""
    return "\n".join([*_calibration(report), *_thresholds(report), *_curve(report)])


def _calibration(report: Mapping[str, Any]) -> list[str]:
    found, frames = report["calibration"], report["frames"]
    test, before = found["test"], found["test_uncalibrated"]
    return [
        f"- Calibrated by {found['method']} on {frames['val']} validation frames. On "
        f"{frames['test']} test frames ECE {before['ece']:.3f} -> {test['ece']:.3f} (perfect "
        f"probabilities would show {test['expected']:.3f} at this number), log loss "
        f"{before['log_loss']:.3f} -> {test['log_loss']:.3f}."
    ]


def _thresholds(report: Mapping[str, Any]) -> list[str]:
    rates = report["rates"]
    lines = [_band(report)]
    listed = ", ".join(_rate(name, rates) for name in _NAMES if name in rates)
    lines.append(f"- On test frames: {listed}.")
    if report.get("budget", {}).get("price") == 0:
        lines.append("- More calls are not worth making: the budget is not used up.")
    failed = report["failed_answers"]
    if failed["val"] or failed["test"]:
        lines.append(
            f"- Failed or missing answers of the MLLM, counted as wrong: {failed['val']} of the "
            f"validation frames, {failed['test']} of the test frames."
        )
    if refused := rates["refused"]:
        lines.append(
            f"- In {refused} of {refused + rates['resamples']} resamples the load could not hold: "
            "it is near its limit."
        )
    if "drift" in report:
        loads = ", ".join(
            f"{_percent(p['accidents'])} accidents: {p['fixed']:.3f} -> {p['controlled']:.3f}"
            for p in report["drift"]["phases"]
        )
        lines.append(f"- Load with fixed thresholds -> with the controller, under drift: {loads}.")
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _band(report: Mapping[str, Any]) -> str:
    wanted, (low, high) = report["wanted"], (report["band"]["low"], report["band"]["high"])
    if wanted["load"] is None:
        return "- Thresholds: the paper's; every frame with a score from 0.25 on is asked about."
    end = "" if high is None else f", reported by the gate from {high:.3g} on"
    words = f"- Policy {report['policy']}: asked about from p = {low:.3g} on{end}; fitted for a "
    words += f"load of {_percent(wanted['load'])}"
    if wanted["missed_severe"] is not None:
        words += (
            f" and at most {wanted['missed_severe']:.1%} of severe frames dropped (95 % confidence)"
        )
    words += f", an MLLM that errs on {report['mllm_error']:.1%} of the frames"
    words += f", {_percent(report['accident_share'])} of the frames with an accident"
    return f"{words}; on validation frames {report['validation_load']:.3f}."


_NAMES = {
    "load": "MLLM load",
    "reported": "reported by the gate",
    "report_precision": "of these with an accident",
    "missed_severe": "severe frames dropped",
    "balanced_accuracy": "balanced accuracy of the cascade",
    "gate_alone": "of the gate alone",
    "mllm_alone": "of the MLLM on all frames",
}


def _rate(name: str, rates: Mapping[str, Any]) -> str:
    found = rates[name]
    return f"{_NAMES[name]} {found['value']:.3f} ({found['low']:.3f}-{found['high']:.3f})"


def _curve(report: Mapping[str, Any]) -> list[str]:
    if "curve" not in report:
        return ["- Without the MLLM's answers (--test) there is no curve of quality against load."]
    curve, lines = report["curve"], []
    worse = [high > NON_INFERIOR for high in curve["band_below_mllm"]["high"]]
    least = curve["loads"][max((i + 1 for i, is_worse in enumerate(worse) if is_worse), default=0)]
    lines.append(
        f"- From a load of {least:.0%} on the cascade is at most {NON_INFERIOR:.0%} of balanced "
        "accuracy below the MLLM on all frames, with 95 % confidence."
    )
    for other, gap in curve["band_above"].items():
        inner = slice(1, -1)
        lines.append(
            f"- Band against {other}: {np.mean(gap['value'][inner]):+.3f} of balanced accuracy on "
            f"average over the loads, surely better at {sum(v > 0 for v in gap['low'][inner])} and "
            f"surely worse at {sum(v < 0 for v in gap['high'][inner])} of {len(LOADS) - 2}."
        )
    return lines


def draw(report: Mapping[str, Any], folder: Path) -> None:
    """reliability.png; load.png where a budget is held; curve.png where the MLLM answered."""
    plots = {"reliability": _draw_reliability}
    plots |= {"load": _draw_drift} if "drift" in report else {}
    plots |= {"curve": _draw_curve} if "curve" in report else {}
    for name, plot in plots.items():
        figure, axis = _figure()
        plot(report, axis)
        axis.legend(frameon=False, fontsize=8)
        figure.savefig(
            folder / f"{name}.png", dpi=110, bbox_inches="tight", metadata={"Software": None}
        )


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2))
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _draw_reliability(report: Mapping[str, Any], axis: Any) -> None:
    found = report["calibration"]
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="as often as said")
    rows = (("test_uncalibrated", OTHERS, "the gate's score"), ("test", OURS, found["method"]))
    for name, colour, label in rows:
        said, seen, n = np.array(found[name]["bins"]).T
        axis.plot(said, seen, color=colour, linewidth=1)
        axis.scatter(said, seen, s=3 * n, color=colour, alpha=0.7, label=f"{label}: ECE "
                     f"{found[name]['ece']:.3f}")  # fmt: skip
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="said probability of an accident",
             ylabel="share of frames with one")  # fmt: skip
    axis.set_title(f"Reliability on {report['frames']['test']} test frames", loc="left")


def _draw_drift(report: Mapping[str, Any], axis: Any) -> None:
    drift = report["drift"]
    frames = (np.arange(len(drift["windows"]["fixed"])) + 0.5) * drift["window"]
    axis.axhline(drift["budget"], color=GREY, linewidth=1, linestyle=":", label="budget")
    axis.plot(frames, drift["windows"]["fixed"], color=OTHERS, label="fixed thresholds")
    axis.plot(frames, drift["windows"]["controlled"], color=OURS, label="load controller")
    length = frames[-1] + frames[0]
    for i, phase in enumerate(drift["phases"]):
        start = i * length / len(drift["phases"])
        axis.axvline(start, color=GREY, linewidth=0.5)
        axis.text(start, 1.0, f" {_percent(phase['accidents'])} accidents", fontsize=8, va="top",
                  transform=axis.get_xaxis_transform())  # fmt: skip
    top = 1.3 * max(drift["budget"], *map(max, drift["windows"].values())) or 1.0
    axis.set(xlabel="frames", ylabel="MLLM load", ylim=(0, top))
    axis.set_title("Load while the share of accidents drifts", loc="left", pad=14)


def _draw_curve(report: Mapping[str, Any], axis: Any) -> None:
    curve = report["curve"]
    for name, colour in _COLOURS.items():
        found = curve["routings"][name]
        axis.plot(curve["loads"], found["quality"], color=colour, label=_LABELS[name])
        if name == "band":
            axis.fill_between(
                curve["loads"], found["low"], found["high"], color=colour, alpha=0.15, linewidth=0
            )
    axis.set(xlabel="MLLM load (share of frames asked about)", ylabel="balanced accuracy")
    axis.set_title("Quality against load, thresholds fitted on validation frames", loc="left")
