"""Which frames are crops or small turns of each other, without comparing all pairs.

A corner that two pictures share has nearly the same description in both. All descriptions are
sorted eight times, each time by other bytes first, so that such a pair lies side by side in some of
the orders (locality-sensitive hashing by bit sampling, Indyk and Motwani, 1998). Frames that lie
side by side at least twice are candidates, those with the most such places first.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from data.prep.pictures import local_features, looks, records
from data.prep.pictures.pool import over_all
from data.prep.pictures.records import Records

MOST_CANDIDATES = 12
"""The most frames that each frame is compared with."""

_SORTED = 64
"""A frame's strongest descriptions take part in the orders."""
_ORDERS, _PREFIX = 8, 3
"""Orders, and the first bytes that two descriptions must share to count as side by side."""
_NEIGHBOURS = 4
"""Places by which they may be apart."""
_LEAST_VOTES = 2
_FRAMES = 20_000
"""Frames whose candidates are counted at once, which bounds the memory."""
_NOT_ALIKE = 255
"""More bits than any two looks of one picture differ in."""

Settled = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
"""Whether a link of the pair would change nothing."""


class Compared:
    """The frames whose pictures are compared, any two of them.

    Args:
        found: the records of all pictures.
        positions: which of them are the frames'.
    """

    def __init__(self, found: Records, positions: Sequence[int]):
        self._records = found
        self._positions = np.array(positions, np.int64)

    def __len__(self) -> int:
        return len(self._positions)

    def strongest(self) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """(frames, descriptions): the descriptions that take part in the orders."""
        there = np.arange(_SORTED) < self._records["count"][self._positions, None]
        frames, ranks = np.nonzero(there)
        descriptions = self._records["descriptions"][self._positions[frames], ranks]
        return frames.astype(np.int32), descriptions

    def distances(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each pair, the bits in which the looks of what both show differ; 255 if nothing."""
        what = "pairs that may be crops or turns"
        return np.array(list(over_all(self._distance, pairs.tolist(), what)), np.int64)

    def _distance(self, pair: Sequence[int]) -> int:
        first, second = (self._records[self._positions[frame]] for frame in pair)
        found = local_features.mapped(records.features(first), records.features(second))
        if found is None:
            return _NOT_ALIKE
        distance = local_features.overlaid(first["view"], second["view"], found)
        return _NOT_ALIKE if distance is None else distance


def reframed(compared: Compared, is_settled: Settled) -> Iterator[NDArray[np.int64]]:
    """(k, 3) at a time: first, second, and the bits in which the looks of what both show differ.

    A pair that is settled by the links found so far, these included, is not compared.
    """
    for rounds in candidates(compared):
        for pairs in rounds:
            open_pairs = pairs[~is_settled(*pairs.T)]
            rows = np.insert(open_pairs, 2, compared.distances(open_pairs), axis=1)
            yield rows[rows[:, 2] <= looks.SAME_PICTURE]


def candidates(compared: Compared) -> Iterator[list[NDArray[np.int64]]]:
    """For each part of the frames, (k, 2) arrays: their best candidates, their second best, ..."""
    orders = _orders(*compared.strongest())
    for start in range(0, len(compared), _FRAMES):
        first, second, votes = _counted(orders, start, len(compared))
        # The frame's candidates from the most votes to the fewest.
        order = np.lexsort((second, -votes, first))
        first, second = first[order], second[order]
        begins = np.searchsorted(first, first)
        ranks = np.arange(len(first)) - begins
        rounds = []
        for rank in range(min(MOST_CANDIDATES, ranks.max(initial=-1) + 1)):
            chosen = ranks == rank
            rounds.append(np.stack([first[chosen], second[chosen]], axis=1))
        yield rounds


def _orders(
    frames: NDArray[np.int32], descriptions: NDArray[np.uint8]
) -> list[tuple[NDArray[np.int32], NDArray[np.bool_]]]:
    """For each order, the frames in it, and whether the next one shares the first bytes."""
    orders = []
    for number in range(_ORDERS):
        octets = np.roll(descriptions, -_PREFIX * number, axis=1)[:, :8]
        keys = np.ascontiguousarray(octets).view(">u8")[:, 0].astype(np.uint64)
        order = np.argsort(keys)
        prefixes = keys[order] >> np.uint64(64 - 8 * _PREFIX)
        orders.append((frames[order], prefixes[:-1] == prefixes[1:]))
    return orders


def _counted(
    orders: Sequence[tuple[NDArray[np.int32], NDArray[np.bool_]]], start: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(first, second, votes) of pairs whose first frame is in the part that begins at `start`."""
    keys = [np.empty(0, np.int64)]
    for frames, same in orders:
        together = np.ones(len(frames), bool)
        for apart in range(1, min(_NEIGHBOURS, len(frames) - 1) + 1):
            together = together[: len(frames) - apart] & same[apart - 1 :]
            one, other = frames[:-apart], frames[apart:]
            first, second = np.minimum(one, other), np.maximum(one, other)
            here = together & (first != second) & (first >= start) & (first < start + _FRAMES)
            keys.append(first[here].astype(np.int64) * count + second[here])
    pairs, votes = np.unique(np.concatenate(keys), return_counts=True)
    enough = votes >= _LEAST_VOTES
    first, second = np.divmod(pairs[enough], count)
    return first, second, votes[enough]
