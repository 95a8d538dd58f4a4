"""What the labels of two frames contradict each other in, and one truth made of many."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from dat_runtime.types import SEVERITIES, Accident, Box, Severity
from data.prep.importers.labels import UNIT
from data.prep.pictures.unchanged import Turn
from data.prep.prepared.kept import Kept

SAME_BOX = 0.9
"""The least IoU of two boxes that say the same."""
KINDS = ("two-folders", "boxes-and-none", "other-boxes")
"""From the gravest to the mildest."""
_ONE_ACCIDENT = 0.5
"""The IoU from which merging takes two boxes for two drawings of one accident."""


class Claim(NamedTuple):
    """What makes a pair contradictory: the kind, and each side's words."""

    kind: str
    first: str
    second: str


def contradiction(frame: Kept, other: Kept, turn: Turn) -> Claim | None:
    """What the labels of two frames contradict each other in, if they are the same picture."""
    if not frame.accidents and not other.accidents:
        # The witness is behind the kept frames, so it is the second.
        return Claim(
            "two-folders", "accident-free here, an accident in", "an accident here, not in"
        )
    theirs = [turned(accident, turn) for accident in other.accidents]
    here, there = _boxes(frame.accidents), _boxes(theirs)
    if not frame.accidents or not theirs:
        return Claim("boxes-and-none", f"{here} here, {there} in", f"{there} here, {here} in")
    if len(frame.accidents) != len(theirs):
        return Claim("other-boxes", f"{here} here, {there} in", f"{there} here, {here} in")
    worst, same_severities = agreement(frame.accidents, theirs)
    if worst < SAME_BOX:
        words = f"boxes agree only to IoU {worst:.2f} with those of"
        return Claim("other-boxes", words, words)
    if not same_severities:
        words = "the severity is another one in"
        return Claim("other-boxes", words, words)
    return None


def _boxes(accidents: Sequence[Accident]) -> str:
    if not accidents:
        return "no box"
    return "1 box" if len(accidents) == 1 else f"{len(accidents)} boxes"


def turned(accident: Accident, turn: Turn) -> Accident:
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
    edges = np.mean([accident.box[:4] for accident in cluster], axis=0)
    x1, y1, x2, y2 = edges.tolist()
    return Box(x1, y1, x2, y2, UNIT)


def _worst(cluster: Sequence[Accident]) -> Severity:
    return max((accident.severity for accident in cluster), key=SEVERITIES.index)
