"""Ultralytics' trainer with repeatable batches, which writes no more than it has to."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import SequentialSampler
from torch.utils.data.distributed import DistributedSampler
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import colorstr

from train.detector.repeatable import EpochLoader, RepeatableDataset
from train.detector.stream import NUMPY_SEED, Stream

SECONDS_BETWEEN = 60.0
"""At least, between two checkpoints: what a run that is cut off does again."""

SHARE = 0.01
"""Of the time, at most, that goes into checkpoints, however slow the disk."""


class Checkpoints:
    """When the next one is due: at once after a start."""

    def __init__(self) -> None:
        self._next = time.monotonic()

    def is_due(self) -> bool:
        return time.monotonic() >= self._next

    @contextmanager
    def written(self) -> Iterator[None]:
        """The block that writes one; its duration decides when the next is due."""
        started = time.monotonic()
        yield
        ended = time.monotonic()
        self._next = ended + max(SECONDS_BETWEEN, (ended - started) / SHARE)


class GateTrainer(DetectionTrainer):
    """Ultralytics' own, but for the training's pictures and for when it writes weights."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.checkpoints = Checkpoints()

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """For training as `build_yolo_dataset` has it, of another class."""
        if mode != "train":
            return super().build_dataset(img_path, mode, batch)
        return RepeatableDataset(
            img_path=img_path,
            imgsz=self.args.imgsz,
            batch_size=batch,
            augment=True,
            hyp=self.args,
            rect=self.args.rect,
            cache=self.args.cache or None,
            single_cls=self.args.single_cls or False,
            stride=self.stride,
            pad=0.0,
            prefix=colorstr("train: "),
            task=self.args.task,
            classes=self.args.classes,
            data=self.data,
            fraction=self.args.fraction,
        )

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> Any:
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        if mode != "train":
            return loader
        shared = loader.sampler if isinstance(loader.sampler, DistributedSampler) else None
        stream = Stream(
            pictures=len(loader.dataset),
            batch=loader.batch_size,
            seed=self.args.seed % NUMPY_SEED,
            workers=max(loader.num_workers, 1),
            rank=shared.rank if shared else 0,
            ranks=shared.num_replicas if shared else 1,
            shuffled=not isinstance(loader.sampler, SequentialSampler),
        )
        loader.dataset.stream = stream
        return EpochLoader(loader, len(stream))

    def save_model(self) -> bool:
        """Write what a later epoch cannot make good: the best, the last, and one a minute."""
        is_best = self.fitness is not None and self.fitness == self.best_fitness
        if is_best or self.stop or self.checkpoints.is_due():
            return super().save_model()
        return False
