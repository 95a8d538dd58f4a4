"""Splits by connected groups: no group is torn apart, every stratum keeps its shares."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from dat_runtime.truth import SPLITS

OWN_SHARES = {"train": 70, "val": 15, "test": 15}
"""Of a source that has no splits of its own."""

_LEAST_TARGET = 0.5
"""Half a frame: where a stratum is to have none in a split, `_cost` would divide by zero."""


class Member(NamedTuple):
    """What the placing of a frame depends on.

    Attributes:
        group: frames of equal groups get one split.
        stratum: what the shares are kept for.
        digest: of the frame's file; with the seed it decides what chance decides.
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

    Groups are placed from the largest to the smallest, each where the squared relative distance of
    all strata from their shares falls most (iterative stratification over groups).
    `shares` gives each stratum's proportion of train, val and test.
    """
    sizes: dict[Hashable, Counter[str]] = defaultdict(Counter)
    first_digest: dict[Hashable, str] = {}
    for group, stratum, digest in members:
        sizes[group][stratum] += 1
        first_digest[group] = min(first_digest.get(group, digest), digest)

    # Large groups first: the small ones that follow even out what these leave unbalanced.
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
    """How much further from its shares the split is with the group than without.

    With `lack` = target - placed, a stratum's squared distance changes from lack^2 to
    (count - lack)^2, that is by count^2 - 2 count lack; relative to the target.
    """
    cost = 0.0
    for stratum, count in sizes.items():
        target = targets[stratum, split]
        lack = target - placed[stratum, split]
        cost += (count * count - 2 * count * lack) / max(target, _LEAST_TARGET)
    return cost
