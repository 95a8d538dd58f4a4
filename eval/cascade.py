"""Thresholds that mean something: calibrate the gate, fit its band to a budget (COEF-VQ).

    python -m eval.cascade --gating OUT/gating --gate OUT/gate --policy band --load 0.3 \\
        --missed-severe 0.1 --out OUT/cascade
        [--validation OUT/predictions-val/boxed-lora --test OUT/predictions/boxed-lora]

Fits on validation frames, judges on test frames. Writes gate.json, which export.bundle takes
(--cascade) and the runtime obeys; cascade.{json,md}; reliability.png, load.png; with the MLLM's
answers curve.png too: quality against load, beside random and top-score routing.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dat_runtime import manifest
from dat_runtime.cascade import PAPER, Costs, Routing
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.errors import ConfigError, DataError, reports_errors
from dat_runtime.files import write_atomically
from dat_runtime.stage import Stage
from eval.routing import cascade_report, probabilities, thresholds
from eval.routing.drift import drifted_loads
from eval.routing.load_curve import balanced_accuracy, curves, error_of, interval, resampled
from eval.routing.probabilities import METHODS, Scored
from eval.routing.read_scored import read_scored

RESAMPLES = 200


@dataclass(frozen=True)
class Wanted:
    """What the thresholds are to meet; `None` leaves the choice to the data or the paper."""

    policy: str = "trigger"
    load: float | None = None
    missed_severe: float | None = None
    method: str | None = None
    mllm_error: float | None = None
    accident_share: float | None = None
    miss_cost: float | None = None


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    wanted = Wanted(
        args.policy,
        args.load,
        args.missed_severe,
        args.calibration,
        args.mllm_error,
        args.accident_share,
        args.miss_cost,
    )
    inputs = {"gating": args.gating, "gate": args.gate}
    named = {"validation": args.validation, "test": args.test, "signals": args.signals}
    inputs |= {name: path for name, path in named.items() if path}
    stage = Stage(args.out, kind="cascade", inputs=inputs, config=asdict(wanted), code=[__file__])
    if stage.up_to_date():
        return 0
    made_of = manifest.verify(args.gating, kind="gating").inputs
    if manifest.digest(args.gate) != made_of.get("gate"):
        raise ConfigError(
            f"{args.gating} was measured with another gate than {args.gate}: run eval.gating again"
        )
    validation = read_scored(args.gating, "val", args.validation, args.signals)
    test = read_scored(args.gating, "test", args.test, args.signals)
    with stage as folder:
        settings = GateSettings.read(args.gate / GATE_FILE)
        report = make_cascade(folder, settings, validation, test, wanted)
    print(cascade_report.words(report), flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eval.cascade",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--gating", type=Path, required=True, help="folder made by eval.gating")
    add("--gate", type=Path, required=True, help="the gate it was measured with")
    add("--policy", choices=thresholds.POLICIES, default="trigger", help="trigger: the MLLM sees "
        "every suspicious frame (DAT); band: the gate answers sure accidents itself; entropy: the "
        "band with equal costs")  # fmt: skip
    add("--load", type=float, metavar="SHARE", help="MLLM load to fit for (else: the paper's 0.25)")
    add("--missed-severe", type=float, metavar="SHARE", help="of severe frames dropped, at most; "
        "holds with 95 %% confidence on frames like the validation frames")  # fmt: skip
    add("--miss-cost", type=float, metavar="X", help="a missed accident costs as much as X false "
        "alarms (else: the odds against an accident, which is balanced accuracy)")  # fmt: skip
    add("--calibration", choices=METHODS, help="(else: the one of least cross-fitted loss)")
    add("--validation", type=Path, help="row of eval.predict --part val: the MLLM's error")
    add("--test", type=Path, help="row of eval.predict: the curve")
    add("--mllm-error", type=float, metavar="SHARE", help="where --validation is not there (0)")
    add(
        "--accident-share",
        type=float,
        metavar="SHARE",
        help="of the frames that the cameras will "
        "see: loads are for it (else: as in the validation frames, which hold far more)",
    )
    add("--signals", type=Path, help="CSV: image_id and further scores in [0, 1], empty: missing")
    add("--out", type=Path, required=True, help="output folder")
    args = parser.parse_args(argv)
    for name, top in (("load", 1.0), ("missed_severe", 1.0), ("mllm_error", 0.49)):
        value = getattr(args, name)
        if value is not None and not 0 <= value <= top:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}, expected 0 to {top:g}")
    if args.accident_share is not None and not 0 < args.accident_share < 1:
        raise ConfigError(f"--accident-share is {args.accident_share}, expected between 0 and 1")
    if args.miss_cost is not None and not 0 < args.miss_cost < float("inf"):
        raise ConfigError(f"--miss-cost is {args.miss_cost}, expected more than 0")
    if args.miss_cost is not None and args.policy == "entropy":
        raise ConfigError("--policy entropy is the band with equal costs: leave --miss-cost out")
    if args.load is None and (args.policy != "trigger" or args.missed_severe is not None):
        raise ConfigError(f"--policy {args.policy} needs a budget: --load 0.3, for one")
    if args.signals and args.calibration not in (None, "platt"):
        raise ConfigError(f"--calibration {args.calibration} cannot fuse --signals: take platt")
    if args.validation and args.mllm_error is not None:
        raise ConfigError("--validation measures the MLLM's error: leave --mllm-error out")
    return args


def make_cascade(
    folder: Path, settings: GateSettings, validation: Scored, test: Scored, wanted: Wanted
) -> dict[str, Any]:
    """Fill the output folder; returns what cascade.json holds."""
    method = wanted.method or probabilities.choose(validation)
    error = mllm_error(wanted, validation)
    routing = fitted(settings.keep, validation, method, wanted, error)
    report: dict[str, Any] = {
        "policy": wanted.policy,
        "wanted": asdict(wanted),
        "frames": {"val": len(validation), "test": len(test)},
        "failed_answers": {"val": validation.failed, "test": test.failed},
        "calibration": calibrated(validation, test, method),
        "mllm_error": error,
        "accident_share": _share(wanted, validation),
        "band": routing.band._asdict(),
        "rates": measured(routing, validation, test, method, wanted),
    }
    if routing.budget is not None:
        report["validation_load"] = float(rates(routing, validation, wanted.accident_share)[0])
        report["budget"] = asdict(routing.budget)
        report["closed_form_above_grid"] = grid_gap(routing, validation, wanted.accident_share)
        report["drift"] = drifted_loads(routing, test, _share(wanted, validation))
    if test.said is not None:
        found = curves(validation, test, method, lambda frames: mllm_error(wanted, frames))
        report["curve"] = cascade_report.curve_json(found)
    text = json.dumps(replace(settings, routing=routing).as_json(), indent=1) + "\n"
    write_atomically(folder / GATE_FILE, text)
    GateSettings.read(folder / GATE_FILE)  # what the runtime would refuse is not handed out
    write_atomically(folder / "cascade.json", json.dumps(report, indent=1) + "\n")
    write_atomically(folder / "cascade.md", cascade_report.words(report) + "\n")
    cascade_report.draw(report, folder)
    return report


def mllm_error(wanted: Wanted, frames: Scored) -> float:
    """How often the MLLM errs: as stated, else as its answers about the frames show, else never."""
    if wanted.mllm_error is not None:
        return wanted.mllm_error
    return 0.0 if frames.said is None else error_of(frames)


def _share(wanted: Wanted, frames: Scored) -> float:
    """The share of accidents that the thresholds are for."""
    return wanted.accident_share or float(frames.accident.mean())


def grid_gap(routing: Routing, frames: Scored, accident_share: float | None) -> float:
    """`thresholds.grid_gap` of the fitted price."""
    if routing.calibration is None or routing.budget is None:
        raise ValueError("expected a fitted routing")
    p = routing.calibration(frames.score, frames.signals)
    weight = thresholds.weights(frames.accident, accident_share)
    return thresholds.grid_gap(p, weight, routing.budget, routing.band.high is not None)


def fitted(keep: float, frames: Scored, method: str, wanted: Wanted, error: float) -> Routing:
    """The routing that meets what is wanted on the frames; the paper's rule without a budget.

    Raises:
        ConfigError: load and bound cannot both hold.
    """
    if wanted.load is None:
        return Routing(keep, PAPER)
    calibration = probabilities.fit(method, frames)
    share = _share(wanted, frames)
    calibration = probabilities.shifted(calibration, float(frames.accident.mean()), share)
    costs = _costs(wanted, share, error)
    p = calibration(frames.score, frames.signals)
    bound = 1.0
    if wanted.missed_severe is not None:
        bound = thresholds.low_bound(p, frames.severe, wanted.missed_severe)
    may_report = thresholds.reports(wanted.policy)
    budget = thresholds.fit_budget(
        p,
        thresholds.weights(frames.accident, wanted.accident_share),
        frames.score >= keep,
        wanted.load,
        costs,
        may_report,
        bound,
    )
    return Routing(keep, budget.band(budget.price, may_report), calibration, budget)


def _costs(wanted: Wanted, share: float, error: float) -> Costs:
    if wanted.policy == "entropy":
        return Costs(1.0, 1.0, error)
    if wanted.miss_cost is not None:
        return Costs(wanted.miss_cost, 1.0, error)
    return thresholds.balanced_costs(share, error)


def calibrated(validation: Scored, test: Scored, method: str) -> dict[str, Any]:
    """How reliable scores and probabilities are: cross-fitted on val, and on test."""
    reliability = probabilities.reliability
    p = probabilities.fit(method, validation)(test.score, test.signals)
    crossed = probabilities.cross_fitted(method, validation)
    return {
        "method": method,
        "val": asdict(reliability(crossed, validation.accident)),
        "test": asdict(reliability(p, test.accident)),
        "test_uncalibrated": asdict(reliability(test.score, test.accident)),
    }


RATES = (
    "load",
    "reported",
    "report_precision",
    "missed_severe",
    "balanced_accuracy",
    "gate_alone",
    "mllm_alone",
)


def measured(
    routing: Routing, validation: Scored, test: Scored, method: str, wanted: Wanted
) -> dict[str, Any]:
    """The rates on test frames, with nested bootstrap intervals: in each resample the MLLM's error,
    the calibration (of the same method) and the thresholds are those of resampled validation frames
    """
    rng = np.random.default_rng(0)
    share = wanted.accident_share
    values = rates(routing, test, share)
    drawn, refused = [], 0
    for _ in range(RESAMPLES):
        try:
            again = resampled(validation, rng)
            refitted = fitted(routing.keep, again, method, wanted, mllm_error(wanted, again))
        except (ConfigError, DataError):
            refused += 1
            continue
        drawn.append(rates(refitted, resampled(test, rng), share))
    known = np.flatnonzero(~np.isnan(values))
    low, high = interval(np.array(drawn or [values])[:, known])
    parts = zip(known, low, high, strict=True)
    result: dict[str, Any] = {
        RATES[i]: {"value": float(values[i]), "low": float(a), "high": float(b)}
        for i, a, b in parts
    }
    return result | {"resamples": len(drawn), "refused": refused}


def rates(routing: Routing, frames: Scored, accident_share: float | None) -> np.ndarray:
    """`RATES` of frames under a routing; NaN where nothing defines one.

    Load and reports are those at the given share of accidents. The gate alone reports what costs
    less to report than to drop, or without a budget all that it would ask about.
    """
    p = frames.score
    if routing.calibration is not None:
        p = routing.calibration(frames.score, frames.signals)
    asked = thresholds.asked_about(p, frames.score >= routing.keep, routing.band)
    reported = (p >= routing.band.low) & ~asked
    missed = ~asked & ~reported & frames.severe
    severe = frames.severe.sum()
    end = routing.band.low if routing.budget is None else routing.budget.costs.indifferent
    alone = balanced_accuracy(p >= end, frames.accident)
    routed = mllm = np.float64("nan")
    if frames.said is not None:
        routed = balanced_accuracy(np.where(asked, frames.said, reported), frames.accident)
        mllm = balanced_accuracy(frames.said, frames.accident)
    share = missed.sum() / severe if severe else np.float64("nan")
    weight = thresholds.weights(frames.accident, accident_share)
    told = weight @ reported
    right = weight @ (reported & frames.accident) / told if told else np.float64("nan")
    return np.array([weight @ asked, told, right, share, routed, alone, mllm])


if __name__ == "__main__":
    raise SystemExit(main())
