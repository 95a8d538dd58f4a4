"""Table 3, Figures 5-6 and what surrounds them: DAT's scheduler over a replayed uplink.

    python -m eval.transmission --trace OUT/data/bandwidth.csv \
        --config configs/transmission/c0.yaml --out OUT/transmission

makes the whole study; --quick Table 3 and the two figures alone; --accept also prints every figure
that must be reached, with pass or fail. With --events, what the link of the trace (as it is, not
rescaled) would have done with the events of a run's log.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.stage import Stage
from eval.uplink import (
    acceptance,
    arrivals,
    beyond,
    exactness,
    link,
    plots,
    replay,
    report,
    studies,
)
from eval.uplink.arrivals import Setting
from eval.uplink.timeliness import COLUMNS

A, B, C = "A. Medium (0.25x)", "B. Burst (0.25x)", "C. Carrier (burst, 0.25x)"
PATTERNS = {A: "medium", B: "burst", C: "burst"}
"""The arrival pattern of each block of Table 3."""

PAPER: tuple[tuple[str, str, float, float, float, float | None], ...] = (
    (A, "Bandwidth-Only", 0.0543, 94.67, 95.17, 0.1742),
    (A, "Priority-Only", 0.0509, 99.83, 99.83, 0.0637),
    (A, "DAT", 0.0508, 99.83, 100.0, 0.0368),
    (B, "Bandwidth-Only", 0.2361, 80.17, 89.17, 0.4392),
    (B, "Priority-Only", 0.1704, 92.33, 98.00, 0.2153),
    (B, "DAT", 0.0531, 98.33, 99.17, 0.1081),
    (C, "JSON-Only", 0.0531, 0.0, 0.0, None),
    (C, "Fixed Box Upload", 0.6338, 82.00, 96.33, 0.3436),
    (C, "Fixed ROI Upload", 0.6512, 77.50, 92.83, 0.3382),
    (C, "Fixed JSON+Box", 0.2602, 81.83, 96.33, 0.3460),
    (C, "DAT", 0.0531, 98.33, 99.17, 0.1081),
)
"""Table 3 as printed, in the order of `COLUMNS`: seconds, percent, percent, seconds."""

QUICK_SEEDS = 5
DRAWS = 100
"""Perturbed settings."""

GAP_INSTANCES = 60
OTHER_STUDY_SEEDS = 10
"""Runs per row of the studies whose rows differ by far more than their spread."""

Rates = Sequence[float]


def table_3(setting: Setting, rates: Rates, seeds: int) -> list[dict[str, Any]]:
    """The rows of Table 3: ours as mean and standard deviation over seeds, and the paper's.

    Seconds and percent, as the paper prints them. `no_alert` counts events, of a run, that a scheme
    without JSON never raised an alert for.
    """
    runs = {
        pattern: [
            replay.compare(setting, rates, pattern, replay.TABLE_3_SCALE, seed)
            for seed in range(seeds)
        ]
        for pattern in ("medium", "burst")
    }
    means = {p: replay.averages(found, (*COLUMNS, "no_alert")) for p, found in runs.items()}
    return [
        {
            "block": block,
            "method": method,
            **means[PATTERNS[block]][method],
            "paper": dict(zip(COLUMNS, printed, strict=True)),
        }
        for block, method, *printed in PAPER
    ]


def claims_on_c0(setting: Setting, rates: Rates, seeds: int) -> dict[str, Any]:
    """In how many of the runs behind Table 3 its orderings hold, one by one."""
    runs = [
        {
            pattern: replay.compare(setting, rates, pattern, replay.TABLE_3_SCALE, seed)
            for pattern in ("medium", "burst")
        }
        for seed in range(seeds)
    ]
    claims = {"must_hold": studies.MUST_HOLD, "strictly": studies.STRICTLY}
    return {
        "runs": seeds,
        **{name: studies.held(runs, found) for name, found in claims.items()},
        "fragile": studies.held(runs, studies.FRAGILE),
    }


def study(setting: Setting, trace: Rates, seeds: int, quick: bool) -> dict[str, Any]:
    """All results by name: plain values, as study.json holds them."""
    rates = link.window(trace, setting.trace)
    start = link.window_start(trace, setting.trace)
    found: dict[str, Any] = {
        "seeds": seeds,
        "parse_json": setting.parse["json"],
        "fitted_here": link.fingerprint(trace, setting.trace) == setting.trace.fitted_to,
        "window": f"seconds {start} to {start + len(rates)} of {len(trace)} of the trace",
    }
    found["table3"] = table_3(setting, rates, seeds)
    print(f"[transmission] Table 3, {seeds} seeds", flush=True)
    found["fig5"] = studies.deadline_study(setting, rates, seeds)
    found["fig6"] = studies.priority_study(setting, rates, seeds)
    print("[transmission] Figures 5 and 6", flush=True)
    if quick:
        return found
    few = min(seeds, OTHER_STUDY_SEEDS)
    found["claims_c0"] = claims_on_c0(setting, rates, seeds)
    found["settings"] = studies.all_settings(setting, rates, few)
    found["perturbation"] = studies.perturbation_study(setting, trace, DRAWS)
    found["other_links"] = studies.other_links(setting, trace)
    found["beyond"] = beyond.beyond_table(setting, rates, seeds)
    found["forecast"] = beyond.forecast_study(setting, rates, few)
    found["cameras"] = beyond.camera_study(setting, rates, 3)
    found["gaps"] = beyond.gap_study(GAP_INSTANCES)
    found["exact"] = exactness.exact_properties(setting, rates, seeds)
    return found


def _write(folder: Path, found: dict[str, Any]) -> None:
    def as_json(name: str, value: Any) -> None:
        (folder / name).write_text(json.dumps(value, indent=1) + "\n", "utf-8")

    as_json("table3.json", found["table3"])
    as_json("study.json", found)
    (folder / "table3.md").write_text(report.table_3(found), "utf-8")
    (folder / "study.md").write_text(report.report(found), "utf-8")
    plots.draw_all(found, folder)


def _make_study(args: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    seeds = min(args.seeds, QUICK_SEEDS) if args.quick else args.seeds
    stage = Stage(
        args.out,
        kind="transmission",
        inputs={"trace": args.trace, "config": args.config},
        config={"seeds": seeds, "quick": args.quick},
        code=[__file__],
    )
    if not stage.up_to_date():
        trace = link.read_trace(args.trace)
        with stage as folder:
            _write(folder, study(setting, trace, seeds, args.quick))
    found: dict[str, Any] = json.loads((args.out / "study.json").read_text("utf-8"))
    print("\n" + report.table_3(found), flush=True)
    return found


def _make_my_link(args: argparse.Namespace, setting: Setting) -> None:
    stage = Stage(
        args.out,
        kind="my-link",
        inputs={"trace": args.trace, "config": args.config, "events": args.events},
        config={},
        code=[__file__],
    )
    if not stage.up_to_date():
        events = arrivals.read_events(args.events)
        trace = link.read_trace(args.trace)
        with stage as folder:
            rows = beyond.my_link(setting, events, trace)
            (folder / "my_link.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
            text = report.my_link(rows, len(events), len(trace))
            (folder / "my_link.md").write_text(text, "utf-8")
    print("\n" + (args.out / "my_link.md").read_text("utf-8"), flush=True)


def _accepted(found: dict[str, Any]) -> bool:
    from eval.uplink import plan_speed

    figures = acceptance.figures(found) + acceptance.speed_figures(plan_speed.measured())
    print(acceptance.as_text(figures), flush=True)
    return not any(figure.failed for figure in figures)


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eval.transmission",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trace", type=Path, required=True, help="bandwidth.csv")
    parser.add_argument("--config", type=Path, required=True, help="the setting, YAML")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seeds", type=int, default=20, help="runs per row (default 20)")
    parser.add_argument(
        "--quick", action="store_true", help=f"Table 3, Fig. 5-6, at most {QUICK_SEEDS} seeds"
    )
    parser.add_argument(
        "--accept", action="store_true", help="print every demand with pass or fail; exit 1 on fail"
    )
    parser.add_argument("--events", type=Path, help="event log (JSON lines) to replay instead")
    args = parser.parse_args(argv)
    if args.seeds < 1:
        raise ConfigError(f"--seeds must be at least 1, got {args.seeds}")
    if args.accept and (args.quick or args.events):
        raise ConfigError("--accept needs the whole study: leave out --quick and --events")

    started = time.monotonic()
    setting = arrivals.load_setting(args.config)
    if args.events:
        _make_my_link(args, setting)
        return 0
    found = _make_study(args, setting)
    print(f"[transmission] {time.monotonic() - started:.0f} s: {args.out / 'study.md'}", flush=True)
    return 0 if not args.accept or _accepted(found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
