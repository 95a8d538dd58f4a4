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

from data.prep import looks
from data.prep.frames import Frame
from data.prep.pool import Engine
from data.prep.sources import SPLITS

KINDS = ("exact", "near", "same-source", "same-clip")


@dataclass(frozen=True)
class Link:
    """Two frames by their positions, the kind, and the bits in which their looks differ."""

    first: int
    second: int
    kind: str
    distance: int


@dataclass(frozen=True)
class Links:
    """All links as columns of one array: (k, 4) of first, second, kind (in `KINDS`), distance."""

    rows: NDArray[np.int32]
    frames: int

    def groups(self) -> list[int]:
        """The number of the connected group of each frame."""
        parent = np.arange(self.frames)
        first, second = self.rows[:, 0], self.rows[:, 1]
        while (torn := parent[first] != parent[second]).any():
            low = np.minimum(parent[first], parent[second])[torn]
            high = np.maximum(parent[first], parent[second])[torn]
            np.minimum.at(parent, high, low)
            while (parent[parent] != parent).any():
                parent = parent[parent]
        return np.unique(parent, return_inverse=True)[1].tolist()

    def across(self, splits: Sequence[str]) -> list[Link]:
        """The links between splits, strongest kind first, then the nearest."""
        numbers = np.array([SPLITS.index(split) for split in splits], np.int32)
        torn = self.rows[numbers[self.rows[:, 0]] != numbers[self.rows[:, 1]]]
        order = np.lexsort((torn[:, 1], torn[:, 0], torn[:, 3], torn[:, 2]))
        return [Link(a, b, KINDS[kind], d) for a, b, kind, d in torn[order].tolist()]


def find_links(
    frames: Sequence[Frame], found_looks: Sequence[str], contents: Sequence[str], engine: Engine
) -> Links:
    """Links of all kinds; each pair is there once, with its strongest kind.

    `found_looks` are in hexadecimal; `contents` are equal where pixels are.
    """
    bits = [bytes.fromhex(look) for look in found_looks]
    clips = _numbered(frame.clip for frame in frames)
    pixels = _numbered(contents)
    found = [_same_source(frames, bits)]
    for pairs in looks.alike(bits, looks.SAME_PLACE, engine):
        first, second, distance = pairs.T
        kinds = np.full(len(pairs), -1, np.int32)
        one_clip = (clips[first] == clips[second]) & (clips[first] >= 0)
        kinds[one_clip] = KINDS.index("same-clip")
        kinds[distance <= looks.SAME_PICTURE] = KINDS.index("near")
        kinds[pixels[first] == pixels[second]] = KINDS.index("exact")
        rows = np.stack([first, second, kinds, distance], axis=1)
        found.append(rows[kinds >= 0])
    rows = np.concatenate(found)
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (rows[1:, :2] != rows[:-1, :2]).any(axis=1)
    return Links(rows[fresh], len(frames))


def _same_source(frames: Sequence[Frame], bits: Sequence[bytes]) -> NDArray[np.int32]:
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
    return np.array(rows, np.int32).reshape(-1, 4)


def _numbered(values: Iterable[str | None]) -> NDArray[np.int32]:
    """A number for each value, -1 for None."""
    numbers: dict[str | None, int] = {None: -1}
    return np.array([numbers.setdefault(v, len(numbers) - 1) for v in values], np.int32)


def summary(
    links: Links, groups: Sequence[int], splits: Sequence[str], across: Sequence[Link]
) -> dict[str, Any]:
    """For `report.json`: how many frames of a split have a twin in another, by strongest kind."""
    worst: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for link in across:
        for frame, other in ((link.first, link.second), (link.second, link.first)):
            worst[splits[frame], splits[other]].setdefault(frame, link.kind)
    torn = {g for link in across for g in (groups[link.first],)}
    pairs = (("val", "train"), ("test", "train"), ("test", "val"))
    return {
        "radius_bits": {"near": looks.SAME_PICTURE, "same-clip": looks.SAME_PLACE, "of": 256},
        "groups": len(set(groups)),
        "largest_group": max(Counter(groups).values(), default=0),
        "groups_across_splits": len(torn),
        "pairs_across_splits": {k: sum(link.kind == k for link in across) for k in KINDS},
        "frames_with_a_twin": {
            f"{split} in {other}": {
                k: sum(kind == k for kind in worst[split, other].values()) for k in KINDS
            }
            for split, other in pairs
        },
    }
