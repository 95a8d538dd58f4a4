"""The split of each frame: as published, with the paper's split of negatives, or free of leaks."""

from collections.abc import Mapping, Sequence

from data.prep.importers.source_frame import NEGATIVE, SourceFrame
from data.prep.importers.sources import SPLITS
from data.prep.splitting.by_groups import OWN_SHARES, by_groups, rank

PAPER_SPLIT = {"train": 268, "val": 120, "test": 120}
"""Of the external negatives (section 4.1)."""


def published(
    frames: Sequence[SourceFrame], files: Sequence[str], by_clip: bool, seed: int
) -> list[str]:
    """The source's own split; of the negatives the paper's proportion, by frame or by clip.

    `files` are the digests of the frames' files: with the seed, they decide what chance decides.
    """
    there = [i for i, frame in enumerate(frames) if frame.negative]
    of_negatives = [files[i] for i in there]
    if by_clip:
        clips = [frames[i].clip or frames[i].file for i in there]
        numbers = {clip: n for n, clip in enumerate(dict.fromkeys(clips))}
        strata, shares = [NEGATIVE] * len(there), {NEGATIVE: PAPER_SPLIT}
        numbered = [numbers[clip] for clip in clips]
        made = by_groups(numbered, strata, of_negatives, shares, seed)
    else:
        split_of = _by_frame(of_negatives, seed)
        made = [split_of[file] for file in of_negatives]
    found = [frame.split or "" for frame in frames]
    for i, split in zip(there, made, strict=True):
        found[i] = split
    return found


def leak_free(
    frames: Sequence[SourceFrame],
    files: Sequence[str],
    groups: Sequence[int],
    own_counts: Mapping[str, int],
    seed: int,
) -> list[str]:
    """By connected groups, in the proportions of the source's split; the paper's for negatives."""
    strata = [frame.stratum for frame in frames]
    own = own_counts if all(own_counts.get(split) for split in SPLITS) else {}
    shares = {**dict.fromkeys(strata, own or OWN_SHARES), NEGATIVE: PAPER_SPLIT}
    return by_groups(groups, strata, files, shares, seed)


def _by_frame(contents: Sequence[str], seed: int) -> dict[str, str]:
    """A split for each content, in the proportion 268/120/120, by largest remainder.

    The order is that of a hash of seed and content: names and order of files do not matter.
    """
    total = sum(PAPER_SPLIT.values())
    shares = {name: len(contents) * part / total for name, part in PAPER_SPLIT.items()}
    counts = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name])
    for name in by_remainder[: len(contents) - sum(counts.values())]:
        counts[name] += 1
    names = [name for name in SPLITS for _ in range(counts[name])]
    return dict(zip(sorted(contents, key=lambda c: rank(c, seed)), names, strict=True))
