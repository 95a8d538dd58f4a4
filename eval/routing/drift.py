"""Whether the load holds when accidents become rarer or more frequent than on validation frames."""

from typing import Any

import numpy as np

from dat_runtime.cascade import LoadController, Routing
from eval.routing.probabilities import Scored
from eval.statistics.bootstrap import ROUTING_SEED

FRAMES = 3000
"""Frames of each phase; the first third lets the controller settle and is not counted."""

FACTORS = (1.0, 0.25, 3.0)
"""Phases, as multiples of the usual odds of an accident."""

WINDOW = 250
"""Frames of one point in the plot; `FRAMES` is a multiple of it."""


def drifted_loads(routing: Routing, test: Scored, usual: float) -> dict[str, Any]:
    """Loads with fixed thresholds and under the controller, on a stream drawn from test frames.

    Args:
        usual: the share of accidents that the thresholds were fitted for.

    Returns:
        Budget; per phase its share of accidents, and both loads over the phase's last two thirds;
        and both loads in windows of `WINDOW` frames, for a plot.
    """
    if routing.budget is None:
        raise ValueError("expected a routing with a budget")
    rng = np.random.default_rng(ROUTING_SEED)
    controller = LoadController(routing)
    with_accident = np.flatnonzero(test.accident)
    without = np.flatnonzero(~test.accident)
    usual_odds = usual / (1 - usual)
    phases: list[dict[str, float]] = []
    windows: dict[str, list[float]] = {"fixed": [], "controlled": []}
    for factor in FACTORS:
        odds = factor * usual_odds
        share = odds / (1 + odds)
        shows = rng.uniform(size=FRAMES) < share
        accident_frames = rng.choice(with_accident, FRAMES)
        other_frames = rng.choice(without, FRAMES)
        asked: dict[str, list[bool]] = {"fixed": [], "controlled": []}
        for i in np.where(shows, accident_frames, other_frames):
            signals = {name: float(values[i]) for name, values in test.signals.items()}
            score = float(test.score[i])
            asked["fixed"].append(routing.decide(score, signals) == "ask")
            asked["controlled"].append(controller.decide(score, signals) == "ask")
        phase = {"accidents": share}
        for name, decisions in asked.items():
            phase[name] = float(np.mean(decisions[FRAMES // 3 :]))
            windows[name] += np.reshape(decisions, (-1, WINDOW)).mean(axis=1).tolist()
        phases.append(phase)
    return {"budget": routing.budget.load, "phases": phases, "window": WINDOW, "windows": windows}
