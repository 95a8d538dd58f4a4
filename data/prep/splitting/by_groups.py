"""Splits by connected groups: no group is torn apart, every stratum keeps its shares."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from data.prep.importers.sources import SPLITS

OWN_SHARES = {"train": 70, "val": 15, "test": 15}
"""Of a source that has no splits of its own."""


def rank(content: str, seed: int) -> str:
    """An order that hangs on content and seed only, not on names."""
    return hashlib.sha256(f"{seed}:{content}".encode()).hexdigest()


def by_groups(
    groups: Sequence[int],
    strata: Sequence[str],
    contents: Sequence[str],
    shares: Mapping[str, Mapping[str, float]],
    seed: int,
) -> list[str]:
    """A split for each frame, the same for all of a group.

    Groups are placed from the largest to the smallest, each where the squared relative distance of
    all strata from their shares falls most (iterative stratification over groups).
    `shares` gives each stratum's proportion of train, val and test.
    """
    sizes: dict[int, Counter[str]] = defaultdict(Counter)
    first: dict[int, str] = {}
    for group, stratum, content in zip(groups, strata, contents, strict=True):
        sizes[group][stratum] += 1
        first[group] = min(first.get(group, content), content)
    targets = _targets(Counter(strata), shares)
    have: Counter[tuple[str, str]] = Counter()
    placed = {}
    for group in sorted(sizes, key=lambda g: (-sizes[g].total(), rank(first[g], seed))):
        of = sizes[group]
        best = min(SPLITS, key=lambda split: _cost(of, split, have, targets))
        placed[group] = best
        for stratum, count in of.items():
            have[stratum, best] += count
    return [placed[group] for group in groups]


def _targets(
    totals: Mapping[str, int], shares: Mapping[str, Mapping[str, float]]
) -> dict[tuple[str, str], float]:
    return {
        (stratum, split): total * shares[stratum][split] / sum(shares[stratum].values())
        for stratum, total in totals.items()
        for split in SPLITS
    }


def _cost(
    sizes: Counter[str],
    split: str,
    have: Counter[tuple[str, str]],
    targets: Mapping[tuple[str, str], float],
) -> float:
    """How much further from its shares the split is with the group than without."""
    cost = 0.0
    for stratum, count in sizes.items():
        target = targets[stratum, split]
        lack = target - have[stratum, split]
        cost += (count * count - 2 * count * lack) / max(target, 0.5)
    return cost
