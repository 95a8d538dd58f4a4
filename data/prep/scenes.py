"""Rendered sets laid out exactly as the two public image sets and the 5G trace.

    python -m data.prep.scenes --out runs/smoke/source

The same importers read them, so the whole job runs without the public sets. A rendered clip is one
camera's place; its frames show different traffic there. No place is in two splits.
"""

from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import cv2

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.stage import Stage
from data.prep.rendering.public_sets import write_sets


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("data.prep.scenes", __doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=640, help="frames with boxes")
    parser.add_argument("--val", type=int, default=60)
    parser.add_argument("--test", type=int, default=240)
    parser.add_argument(
        "--negatives", type=int, default=300, help="accident-free frames, all splits"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes that render")
    options = parser.parse_args(argv)
    counts = (options.train, options.val, options.test)
    if options.seed < 0 or options.negatives < 0 or min(*counts, options.jobs) < 1:
        raise ConfigError(
            "--seed and --negatives are at least 0, --train, --val, --test and --jobs at least 1: "
            f"got {options.seed}, {options.negatives}, {options.train}, {options.val}, "
            f"{options.test}, {options.jobs}"
        )
    config = {
        "seed": options.seed,
        "train": options.train,
        "val": options.val,
        "test": options.test,
        "negatives": options.negatives,
    }
    stage = Stage(options.out, kind="source", inputs={}, config=config, code=[__file__])
    if not stage.up_to_date():
        pool = get_context("spawn").Pool(options.jobs, cv2.setNumThreads, (1,))
        with pool, stage as folder:
            write_sets(folder, options.seed, counts, options.negatives, pool.imap)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
