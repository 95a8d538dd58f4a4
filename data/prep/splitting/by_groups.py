"""Splits by connected groups: no group is torn apart, and each stratum keeps its shares nearly."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from dat_runtime.truth import SPLITS

OWN_SHARES = {"train": 70, "val": 15, "test": 15}
"""The proportion of the splits for a source without splits."""

_LEAST_TARGET = 0.5
"""Half a frame: `_cost` would divide by zero for a split that gets none of a stratum."""


class Member(NamedTuple):
    """What the placing of a frame depends on.

    Attributes:
        group: all frames of one group get the same split.
        stratum: the kind of frame; each kind keeps its shares.
        digest: the digest of the frame's file; with the seed it replaces chance.
    """

    group: Hashable
    stratum: str
    digest: str


def rank(digest: str, seed: int) -> str:
    """The key of a random order that depends on content and seed only, not on names."""
    return hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest()


def by_groups(
    members: Sequence[Member], shares: Mapping[str, Mapping[str, float]], seed: int
) -> list[str]:
    """A split for each frame, the same for all of a group.

    Groups are placed from the largest to the smallest. Each goes where it most reduces the squared
    distances of all strata from their targets, each divided by its target.
    `shares` gives each stratum's proportion of train, val and test.
    """
    sizes: dict[Hashable, Counter[str]] = defaultdict(Counter)
    first_digest: dict[Hashable, str] = {}
    for group, stratum, digest in members:
        sizes[group][stratum] += 1
        first_digest[group] = min(first_digest.get(group, digest), digest)

    # Large groups first: the small ones that follow balance what the large ones leave uneven.
    order = sorted(
        sizes, key=lambda group: (-sizes[group].total(), rank(first_digest[group], seed))
    )
    targets = _targets(Counter(member.stratum for member in members), shares)
    placed: Counter[tuple[str, str]] = Counter()
    split_of: dict[Hashable, str] = {}
    for group in order:
        costs = {split: _cost(sizes[group], split, placed, targets) for split in SPLITS}
        split = min(SPLITS, key=costs.__getitem__)
        split_of[group] = split
        for stratum, count in sizes[group].items():
            placed[stratum, split] += count
    return [split_of[member.group] for member in members]


def _targets(
    totals: Mapping[str, int], shares: Mapping[str, Mapping[str, float]]
) -> dict[tuple[str, str], float]:
    """How many frames of each stratum belong in each split."""
    targets = {}
    for stratum, total in totals.items():
        proportion = shares[stratum]
        whole = sum(proportion.values())
        for split in SPLITS:
            targets[stratum, split] = total * proportion[split] / whole
    return targets


def _cost(
    sizes: Counter[str],
    split: str,
    placed: Counter[tuple[str, str]],
    targets: Mapping[tuple[str, str], float],
) -> float:
    """How much further from its targets the split is with the group than without it.

    With `lack` = target - placed, a stratum's squared distance changes from lack^2 to
    (count - lack)^2, that is by count^2 - 2 count lack; relative to the target.
    """
    cost = 0.0
    for stratum, count in sizes.items():
        target = targets[stratum, split]
        lack = target - placed[stratum, split]
        cost += (count * count - 2 * count * lack) / max(target, _LEAST_TARGET)
    return cost
