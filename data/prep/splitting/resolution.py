"""What becomes of contradicted frames: left out, merged into one truth, or kept and marked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dat_runtime.truth import SPLITS
from data.prep.prepared.kept import Kept
from data.prep.splitting.agreement import KINDS
from data.prep.splitting.conflicts import RADIUS, Conflict, Conflicts

LEAVE_OUT, MERGE, KEEP = CHOICES = ("leave-out", "merge", "keep")
"""What `--on-conflict` takes; the first is the default."""

LEFT_OUT, MERGED, MARKED = OUTCOMES = ("left out", "merged", "marked")
"""What becomes of a contradicted frame; those that stay are marked in the truth."""


@dataclass(frozen=True)
class Resolution:
    """What became of the contradicted frames.

    Attributes:
        kept: the frames that stay, contradicted ones marked.
        judged: all frames, with their splits, as they were before; indices are theirs.
        outcomes: the outcome of each contradicted frame.
        choice: the option, of `CHOICES`.
    """

    kept: list[Kept]
    judged: Sequence[Kept]
    conflicts: Conflicts
    outcomes: Mapping[int, str]
    choice: str

    def pairs(self, kind: str) -> list[tuple[int, Conflict]]:
        """Each frame contradicted in that way with its twin, a pair once, the nearest first."""
        pairs: dict[tuple[int, int], tuple[int, Conflict]] = {}
        for index in self.outcomes:
            conflict = self.conflicts.of[index]
            if conflict.kind == kind:
                first, second = sorted((index, conflict.twin))
                pairs.setdefault((first, second), (index, conflict))
        return sorted(pairs.values(), key=lambda pair: (pair[1].gravity, pair[0]))


def resolved(kept: Sequence[Kept], conflicts: Conflicts, choice: str) -> Resolution:
    """Decide about the contradicted frames, and mark those that stay.

    leave-out: those of train go. keep: all stay. merge: frames with boxes get one truth, and a
    negative goes whose picture has boxes elsewhere; where there is no box to merge, as leave-out.

    Args:
        kept: the frames of `find`, in the same order, their splits set.
    """
    truths = conflicts.merged() if choice == MERGE else {}
    staying: list[Kept] = []
    outcomes: dict[int, str] = {}
    for index, frame in enumerate(kept):
        conflict = conflicts.of.get(index)
        if conflict is None:
            staying.append(frame)
            continue
        outcomes[index] = _outcome(frame, choice, index in truths)
        if outcomes[index] == LEFT_OUT:
            continue
        if index in truths:
            source = replace(frame.source, accidents=truths[index])
            frame = replace(frame, source=source)
        staying.append(replace(frame, conflict=conflict.kind))
    return Resolution(staying, kept, conflicts, outcomes, choice)


def _outcome(frame: Kept, choice: str, has_merged_truth: bool) -> str:
    if has_merged_truth:
        return LEFT_OUT if frame.negative else MERGED
    return LEFT_OUT if choice != KEEP and frame.split == "train" else MARKED


def summary(resolution: Resolution) -> dict[str, Any]:
    """For `report.json`: how many frames are contradicted, and what became of them by split."""
    outcomes = resolution.outcomes
    kinds = Counter(resolution.conflicts.of[index].kind for index in outcomes)
    by_split: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for index, outcome in outcomes.items():
        by_split[resolution.judged[index].split][outcome] += 1
    return {
        "on_conflict": resolution.choice,
        "radius_bits": RADIUS,
        "frames": len(outcomes),
        "kinds": {kind: kinds[kind] for kind in KINDS},
        "outcomes": {
            split: {outcome: counts[outcome] for outcome in OUTCOMES}
            for split, counts in by_split.items()
        },
    }
