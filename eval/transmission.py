"""Table 3, Figures 5-6 and what surrounds them: DAT's scheduler over a replayed uplink.

    python -m eval.transmission --trace OUT/data/bandwidth.csv \\
        --config configs/transmission/c0.yaml --out OUT/transmission

makes the whole study. With --quick it makes Table 3 and the two figures alone. With --accept it
also prints every figure that must be reached, with pass or fail. With --events it shows instead
what the link of the trace (not rescaled) would have done with the events of a run's log.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import read_json, read_text, write_json
from dat_runtime.stage import Stage
from eval.paper import printed
from eval.uplink import acceptance, arrivals, beyond, plots, report
from eval.uplink.setting import Setting, load_setting
from eval.uplink.study import QUICK_SEEDS, study
from eval.uplink.trace import read_trace


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    started = time.monotonic()
    setting = load_setting(args.config)
    if args.events:
        _make_my_link(args, setting)
        return 0
    results = _make_study(args, setting)
    print("\n" + report.table_3(results), flush=True)
    print(f"[transmission] {time.monotonic() - started:.0f} s: {args.out / 'study.md'}", flush=True)
    if args.accept and not _accepted(results):
        return 1
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("eval.transmission", __doc__)
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
    return args


def _make_study(args: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    """The results of the study, read from the output folder; made first unless up to date."""
    seeds = min(args.seeds, QUICK_SEEDS) if args.quick else args.seeds
    stage = Stage(
        args.out,
        kind="transmission",
        inputs={"trace": args.trace, "config": args.config},
        config={"seeds": seeds, "quick": args.quick},
        code=[__file__, printed.FILE],
    )
    if not stage.up_to_date():
        trace = read_trace(args.trace)
        with stage as folder:
            results = study(setting, trace, seeds, args.quick)
            write_json(folder / "table3.json", results["table3"])
            write_json(folder / "study.json", results)
            (folder / "table3.md").write_text(report.table_3(results), "utf-8")
            (folder / "study.md").write_text(report.report(results), "utf-8")
            plots.draw_all(results, folder)
    in_folder: dict[str, Any] = read_json(args.out / "study.json")
    return in_folder


def _make_my_link(args: argparse.Namespace, setting: Setting) -> None:
    """Write and print what the link would have done with the events of a log."""
    stage = Stage(
        args.out,
        kind="my-link",
        inputs={"trace": args.trace, "config": args.config, "events": args.events},
        config={},
        code=[__file__],
    )
    if not stage.up_to_date():
        events = arrivals.read_events(args.events)
        trace = read_trace(args.trace)
        with stage as folder:
            rows = beyond.my_link(setting, events, trace)
            write_json(folder / "my_link.json", rows)
            text = report.my_link(rows, len(events), len(trace))
            (folder / "my_link.md").write_text(text, "utf-8")
    print("\n" + read_text(args.out / "my_link.md"), flush=True)


def _accepted(results: dict[str, Any]) -> bool:
    """Print every demand with pass or fail; whether none failed."""
    from eval.uplink import plan_speed

    figures = acceptance.figures(results) + acceptance.speed_figures(plan_speed.measured())
    print(acceptance.as_text(figures), flush=True)
    return not any(figure.failed for figure in figures)


if __name__ == "__main__":
    raise SystemExit(main())
