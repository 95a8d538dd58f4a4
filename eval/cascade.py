"""Thresholds that mean something: calibrate the gate, fit its band to a budget (COEF-VQ).

    python -m eval.cascade --gating OUT/gating --gate OUT/gate --policy band --load 0.3 \\
        --missed-severe 0.1 --out OUT/cascade
        [--validation OUT/predictions-val/boxed-lora --test OUT/predictions/boxed-lora]

Fits on validation frames and judges on test frames. Writes gate.json, which export.bundle takes
(--cascade) and the runtime obeys; cascade.{json,md}; reliability.png and load.png. With the MLLM's
answers it also draws curve.png: quality against load, beside random and top-score routing.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.command import command
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_atomically, write_json
from dat_runtime.stage import Stage
from eval.routing import cascade_report, fitting, probabilities, thresholds
from eval.routing.drift import drifted_loads
from eval.routing.fitting import Wanted
from eval.routing.load_curve import MAX_MLLM_ERROR, curves
from eval.routing.probabilities import Scored
from eval.routing.read_scored import read_scored


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    wanted = Wanted(
        policy=args.policy,
        load=args.load,
        missed_severe=args.missed_severe,
        method=args.calibration,
        mllm_error=args.mllm_error,
        accident_share=args.accident_share,
        miss_cost=args.miss_cost,
    )
    inputs = {"gating": args.gating, "gate": args.gate}
    for name in ("validation", "test", "signals"):
        path = getattr(args, name)
        if path is not None:
            inputs[name] = path
    stage = Stage(args.out, kind="cascade", inputs=inputs, config=asdict(wanted), code=[__file__])
    if stage.up_to_date():
        return 0
    gating_inputs = manifest.verify(args.gating, kind="gating").inputs
    if manifest.digest(args.gate) != gating_inputs.get("gate"):
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
    parser = command("eval.cascade", __doc__)
    add = parser.add_argument
    add("--gating", type=Path, required=True, help="folder made by eval.gating")
    add("--gate", type=Path, required=True, help="the gate it was measured with")
    add("--policy", choices=thresholds.POLICIES, default="trigger", help="trigger: the MLLM sees "
        "every suspicious frame (DAT); band: the gate answers sure accidents itself; entropy: the "
        "band with equal costs")  # fmt: skip
    add("--load", type=float, metavar="SHARE", help="MLLM load to fit for (default: none, the "
        "thresholds stay the paper's 0.25)")  # fmt: skip
    add("--missed-severe", type=float, metavar="SHARE", help="share of severe frames dropped, at "
        "most; holds with 95 %% confidence on frames like the validation frames")  # fmt: skip
    add("--miss-cost", type=float, metavar="X", help="a missed accident costs as much as X false "
        "alarms (default: the odds against an accident, which is balanced accuracy)")  # fmt: skip
    add("--calibration", choices=probabilities.METHODS, help="method (default: the one with the "
        "least cross-fitted loss)")  # fmt: skip
    add("--validation", type=Path, help="row of eval.predict --part val: measures the MLLM's error")
    add("--test", type=Path, help="row of eval.predict about the test frames: draws the curve")
    add("--mllm-error", type=float, metavar="SHARE", help="the MLLM's error, where there is no "
        "--validation (default: 0)")  # fmt: skip
    add("--accident-share", type=float, metavar="SHARE", help="share of the cameras' frames with "
        "an accident, for which the load is fitted (default: that of the validation frames, which "
        "is far higher)")  # fmt: skip
    add("--signals", type=Path, help="CSV with image_id and further scores in [0, 1]; an empty "
        "cell is a missing score")  # fmt: skip
    add("--out", type=Path, required=True, help="output folder")
    args = parser.parse_args(argv)
    _demand_sense(args)
    return args


def _demand_sense(args: argparse.Namespace) -> None:
    """Raise `ConfigError` when a number is out of range, or two options exclude each other."""
    for name, top in (("load", 1.0), ("missed_severe", 1.0), ("mllm_error", MAX_MLLM_ERROR)):
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
        raise ConfigError(f"--policy {args.policy} needs a budget, for example --load 0.3")
    if args.signals and args.calibration not in (None, "platt"):
        raise ConfigError(f"--calibration {args.calibration} cannot fuse --signals: use platt")
    if args.validation and args.mllm_error is not None:
        raise ConfigError("--validation measures the MLLM's error: leave --mllm-error out")


def make_cascade(
    folder: Path, settings: GateSettings, validation: Scored, test: Scored, wanted: Wanted
) -> dict[str, Any]:
    """Fill the output folder; returns what cascade.json holds."""
    method = wanted.method or probabilities.choose(validation)
    error = fitting.mllm_error(wanted, validation)
    routing = fitting.fitted(settings.keep, validation, method, wanted, error)
    report: dict[str, Any] = {
        "policy": wanted.policy,
        "wanted": asdict(wanted),
        "frames": {"val": len(validation), "test": len(test)},
        "failed_answers": {"val": validation.failed, "test": test.failed},
        "calibration": fitting.calibrated(validation, test, method),
        "mllm_error": error,
        "accident_share": wanted.share(validation),
        "band": routing.band._asdict(),
        "rates": fitting.measured(routing, validation, test, method, wanted),
    }
    if routing.budget is not None:
        share = wanted.accident_share
        report["validation_load"] = fitting.rates(routing, validation, share).load
        report["budget"] = asdict(routing.budget)
        report["closed_form_above_grid"] = fitting.grid_gap(routing, validation, share)
        report["drift"] = drifted_loads(routing, test, wanted.share(validation))
    if test.mllm_reports is not None:
        measured = curves(
            validation, test, method, lambda frames: fitting.mllm_error(wanted, frames)
        )
        report["curve"] = cascade_report.curve_json(measured)
    write_json(folder / GATE_FILE, replace(settings, routing=routing).as_json())
    GateSettings.read(folder / GATE_FILE)  # refuses here what the runtime would refuse
    write_json(folder / "cascade.json", report)
    write_atomically(folder / "cascade.md", cascade_report.words(report) + "\n")
    cascade_report.draw(report, folder)
    return report


if __name__ == "__main__":
    raise SystemExit(main())
