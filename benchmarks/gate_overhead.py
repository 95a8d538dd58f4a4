"""What train.gate costs over Ultralytics' own training: same keys, same frames, in turn.

    OMP_NUM_THREADS=1 python -m benchmarks.gate_overhead --data OUT/data --out gate_overhead.json \\
        device=cpu amp=false model=yolo12n.yaml pretrained=false imgsz=64 batch=4 nbs=4
    python -m benchmarks.gate_overhead --data OUT/data pretrained=false --workers 8   # on a card

Two processes train side by side: ten batches of one, and then ten of the other while the first
waits, so other work on the machine slows both. Measured is the whole epoch, with validation and all
that is written; the seconds of the CPU are those of all processes, workers included (which go on
while their training waits, so the clock says less about them). The start and the first epoch of
each are stated apart. The training pictures are repeated until an epoch has so many batches.

"bare" is `YOLO(model).train(...)`, as `yolo train` runs it. Two things are set alike in both, so
that what differs is what train.gate adds: memory format and threads of the CPU, and the workers
that Ultralytics refuses to start on a CPU.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from dat_runtime import children
from dat_runtime.command import command
from dat_runtime.errors import DatError, reports_errors
from dat_runtime.files import write_json
from train.detector import ultralytics_run
from train.detector.callbacks import Epochs
from train.detector.dataset import count_boxes, link_data
from train.detector.ultralytics_config import read_config

KINDS = ("bare", "ours")

TURN = 10
"""Batches; the last turn of an epoch ends with the epoch."""

REPORT = "measured"
"""First word of the lines that a training writes to this benchmark."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.gate_overhead", __doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/yolo/gate_2cls.yaml"))
    parser.add_argument("--data", type=Path, required=True, help="folder made by data.prep.build")
    parser.add_argument("--batches", type=int, default=300, help="of an epoch")
    parser.add_argument("--epochs", type=int, default=3, help="that are measured")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--out", type=Path, help="a JSON file for all that was measured")
    parser.add_argument("--train", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="Ultralytics keys")
    args = parser.parse_intermixed_args(argv)
    if args.train:
        train(args, Path.cwd())
        return 0
    measured = {}
    for workers in args.workers:
        with tempfile.TemporaryDirectory() as folder:
            measured[workers] = in_turn(args, Path(folder), workers)
        print("\n".join(summary(workers, measured[workers])), flush=True)
    if args.out:
        write_json(args.out, measured)
    return 0


def in_turn(args: argparse.Namespace, folder: Path, workers: int) -> dict[str, Any]:
    """Per kind of training, seconds to start, and for each epoch those of clock and CPU."""
    started: dict[str, subprocess.Popen[str]] = {}
    measured: dict[str, Any] = {}
    try:
        for kind in KINDS:
            (folder / kind).mkdir()
            begun = time.monotonic()
            started[kind] = start(args, folder / kind, kind, workers)
            answer(started[kind], folder / kind)
            measured[kind] = {"start": time.monotonic() - begun, "epochs": []}
        for _ in range(args.epochs + 1):
            turns: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
            for number in range(math.ceil(args.batches / TURN)):
                for kind in KINDS if number % 2 else reversed(KINDS):
                    print(file=started[kind].stdin, flush=True)
                    turns[kind].append(answer(started[kind], folder / kind))
            for kind in KINDS:
                taken = {name: sum(one[name] for one in turns[kind]) for name in ("clock", "cpu")}
                measured[kind]["epochs"].append(taken)
    finally:
        for process in started.values():
            process.kill()
            process.wait()
    return measured


def start(
    args: argparse.Namespace, folder: Path, kind: str, workers: int
) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "benchmarks.gate_overhead", "--train", kind]
    line += ["--config", str(args.config.resolve()), "--data", str(args.data.resolve())]
    line += ["--batches", str(args.batches), "--epochs", str(args.epochs)]
    line += [*args.overrides, f"workers={workers}"]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder,
            env=children.environment(),
        )  # fmt: skip


def answer(process: "subprocess.Popen[str]", folder: Path) -> Any:
    """What a training says next, past what it prints."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(REPORT):
            return json.loads(line.removeprefix(REPORT))
    raise DatError(f"the training ended:\n{(folder / 'log').read_text('utf-8')[-2000:]}")


def train(args: argparse.Namespace, folder: Path) -> None:
    """Of one kind, in this process, which says what each epoch took and waits for the next."""
    config = read_config(args.config, args.overrides)
    # More epochs than are measured: the last is not like the others, and mosaics end before it.
    config["epochs"] = args.epochs + 2 + config.get("close_mosaic", 10)
    (work := folder / "work").mkdir()
    boxes = count_boxes(args.data)
    linked = link_data(args.data, work / "data", boxes)
    boxes["train"] = repeat(work / "data", boxes["train"], args.batches * config["batch"])
    with ultralytics_run.quiet(folder / "train.log", work):
        from ultralytics import YOLO

        if args.train == "ours":
            timed = Timed(work / "checkpoint.pt", boxes)
            timed.workers = config["workers"]
            ultralytics_run.train(folder, linked, config, timed)
            return
        model = YOLO(config["model"], task="detect")
        turns = Turns(config["workers"])
        turns.before(model)
        turns.after(model)
        keys = {key: value for key, value in config.items() if key != "model"}
        model.train(data=str(linked), project=str(work), name="run", exist_ok=True, **keys)


class Turns:
    """Callbacks of either training: what is set alike, when an epoch may begin, what it took."""

    def __init__(self, workers: int):
        self._workers = workers
        self._started = 0.0
        self._cpu = 0.0
        self._batch = 0

    def before(self, model: Any) -> None:
        """Add those that come before the training's own."""
        model.add_callback("on_pretrain_routine_start", self.set_workers)
        model.add_callback("on_pretrain_routine_end", self.set_alike)
        model.add_callback("on_train_epoch_start", self.begin_epoch)
        model.add_callback("on_train_batch_start", self.begin_batch)

    def after(self, model: Any) -> None:
        """Add those that come after the training's own."""
        model.add_callback("on_train_start", self.say_ready)
        model.add_callback("on_fit_epoch_end", self.say_measured)

    def set_workers(self, trainer: Any) -> None:
        trainer.args.workers = self._workers

    def set_alike(self, trainer: Any) -> None:
        """What train.gate sets on a CPU: it makes a step faster, and is no part of the overhead."""
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
        if trainer.device.type == "cpu":
            trainer.model.to(memory_format=torch.channels_last)

    def say_ready(self, trainer: Any) -> None:
        self._cpu = cpu_seconds()
        say({})

    def begin_epoch(self, trainer: Any) -> None:
        self._batch = 0
        self.wait()

    def begin_batch(self, trainer: Any) -> None:
        if self._batch and self._batch % TURN == 0:
            self.say_measured(trainer)
            self.wait()
        self._batch += 1

    def wait(self) -> None:
        sys.stdin.readline()
        self._started = time.monotonic()

    def say_measured(self, trainer: Any) -> None:
        clock, used = time.monotonic() - self._started, cpu_seconds()
        say({"clock": clock, "cpu": used - self._cpu})
        self._cpu = used


class Timed(Epochs):
    """The callbacks of train.gate between those of the turns."""

    workers: int

    def register(self, model: Any) -> None:
        turns = Turns(self.workers)
        turns.before(model)
        super().register(model)
        turns.after(model)


def say(value: Any) -> None:
    print(REPORT, json.dumps(value), file=sys.__stdout__, flush=True)


def cpu_seconds() -> float:
    """Of this process and its workers, those that have ended included."""
    import psutil

    this = psutil.Process()
    times = [sum(this.cpu_times()[:4])]  # its own, and those of children that it waited for
    times += [sum(child.cpu_times()[:4]) for child in this.children(recursive=True)]
    return sum(times)


def repeat(linked: Path, boxes: dict[str, int], wanted: int) -> dict[str, int]:
    """Name the training pictures again, until there are so many; those too many are left out."""
    split = "train"
    names = sorted(boxes)
    images = {path.stem: path for path in (linked / "images" / split).iterdir()}
    repeated = {}
    for number in range(wanted):
        name, again = names[number % len(names)], f"{number:06d}"
        for kind, file in (("images", images[name]), ("labels", Path(f"{name}.txt"))):
            source = (linked / kind / split / file.name).readlink()
            (linked / kind / split / f"{again}{file.suffix}").symlink_to(source)
        repeated[again] = boxes[name]
    for kind in ("images", "labels"):
        for path in (linked / kind / split).iterdir():
            if path.stem not in repeated:
                path.unlink()
    return repeated


def summary(workers: int, measured: dict[str, Any]) -> list[str]:
    """The start and the first epoch, the medians of the others, and ours over bare."""
    lines = [f"workers={workers}:"]
    later = {kind: measured[kind]["epochs"][1:] for kind in KINDS}
    for kind in KINDS:
        first = measured[kind]["epochs"][0]
        lines.append(
            f"  {kind}: start {measured[kind]['start']:.1f} s, first epoch {first['clock']:.1f} s; "
            f"{len(later[kind])} more, median "
            f"{median(one['clock'] for one in later[kind]):.2f} s, "
            f"CPU {median(one['cpu'] for one in later[kind]):.2f} s"
        )
    pairs = list(zip(later["bare"], later["ours"], strict=True))
    for name, words in (("clock", "time"), ("cpu", "CPU")):
        ratios = [ours[name] / bare[name] for bare, ours in pairs]
        lines.append(
            f"  ours over bare, {words}: {median(ratios):.4f} "
            f"({min(ratios):.4f} to {max(ratios):.4f})"
        )
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
