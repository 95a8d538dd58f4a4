"""Does the load hold when accidents become rarer or more frequent than on the validation frames?"""

from typing import Any

import numpy as np

from dat_runtime.cascade import LoadController, Routing
from eval.routing.probabilities import Scored

FRAMES = 3000
"""Frames of each phase; the first third is the controller's to settle and is not counted."""

FACTORS = (1.0, 0.25, 3.0)
"""Phases, as multiples of the usual odds of an accident."""

WINDOW = 250


def drifted_loads(routing: Routing, test: Scored, usual: float, seed: int = 0) -> dict[str, Any]:
    """Loads with fixed thresholds and under the controller, on a stream drawn from test frames.

    Args:
        usual: the share of accidents that the thresholds were fitted for.

    Returns:
        Budget; per phase its share of accidents, and both loads over the phase's last two thirds;
        and both loads in windows of `WINDOW` frames, for a plot.
    """
    if routing.budget is None:
        raise ValueError("expected a routing with a budget")
    rng = np.random.default_rng(seed)
    controller = LoadController(routing)
    kinds = (np.flatnonzero(~test.accident), np.flatnonzero(test.accident))
    odds = usual / (1 - usual)
    phases: list[dict[str, float]] = []
    windows: dict[str, list[float]] = {"fixed": [], "controlled": []}
    for factor in FACTORS:
        share = factor * odds / (1 + factor * odds)
        shows = rng.uniform(size=FRAMES) < share
        drawn = np.where(shows, rng.choice(kinds[1], FRAMES), rng.choice(kinds[0], FRAMES))
        asked = {"fixed": [], "controlled": []}  # type: dict[str, list[bool]]
        for i in drawn:
            signals = {name: float(values[i]) for name, values in test.signals.items()}
            score = float(test.score[i])
            asked["fixed"].append(routing.decide(score, signals) == "ask")
            asked["controlled"].append(controller.decide(score, signals) == "ask")
        late = {k: float(np.mean(v[FRAMES // 3 :])) for k, v in asked.items()}
        phases.append({"accidents": share, **late})
        for k, v in asked.items():
            windows[k] += np.reshape(v, (-1, WINDOW)).mean(axis=1).tolist()
    return {"budget": routing.budget.load, "phases": phases, "window": WINDOW, "windows": windows}
