"""Merge the shards of one row.

    python -m eval.predict ... --shard 1/2 --out parts/1      (on one machine)
    python -m eval.predict ... --shard 2/2 --out parts/2      (on another)
    python -m eval.merge parts/1 parts/2 --instructions OUT/instructions \\
        --out OUT/predictions/boxed-lora

The result is a row like those of eval.predict, its frames in the order of the instructions.
"""

from collections.abc import Sequence
from pathlib import Path

from dat_runtime.command import command
from dat_runtime.errors import reports_errors
from dat_runtime.stage import Stage
from eval.answers.shards import merge, whole_recipe


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("eval.merge", __doc__)
    parser.add_argument("parts", type=Path, nargs="+", help="folders of eval.predict --shard")
    parser.add_argument("--instructions", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the row")
    args = parser.parse_args(argv)
    config = whole_recipe(args.parts, args.instructions)
    inputs = {"instructions": args.instructions}
    for number, part in enumerate(args.parts, 1):
        inputs[f"part {number}"] = part
    stage = Stage(args.out, kind="predictions", inputs=inputs, config=config, code=[__file__])
    if not stage.up_to_date():
        with stage as folder:
            merge(args.parts, args.instructions, config, folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
