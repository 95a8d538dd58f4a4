"""The split of each frame: as published, with the paper's split of negatives, or free of leaks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dat_runtime.truth import SPLITS
from data.prep.importers.source_frame import NEGATIVE
from data.prep.prepared.kept import Kept
from data.prep.splitting.by_groups import OWN_SHARES, Member, by_groups, rank

PAPER_NEGATIVES = {"train": 268, "val": 120, "test": 120}
"""The paper's split of the external negatives (section 4.1)."""


def published(kept: Sequence[Kept], by_clip: bool, seed: int) -> list[Kept]:
    """The source's own split; negatives in the paper's proportion, by frame or by clip."""
    negatives = [frame for frame in kept if frame.negative]
    split_of = _by_clip(negatives, seed) if by_clip else _by_digest(negatives, seed)
    assigned = []
    for frame in kept:
        split = split_of[frame.id] if frame.negative else frame.source.split
        assigned.append(replace(frame, split=split or ""))
    return assigned


def leak_free(kept: Sequence[Kept], own_counts: Mapping[str, int], seed: int) -> list[Kept]:
    """New splits by connected groups, in the proportions of the source's; negatives in the paper's.

    Args:
        kept: the frames, their groups already set.
        own_counts: images in each split of the source; empty where it has none.
    """
    proportion: Mapping[str, int] = OWN_SHARES
    if all(own_counts.get(split) for split in SPLITS):
        proportion = own_counts
    shares = dict.fromkeys((frame.stratum for frame in kept), proportion)
    shares[NEGATIVE] = PAPER_NEGATIVES
    members = [Member(frame.group, frame.stratum, frame.picture.sha256) for frame in kept]
    splits = by_groups(members, shares, seed)
    return [replace(frame, split=split) for frame, split in zip(kept, splits, strict=True)]


def _by_clip(negatives: Sequence[Kept], seed: int) -> dict[str, str]:
    """Frame -> split, one split for each clip; a frame without a clip counts as its own clip."""
    members = []
    for frame in negatives:
        clip = frame.source.clip or frame.source.file
        members.append(Member(clip, NEGATIVE, frame.picture.sha256))
    splits = by_groups(members, {NEGATIVE: PAPER_NEGATIVES}, seed)
    return {frame.id: split for frame, split in zip(negatives, splits, strict=True)}


def _by_digest(negatives: Sequence[Kept], seed: int) -> dict[str, str]:
    """Frame -> split, each frame by itself."""
    split_of = by_frame([frame.picture.sha256 for frame in negatives], seed)
    return {frame.id: split_of[frame.picture.sha256] for frame in negatives}


def by_frame(digests: Sequence[str], seed: int) -> dict[str, str]:
    """Digest -> split, in the proportion 268/120/120, by largest remainder.

    Frames are ordered by a hash of seed and digest, so their names and order do not matter.
    """
    total = sum(PAPER_NEGATIVES.values())
    shares = {split: len(digests) * part / total for split, part in PAPER_NEGATIVES.items()}
    counts = {split: int(share) for split, share in shares.items()}
    left = len(digests) - sum(counts.values())
    by_remainder = sorted(shares, key=lambda split: counts[split] - shares[split])
    for split in by_remainder[:left]:
        counts[split] += 1
    splits: list[str] = []
    for split in SPLITS:
        splits += [split] * counts[split]
    shuffled = sorted(digests, key=lambda digest: rank(digest, seed))
    return dict(zip(shuffled, splits, strict=True))
