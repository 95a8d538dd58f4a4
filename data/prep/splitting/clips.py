"""Which frames are of one clip: by their names, or by names and looks where names are not enough.

Frames `<clip>_<number>` of one clip belong together, whatever they show: a car with a camera passes
from one place to the next. But a data set may number strangers alike, so two things are asked of a
name: that equal numbers mean equal pictures (frame 1 of two videos of one name does not), and, of
many frames, that some follow each other in looks too. Where a name fails, two of its frames are of
one clip only if they are of one place by their looks.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dat_runtime.truth import SPLITS
from data.prep.pictures import looks
from data.prep.prepared.kept import Kept

MANY = 64
"""Neighbours from which looks are asked whether they are a clip."""
LEAST_ALIKE = 0.05
"""Share of neighbours that must be alike then. Measured: 9 % and more in real clips, also of moving
cameras; among pictures without a relation to each other none."""
_WINDOW = 64
"""Frames of a doubtful name that each is compared with, by number."""

Together = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
"""Whether the frames of each pair are linked already, directly or through others."""


def same_clip(
    kept: Sequence[Kept], bits: Sequence[bytes], together: Together
) -> Iterator[NDArray[np.int64]]:
    """(k, 3) for each clip: first, second, and the bits in which their looks differ.

    Neighbours by number, and for each frame the nearest ones in every other split.
    """
    frames_of: dict[str, list[int]] = defaultdict(list)
    for index, frame in enumerate(kept):
        if frame.source.clip is not None:
            frames_of[frame.source.clip].append(index)
    for frames in frames_of.values():
        if len(frames) == 1:
            continue
        frames.sort(key=lambda index: kept[index].source.number)
        order = np.array(frames)
        first, second = order[:-1], order[1:]
        distance = looks.distances(bits, first, second)
        alike = (distance <= looks.SAME_PLACE) | together(first, second)
        numbers = [kept[index].source.number for index in frames]
        repeated = np.array([one == other for one, other in pairwise(numbers)])
        if _is_clip(alike, repeated):
            splits = [kept[index].split for index in frames]
            first, second = _across(order, splits)
            yield _rows(bits, first, second)
        else:
            rows = _rows(bits, *_within_window(order))
            yield rows[rows[:, 2] <= looks.SAME_PLACE]


def _is_clip(alike: NDArray[np.bool_], repeated: NDArray[np.bool_]) -> bool:
    """Whether a name that frames share is that of one clip.

    Args:
        alike: for each frame and the next one by number, whether they are alike.
        repeated: whether they have one number.
    """
    strangers = repeated & ~alike
    if strangers.sum() > 1 and strangers.sum() > repeated.sum() / 2:
        return False
    return len(alike) < MANY or alike.mean() >= LEAST_ALIKE


def _across(
    order: NDArray[np.int64], splits: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each frame with the next one, and with the next and the last one of every other split."""
    first, second = [order[:-1]], [order[1:]]
    places = np.arange(len(order))
    split_of = np.array(splits)
    for split in SPLITS:
        there = np.flatnonzero(split_of == split)
        if len(there) == 0:
            continue
        apart = split_of != split
        after = np.searchsorted(there, places)
        for nearest in (after - 1, after):
            exists = apart & (nearest >= 0) & (nearest < len(there))
            first.append(order[exists])
            second.append(order[there[nearest[exists]]])
    return np.concatenate(first), np.concatenate(second)


def _within_window(order: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each frame with the next ones by number."""
    apart = range(1, min(_WINDOW, len(order) - 1) + 1)
    first = [order[:-places] for places in apart]
    second = [order[places:] for places in apart]
    return np.concatenate(first), np.concatenate(second)


def _rows(
    bits: Sequence[bytes], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.int64]:
    return np.stack([first, second, looks.distances(bits, first, second)], axis=1)
