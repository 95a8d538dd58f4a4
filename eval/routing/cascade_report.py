"""The report of eval.cascade: cascade.json's curves, cascade.md and the pictures."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eval.routing.load_curve import LOADS, Curves
from eval.statistics import canvas
from eval.statistics.bootstrap import bounds

OURS, OTHERS, GREY = "#1b6ca8", "#d1495b", "#8a939c"
_COLOURS = {"band": OURS, "entropy": "#5aa469", "top_score": OTHERS, "random": GREY}
_LABELS = {
    "band": "band: where a call is worth most",
    "entropy": "entropy: nearest to 0.5",
    "top_score": "top score first",
    "random": "random frames",
}
NON_INFERIOR = 0.01
"""COEF-VQ's claim in numbers: at most this much balanced accuracy below the MLLM on all frames."""


def curve_json(curves: Curves) -> dict[str, Any]:
    """The curves with intervals, what routing by benefit gains, and what the cascade loses."""
    routings = {}
    for name, quality in curves.quality.items():
        routings[name] = {
            "quality": quality.tolist(),
            "realised_load": curves.load[name].tolist(),
            **_interval(curves.drawn[name]),
        }
    band, band_drawn = curves.quality["band"], curves.drawn["band"]
    band_above = {}
    for other in ("random", "top_score", "entropy"):
        band_above[other] = {
            "value": (band - curves.quality[other]).tolist(),
            **_interval(band_drawn - curves.drawn[other]),
        }
    # The last of `LOADS` is 1: the MLLM on all frames.
    band_below_mllm = {
        "value": (band[-1] - band).tolist(),
        **_interval(band_drawn[:, -1:] - band_drawn),
    }
    return {
        "loads": LOADS.tolist(),
        "routings": routings,
        "band_above": band_above,
        "band_below_mllm": band_below_mllm,
    }


def _interval(drawn: np.ndarray) -> dict[str, list[float]]:
    """The 95 % interval at each load, from (resamples, loads)."""
    low, high = bounds(drawn)
    return {"low": low.tolist(), "high": high.tolist()}


def words(report: Mapping[str, Any]) -> str:
    """A few lines for the terminal, and cascade.md."""
    return "\n".join([*_calibration(report), *_thresholds(report), *_curve(report)])


def _calibration(report: Mapping[str, Any]) -> list[str]:
    calibration, frames = report["calibration"], report["frames"]
    before, after = calibration["test_uncalibrated"], calibration["test"]
    return [
        f"- Calibrated by {calibration['method']} on {frames['val']} validation frames. On "
        f"{frames['test']} test frames ECE {before['ece']:.3f} -> {after['ece']:.3f} (perfect "
        f"probabilities would show {after['expected']:.3f} with this many frames), log loss "
        f"{before['log_loss']:.3f} -> {after['log_loss']:.3f}."
    ]


def _thresholds(report: Mapping[str, Any]) -> list[str]:
    rates = report["rates"]
    lines = [_band(report)]
    listed = ", ".join(_rate(name, rates) for name in _NAMES if name in rates)
    lines.append(f"- On test frames: {listed}.")
    if report.get("budget", {}).get("price") == 0:
        lines.append("- The budget is not used up: more calls would not be worth making.")
    failed = report["failed_answers"]
    if failed["val"] or failed["test"]:
        lines.append(
            f"- Failed or missing answers of the MLLM, counted as wrong: {failed['val']} of the "
            f"validation frames, {failed['test']} of the test frames."
        )
    refused = rates["refused"]
    if refused:
        lines.append(
            f"- In {refused} of {refused + rates['resamples']} resamples the load could not hold: "
            "it is near its limit."
        )
    if "drift" in report:
        loads = []
        for phase in report["drift"]["phases"]:
            share = _percent(phase["accidents"])
            loads.append(f"{share} accidents: {phase['fixed']:.3f} -> {phase['controlled']:.3f}")
        lines.append(
            "- Load with fixed thresholds -> with the load controller, while the share of "
            f"accidents drifts: {', '.join(loads)}."
        )
    return lines


def _percent(share: float) -> str:
    """Percent with three significant digits, so that a rare share is not printed as 0."""
    return f"{100 * share:.3g} %"


def _band(report: Mapping[str, Any]) -> str:
    wanted, band = report["wanted"], report["band"]
    if wanted["load"] is None:
        return "- Thresholds: the paper's; frames with a score of 0.25 or more go to the MLLM."
    line = f"- Policy {report['policy']}: frames go to the MLLM from p = {band['low']:.3g} on"
    if band["high"] is not None:
        line += f", and are reported by the gate from {band['high']:.3g} on"
    line += f"; fitted for a load of {_percent(wanted['load'])}"
    if wanted["missed_severe"] is not None:
        line += (
            f" and at most {wanted['missed_severe']:.1%} of severe frames dropped (95 % confidence)"
        )
    line += f", an MLLM that errs on {report['mllm_error']:.1%} of the frames"
    line += f", {_percent(report['accident_share'])} of the frames with an accident"
    return f"{line}; load on validation frames {report['validation_load']:.3f}."


_NAMES = {
    "load": "MLLM load",
    "reported": "reported by the gate",
    "report_precision": "share of these with an accident",
    "missed_severe": "severe frames dropped",
    "balanced_accuracy": "balanced accuracy of the cascade",
    "gate_alone": "balanced accuracy of the gate alone",
    "mllm_alone": "balanced accuracy of the MLLM on all frames",
}


def _rate(name: str, rates: Mapping[str, Any]) -> str:
    rate = rates[name]
    return f"{_NAMES[name]} {rate['value']:.3f} ({rate['low']:.3f}-{rate['high']:.3f})"


def _curve(report: Mapping[str, Any]) -> list[str]:
    if "curve" not in report:
        return ["- Without the MLLM's answers (--test) there is no curve of quality against load."]
    curve = report["curve"]
    # The first load from which on the loss is at most `NON_INFERIOR`.
    first_close = 0
    for i, loss in enumerate(curve["band_below_mllm"]["high"]):
        if loss > NON_INFERIOR:
            first_close = i + 1
    lines = [
        f"- From a load of {curve['loads'][first_close]:.0%} on the cascade is at most "
        f"{NON_INFERIOR:.0%} of balanced accuracy below the MLLM on all frames, with 95 % "
        "confidence."
    ]
    # At loads 0 and 1 all routings ask about the same frames.
    inner = slice(1, -1)
    for other, gap in curve["band_above"].items():
        better = sum(low > 0 for low in gap["low"][inner])
        worse = sum(high < 0 for high in gap["high"][inner])
        lines.append(
            f"- Band against {other}: {np.mean(gap['value'][inner]):+.3f} of balanced accuracy on "
            f"average over the loads; the interval is above 0 at {better} and below 0 at {worse} "
            f"of {len(LOADS) - 2} loads."
        )
    return lines


def draw(report: Mapping[str, Any], folder: Path) -> None:
    """reliability.png; load.png where a budget is held; curve.png where the MLLM answered."""
    plots: dict[str, Callable[[Mapping[str, Any], Any], None]] = {"reliability": _draw_reliability}
    if "drift" in report:
        plots["load"] = _draw_drift
    if "curve" in report:
        plots["curve"] = _draw_curve
    for name, plot in plots.items():
        figure, (axis,) = canvas.panels([3.8])
        plot(report, axis)
        canvas.legend(axis)
        canvas.save(figure, folder / f"{name}.png")


def _draw_reliability(report: Mapping[str, Any], axis: Any) -> None:
    """The share of accidents against the mean p of each bin, before and after calibration."""
    calibration = report["calibration"]
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="perfect calibration")
    for key, colour, label in (
        ("test_uncalibrated", OTHERS, "the gate's score"),
        ("test", OURS, calibration["method"]),
    ):
        predicted, observed, frames = np.array(calibration[key]["bins"]).T
        ece = calibration[key]["ece"]
        axis.plot(predicted, observed, color=colour, linewidth=1)
        axis.scatter(predicted, observed, s=3 * frames, color=colour, alpha=0.7,
                     label=f"{label}: ECE {ece:.3f}")  # fmt: skip
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="predicted probability of an accident",
             ylabel="share of frames with an accident")  # fmt: skip
    canvas.titled(axis, f"Reliability on {report['frames']['test']} test frames")


def _draw_drift(report: Mapping[str, Any], axis: Any) -> None:
    """The load in each window of frames, with a line and a note where a phase begins."""
    drift = report["drift"]
    fixed, controlled = drift["windows"]["fixed"], drift["windows"]["controlled"]
    middles = (np.arange(len(fixed)) + 0.5) * drift["window"]
    axis.axhline(drift["budget"], color=GREY, linewidth=1, linestyle=":", label="budget")
    axis.plot(middles, fixed, color=OTHERS, label="fixed thresholds")
    axis.plot(middles, controlled, color=OURS, label="load controller")
    length = len(fixed) * drift["window"]
    for i, phase in enumerate(drift["phases"]):
        start = i * length / len(drift["phases"])
        axis.axvline(start, color=GREY, linewidth=0.5)
        axis.text(start, 1.0, f" {_percent(phase['accidents'])}\n accidents",
                  fontsize=canvas.TEXT, va="top", transform=axis.get_xaxis_transform())  # fmt: skip
    # The height above the curves stays free for the phases and the legend. With a load of 0
    # throughout the axis needs some height all the same.
    top = 1.7 * max(drift["budget"], *fixed, *controlled) or 1.0
    axis.set(xlabel="frames", ylabel="MLLM load", ylim=(0, top))
    canvas.titled(axis, "Load while the share of accidents drifts")


def _draw_curve(report: Mapping[str, Any], axis: Any) -> None:
    """Balanced accuracy against load for each routing; the band with its interval."""
    curve = report["curve"]
    for name, colour in _COLOURS.items():
        routing = curve["routings"][name]
        axis.plot(curve["loads"], routing["quality"], color=colour, label=_LABELS[name])
        if name == "band":
            axis.fill_between(curve["loads"], routing["low"], routing["high"], color=colour,
                              alpha=0.15, linewidth=0)  # fmt: skip
    axis.set(xlabel="MLLM load (share of frames sent to the MLLM)", ylabel="balanced accuracy")
    canvas.titled(axis, "Quality against load, thresholds fitted on validation frames")
