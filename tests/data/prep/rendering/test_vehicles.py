import numpy as np
import pytest

from data.prep.rendering.bodies import build
from data.prep.rendering.vehicles import WHEEL


def test_an_overturned_vehicle_rests_on_the_ground_with_its_wheels_up() -> None:
    car = build("suv", (0, 0, 0)).at((0, 15), 0.4, roll=np.pi)
    quads = car.placed()
    assert quads[..., 2].min() == pytest.approx(0)
    assert quads[car.groups == WHEEL][..., 2].min() > 0.5
