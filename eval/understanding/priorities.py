"""How well the answers' priority S (Eq. 7) agrees with the priority that the labels call for."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dat_runtime.answer import target
from dat_runtime.priority import semantic_priority
from dat_runtime.schema import judge
from dat_runtime.truth import Frame
from eval.statistics.bootstrap import Bools, Floats

BINS = 5


def priorities(frames: Sequence[Frame], texts: Sequence[str | None]) -> tuple[Floats, Floats]:
    """True and stated S of each frame, (n,) each; NaN where the answer states none in bounds."""
    true, stated = [], []
    for frame, text in zip(frames, texts, strict=True):
        wanted = target(frame.accidents)
        true.append(semantic_priority(wanted.level, wanted.score))
        stated.append(_stated(frame, text))
    return np.array(true), np.array(stated)


def _stated(frame: Frame, text: str | None) -> float:
    if text is None:
        return float("nan")
    answer = judge(text, frame.size.width, frame.size.height).answer
    # The schema leaves the score's bounds to Viol., but S is defined within them only.
    if answer is None or not 0 <= answer["score"] <= 1:
        return float("nan")
    return semantic_priority(int(answer["level"]), float(answer["score"]))


def calibration(true: Floats, stated: Floats) -> dict[str, Any]:
    """Agreement of the two: mean absolute error, and per bin of the stated S the mean true S.

    `bins` holds those with frames: `low`, `high`, `frames`, `said` (the mean of the stated S) and
    `true` (the mean of the true S). Answers without a priority are left out and counted in
    `without`.
    """
    given = ~np.isnan(stated)
    without = int((~given).sum())
    true, stated = true[given], stated[given]
    error = float(np.abs(stated - true).mean()) if len(stated) else None
    # S = 1 belongs to the last bin, which is closed on both sides.
    bin_of = np.minimum((stated * BINS).astype(int), BINS - 1)
    bins = []
    for i in range(BINS):
        members: Bools = bin_of == i
        if members.any():
            bins.append(
                {
                    "low": i / BINS,
                    "high": (i + 1) / BINS,
                    "frames": int(members.sum()),
                    "said": float(stated[members].mean()),
                    "true": float(true[members].mean()),
                }
            )
    return {"frames": len(stated), "without": without, "mae": error, "bins": bins}
