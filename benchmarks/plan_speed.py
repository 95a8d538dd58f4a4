"""The scheduler's speed: plans of 1,000 and 100,000 events, against one argsort in the same run.

    python -m benchmarks.plan_speed [--seconds 2]

`python benchmarks/plan_speed.py` is the same.
"""

import argparse
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Called by its path, Python looks for modules in benchmarks/ and not in the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from dat_runtime.command import command
from dat_runtime.errors import reports_errors
from eval.uplink.plan_speed import measured


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    rows = measured(args.seconds)
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    print("   events  room for             units sent   plan ms  argsorts  demanded: ms  argsorts")
    for row in rows:
        print(_line(row))
    print(f"one stable argsort of 100,000 floats: {rows[0]['argsort_ms']:.2f} ms; all CPU time")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("benchmarks.plan_speed", __doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each row (default 2)")
    return parser.parse_args(argv)


def _line(row: Mapping[str, Any]) -> str:
    demand = "-"
    if row["limit_ms"] is not None:
        demand = f"{row['limit_ms']:13.1f} {row['limit_argsorts']:9.3f}"
    return (
        f"{row['events']:9,}  {row['budget']:20} {row['units']:10,} {row['plan_ms']:9.3f}"
        f" {row['argsorts']:9.3f} {demand:>13}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
