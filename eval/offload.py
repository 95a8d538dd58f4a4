"""Where an answer should be made: ApproxBit's tables and figures again, and our own look-up table.

    python -m eval.offload --trace OUT/data/bandwidth.csv --out OUT/offload
    python -m eval.offload --trace OUT/data/bandwidth.csv --codes OUT/codes --codec OUT/codec \\
        --instructions OUT/instructions --out OUT/offload

The paper's Tables 1 and 2 from tensor shapes alone, with the misprints that this reveals; which
alternatives are best at each bandwidth (Fig. 6); the controller over a link that changes (Figs. 9
and 10, the latter over each --trace). With --codes also our own accuracy by bytes, and table.json,
from which a node selects. Writes report.html, offload.json, tables.md and plots.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import read_text, write_json
from dat_runtime.offload_table import Table
from dat_runtime.stage import Stage
from eval.offloading import curve, curve_report, paper_report, plots, printed, sections, study
from eval.statistics import canvas
from eval.understanding.assembly import measured_on
from eval.uplink.trace import read_trace

SEEDS = 20
"""Links drawn for Fig. 9."""

TITLE = "Where an answer is made"
OURS = ("codes", "codec", "instructions")


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    traces = _by_name(args.trace)
    ours = {name: folder for name in OURS if (folder := getattr(args, name)) is not None}
    label = measured_on(args.profile, args.source)
    stage = Stage(
        args.out,
        kind="offload",
        inputs={f"trace {name}": path for name, path in traces.items()} | ours,
        config={"seeds": args.seeds, "measured_on": label},
        code=[__file__, printed.FILE],
    )
    if not stage.up_to_date():
        rates = {name: read_trace(path) for name, path in traces.items()}
        measured = curve.read_curve(**ours) if ours else None
        table = None if measured is None else curve.table_of(measured, label)
        with stage as folder:
            results = {"paper": study.of_paper(), "links": study.of_links(rates, args.seeds)}
            if measured is not None and table is not None:
                results["curve"] = study.of_curve(measured)
                write_json(folder / "table.json", table.as_json())
            _write(results, table, label, folder)
    print("\n" + read_text(args.out / "tables.md"), flush=True)
    print(f"[offload] {args.out / 'report.html'}", flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("eval.offload", __doc__)
    add = parser.add_argument
    add("--trace", type=Path, nargs="+", default=[], help="bandwidth.csv files, for Fig. 10")
    add("--codes", type=Path, help="folder of eval.codes, with --codec and --instructions")
    add("--codec", type=Path, help="folder of train.offload that it measured")
    add("--instructions", type=Path, help="folder of data.prep.instruct that it asked about")
    add("--profile", choices=("smoke", "paper"), default="smoke", help="size of the models (smoke)")
    add("--source", default="", help="name of the data sets (default: rendered scenes)")
    add("--seeds", type=int, default=SEEDS, help=f"links drawn for Fig. 9 ({SEEDS})")
    add("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args(argv)
    if args.seeds < 1:
        raise ConfigError(f"--seeds must be at least 1, got {args.seeds}")
    if len({getattr(args, name) is None for name in OURS}) > 1:
        raise ConfigError("--codes, --codec and --instructions go together: give all or none")
    return args


def _by_name(given: Sequence[Path]) -> dict[str, Path]:
    """The traces by their names in the report: with their folders' where two share one."""
    names = [path.name for path in given]
    if len(set(names)) < len(names):
        names = [f"{path.resolve().parent.name}/{path.name}" for path in given]
    if len(set(names)) < len(names):
        raise ConfigError(f"--trace names {', '.join(map(str, given))}: expected different ones")
    return dict(zip(names, given, strict=True))


def _write(results: dict[str, Any], table: Table | None, label: str, folder: Path) -> None:
    """offload.json, tables.md, the plots and report.html."""
    write_json(folder / "offload.json", results)
    parts = [*paper_report.of_paper(results["paper"])]
    parts += map(paper_report.of_link, results["links"])
    if table is not None:
        parts = [*curve_report.of_curve(results["curve"], table), *parts]
    for name, figure in plots.figures(results).items():
        canvas.save(figure, folder / f"{name}.png")
    drawn = {path.stem: path.read_bytes() for path in folder.glob("*.png")}
    head = _head(label, table)
    (folder / "tables.md").write_text(sections.markdown(TITLE, head, parts), "utf-8")
    (folder / "report.html").write_text(sections.page(TITLE, head, parts, drawn), "utf-8")


def _head(label: str, table: Table | None) -> str:
    """What the figures are of."""
    paper = "The paper's figures are ApproxBit's, of its own models and devices"
    if table is None:
        return f"{paper}. No codec of ours was given, so there is no table for a node"
    return f"{label[:1].upper()}{label[1:]}. {paper}"


if __name__ == "__main__":
    raise SystemExit(main())
