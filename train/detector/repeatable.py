"""Ultralytics' data set and loader with batches that are a function of the epoch (`stream`).

The classes are subclasses of Ultralytics' own, which stay as they are; `trainer.GateTrainer` uses
them for the training pictures.
"""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Sampler
from ultralytics.data.build import InfiniteDataLoader
from ultralytics.data.dataset import YOLODataset

from train.detector.stream import Stream, drawn_from


class RepeatableDataset(YOLODataset):
    """Training pictures by their number in `stream`, which is set when the batch is known."""

    stream: Stream

    def __init__(self, *args: Any, **kwargs: Any):
        self._in_memory: list[int] = []
        super().__init__(*args, **kwargs)

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, picture = self.stream.place(number)
        # Ultralytics keeps one less than it says in memory.
        self.buffer = self.stream.recent(number, max(self.max_buffer_length - 1, 1))
        with drawn_from(self.stream.seed, epoch, picture):
            return super().__getitem__(picture)

    def load_image(self, i: int, *args: Any, **kwargs: Any) -> Any:
        """As Ultralytics loads it; what it keeps in memory is not what mosaics are drawn from."""
        if self.cache == "ram":  # loaded by several threads, and kept apart from the buffer
            return super().load_image(i, *args, **kwargs)
        recent, self.buffer = self.buffer, self._in_memory
        try:
            return super().load_image(i, *args, **kwargs)
        finally:
            self.buffer = recent


class EpochSampler(Sampler[int]):
    """The numbers of one epoch after the other, as often as they are asked for."""

    def __init__(self, pictures: int):
        self._pictures = pictures
        self.next_epoch = 0

    def __len__(self) -> int:
        return self._pictures

    def __iter__(self) -> Iterator[int]:
        first = self.next_epoch * self._pictures
        self.next_epoch += 1
        return iter(range(first, first + self._pictures))

    def set_epoch(self, epoch: int) -> None:
        """Nothing: Ultralytics says it on several GPUs, when workers may be an epoch ahead."""


class EpochLoader(InfiniteDataLoader):
    """Its workers last over the epochs, and begin at the one that is stated.

    Args:
        loader: Ultralytics' own for the same data set; its workers have not begun.
    """

    def __init__(self, loader: InfiniteDataLoader, pictures: int):
        self.numbers = EpochSampler(pictures)
        self.epoch = 0
        super().__init__(
            dataset=loader.dataset,
            batch_size=loader.batch_size,
            num_workers=loader.num_workers,
            sampler=self.numbers,
            prefetch_factor=loader.prefetch_factor,
            pin_memory=loader.pin_memory,
            pin_memory_device=loader.pin_memory_device,
            collate_fn=loader.collate_fn,
            worker_init_fn=loader.worker_init_fn,
            generator=loader.generator,
            drop_last=loader.drop_last,
        )

    def go_to(self, epoch: int) -> None:
        """State the epoch whose batches come next: the first, the next one, or one again."""
        if epoch != self.epoch + 1:
            self.reset()
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        if self.iterator is None:
            self.numbers.next_epoch = self.epoch
        return super().__iter__()
