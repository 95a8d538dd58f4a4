"""Semantic priority (Eq. 4 and 7)."""

import math
from collections.abc import Sequence

from dat_runtime.types import Accident

GAMMA = 0.5
"""γ of Eq. 4: scores of level 1 lie in [γ, 1], of level 0 in [0, γ)."""

BETA = 0.5
"""β of Eq. 7: the weight of the level against the score."""


def semantic_priority(level: int, score: float, beta: float = BETA, levels: int = 2) -> float:
    """S = β·l + (1 − β)·r (Eq. 7), in [0, 1]; the level is scaled to [0, 1] when levels > 2.

    Raises:
        ValueError: level not in 0..levels-1, score not in [0, 1], beta not in (0, 1), levels < 2.
    """
    if levels < 2:
        raise ValueError(f"levels must be at least 2, got {levels}")
    if not 0 <= level < levels:
        raise ValueError(f"level must be in 0..{levels - 1}, got {level}")
    if not (math.isfinite(score) and 0.0 <= score <= 1.0):
        raise ValueError(f"score must be in [0, 1], got {score}")
    if not 0.0 < beta < 1.0:
        raise ValueError(f"beta must be in (0, 1), got {beta}")
    return beta * level / (levels - 1) + (1 - beta) * score


def level_of(severity: str) -> int:
    """l of Eq. 4: 1 for a severe frame, else 0."""
    return 1 if severity == "severe" else 0


def target_score(accidents: Sequence[Accident]) -> float:
    """r = φ(l, z) of Eq. 4 as training target, a function of the labels, two decimals.

    z is the extent of the scene: the square root of the share of the frame that the accident boxes
    cover, half as much again for each further accident, at most 1. Level 0 maps it to [0.05, 0.45],
    level 1 to [0.55, 0.95]: inside Eq. 4's ranges with a margin. A frame without accidents has
    score 0.
    """
    if not accidents:
        return 0.0
    share = sum(accident.box.area / accident.box.frame.pixels for accident in accidents)
    side = math.sqrt(min(1.0, share))  # with the share itself small boxes would hardly differ
    extent = min(1.0, side * (1 + 0.5 * (len(accidents) - 1)))
    is_severe = any(accident.severity == "severe" for accident in accidents)
    base = 0.55 if is_severe else 0.05
    return round(base + 0.4 * extent, 2)
