"""A rehearsal's hours held to a longer run: within 10 %.

    OMP_NUM_THREADS=1 python -m benchmarks.rehearsal --config configs/lora/smoke.yaml \\
        --instructions OUT/instructions --base OUT/base max_steps=60
    python -m benchmarks.rehearsal --config configs/lora/boxed.yaml \\
        --instructions OUT/instructions --base Qwen/Qwen2.5-VL-7B-Instruct max_steps=100

Rehearses, then trains with the same keys, and compares the seconds of the steps and checkpoints.
The second command is for a card. Nothing else may run on the machine: both are timed by the clock,
LLaMA-Factory's in whole seconds, so a run of some minutes is needed.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from dat_runtime.command import command
from dat_runtime.errors import DatError, reports_errors
from dat_runtime.files import read_json, read_json_lines
from train import lora, rehearse
from train.mllm import tuning

MOST = 0.10


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.rehearsal", __doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--dataset", default="boxed_train")
    parser.add_argument("--instructions", required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--steps", default="8", help="of the rehearsal (8)")
    parser.add_argument("override", nargs="*", metavar="key=value", help="max_steps among them")
    args = parser.parse_args(argv)
    given = ["--config", args.config, "--dataset", args.dataset, "--base", args.base]
    given += ["--instructions", args.instructions]
    with tempfile.TemporaryDirectory() as temporary:
        short, whole = Path(temporary, "rehearsal"), Path(temporary, "lora")
        done = rehearse.main([*given, "--steps", args.steps, "--out", str(short), *args.override])
        # A line a step, so that the clock of the steps can be read from the log.
        keys = [*args.override, "logging_steps=1"]
        if done or lora.main([*given, "--out", str(whole), *keys]):
            raise DatError("a run failed: see above")
        projected = read_json(short / "rehearsal.json")
        measured = train_seconds(whole)
    value, low, high = projected["seconds"]
    ratio = value / measured
    bounds = f"{low:.1f} to {high:.1f}"
    print(f"projected {value:.1f} s ({bounds}), measured {measured:.1f} s: {ratio:.3f}")
    return int(abs(ratio - 1) > MOST)


def train_seconds(folder: Path) -> float:
    """Seconds from the first step to the last checkpoint, by LLaMA-Factory's own clock."""
    log = [entry for _, entry in read_json_lines(folder / tuning.STEPS)]
    hours, minutes, seconds = log[-1]["elapsed_time"].rpartition(" ")[2].split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


if __name__ == "__main__":
    raise SystemExit(main())
