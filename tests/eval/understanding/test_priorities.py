"""The answers' priority beside the one that the labels call for."""

import json

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
