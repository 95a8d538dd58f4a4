"""Frames that belong together, and where a split tears them apart.

Two frames are linked, by the first that holds:
    exact        the same pixels
    near         the same picture, also when encoded anew, resized, mirrored, turned by 90 degrees,
                 grey or noisy (`looks.SAME_PICTURE`)
    same-source  augmented copies of one image, by Roboflow's names (`<image>.rf.<digest>`)
    same-clip    one clip by their names, and one place by their looks (`looks.SAME_PLACE`)
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.prep.importers.source_frame import SourceFrame
from data.prep.importers.sources import SPLITS
from data.prep.pictures import looks
from data.prep.pictures.pool import Engine

KINDS = ("exact", "near", "same-source", "same-clip")
_NO_TWIN = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Link:
    """Two frames by their positions, the kind, and the bits in which their looks differ."""

    first: int
    second: int
    kind: str
    distance: int


class Links:
    """Groups of frames that are linked, and each frame's closest twin in every other split.

    Takes links in parts and keeps a few numbers a frame, however many links there are.
    """

    def __init__(self, count: int, splits: Sequence[str] | None):
        self._parent = np.arange(count)
        self.splits = splits
        self._split = np.array([SPLITS.index(s) for s in splits or ()], np.int64)
        self._best = np.full((count, len(SPLITS)), _NO_TWIN, np.int64)

    def add(self, rows: NDArray[np.int64]) -> None:
        """(k, 4): first, second, kind (in `KINDS`), distance."""
        first, second, kind, distance = rows.T
        self._merge(first, second)
        if self.splits is None:
            return
        torn = self._split[first] != self._split[second]
        strength = (kind << 48 | distance << 40)[torn]
        for a, b in ((first[torn], second[torn]), (second[torn], first[torn])):
            np.minimum.at(self._best, (a, self._split[b]), strength | b)

    def _merge(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        parent = self._parent
        while (apart := parent[first] != parent[second]).any():
            low = np.minimum(parent[first], parent[second])[apart]
            high = np.maximum(parent[first], parent[second])[apart]
            np.minimum.at(parent, high, low)
            while (parent[parent] != parent).any():
                parent[:] = parent[parent]

    def groups(self) -> list[int]:
        """The number of the connected group of each frame."""
        return np.unique(self._parent, return_inverse=True)[1].tolist()

    def twins(self, split: str, other: str) -> dict[int, Link]:
        """The closest twin in `other` of each frame of `split` that has one."""
        if self.splits is None:
            return {}
        column = self._best[:, SPLITS.index(other)]
        there = np.flatnonzero((self._split == SPLITS.index(split)) & (column < _NO_TWIN))
        return {i: _link(i, value) for i, value in zip(there.tolist(), column[there].tolist(),
                                                       strict=True)}  # fmt: skip

    def across(self) -> list[Link]:
        """The pairs of all closest twins, strongest kind first, then the nearest."""
        found = {
            (min(link.first, link.second), max(link.first, link.second)): link
            for split in SPLITS
            for other in SPLITS
            for link in self.twins(split, other).values()
        }
        links = [Link(*pair, link.kind, link.distance) for pair, link in found.items()]
        return sorted(links, key=lambda n: (KINDS.index(n.kind), n.distance, n.first, n.second))


def _link(frame: int, value: int) -> Link:
    return Link(frame, value & (1 << 40) - 1, KINDS[value >> 48], value >> 40 & 255)


def find_links(
    frames: Sequence[SourceFrame],
    found_looks: Sequence[str],
    contents: Sequence[str],
    splits: Sequence[str] | None,
    engine: Engine,
) -> Links:
    """Links of all kinds. `splits` are None where they are still to be made from the groups.

    `found_looks` are in hexadecimal; `contents` are equal where pixels are.
    """
    bits = [bytes.fromhex(look) for look in found_looks]
    clips = _numbered(frame.clip for frame in frames)
    pixels = _numbered(contents)
    links = Links(len(frames), splits)
    links.add(_same_source(frames, bits))
    for pairs in looks.alike(bits, looks.SAME_PLACE, engine):
        first, second, distance = pairs.astype(np.int64).T
        kinds = np.full(len(pairs), -1)
        one_clip = (clips[first] == clips[second]) & (clips[first] >= 0)
        kinds[one_clip] = KINDS.index("same-clip")
        kinds[distance <= looks.SAME_PICTURE] = KINDS.index("near")
        kinds[pixels[first] == pixels[second]] = KINDS.index("exact")
        rows = np.stack([first, second, kinds, distance], axis=1)
        links.add(rows[kinds >= 0])
    return links


def _same_source(frames: Sequence[SourceFrame], bits: Sequence[bytes]) -> NDArray[np.int64]:
    """Each augmented copy linked with the first of its image; enough to connect them all."""
    first: dict[str, int] = {}
    rows = []
    for i, frame in enumerate(frames):
        if frame.original is None or frame.negative:
            continue
        j = first.setdefault(frame.original, i)
        if j != i:
            distance = looks.distance(bits[j], bits[i])
            rows.append((j, i, KINDS.index("same-source"), distance))
    return np.array(rows, np.int64).reshape(-1, 4)


def _numbered(values: Iterable[str | None]) -> NDArray[np.int32]:
    """A number for each value, -1 for None."""
    numbers: dict[str | None, int] = {None: -1}
    return np.array([numbers.setdefault(v, len(numbers) - 1) for v in values], np.int32)


def summary(links: Links, groups: Sequence[int], splits: Sequence[str]) -> dict[str, Any]:
    """For `report.json`: how many frames of a split have a twin in another, by strongest kind."""
    where: dict[int, set[str]] = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        where[group].add(split)
    twins = {}
    for split, other in (("val", "train"), ("test", "train"), ("test", "val")):
        kinds = Counter(link.kind for link in links.twins(split, other).values())
        twins[f"{split} in {other}"] = {kind: kinds[kind] for kind in KINDS}
    return {
        "radius_bits": {"near": looks.SAME_PICTURE, "same-clip": looks.SAME_PLACE, "of": 256},
        "groups": len(where),
        "largest_group": max(Counter(groups).values(), default=0),
        "groups_across_splits": sum(len(names) > 1 for names in where.values()),
        "frames_with_a_twin": twins,
    }
