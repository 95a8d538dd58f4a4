"""A rehearsal of the gate's training: two epochs of a few batches, from random weights.

It is `train.gate`'s own training on a part of the set, drawn at random. The second epoch is
measured; what the workers had ready before it is left out, since it hides how fast they are.
"""

import math
import random
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError
from train.detector import ultralytics_run
from train.detector.callbacks import BoxCounts, Epochs
from train.detector.dataset import link_data
from train.detector.ultralytics_config import BATCH
from train.recipe.projecting import Rows, in_hours, seconds_each

EPOCHS = 2
LOG = "gate.log"

VALIDATED_AT_ONCE = 2
"""Ultralytics validates as many training batches at once."""

READY = 4
"""Batches that a worker of Ultralytics' may have ready."""

MARGIN = 1.05
"""As of the MLLM's memory."""


@dataclass(frozen=True)
class GateProjection:
    """What is to be expected of the whole training; seconds, bytes.

    Attributes:
        seconds: of all epochs, with the bounds of a 95 % interval; patience may end it earlier.
        epoch: of one, with its validation where there is one.
        batch: of one batch of training, loading included.
        start: from the command to the first batch, of the part that was rehearsed.
        peak: on the card; of the process, without its workers, where there is none.
        largest_batch: by what a picture takes beside weights and optimizer; None without a card.
        disk: weights and checkpoint.
    """

    epochs: int
    seconds: tuple[float, float, float]
    epoch: float
    batch: float
    start: float
    peak: int
    card: str | None
    largest_batch: int | None
    disk: int

    def rows(self) -> Rows:
        """Of the page."""
        where = "of the process, libraries with it: no card" if self.card is None else self.card
        largest = "no card" if self.largest_batch is None else str(self.largest_batch)
        return [
            ("epochs", f"{self.epochs}, fewer where patience ends it"),
            ("to the end", in_hours(self.seconds)),
            ("an epoch", f"{self.epoch:.1f} s"),
            ("a batch", f"{self.batch:.3f} s"),
            ("peak memory, measured", f"{self.peak / 1e9:.2f} GB {where}"),
            ("largest batch that fits", largest),
            ("a start or a resume", f"{self.start:.0f} s"),
            ("disk", f"{self.disk / 1e9:.2f} GB"),
        ]


class Timed(Epochs):
    """The callbacks of a training that is stopped after its second epoch, with a clock."""

    def __init__(self, checkpoint: Path, boxes: BoxCounts):
        super().__init__(checkpoint, boxes)
        self.created = self._at = time.monotonic()
        self.began = 0.0
        self.ends: list[float] = []
        self.batches: list[float] = []
        self.validated: list[float] = []
        self.workers = self.batch_size = 0
        self.peak = 0
        self.resident: int | None = None
        self.card: tuple[str, int] | None = None

    def register(self, model: Any) -> None:
        super().register(model)
        model.add_callback("on_train_epoch_start", self._start_epoch)
        model.add_callback("on_train_batch_end", self._end_batch)
        model.add_callback("on_train_epoch_end", self._end_training)
        model.add_callback("on_val_start", self._start_validation)
        model.add_callback("on_val_batch_end", self._end_validation_batch)
        model.add_callback("on_fit_epoch_end", self._end_epoch)

    def _start_epoch(self, trainer: Any) -> None:
        self._at = _now()
        self.began = self.began or self._at
        self.batches, self.validated = [], []

    def _end_batch(self, trainer: Any) -> None:
        self.batches.append(self._lap())

    def _end_training(self, trainer: Any) -> None:
        self.workers, self.batch_size = trainer.train_loader.num_workers, trainer.batch_size
        self.card, self.peak, self.resident = _memory()
        trainer.stop = trainer.epoch + 1 >= EPOCHS

    def _start_validation(self, validator: Any) -> None:
        self._at = _now()

    def _end_validation_batch(self, validator: Any) -> None:
        if not self._is_over:  # the best weights are validated once more
            self.validated.append(self._lap())

    def _end_epoch(self, trainer: Any) -> None:
        if len(self.ends) < EPOCHS:  # called once more after the last
            self.ends.append(_now())

    def _lap(self) -> float:
        before, self._at = self._at, _now()
        return self._at - before


def rehearse(
    folder: Path, data: Path, config: Mapping[str, Any], boxes: BoxCounts, batches: int
) -> GateProjection:
    """Train on a part of the set in `folder`, which keeps the log.

    Args:
        data: a prepared set.
        config: Ultralytics' keys of the whole training.
        boxes: of all its pictures (`dataset.count_boxes`).
        batches: to be measured.

    Raises:
        ConfigError: a batch does not fit the card's memory, or several cards are named.
    """
    if "," in str(config.get("device")):
        raise ConfigError("a rehearsal is for one card: device=0, with its share of the batch")
    size = config.get("batch", BATCH)
    pictures = (batches + READY * config.get("workers", 8)) * size
    draw = random.Random(config.get("seed", 0))
    part = {
        split: {name: of[name] for name in draw.sample(sorted(of), min(len(of), pictures))}
        for split, of in boxes.items()
    }
    gate = (folder / "gate").resolve()
    linked = link_data(data.resolve(), gate / "work" / "data", part)
    timed = Timed(gate / "work" / "checkpoint.pt", part)
    with ultralytics_run.quiet(folder / LOG, gate / "work"):
        ultralytics_run.train(gate, linked, without_weights(config), timed)
    if timed.batch_size != size:
        raise ConfigError(
            f"the gate's batch={size} does not fit the card's memory: {timed.batch_size} did"
        )
    disk = sum(path.stat().st_size for path in gate.rglob("*.pt"))
    shutil.rmtree(gate)
    return project(timed, config, boxes, disk)


def without_weights(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the same network from nothing."""
    model = str(config["model"])
    if model.endswith(".pt") and not Path(model).is_file():
        model = f"{Path(model).stem}.yaml"
    epochs = max(EPOCHS, config.get("epochs", 100))
    return {**config, "model": model, "pretrained": False, "epochs": epochs}


def project(timed: Timed, config: Mapping[str, Any], boxes: BoxCounts, disk: int) -> GateProjection:
    """The whole training, from what the second epoch of the rehearsal took."""
    size, epochs = config.get("batch", BATCH), config.get("epochs", 100)
    ready = READY * timed.workers
    measured = timed.batches[ready:]
    if len(measured) < 3:  # a set so small is measured whole
        measured = timed.batches
    if len(measured) < 3:
        raise ConfigError(f"{len(measured)} batches in an epoch: a rehearsal needs 3 or more")
    each = seconds_each(measured, [1.0] * len(measured))
    validation = sum(timed.validated) / len(timed.validated)
    rest = timed.ends[1] - timed.ends[0] - sum(timed.batches) - sum(timed.validated)
    train = math.ceil(len(boxes["train"]) / size)
    val = math.ceil(len(boxes["val"]) / (VALIDATED_AT_ONCE * size))
    validations = epochs if config.get("val", True) else 1
    whole = epochs * rest + validations * val * validation
    seconds = tuple(epochs * train * value + whole for value in each)
    return GateProjection(
        epochs=epochs,
        seconds=(seconds[0], seconds[1], seconds[2]),
        epoch=seconds[0] / epochs,
        batch=each[0],
        start=timed.began - timed.created,
        peak=timed.peak,
        card=None if timed.card is None else f"of {timed.card[1] / 1e9:.1f} GB, {timed.card[0]}",
        largest_batch=_largest(timed),
        disk=disk,
    )


def _largest(timed: Timed) -> int | None:
    """The largest batch that fits: beside what stays, memory grows with the pictures."""
    if timed.card is None or timed.resident is None:
        return None
    picture = max(1.0, (timed.peak - timed.resident) / timed.batch_size)
    return int((timed.card[1] / MARGIN - timed.resident) / picture)


def _memory() -> tuple[tuple[str, int] | None, int, int | None]:
    """The card's name and bytes, the peak, and what stays between two batches.

    Without a card the peak is that of this process alone: another that it waited for may have been
    larger.
    """
    import torch

    if not torch.cuda.is_available():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return None, peak if sys.platform == "darwin" else peak * 1024, None
    found = torch.cuda.get_device_properties(0)
    card = found.name, found.total_memory
    return card, torch.cuda.max_memory_reserved(), torch.cuda.memory_allocated()


def _now() -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()
