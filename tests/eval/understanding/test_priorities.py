"""The answers' priority beside the one that the labels call for."""

import json

import numpy as np
import pytest

from dat_runtime.answer import dump, target
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Size
from eval.understanding.priorities import calibration, priorities

SIZE = Size(100, 80)
ACCIDENT = Accident(Box(11, 10, 51, 40, SIZE), "severe")
RIGHT = dump(target([ACCIDENT]))


def test_calibration_compares_answered_with_true_priority() -> None:
    frames = [Frame("a", "", SIZE, (ACCIDENT,))] * 3
    bold = json.loads(RIGHT) | {"score": 1.0}
    true, said = priorities(frames, [RIGHT, json.dumps(bold), "no JSON"])
    found = calibration(true, said)
    assert (found["frames"], found["without"]) == (2, 1)
    assert found["mae"] == pytest.approx((said[1] - true[1]) / 2, abs=0.01)
    assert [b["frames"] for b in found["bins"]] == [2]


def test_a_priority_that_the_schema_cannot_bound_is_none() -> None:
    frames = [Frame("a", "", SIZE, (ACCIDENT,))] * 4
    texts = [json.dumps(json.loads(RIGHT) | {"score": score}) for score in (1.01, -0.01, 1, 0)]
    _, said = priorities(frames, texts)
    assert np.isnan(said).tolist() == [True, True, False, False]
    assert said[2:].tolist() == [1, 0.5]
    assert np.isnan(priorities(frames[:1], [None])[1]).all()


def test_bins_hold_their_lower_bound_and_the_last_both() -> None:
    true = np.array([0.1, 0.3, 0.5, 0.5, 0.9])
    said = np.array([0.2, 0.39, 0.8, 1.0, np.nan])
    found = calibration(true, said)
    assert (found["frames"], found["without"]) == (4, 1)
    assert found["mae"] == pytest.approx((0.1 + 0.09 + 0.3 + 0.5) / 4)
    assert found["bins"] == [
        {"low": 0.2, "high": 0.4, "frames": 2, "said": pytest.approx(0.295), "true": 0.2},
        {"low": 0.8, "high": 1.0, "frames": 2, "said": pytest.approx(0.9), "true": 0.5},
    ]
    nothing = calibration(true[4:], said[4:])
    assert nothing == {"frames": 0, "without": 1, "mae": None, "bins": []}
