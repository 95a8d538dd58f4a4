"""Which picture comes when: a function of seed and epoch, so a training can begin at any epoch.

A training's pictures are numbered on over its epochs: the one at a place of an epoch has the
number epoch * len(stream) + place. From the number alone follow the picture, the random numbers
that change it (`drawn_from`) and the others that a mosaic may put beside it (`Stream.recent`). So
workers that last over the epochs and workers that are started anew make the same batches.
"""

import functools
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

NUMPY_SEED = 1 << 32
"""NumPy takes seeds below it."""


@contextmanager
def drawn_from(*numbers: int) -> Iterator[None]:
    """Let these numbers (each below 2**32) decide what Python and NumPy draw within the block.

    After it Python goes on as if it had drawn nothing: without workers, this is the process that
    trains, and draws the size of a batch. NumPy is not put back, which would take longer than all
    else here: only pictures draw from it.
    """
    before = random.getstate()
    # Begun with 1: seeds of as many words. Python gives some of other lengths the same numbers.
    random.seed(functools.reduce(lambda so_far, number: so_far * NUMPY_SEED + number, numbers, 1))
    np.random.seed(random.getrandbits(32))
    try:
        yield
    finally:
        random.setstate(before)


@functools.lru_cache(maxsize=32)
def _permutation(count: int, seed: int, epoch: int, rank: int, ranks: int) -> list[int]:
    """The part of a rank; as many for each, so the first pictures may come twice."""
    order = np.random.default_rng((seed, epoch)).permutation(count).tolist()
    part = range(rank, math.ceil(count / ranks) * ranks, ranks)
    return [order[place % count] for place in part]


class Stream:
    """The numbered pictures of one process of a training.

    Args:
        pictures: how many the set has.
        batch: pictures in a batch of this process.
        workers: how many take turns at the batches; 1 if the process makes them itself.
        rank: of this process among `ranks`, which share each epoch's pictures.
        shuffled: else every epoch has them in the set's order (Ultralytics' `rect`, on one GPU).
    """

    def __init__(
        self,
        pictures: int,
        batch: int,
        seed: int,
        workers: int = 1,
        rank: int = 0,
        ranks: int = 1,
        shuffled: bool = True,
    ):
        self.pictures = pictures
        self.batch = batch
        self.seed = seed
        self.workers = workers
        self.rank = rank
        self.ranks = ranks
        self.shuffled = shuffled
        self._batches = math.ceil(len(self) / batch)
        self._earlier: tuple[tuple[int, int, int], list[int]] = ((-1, 0, 0), [])

    def __len__(self) -> int:
        """Pictures of an epoch, in this process."""
        return math.ceil(self.pictures / self.ranks)

    def place(self, number: int) -> tuple[int, int]:
        """The epoch of a number, and which picture of the set it is."""
        epoch, place = divmod(number, len(self))
        return epoch, self._order(epoch)[place]

    def _order(self, epoch: int) -> Sequence[int]:
        if not self.shuffled:
            return range(self.pictures)
        return _permutation(self.pictures, self.seed, epoch, self.rank, self.ranks)

    def recent(self, number: int, most: int) -> list[int]:
        """The pictures that the worker of this one had last, this one being the last of them.

        Ultralytics draws a mosaic's other pictures from those that its worker still has in memory.
        These are the same, but known without having been loaded.
        """
        epoch, place = divmod(number, len(self))
        batch, offset = divmod(place, self.batch)
        count = epoch * self._batches + batch
        own = self._of_batch(count)[: offset + 1]
        return (self._before(count, most) + own)[-most:]

    def _before(self, count: int, most: int) -> list[int]:
        """What the worker had before a batch, at most so many."""
        key = (count, self.workers, most)
        if self._earlier[0] != key:
            found: list[int] = []
            earlier = count - self.workers
            while earlier >= 0 and len(found) < most:
                found = self._of_batch(earlier) + found
                earlier -= self.workers
            self._earlier = key, found
        return self._earlier[1]

    def _of_batch(self, count: int) -> list[int]:
        """The pictures of a batch, counted from the training's first."""
        epoch, batch = divmod(count, self._batches)
        return list(self._order(epoch)[batch * self.batch : (batch + 1) * self.batch])
