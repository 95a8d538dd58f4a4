"""What train.lora costs compared with `llamafactory-cli train`: same YAML, same data, in turn.

    OMP_NUM_THREADS=1 python -m benchmarks.lora_overhead --instructions OUT/instructions \\
        --base BASE [--rounds 3] [--steps 40]

train.lora checks every sample, the base, the card and the disk before the training and the adapter
after it, and writes manifests. Both train the tiny model of the smoke job; the losses must be
equal but for rounding, since train.lora computes the logits of learnt tokens alone. Printed: the
seconds of both in each round, the part of ours that does not grow with the training (the median
difference), and the ratio that follows for a training of an hour.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median

from numpy import allclose

from dat_runtime.command import command
from dat_runtime.errors import DatError, reports_errors
from dat_runtime.files import read_json, read_json_lines, write_yaml
from train.mllm.tuning import STEPS
from train.recipe.config_file import read_config

HOUR = 3600

ROUNDING = 0.01
"""Relative: by so much rounding moves a loss of the tiny model, which learns at a high rate."""


@dataclass(frozen=True)
class Round:
    """Seconds of one round: both whole commands, our preflight, and the upstream process.

    Seconds of the CPU leave out the time in which the machine did other work.
    """

    bare: float
    ours: float
    bare_cpu: float
    ours_cpu: float
    preflight: float
    process: float


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.lora_overhead", __doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/lora/smoke.yaml"))
    parser.add_argument("--dataset", default="boxed_train")
    parser.add_argument("--instructions", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args(argv)
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds):
            # Each command is first in turn: the second of a round finds the files in memory.
            measured = one_round(args, Path(folder) / str(number), ours_first=number % 2 == 0)
            rounds.append(measured)
            print(f"round {number + 1}: {line(measured)}", flush=True)
    print("\n".join(summary(rounds)))
    return 0


def line(one: Round) -> str:
    return (
        f"llamafactory-cli {one.bare:6.1f} s   train.lora {one.ours:6.1f} s   "
        f"{one.ours / one.bare:.3f} x   (CPU {one.bare_cpu:.1f} s, {one.ours_cpu:.1f} s)"
    )


def summary(rounds: Sequence[Round]) -> list[str]:
    """The medians, the constant part, and what follows for an hour."""
    medians = {
        field.name: median(getattr(one, field.name) for one in rounds) for field in fields(Round)
    }
    middle = Round(**medians)
    constant = median(r.ours - r.bare for r in rounds)
    cpu = median(r.ours_cpu - r.bare_cpu for r in rounds)
    rest = median(r.ours - r.process for r in rounds)
    return [
        f"median:  {line(middle)}",
        f"constant: {constant:+.1f} s beside llamafactory-cli, {cpu:+.1f} s of the CPU. Of ours, "
        f"preflight {middle.preflight:.1f} s; start, manifests, adapter's check {rest:.1f} s",
        f"ratio for a training of an hour: {(HOUR + constant) / HOUR:.4f} x",
    ]


def one_round(args: argparse.Namespace, folder: Path, ours_first: bool) -> Round:
    """Both commands, each from nothing."""
    folder.mkdir()
    commands = {"ours": ours(args, folder / "ours"), "bare": bare(args, folder / "bare")}
    seconds, cpu = {}, {}
    for kind in ("ours", "bare") if ours_first else ("bare", "ours"):
        seconds[kind], cpu[kind] = timed(commands[kind], folder / f"{kind}.log")
    if not allclose(*(losses(folder / kind) for kind in ("ours", "bare")), rtol=ROUNDING):
        raise DatError("the losses differ: the comparison is not of the same work")
    report = read_json(folder / "ours" / "run.json")
    return Round(
        bare=seconds["bare"],
        ours=seconds["ours"],
        bare_cpu=cpu["bare"],
        ours_cpu=cpu["ours"],
        preflight=report["preflight_seconds"],
        process=report["seconds"],
    )


def losses(folder: Path) -> list[float]:
    """Of each logged step."""
    lines = (entry for _, entry in read_json_lines(folder / STEPS))
    return [entry["loss"] for entry in lines if "loss" in entry]


def ours(args: argparse.Namespace, out: Path) -> list[str]:
    command_line = [sys.executable, "-m", "train.lora", "--dataset", args.dataset]
    command_line += ["--config", str(args.config), "--instructions", str(args.instructions)]
    command_line += ["--base", str(args.base), "--out", str(out), f"max_steps={args.steps}"]
    return command_line


def bare(args: argparse.Namespace, out: Path) -> list[str]:
    """The same keys for `llamafactory-cli train`."""
    config = read_config(args.config) | {
        "model_name_or_path": str(args.base),
        "dataset_dir": str(args.instructions),
        "media_dir": str(args.instructions),
        "dataset": args.dataset,
        "output_dir": str(out),
        "max_steps": args.steps,
    }
    path = out.with_suffix(".yaml")
    write_yaml(path, config)
    return [sys.executable, "-m", "llamafactory.cli", "train", str(path)]


def timed(command_line: Sequence[str], log: Path) -> tuple[float, float]:
    """Seconds of a command, by the clock and of the CPU; its datasets' cache is new each time."""
    cache = {"HF_DATASETS_CACHE": str(log.with_suffix(".cache"))}
    started, cpu_before = time.monotonic(), cpu_seconds()
    with log.open("wb") as file:
        done = subprocess.run(
            command_line, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **cache}
        )
    if done.returncode:
        raise DatError(f"{' '.join(command_line)} failed:\n{log.read_text('utf-8')[-2000:]}")
    return time.monotonic() - started, cpu_seconds() - cpu_before


def cpu_seconds() -> float:
    """Seconds of the CPU, of all processes that ended so far and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())
