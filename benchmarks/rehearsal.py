"""A rehearsal's hours held to a longer run: within 10 %.

    OMP_NUM_THREADS=1 python -m benchmarks.rehearsal --config configs/lora/smoke.yaml \\
        --instructions OUT/instructions --base BASE max_steps=60
    python -m benchmarks.rehearsal --config configs/lora/boxed.yaml \\
        --instructions OUT/instructions --base Qwen/Qwen2.5-VL-7B-Instruct max_steps=100

Rehearses, then trains with the same keys and the same clock in LLaMA-Factory's process, and
compares the seconds of the steps and checkpoints. The second command is for a card. Both are timed
by the clock, so nothing else may run on the machine. On a CPU that others use too, the steps'
processor time is compared beside it, and decides with --by-cpu.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dat_runtime.command import command
from dat_runtime.errors import DatError, reports_errors
from dat_runtime.files import read_json
from train import rehearse
from train.mllm import tuning, upstream
from train.mllm.lora_config import read_lora_config
from train.mllm.rehearsal import LONGEST_STEPS, MEASURED

MOST = 0.10
KINDS = ("step_seconds", "step_cpu_seconds")


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.rehearsal", __doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--dataset", default="boxed_train")
    parser.add_argument("--instructions", required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--steps", default="8", help="of the rehearsal (8)")
    parser.add_argument("--by-cpu", action="store_true", help="let processor time decide")
    parser.add_argument("override", nargs="*", metavar="key=value", help="max_steps among them")
    args = parser.parse_intermixed_args(argv)
    given = ["--config", args.config, "--dataset", args.dataset, "--base", args.base]
    given += ["--instructions", args.instructions]
    with tempfile.TemporaryDirectory() as temporary:
        short, whole = Path(temporary, "rehearsal"), Path(temporary, "whole")
        if rehearse.main([*given, "--steps", args.steps, "--out", str(short), *args.override]):
            raise DatError("the rehearsal failed: see above")
        told = read_json(short / "rehearsal.json")
        measured = train(args, whole)
    value, low, high = told["seconds"]
    clock = sum(measured["step_seconds"]) + sum(measured["checkpoint_seconds"])
    print(f"clock: projected {value:.1f} s ({low:.1f} to {high:.1f}), measured {clock:.1f} s: "
          f"{value / clock:.3f}")  # fmt: skip
    projected, cpu = cpu_seconds(told), sum(measured["step_cpu_seconds"])
    print(f"processor: projected {projected:.1f} s, measured {cpu:.1f} s: {projected / cpu:.3f}")
    ratio = projected / cpu if args.by_cpu else value / clock
    return int(abs(ratio - 1) > MOST)


def train(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The whole run as `train.lora` has it, and what the recorder measured of it."""
    config = read_lora_config(
        Path(args.config), args.override, args.base, Path(args.instructions), args.dataset
    )
    folder.mkdir()
    options = [upstream.REHEARSE, str(folder / MEASURED)]
    tuning.run(config, folder / "work", folder, "lora", preflight=options)
    return dict(read_json(folder / MEASURED))


def cpu_seconds(told: Mapping[str, Any]) -> float:
    """Processor seconds of all steps, by those that were drawn at random."""
    steps = told["seconds"][0] - told["checkpoints"] * told["checkpoint"]
    drawn = {kind: sum(told["measured"][kind][LONGEST_STEPS:]) for kind in KINDS}
    return float(steps * drawn["step_cpu_seconds"] / drawn["step_seconds"])


if __name__ == "__main__":
    raise SystemExit(main())
