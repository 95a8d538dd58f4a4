"""One picture, one truth: frames that are the same picture and say different things.

Two frames are the same picture if they have the same pixels, or if their looks differ in at most
`RADIUS` bits and nothing changed inside their boxes (`pictures.unchanged`). The second rule keeps
apart what a still camera sees one moment later: there an accident may move, and its boxes with it.
A copy that was mirrored or turned has its boxes mapped back before they are compared.

    two-folders      the negatives' set has the picture under Accident and under Non Accident
    boxes-and-none   one frame has boxes, the other is accident-free
    other-boxes      another count, another severity, or boxes that agree to less than IoU 0.9

docs/decisions/019-one-picture-one-truth.md gives the reasons.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dat_runtime.truth import SPLITS
from dat_runtime.types import SEVERITIES, Accident, Box
from data.prep.importers.faults import Fault
from data.prep.importers.labels import UNIT
from data.prep.pictures import looks
from data.prep.pictures.pool import Engine, over_all
from data.prep.pictures.unchanged import STRAIGHT, Turn, turn_between, unchanged, view_of
from data.prep.prepared.kept import Kept
from data.prep.splitting.leaks import Links

RADIUS = 8
"""Bits of 256 in which the looks of one picture may differ."""
SAME_BOX = 0.9
"""The least IoU of two boxes that say the same."""
KINDS = ("two-folders", "boxes-and-none", "other-boxes")
"""From the gravest to the mildest."""
FAULT = "conflicting-labels"

LEAVE_OUT, MERGE, KEEP = CHOICES = ("leave-out", "merge", "keep")
"""What `--on-conflict` takes; the first is the default."""

LEFT_OUT, MERGED, MARKED = OUTCOMES = ("left out", "merged", "marked")
"""What becomes of a contradicted frame; those that stay are marked in the truth."""

_ONE_ACCIDENT = 0.5
"""The IoU from which merging takes two boxes for two drawings of one accident."""
_VIEWS = 20_000
"""Views that are held at once: 80 MB."""
_PAIRS = 4096
"""Pairs that are compared at once; their pictures must fit into `_VIEWS`."""
_WITNESS, _EMPTY, _BOXED = range(3)
"""What a frame claims: an accident without boxes, no accident, accidents with boxes."""


@dataclass(frozen=True)
class Conflict:
    """How a frame is contradicted, by the gravest and nearest of its twins.

    Attributes:
        twin: its index among the frames, those of the folder Accident behind the kept ones.
        distance: bits in which the two looks differ.
        exact: the two have the same pixels.
        words: the contradiction, for people.
    """

    kind: str
    twin: int
    distance: int
    exact: bool
    words: str

    @property
    def gravity(self) -> tuple[int, int, int]:
        """Sorts the gravest and nearest first."""
        return KINDS.index(self.kind), self.distance, self.twin


class _Claim(NamedTuple):
    """What makes a pair contradictory: the kind, and each side's words."""

    kind: str
    first: str
    second: str


class Conflicts:
    """The frames with a contradicting twin; a few numbers for each, however many twins it has.

    Args:
        kept: the frames that may become part of the set.
        witnesses: pictures that the source calls accidents without saying where, as the CCTV set's
            folder Accident does. They only testify.
        staging: the folder of the prepared pictures.
    """

    def __init__(self, kept: Sequence[Kept], witnesses: Sequence[Kept], staging: Path):
        self.frames = [*kept, *witnesses]
        self.of: dict[int, Conflict] = {}
        self.twins: Counter[int] = Counter()
        self._links = Links(len(self.frames), None)
        self._looks = [int(frame.picture.look, 16) for frame in self.frames]
        claims = [_BOXED if frame.accidents else _EMPTY for frame in self.frames]
        claims[len(kept) :] = [_WITNESS] * len(witnesses)
        self._claims = np.array(claims)
        self._staging = staging
        self._view = lru_cache(_VIEWS)(self._view_of)

    def add(self, pairs: NDArray[np.int32]) -> None:
        """(k, 3): first, second, and the bits in which their looks differ (`looks.alike`)."""
        for start in range(0, len(pairs), _PAIRS):
            self._add(self._contested(pairs[start : start + _PAIRS]))

    def _contested(self, pairs: NDArray[np.int32]) -> list[tuple[int, int, int]]:
        """The pairs that may contradict each other, before their pictures are compared."""
        one, two = self._claims[pairs[:, 0]], self._claims[pairs[:, 1]]
        contested = (one == _BOXED) & (two == _BOXED)
        contested |= (one == _EMPTY) ^ (two == _EMPTY)
        rows = pairs[contested].tolist()
        return [(first, second, bits) for first, second, bits in rows
                if not self._plainly_agree(first, second)]  # fmt: skip

    def _plainly_agree(self, first: int, second: int) -> bool:
        """Whether two frames say the same and are alike as they stand, not only when turned."""
        if (self._looks[first] ^ self._looks[second]).bit_count() > RADIUS:
            return False
        return _contradiction(self.frames[first], self.frames[second], STRAIGHT) is None

    def _add(self, pairs: Sequence[tuple[int, int, int]]) -> None:
        self._read_views(pairs)
        joined = []
        for first, second, distance in pairs:
            claim = self._judged(first, second)
            if claim is None:
                continue
            exact = self._same_pixels(first, second)
            self._note(first, Conflict(claim.kind, second, distance, exact, claim.first))
            self._note(second, Conflict(claim.kind, first, distance, exact, claim.second))
            joined.append((first, second, 0, distance))
        self._links.add(np.array(joined, np.int64).reshape(-1, 4))

    def _read_views(self, pairs: Sequence[tuple[int, int, int]]) -> None:
        """Decode on all cores what the comparisons of these pairs will ask for."""
        wanted: set[int] = set()
        for first, second, _ in pairs:
            if not self._same_pixels(first, second):
                wanted |= {first, second}
        for _ in over_all(self._view, sorted(wanted), "pictures whose labels differ"):
            pass

    def _view_of(self, index: int) -> NDArray[np.uint8]:
        return view_of(self._staging / f"{self.frames[index].position}.jpg")

    def _same_pixels(self, first: int, second: int) -> bool:
        return self.frames[first].content == self.frames[second].content

    def _judged(self, first: int, second: int) -> _Claim | None:
        """What two frames that look alike contradict each other in; None if in nothing."""
        frame, other = self.frames[first], self.frames[second]
        exact = self._same_pixels(first, second)
        turn = STRAIGHT if exact else turn_between(self._view(first), self._view(second))
        claim = _contradiction(frame, other, turn)
        if claim is None or exact:
            return claim
        boxes = [accident.box for accident in frame.accidents]
        boxes += [turn.of_box(accident.box) for accident in other.accidents]
        same = unchanged(self._view(first), turn.of_view(self._view(second)), boxes)
        return claim if same else None

    def _note(self, index: int, conflict: Conflict) -> None:
        self.twins[index] += 1
        known = self.of.get(index)
        if known is None or conflict.gravity < known.gravity:
            self.of[index] = conflict

    def faults(self, kept: int) -> list[Fault]:
        """One fault for each of the first `kept` frames that is contradicted."""
        faults = []
        for index, conflict in sorted(self.of.items()):
            if index < kept:
                twin = self.frames[conflict.twin]
                detail = f"{conflict.words} {twin.source.file} ({nearness(conflict)})"
                faults.append(Fault(FAULT, self.frames[index].source.file, None, detail))
        return faults

    def merged(self) -> dict[int, tuple[Accident, ...]]:
        """One truth for all frames with boxes that contradict each other, for each in its own turn.

        All boxes of a group count. Those that overlap by IoU 0.5 are one accident: it gets their
        mean box and the worst severity.
        """
        groups: dict[int, list[int]] = {}
        numbers = self._links.groups()
        for index in sorted(self.of):
            if self._claims[index] != _WITNESS and self.of[index].kind != "two-folders":
                groups.setdefault(numbers[index], []).append(index)
        truths: dict[int, tuple[Accident, ...]] = {}
        for members in groups.values():
            truths |= self._one_truth(members)
        return truths

    def _one_truth(self, members: Sequence[int]) -> dict[int, tuple[Accident, ...]]:
        turns = {index: self._turn_to(members[0], index) for index in members}
        drawn = []
        for index, turn in turns.items():
            drawn += [_turned(accident, turn) for accident in self.frames[index].accidents]
        accidents = fused(drawn)
        truths = {}
        for index, turn in turns.items():
            own = [accident._replace(box=turn.back(accident.box)) for accident in accidents]
            truths[index] = tuple(own)
        return truths

    def _turn_to(self, first: int, index: int) -> Turn:
        if self._same_pixels(first, index):
            return STRAIGHT
        return turn_between(self._view(first), self._view(index))


def find(
    kept: Sequence[Kept], witnesses: Sequence[Kept], staging: Path, engine: Engine
) -> Conflicts:
    """The contradictions among the kept frames, and between them and the witnesses."""
    conflicts = Conflicts(kept, witnesses, staging)
    bits = [bytes.fromhex(frame.picture.look) for frame in conflicts.frames]
    for pairs in looks.alike(bits, RADIUS, engine):
        conflicts.add(pairs)
    return conflicts


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


def nearness(conflict: Conflict) -> str:
    """How near the two pictures of a conflict are, in words."""
    if conflict.exact:
        return "the same pixels"
    return f"{conflict.distance} of 256 bits differ" if conflict.distance else "the same look"


def _contradiction(frame: Kept, other: Kept, turn: Turn) -> _Claim | None:
    """What the labels of two frames contradict each other in, if they are the same picture."""
    if not frame.accidents and not other.accidents:
        # The witness is behind the kept frames, so it is the second.
        return _Claim(
            "two-folders", "accident-free here, an accident in", "an accident here, not in"
        )
    theirs = [_turned(accident, turn) for accident in other.accidents]
    here, there = _boxes(frame.accidents), _boxes(theirs)
    if not frame.accidents or not theirs:
        return _Claim("boxes-and-none", f"{here} here, {there} in", f"{there} here, {here} in")
    if len(frame.accidents) != len(theirs):
        return _Claim("other-boxes", f"{here} here, {there} in", f"{there} here, {here} in")
    worst, same_severities = agreement(frame.accidents, theirs)
    if worst < SAME_BOX:
        words = f"boxes agree only to IoU {worst:.2f} with those of"
        return _Claim("other-boxes", words, words)
    if not same_severities:
        words = "the severity is another one in"
        return _Claim("other-boxes", words, words)
    return None


def _boxes(accidents: Sequence[Accident]) -> str:
    if not accidents:
        return "no box"
    return "1 box" if len(accidents) == 1 else f"{len(accidents)} boxes"


def _turned(accident: Accident, turn: Turn) -> Accident:
    return accident._replace(box=turn.of_box(accident.box))


def agreement(ours: Sequence[Accident], theirs: Sequence[Accident]) -> tuple[float, bool]:
    """The least IoU of equally many boxes matched one to one, and whether all severities agree.

    Pairs of boxes are taken from the best overlap down; of equal ones the pair of one severity.
    """
    overlaps = []
    for i, j in product(range(len(ours)), range(len(theirs))):
        same = ours[i].severity == theirs[j].severity
        overlaps.append((ours[i].box.iou(theirs[j].box), same, i, j))
    left, right = set(range(len(ours))), set(range(len(theirs)))
    worst, same_severities = 1.0, True
    for overlap, same, i, j in sorted(overlaps, key=_best_first):
        if i in left and j in right:
            left.remove(i)
            right.remove(j)
            worst = min(worst, overlap)
            same_severities &= same
    return worst, same_severities


def _best_first(row: tuple[float, bool, int, int]) -> tuple[float, bool, int, int]:
    overlap, same, i, j = row
    return -overlap, not same, i, j


def fused(accidents: Sequence[Accident]) -> tuple[Accident, ...]:
    """Each accident once: the mean of the boxes that overlap by IoU 0.5, and the worst severity."""
    clusters: list[list[Accident]] = []
    for accident in accidents:
        for cluster in clusters:
            if _mean_box(cluster).iou(accident.box) >= _ONE_ACCIDENT:
                cluster.append(accident)
                break
        else:
            clusters.append([accident])
    return tuple(Accident(_mean_box(cluster), _worst(cluster)) for cluster in clusters)


def _mean_box(cluster: Sequence[Accident]) -> Box:
    edges = np.mean([accident.box[:4] for accident in cluster], axis=0).tolist()
    return Box(*edges, UNIT)


def _worst(cluster: Sequence[Accident]) -> Any:
    return max((accident.severity for accident in cluster), key=SEVERITIES.index)
