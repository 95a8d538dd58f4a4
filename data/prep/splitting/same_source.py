"""Which frames are augmented copies of one image, by Roboflow's names and by their looks.

`<image>.rf.<digest>` names the image that a frame was made from. Pictures from the web share names
without being copies (`images`, `th`, `OIP-51-`), so a name is a hint: it widens the radius in which
looks support it, and names pairs to compare as crops and turns.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from data.prep.pictures import looks
from data.prep.prepared.kept import Kept
from data.prep.splitting.reframed import Compared, Settled

_WINDOW = 16
"""Frames of one name that each is compared with: more than the copies that an export makes of an
image, and of a name that thousands of strangers share no more than these."""


def same_source(
    kept: Sequence[Kept], bits: Sequence[bytes], compared: Compared, is_settled: Settled
) -> Iterator[NDArray[np.int64]]:
    """(k, 3) at a time: first, second, and the bits in which their looks differ."""
    pairs = _of_one_name(kept)
    distance = looks.distances(bits, *pairs.T)
    alike = distance <= looks.SAME_PLACE
    yield np.insert(pairs, 2, distance, axis=1)[alike]

    unlike = pairs[~alike]
    unlike = unlike[~is_settled(*unlike.T)]
    rows = np.insert(unlike, 2, compared.distances(unlike), axis=1)
    yield rows[rows[:, 2] <= looks.SAME_PLACE]


def _of_one_name(kept: Sequence[Kept]) -> NDArray[np.int64]:
    """(k, 2): the pairs of frames whose names state one image."""
    frames_of: dict[str, list[int]] = defaultdict(list)
    for index, frame in enumerate(kept):
        if frame.source.original is not None:
            frames_of[frame.source.original].append(index)
    pairs = []
    for frames in frames_of.values():
        for place, first in enumerate(frames):
            for second in frames[place + 1 : place + 1 + _WINDOW]:
                pairs.append((first, second))
    return np.array(pairs, np.int64).reshape(-1, 2)
