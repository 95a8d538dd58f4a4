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
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dat_runtime.types import Accident
from data.prep.importers.faults import Fault
from data.prep.pictures import looks
from data.prep.pictures.pool import Engine
from data.prep.pictures.records import Records
from data.prep.pictures.unchanged import STRAIGHT, Turn, View, turn_between, unchanged
from data.prep.prepared.kept import Kept
from data.prep.splitting.agreement import KINDS, Claim, contradiction, fused, turned
from data.prep.splitting.leaks import Links

RADIUS = 8
"""Bits of 256 in which the looks of one picture may differ."""
FAULT = "conflicting-labels"

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


class Conflicts:
    """The frames with a contradicting twin; a few numbers for each, however many twins it has.

    Args:
        kept: the frames that may become part of the set.
        witnesses: pictures that the source calls accidents without saying where, as the CCTV set's
            folder Accident does. They only testify.
        records: of all pictures; the frames' positions are theirs.
    """

    def __init__(self, kept: Sequence[Kept], witnesses: Sequence[Kept], records: Records):
        self.frames = [*kept, *witnesses]
        self.of: dict[int, Conflict] = {}
        self.twins: Counter[int] = Counter()
        self._links = Links(len(self.frames), None)
        self._looks = [int(frame.picture.look, 16) for frame in self.frames]
        claims = [_BOXED if frame.accidents else _EMPTY for frame in self.frames]
        claims[len(kept) :] = [_WITNESS] * len(witnesses)
        self._claims = np.array(claims)
        self._views = records["view"]

    def add(self, pairs: NDArray[np.int32]) -> None:
        """(k, 3): first, second, and the bits in which their looks differ (`looks.alike`)."""
        joined = []
        for first, second, distance in self._contested(pairs):
            claim = self._judged(first, second)
            if claim is None:
                continue
            exact = self._same_pixels(first, second)
            self._note(first, Conflict(claim.kind, second, distance, exact, claim.first))
            self._note(second, Conflict(claim.kind, first, distance, exact, claim.second))
            joined.append((first, second, 0, distance))
        self._links.add(np.array(joined, np.int64).reshape(-1, 4))

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
        return contradiction(self.frames[first], self.frames[second], STRAIGHT) is None

    def _view(self, index: int) -> View:
        """Of the source's picture: another gamma alone makes a fifth of all copies look changed."""
        return self._views[self.frames[index].position]

    def _same_pixels(self, first: int, second: int) -> bool:
        return self.frames[first].content == self.frames[second].content

    def _judged(self, first: int, second: int) -> Claim | None:
        """What two frames that look alike contradict each other in; None if in nothing."""
        frame, other = self.frames[first], self.frames[second]
        exact = self._same_pixels(first, second)
        turn = STRAIGHT if exact else turn_between(self._view(first), self._view(second))
        claim = contradiction(frame, other, turn)
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
            drawn += [turned(accident, turn) for accident in self.frames[index].accidents]
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
    kept: Sequence[Kept], witnesses: Sequence[Kept], records: Records, engine: Engine
) -> Conflicts:
    """The contradictions among the kept frames, and between them and the witnesses."""
    conflicts = Conflicts(kept, witnesses, records)
    bits = [bytes.fromhex(frame.picture.look) for frame in conflicts.frames]
    for pairs in looks.alike(bits, RADIUS, engine):
        conflicts.add(pairs)
    return conflicts


def nearness(conflict: Conflict) -> str:
    """How near the two pictures of a conflict are, in words."""
    if conflict.exact:
        return "the same pixels"
    return f"{conflict.distance} of 256 bits differ" if conflict.distance else "the same look"
