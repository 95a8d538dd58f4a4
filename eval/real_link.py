"""The comparison over a real link: TCP over loopback, its bandwidth shaped by the kernel (tbf).

    python -m eval.real_link --trace OUT/data/bandwidth.csv \\
        --config configs/transmission/c0.yaml --out OUT/real-link [--round-trips]

Every scheme runs in real time in a network namespace of its own while the token bucket replays a
piece of the trace, and once more in the simulator; both results are printed side by side. The same
code plans and measures in both: only `finish` of the link differs. Where namespaces or tbf are not
permitted, the command prints the reason and skips the comparison.

With `--round-trips` it compares the live uplink alone, over rates and round trips, with a buffer
before the bottleneck and losses (`eval.uplink.emulated_link`); where the link cannot be emulated,
only the simulation is made.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_json
from dat_runtime.stage import Stage
from eval.uplink import emulated_link, report, round_trips, shaped_link
from eval.uplink.setting import load_setting
from eval.uplink.trace import read_trace


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    if args.scheme:
        return _run_one(args)
    if args.out is None:
        raise ConfigError("--out is missing: name the folder to write")
    if args.round_trips:
        return _over_round_trips(args)
    reason = shaped_link.not_permitted()
    if reason is not None:
        print(f"[real-link] skipped: {reason}", flush=True)
        return 0
    setting = load_setting(args.config)
    events, rates = shaped_link.experiment(setting, read_trace(args.trace), args.seconds)
    stage = Stage(
        args.out,
        kind="real-link",
        inputs={"trace": args.trace, "config": args.config},
        config={"seconds": args.seconds},
        code=[__file__],
    )
    with stage as folder:
        print(f"[real-link] {len(events)} events, {args.seconds} s in real time", flush=True)
        real = shaped_link.in_namespaces(_command_of_one(args), args.seconds)
        rows = shaped_link.side_by_side(setting, events, rates, real)
        write_json(folder / "real_link.json", rows)
        text = report.real_link(rows, len(events), args.seconds)
        (folder / "real_link.md").write_text(text, "utf-8")
    print(text, flush=True)
    return 0


def _over_round_trips(args: argparse.Namespace) -> int:
    if args.seconds < round_trips.LEAST_SECONDS:
        raise ConfigError(
            f"--seconds is {args.seconds}, expected {round_trips.LEAST_SECONDS} or more: "
            "a run settles first"
        )
    setting = load_setting(args.config)
    events, rates = shaped_link.experiment(setting, read_trace(args.trace), args.seconds)
    reason = emulated_link.not_permitted()
    if reason is not None:
        print(f"[real-link] simulated only: {reason}", flush=True)
    stage = Stage(
        args.out,
        kind="round-trips",
        inputs={"trace": args.trace, "config": args.config},
        config={"seconds": args.seconds, "real": reason is None},
        code=[__file__],
    )
    with stage as folder:
        rows = round_trips.compare(setting, events, rates, real=reason is None)
        write_json(folder / "round_trips.json", rows)
        text = report.round_trips(rows, len(events), args.seconds)
        (folder / "round_trips.md").write_text(text, "utf-8")
    print(text, flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("eval.real_link", __doc__)
    parser.add_argument("--trace", type=Path, required=True, help="bandwidth.csv")
    parser.add_argument("--config", type=Path, required=True, help="the setting, YAML")
    parser.add_argument("--out", type=Path, help="folder to write")
    parser.add_argument("--seconds", type=int, default=60, help="of the trace (default 60)")
    parser.add_argument(
        "--round-trips", action="store_true", help="the live uplink over rates and round trips"
    )
    parser.add_argument("--scheme", choices=shaped_link.SCHEMES, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _command_of_one(args: argparse.Namespace) -> list[str]:
    """The command line of `_run_one`, up to the scheme's name."""
    command_line = [sys.executable, "-m", "eval.real_link"]
    command_line += ["--trace", str(args.trace), "--config", str(args.config)]
    command_line += ["--seconds", str(args.seconds), "--scheme"]
    return command_line


def _run_one(args: argparse.Namespace) -> int:
    """The inner process: one scheme in real time, its timeliness as JSON on stdout."""
    setting = load_setting(args.config)
    events, rates = shaped_link.experiment(setting, read_trace(args.trace), args.seconds)
    link = shaped_link.ShapedLink(rates)
    print(json.dumps(asdict(shaped_link.run_scheme(setting, events, link, args.scheme))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
