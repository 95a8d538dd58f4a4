"""Uplink traces of other tools as `bandwidth.csv`, one file for each, without any pictures.

    python -m data.prep.trace --source FILE_OR_FOLDER ... --out OUT/traces [--trace-unit kbit/s]

Reads what `data.prep.build` reads (docs/data.md): series of rates, packet lists, captures and
mahimahi's `.up`. A folder gives every trace that lies in it. Writes OUT/traces/<name>.csv, which
`eval.transmission` and `eval.links` take, and traces.json with what was read of each.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dat_runtime.command import command
from dat_runtime.errors import DataError, reports_errors
from dat_runtime.files import write_json
from dat_runtime.stage import Stage
from data.prep.importers import rate_logs, traces
from data.prep.prepared.writer import write_rates


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = command("data.prep.trace", __doc__)
    add = parser.add_argument
    add("--source", type=Path, nargs="+", required=True, help="traces, or folders that hold some")
    add("--out", type=Path, required=True, help="folder to make")
    add("--trace-unit", choices=tuple(rate_logs.UNITS),
        help="of series whose header states no unit; goes before what their form has")  # fmt: skip
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    found = find_traces(args.source)
    stage = Stage(
        args.out,
        kind="traces",
        inputs=found,
        config={"trace_unit": args.trace_unit},
        code=[__file__],
    )
    if not stage.up_to_date():
        with stage as folder:
            write_traces(found, folder, args.trace_unit)
    return 0


def find_traces(sources: Sequence[Path]) -> dict[str, Path]:
    """The traces by the name that their file will have.

    Raises:
        DataError: there is none, a file is none, or two have the same name.
    """
    found: dict[str, Path] = {}
    for source in sources:
        paths = [source]
        if source.is_dir():
            paths = [path for path in sorted(source.iterdir()) if path.is_file()]
        elif not source.is_file():
            raise DataError("no such file or folder", source)
        for path in paths:
            if traces.form(path) is None:
                if path == source:
                    raise DataError("not a trace of a known form (docs/data.md)", path)
                continue
            if path.stem in found:
                raise DataError(f"has the same name as {found[path.stem]}: rename one", path)
            found[path.stem] = path
    if not found:
        raise DataError("holds no trace of a known form (docs/data.md)", sources[0])
    return found


def write_traces(found: dict[str, Path], folder: Path, unit: str | None) -> None:
    """`<name>.csv` of each trace, and traces.json."""
    read = {}
    for name, path in found.items():
        uplink = traces.read_uplink(path, unit)
        write_rates(folder / f"{name}.csv", uplink.rates)
        mean = sum(uplink.rates) / len(uplink.rates)
        read[name] = {
            "file": path.name,
            "form": traces.form(path),
            "seconds": len(uplink.rates),
            "mean_bytes_per_s": round(mean, 1),
            "notes": uplink.words(),
        }
        notes = "".join(f"; {note}" for note in uplink.words())
        print(
            f"[trace] {path.name}: {len(uplink.rates):,} s, mean {mean:,.0f} B/s{notes}", flush=True
        )
    write_json(folder / "traces.json", read)


if __name__ == "__main__":
    raise SystemExit(main())
