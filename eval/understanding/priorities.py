"""How well the answers' priority S (Eq. 7) agrees with the priority that the labels call for."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dat_runtime.answer import target
from dat_runtime.priority import semantic_priority
from dat_runtime.schema import judge
from eval.understanding.metrics import Array, Frame

BINS = 5


def priorities(frames: Sequence[Frame], texts: Sequence[str | None]) -> tuple[Array, Array]:
    """True and answered S of each frame, (n,) each; NaN where the answer gives none in bounds."""
    true, said = [], []
    for frame, text in zip(frames, texts, strict=True):
        wanted = target(frame.accidents)
        true.append(semantic_priority(wanted.level, wanted.score))
        answer = None if text is None else judge(text, frame.size.width, frame.size.height).answer
        in_bounds = answer is not None and 0 <= answer["score"] <= 1
        said.append(
            semantic_priority(int(answer["level"]), float(answer["score"]))
            if answer is not None and in_bounds
            else float("nan")
        )
    return np.array(true), np.array(said)


def calibration(true: Array, said: Array) -> dict[str, Any]:
    """Agreement of the two: mean absolute error, and per bin of the answered S the mean true S.

    `bins` holds those with frames: `low`, `high`, `frames`, `said` and `true` (means). Answers
    without a priority are left out and counted in `without`.
    """
    given = ~np.isnan(said)
    true, said = true[given], said[given]
    index = np.minimum((said * BINS).astype(int), BINS - 1)
    return {
        "frames": len(said),
        "without": int((~given).sum()),
        "mae": float(np.abs(said - true).mean()) if len(said) else None,
        "bins": [
            {
                "low": i / BINS,
                "high": (i + 1) / BINS,
                "frames": int((index == i).sum()),
                "said": float(said[index == i].mean()),
                "true": float(true[index == i].mean()),
            }
            for i in range(BINS)
            if (index == i).any()
        ],
    }
