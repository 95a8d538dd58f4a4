"""The callbacks of `train.gate` in Ultralytics' training: progress, refused drops, exact resume.

Ultralytics' own `last.pt` holds halved EMA weights and no state of the random generators, so a run
resumed from it ends elsewhere. Here an epoch's batches follow from its number (`stream`), and the
checkpoint holds the full state, so a run that was cut off ends with the weights of one that was
not. It is written at most once a minute (`trainer`): what came after it is done again.

On several GPUs Ultralytics starts a process for each and pickles the callbacks into it: every one
restores the same checkpoint, the first alone writes and prints, and the process that started them
learns of time and memory by a file.
"""

import io
import os
import random
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dat_runtime.errors import DataError
from dat_runtime.files import read_json, write_atomically, write_json
from dat_runtime.types import ONE_CLASS

BoxCounts = Mapping[str, Mapping[str, int]]
"""Per split ("train", "val"): image id -> number of boxes in its label file."""


class Epochs:
    """Callbacks of one training, kept from epoch to epoch and over interruptions."""

    def __init__(self, checkpoint: Path, boxes: BoxCounts):
        self.checkpoint = checkpoint
        self.boxes = boxes
        self._seconds = 0.0
        self._started = 0.0
        self._is_over = False

    @property
    def _cost(self) -> Path:
        return self.checkpoint.with_name("cost.json")

    def cost(self) -> dict[str, Any]:
        """Seconds of the training, all its starts together; peak memory of the first GPU, bytes."""
        return dict(read_json(self._cost))

    def register(self, model: Any) -> None:
        """Add the callbacks to an `ultralytics.YOLO`."""
        model.add_callback("on_pretrain_routine_end", self.begin)
        model.add_callback("on_train_epoch_start", self.seed)
        model.add_callback("on_model_save", self.save)
        model.add_callback("on_fit_epoch_end", self.report)
        model.add_callback("on_train_end", self.finish)

    def begin(self, trainer: Any) -> None:
        """Check what Ultralytics loaded, and go on from the checkpoint if there is one."""
        import torch

        if threads := os.environ.get("OMP_NUM_THREADS"):
            torch.set_num_threads(int(threads))
        # Ultralytics does it on CUDA only, but on a CPU too a step of YOLOv12n at 128 px is a fifth
        # faster.
        if trainer.device.type == "cpu":
            trainer.model.to(memory_format=torch.channels_last)
        # Ultralytics' own name of the one class is "item".
        if trainer.args.single_cls:
            _bare(trainer.model).names = trainer.ema.ema.names = {0: ONE_CLASS}
        refuse_drops("train", trainer.train_loader.dataset.labels, self.boxes["train"])
        refuse_drops("val", trainer.test_loader.dataset.labels, self.boxes["val"])
        if trainer.accumulate > 1:
            _say(
                f"[gate] nbs={trainer.args.nbs} adds up gradients of {trainer.accumulate} batches, "
                "past an epoch's end too: a run that is cut off will not end with the same weights "
                f"(with nbs={trainer.batch_size} it would)"
            )
        if self.checkpoint.is_file():
            self._restore(trainer)
        self._started = time.monotonic() - self._seconds

    def seed(self, trainer: Any) -> None:
        """Make the epoch depend on its number and the weights alone.

        Its pictures have seeds of their own; these are for what the model draws.
        """
        import numpy as np
        import torch

        # Factors so far apart that another seed, epoch or process is another number; NumPy takes
        # 32 bits.
        rank = int(os.getenv("RANK", "-1"))
        seed = 1_000_003 * trainer.args.seed + 1_009 * trainer.epoch + rank
        seed %= 1 << 32
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        trainer.train_loader.go_to(trainer.epoch)

    def save(self, trainer: Any) -> None:
        """Write the checkpoint of a finished epoch if one is due; the last epoch needs none."""
        if trainer.stop or not trainer.checkpoints.is_due():
            return
        with trainer.checkpoints.written():
            self._write(trainer)

    def _write(self, trainer: Any) -> None:
        import torch

        # Ultralytics writes these as it goes; a resumed run has to go on with the same content.
        # Its last.pt is written by the first epoch after a start, before anything reads it.
        files = {
            path.relative_to(trainer.save_dir).as_posix(): path.read_bytes()
            for path in (trainer.csv, trainer.best)
            if path.is_file()
        }
        state = {
            "epoch": trainer.epoch,
            "seconds": time.monotonic() - self._started,
            "model": _bare(trainer.model).state_dict(),
            "ema": trainer.ema.ema.state_dict(),
            "updates": trainer.ema.updates,
            "optimizer": trainer.optimizer.state_dict(),
            "scaler": trainer.scaler.state_dict(),
            "best_fitness": trainer.best_fitness,
            "stopper": (trainer.stopper.best_fitness, trainer.stopper.best_epoch),
            "workers": trainer.train_loader.dataset.stream.workers,
            "files": files,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(self.checkpoint, buffer.getvalue())

    def _restore(self, trainer: Any) -> None:
        import torch

        # `weights_only=False` runs what the file says: it is our own, in our own unfinished folder.
        state = torch.load(self.checkpoint, map_location=trainer.device, weights_only=False)
        if _is_first():
            for name, content in state["files"].items():
                write_atomically(trainer.save_dir / name, content)
        _bare(trainer.model).load_state_dict(state["model"])
        trainer.ema.ema.load_state_dict(state["ema"])
        trainer.ema.updates = state["updates"]
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.scaler.load_state_dict(state["scaler"])
        trainer.best_fitness = state["best_fitness"]
        trainer.stopper.best_fitness, trainer.stopper.best_epoch = state["stopper"]
        # Mosaics are drawn from what one worker had: as many as at the start, though others work.
        trainer.train_loader.dataset.stream.workers = state["workers"]
        trainer.start_epoch = state["epoch"] + 1
        trainer.scheduler.last_epoch = trainer.start_epoch - 1
        _restore_criterion(_bare(trainer.model), trainer.start_epoch)
        self._seconds = state["seconds"]
        _say(f"[gate] going on after epoch {trainer.start_epoch}/{trainer.epochs}")

    def finish(self, trainer: Any) -> None:
        """State what the training took, for `cost`: on several GPUs it runs in another process."""
        seconds = time.monotonic() - self._started
        write_json(self._cost, {"train_seconds": round(seconds, 1), **_peak_cuda()})

    def report(self, trainer: Any) -> None:
        """Print the epoch in one line (Ultralytics calls this once more after the last)."""
        if not _is_first() or self._is_over:
            return
        self._is_over = trainer.stop
        seconds = time.monotonic() - self._started
        losses = " ".join(f"{name} {float(loss):.2f}" for name, loss in _losses(trainer).items())
        line = f"[gate] epoch {trainer.epoch + 1}/{trainer.epochs}  {losses}"
        if trainer.args.val or trainer.epoch + 1 == trainer.epochs:
            mean_ap = trainer.metrics.get("metrics/mAP50(B)", 0.0)
            line += f"  val mAP50 {mean_ap:.3f}"
        _say(f"{line}  {seconds:.0f} s")


def log_to_wandb(model: Any, name: str) -> None:
    """Let Ultralytics' own logging go to a run of ours.

    The run that it would begin is named after paths of this machine, and lies in a folder that is
    removed. Ours lies where WANDB_DIR says, else in `wandb/`, also when WANDB_MODE is offline.
    """
    model.add_callback("on_pretrain_routine_start", partial(_begin_wandb, name=name))
    model.add_callback("teardown", _end_wandb)


def _begin_wandb(trainer: Any, name: str) -> None:
    import wandb

    wandb.init(project=os.environ.get("WANDB_PROJECT", "dat-gate"), name=name)


def _end_wandb(trainer: Any) -> None:
    import wandb

    wandb.finish()


def refuse_drops(split: str, labels: list[dict[str, Any]], expected: Mapping[str, int]) -> None:
    """Compare what Ultralytics loaded of a split with what the label files hold.

    Raises:
        DataError: it skipped an image or a box (it only warns of what it does not like).
    """
    loaded = {Path(label["im_file"]).stem: len(label["cls"]) for label in labels}
    missing = sorted(expected.keys() - loaded.keys())
    if missing:
        raise DataError(
            f"Ultralytics skipped {len(missing)} of {len(expected)} images of {split}, "
            f"first {missing[0]}: see train.log"
        )
    for name, count in sorted(expected.items()):
        if loaded[name] != count:
            raise DataError(
                f"Ultralytics took {loaded[name]} of {count} boxes: it drops equal rows and those "
                "that it finds invalid, see train.log",
                Path("labels", split, f"{name}.txt"),
            )


def _restore_criterion(model: Any, epochs: int) -> None:
    """The loss of a detector without NMS, such as YOLO26, shifts its weights after each epoch."""
    criterion = model.init_criterion()
    if hasattr(criterion, "update"):
        criterion.updates = epochs - 1
        criterion.update()
        model.criterion = criterion


def _bare(model: Any) -> Any:
    """The network without the wrapper of several GPUs."""
    from ultralytics.utils.torch_utils import unwrap_model

    return unwrap_model(model)


def _losses(trainer: Any) -> dict[str, Any]:
    items = trainer.tloss or {}
    return {str(name).removesuffix("_loss"): value for name, value in items.items()}


def _is_first() -> bool:
    """Whether this is the process that writes: the only one, or the first of several GPUs'."""
    return int(os.getenv("RANK", "-1")) in (-1, 0)


def _peak_cuda() -> dict[str, int]:
    import torch

    if not torch.cuda.is_available():
        return {}
    return {"peak_cuda_bytes": torch.cuda.max_memory_allocated()}


def _say(line: str) -> None:
    """Print a line on the terminal, past the redirection of Ultralytics' output into train.log."""
    if _is_first():
        print(line, file=sys.__stdout__, flush=True)
