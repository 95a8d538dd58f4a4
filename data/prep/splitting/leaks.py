"""Frames that belong together, and where a split tears them apart.

Two frames are linked, by the first that holds:
    exact        the same pixels
    near         the same picture, also when encoded again, resized, mirrored, turned by 90
                 degrees, grey or noisy (`looks.SAME_PICTURE`)
    reframed     the same picture cropped or turned by a few degrees (`splitting.reframed`)
    same-source  augmented copies of one image by Roboflow's names (`<image>.rf.<digest>`), and one
                 place by their looks (`looks.SAME_PLACE`), also where they are cropped or turned
    same-clip    one clip by their names (`splitting.clips`)

docs/decisions/018-linked-frames.md gives the reasons.
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
from data.prep.pictures.records import Records
from data.prep.prepared.kept import Kept
from data.prep.splitting import clips, reframed, same_source

KINDS = ("exact", "near", "reframed", "same-source", "same-clip")
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

    def together(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the frames of each pair are linked, directly or through others."""
        return self._parent[first] == self._parent[second]

    def is_settled(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a further link would change neither groups nor which frames have a twin."""
        settled = self.together(first, second)
        if self._split is not None:
            here, there = self._split[first], self._split[second]
            has_twin = self._closest < _NO_TWIN
            settled &= (here == there) | (has_twin[first, there] & has_twin[second, here])
        return settled

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


def linked_pairs(
    kept: Sequence[Kept], records: Records, engine: Engine
) -> Iterator[NDArray[np.int64]]:
    """(k, 4) at a time: first, second, kind (in `KINDS`), distance, for `Links.add`.

    What costs little comes first: pictures are compared as crops and turns only where looks and
    names leave open whether they belong together. A pair may come again with another kind.
    """
    links = Links.of(kept)
    bits = [bytes.fromhex(frame.picture.look) for frame in kept]
    for rows in _same_picture(kept, bits, engine):
        links.add(rows)
        yield rows
    compared = reframed.Compared(records, [frame.position for frame in kept])
    weaker = {
        "same-clip": clips.same_clip(kept, bits, links.together),
        "same-source": same_source.same_source(kept, bits, compared, links.is_settled),
        "reframed": reframed.reframed(compared, links.is_settled),
    }
    for kind, found in weaker.items():
        for pairs in found:
            rows = _of_kind(kind, pairs)
            links.add(rows)
            yield rows


def _same_picture(
    kept: Sequence[Kept], bits: Sequence[bytes], engine: Engine
) -> Iterator[NDArray[np.int64]]:
    """Rows of the kinds exact and near."""
    contents = _numbered(frame.content for frame in kept)
    for pairs in looks.alike(bits, looks.SAME_PICTURE, engine):
        rows = _of_kind("near", pairs.astype(np.int64))
        rows[contents[rows[:, 0]] == contents[rows[:, 1]], 2] = KINDS.index("exact")
        yield rows


def _of_kind(kind: str, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """(k, 3), first, second, distance, as rows with the kind."""
    return np.insert(pairs, 2, KINDS.index(kind), axis=1)


def _numbered(values: Iterable[str]) -> NDArray[np.int32]:
    """A number for each value."""
    number_of: dict[str, int] = {}
    numbers = [number_of.setdefault(value, len(number_of)) for value in values]
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
