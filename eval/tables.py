"""Tables 1 and 2, ours beside the paper's; Table 3, if it was made; and the report.

    python -m eval.tables --instructions DIR --predictions DIR --out DIR \\
        [--data DIR] [--beside DIR] [--transmission DIR] [--profile smoke|paper] [--source NAME]
    python -m eval.tables --show DIR

`--predictions` holds one folder per row, with `predictions.jsonl`; the paper's rows are `raw-none`,
`raw-lora`, `boxed-lora` and `gpt-5`, any other name becomes a row of its own, such as
`boxed-lora-constrained`. With `--data` the scores state the split, and are given again without the
test frames that have a twin in training; with `--beside` they are shown beside those of another
evaluation, such as one on the leak-free split. The output folder holds
`tables.{json,md,csv,tex,html}`, `report.html` and `<row>/scores.json`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import read_json
from dat_runtime.stage import Stage


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    if args.show is not None:
        from eval.understanding.evaluation import read_tables
        from eval.understanding.terminal import terminal

        print(terminal(read_tables(args.show)), flush=True)
        return 0
    make(args)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("eval.tables", __doc__)
    parser.add_argument("--show", type=Path, metavar="DIR", help="print the tables made before")
    parser.add_argument("--instructions", type=Path, help="folder with truth.jsonl and images/")
    parser.add_argument("--predictions", type=Path, help="folder with one folder per row")
    parser.add_argument(
        "--data", type=Path, help="prepared set of the instructions, which states the split"
    )
    parser.add_argument("--beside", type=Path, help="evaluation on another split, with its --data")
    parser.add_argument("--transmission", type=Path, help="folder with table3.json, if made")
    parser.add_argument("--profile", choices=("smoke", "paper"), default="smoke")
    parser.add_argument(
        "--source", default="", help="name of the data sets (default: rendered scenes)"
    )
    parser.add_argument("--out", type=Path, help="output folder")
    args = parser.parse_args(argv)
    needed = ("instructions", "predictions", "out")
    lacking = [f"--{name}" for name in needed if getattr(args, name) is None]
    if args.show is None and lacking:
        parser.error("without --show these are needed: " + ", ".join(lacking))
    if args.beside and not args.data:
        raise ConfigError("--beside needs --data: both splits must have a name")
    return args


def make(args: argparse.Namespace) -> None:
    """Write the output folder: scores per row, the tables in five formats, the report.

    Raises:
        DatError: a folder lacks what it should hold, or a file in it is faulty.
    """
    from eval.paper import printed
    from eval.understanding import evaluation, splits
    from eval.understanding.assembly import measured_on

    rows = evaluation.rows_of(args.predictions, args.instructions)
    inputs = {"instructions": args.instructions}
    for row in rows:
        inputs[f"row {row.name}"] = row
    split = beside = table_3 = None
    if args.data:
        inputs["data"] = args.data
        split = splits.read_split(args.data, args.instructions)
    if args.beside:
        inputs["beside"] = args.beside
        beside = evaluation.read_other_split(args.beside)
    if args.transmission:
        inputs["table3"] = args.transmission / "table3.json"
    label = measured_on(args.profile, args.source, split.name if split else "")
    code = [__file__, printed.FILE]
    stage = Stage(args.out, kind="eval", inputs=inputs, config={"measured_on": label}, code=code)
    if stage.up_to_date():
        return
    with stage as folder:
        if args.transmission:
            table_3 = read_json(inputs["table3"], missing=evaluation.MISSING)
        tiny = args.profile == "smoke"
        given = evaluation.Evaluation(args.instructions, rows, label, tiny, table_3, split, beside)
        evaluation.write(folder, given)


if __name__ == "__main__":
    raise SystemExit(main())
