"""Frames that belong together, and where a split tears them apart.

Two frames are linked, by the first that holds:
    exact        the same pixels
    near         the same picture, also when encoded again, resized, mirrored, turned by 90
                 degrees, grey or noisy (`looks.SAME_PICTURE`)
    same-source  augmented copies of one image, by Roboflow's names (`<image>.rf.<digest>`)
    same-clip    one clip by their names, and one place by their looks (`looks.SAME_PLACE`)
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dat_runtime.truth import SPLITS
from data.prep.pictures import looks
from data.prep.pictures.pool import Engine
from data.prep.prepared.kept import Kept

KINDS = ("exact", "near", "same-source", "same-clip")
"""From the strongest to the weakest."""

_NO_TWIN = np.iinfo(np.int64).max
"""Larger than every strength of `Links.add`."""
_KIND_SHIFT, _DISTANCE_SHIFT = 48, 40
"""A strength's bits: the kind from 48 up, the distance (at most 255) from 40, the twin below."""


@dataclass(frozen=True)
class Link:
    """Two kept frames by their indices, the kind, and the bits in which their looks differ."""

    first: int
    second: int
    kind: str
    distance: int


class Links:
    """Groups of frames that are linked, and each frame's closest twin in every other split.

    Takes links in parts and keeps a few numbers for each frame, however many links there are.

    Args:
        splits: the split of each frame; None if the splits are still to be made from the groups:
            then no frame has a twin.
    """

    def __init__(self, count: int, splits: Sequence[str] | None):
        self._parent = np.arange(count)
        self._split: NDArray[np.int64] | None = None
        if splits is not None:
            self._split = np.array([SPLITS.index(split) for split in splits], np.int64)
        # (frames, splits): the strength of each frame's closest twin in each split.
        self._closest = np.full((count, len(SPLITS)), _NO_TWIN, np.int64)

    @classmethod
    def of(cls, kept: Sequence[Kept]) -> "Links":
        """For these frames. Without splits on them there are groups only."""
        splits = [frame.split for frame in kept]
        return cls(len(kept), splits if all(splits) else None)

    def add(self, rows: NDArray[np.int64]) -> None:
        """(k, 4): first, second, kind (in `KINDS`), distance."""
        first, second, kind, distance = rows.T
        self._merge(first, second)
        if self._split is None:
            return
        torn = self._split[first] != self._split[second]
        first, second = first[torn], second[torn]
        # One integer orders twins by kind, then distance, then index: the smallest is the closest.
        strength = (kind << _KIND_SHIFT | distance << _DISTANCE_SHIFT)[torn]
        np.minimum.at(self._closest, (first, self._split[second]), strength | second)
        np.minimum.at(self._closest, (second, self._split[first]), strength | first)

    def _merge(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        """Join the groups of each pair; a group is known by the index of its first frame."""
        parent = self._parent
        while True:
            apart = parent[first] != parent[second]
            if not apart.any():
                return
            low = np.minimum(parent[first], parent[second])[apart]
            high = np.maximum(parent[first], parent[second])[apart]
            # A group linked to several others joins the first; the next round joins the rest.
            np.minimum.at(parent, high, low)
            # Let every frame point directly at the first frame of its group again.
            while (parent[parent] != parent).any():
                parent[:] = parent[parent]

    def groups(self) -> list[int]:
        """The number of the connected group of each frame."""
        _, numbers = np.unique(self._parent, return_inverse=True)
        return numbers.tolist()

    def twins(self, split: str, other: str) -> list[Link]:
        """For each frame of `split` that has a twin in `other`, the link to the closest one."""
        if self._split is None:
            return []
        closest = self._closest[:, SPLITS.index(other)]
        in_split = self._split == SPLITS.index(split)
        frames = np.flatnonzero(in_split & (closest < _NO_TWIN))
        strengths = closest[frames].tolist()
        return list(map(_link, frames.tolist(), strengths))

    def across(self) -> list[Link]:
        """The pairs of all closest twins: the strongest kind first, within it the nearest."""
        links: dict[tuple[int, int], Link] = {}
        for split in SPLITS:
            for other in SPLITS:
                for link in self.twins(split, other):
                    first, second = sorted((link.first, link.second))
                    links[first, second] = Link(first, second, link.kind, link.distance)
        return sorted(links.values(), key=_closeness)


def _link(frame: int, strength: int) -> Link:
    """The link from a frame to the twin that its strength names."""
    twin = strength & (1 << _DISTANCE_SHIFT) - 1
    distance = strength >> _DISTANCE_SHIFT & 255
    return Link(frame, twin, KINDS[strength >> _KIND_SHIFT], distance)


def _closeness(link: Link) -> tuple[int, int, int, int]:
    return KINDS.index(link.kind), link.distance, link.first, link.second


def linked_pairs(kept: Sequence[Kept], engine: Engine) -> Iterator[NDArray[np.int64]]:
    """(k, 4) at a time: first, second, kind (in `KINDS`), distance, for `Links.add`.

    A pair may come more than once, with another kind each time.
    """
    bits = [bytes.fromhex(frame.picture.look) for frame in kept]
    yield _same_source(kept, bits)

    clips = _numbered(frame.source.clip for frame in kept)
    contents = _numbered(frame.content for frame in kept)
    # The wider radius finds all pairs that are exact, near or same-clip. A pair has the strongest
    # kind whose rule holds, so the strongest is assigned last.
    for pairs in looks.alike(bits, looks.SAME_PLACE, engine):
        first, second, distance = pairs.astype(np.int64).T
        kinds = np.full(len(pairs), -1)
        one_clip = (clips[first] == clips[second]) & (clips[first] >= 0)
        kinds[one_clip] = KINDS.index("same-clip")
        kinds[distance <= looks.SAME_PICTURE] = KINDS.index("near")
        kinds[contents[first] == contents[second]] = KINDS.index("exact")
        rows = np.stack([first, second, kinds, distance], axis=1)
        yield rows[kinds >= 0]


def _same_source(kept: Sequence[Kept], bits: Sequence[bytes]) -> NDArray[np.int64]:
    """Links each augmented copy with the first copy of its image, which connects them all."""
    first_of: dict[str, int] = {}
    rows = []
    for index, frame in enumerate(kept):
        original = frame.source.original
        if original is None or frame.negative:
            continue
        first = first_of.setdefault(original, index)
        if first != index:
            distance = looks.distance(bits[first], bits[index])
            rows.append((first, index, KINDS.index("same-source"), distance))
    return np.array(rows, np.int64).reshape(-1, 4)


def _numbered(values: Iterable[str | None]) -> NDArray[np.int32]:
    """A number for each value, -1 for None."""
    number_of: dict[str | None, int] = {None: -1}
    numbers = [number_of.setdefault(value, len(number_of) - 1) for value in values]
    return np.array(numbers, np.int32)


def with_groups(kept: Sequence[Kept], links: Links) -> list[Kept]:
    """The frames with the groups that the links connect."""
    return [replace(frame, group=group) for frame, group in zip(kept, links.groups(), strict=True)]


def summary(links: Links, kept: Sequence[Kept]) -> dict[str, Any]:
    """For `report.json`: how many frames of a split have a twin in another, by strongest kind."""
    splits_of: dict[int, set[str]] = defaultdict(set)
    for frame in kept:
        splits_of[frame.group].add(frame.split)
    sizes = Counter(frame.group for frame in kept)
    twins = {}
    for split, other in (("val", "train"), ("test", "train"), ("test", "val")):
        kinds = Counter(link.kind for link in links.twins(split, other))
        twins[f"{split} in {other}"] = {kind: kinds[kind] for kind in KINDS}
    return {
        "radius_bits": {"near": looks.SAME_PICTURE, "same-clip": looks.SAME_PLACE, "of": 256},
        "groups": len(splits_of),
        "largest_group": max(sizes.values(), default=0),
        "groups_across_splits": sum(len(splits) > 1 for splits in splits_of.values()),
        "frames_with_a_twin": twins,
    }
