"""The split of each frame: as published, with the paper's split of negatives, or free of leaks."""

from collections.abc import Mapping, Sequence

from data.prep.importers import cctv
from data.prep.importers.source_frame import NEGATIVE, Frame
from data.prep.importers.sources import SPLITS
from data.prep.splitting.by_groups import OWN_SHARES, by_groups


def published(frames: Sequence[Frame], files: Sequence[str], by_clip: bool, seed: int) -> list[str]:
    """The source's own split; of the negatives the paper's proportion, by frame or by clip.

    `files` are the digests of the frames' files: with the seed, they decide what chance decides.
    """
    there = [i for i, frame in enumerate(frames) if frame.negative]
    of_negatives = [files[i] for i in there]
    if by_clip:
        clips = [frames[i].clip or frames[i].file for i in there]
        numbers = {clip: n for n, clip in enumerate(dict.fromkeys(clips))}
        strata, shares = [NEGATIVE] * len(there), {NEGATIVE: cctv.PAPER_SPLIT}
        numbered = [numbers[clip] for clip in clips]
        made = by_groups(numbered, strata, of_negatives, shares, seed)
    else:
        split_of = cctv.split(of_negatives, seed)
        made = [split_of[file] for file in of_negatives]
    found = [frame.split or "" for frame in frames]
    for i, split in zip(there, made, strict=True):
        found[i] = split
    return found


def leak_free(
    frames: Sequence[Frame],
    files: Sequence[str],
    groups: Sequence[int],
    own_counts: Mapping[str, int],
    seed: int,
) -> list[str]:
    """By connected groups, in the proportions of the source's split; the paper's for negatives."""
    strata = [frame.stratum for frame in frames]
    own = own_counts if all(own_counts.get(split) for split in SPLITS) else {}
    shares = {**dict.fromkeys(strata, own or OWN_SHARES), NEGATIVE: cctv.PAPER_SPLIT}
    return by_groups(groups, strata, files, shares, seed)
