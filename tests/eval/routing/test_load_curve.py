"""The curve of quality against load in a world whose probabilities are known."""

import numpy as np
import pytest

from eval.routing import fitting, thresholds
from eval.routing.fitting import Wanted
from eval.routing.load_curve import LOADS, curves, error_of
from eval.routing.probabilities import fit
from tests.eval.routing.world import MLLM_ERROR, world


@pytest.mark.slow
def test_uncertainty_routing_beats_random_and_top_score_and_costs_little_quality() -> None:
    validation, test = world(1500, spread=4), world(1500, seed=1, spread=4)
    measured = curves(validation, test, "platt", error_of, resamples=60)
    third = int(np.argmin(abs(LOADS - 0.3)))
    for other in ("random", "top_score"):
        gain = measured.drawn["band"][:, third] - measured.drawn[other][:, third]
        assert np.percentile(gain, 2.5) > 0
    lost = measured.drawn["band"][:, -1] - measured.drawn["band"][:, third]
    assert np.percentile(lost, 97.5) <= 0.01


def test_the_ends_of_the_curve_are_the_gate_alone_and_the_mllm_alone() -> None:
    validation, test = world(800), world(800, seed=1)
    measured = curves(validation, test, "platt", error_of, resamples=2)
    calibration = fit("platt", validation)
    costs = thresholds.balanced_costs(float(validation.accident.mean()), 0)
    alone = calibration(test.score, {}) >= costs.indifferent
    for name in ("band", "entropy", "top_score", "random"):
        assert measured.quality[name][0] == balanced(alone, test.accident)
        assert measured.quality[name][-1] == balanced(test.mllm_reports, test.accident)
        assert (measured.load[name][0], measured.load[name][-1]) == (0, 1)
    routing = fitting.fitted(0.0, validation, "platt", Wanted("band", 0.3), MLLM_ERROR)
    gate_alone, mllm_alone = fitting.rates(routing, test, None)[5:]
    assert (gate_alone, mllm_alone) == (measured.quality["band"][0], measured.quality["band"][-1])
    assert measured.quality["trigger"][0] == 0.5


def balanced(said: np.ndarray, accident: np.ndarray) -> float:
    return float(((said[accident].mean()) + (~said[~accident]).mean()) / 2)
