"""Loads under drift, on a stream of frames that each say by themselves what they show."""

from dataclasses import replace

import numpy as np
import pytest

from dat_runtime.cascade import Band, Budget, Costs, Logistic, Routing, Signal
from eval.routing.drift import drifted_loads
from eval.routing.probabilities import Scored

FOUR = Scored(
    score=np.array([0.9, 0.3, 0.6, 0.05]),
    accident=np.array([True, True, False, False]),
    severe=np.zeros(4, bool),
    signals={"sound": np.array([0.5, 0.9, 0.1, 0.5])},  # with it p is 0.9, 0.79, 0.14, 0.05
)
ROUTING = Routing(
    0.25,
    Band(0.5, None),
    Logistic(1.0, 0.0, {"sound": Signal(1.0)}),
    Budget(0.3, 0.2, Costs()),
)


def test_fixed_thresholds_follow_the_accidents_and_the_controller_the_budget() -> None:
    found = drifted_loads(ROUTING, FOUR, usual=0.2)
    assert (found["budget"], found["window"]) == (0.3, 250)
    assert [phase["accidents"] for phase in found["phases"]] == pytest.approx([0.2, 1 / 17, 3 / 7])
    # Accidents among the last 2,000 of 3,000 frames that are drawn.
    assert [phase["fixed"] for phase in found["phases"]] == [0.217, 0.055, 0.405]
    for name, windows in found["windows"].items():
        assert len(windows) == 3 * 12
        settled = np.reshape(windows, (3, 12))[:, 4:].mean(axis=1)
        assert settled == pytest.approx([phase[name] for phase in found["phases"]])
    for phase in found["phases"]:
        assert phase["controlled"] == pytest.approx(0.3, abs=0.01)


def test_without_a_budget_there_is_no_load_to_hold() -> None:
    with pytest.raises(ValueError, match=r"^expected a routing with a budget$"):
        drifted_loads(replace(ROUTING, budget=None), FOUR, 0.2)
