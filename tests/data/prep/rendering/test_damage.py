import numpy as np
import pytest

from data.prep.rendering.bodies import build
from data.prep.rendering.damage import crush
from data.prep.rendering.vehicles import BODY, WHEEL


def test_a_dent_moves_the_body_where_it_was_hit_and_no_wheel() -> None:
    car = build("hatchback", (120, 120, 120))
    dented = crush(car, np.random.default_rng(0), (0.0, 1.9), 0.8)
    assert dented.quads[..., 1].min() == pytest.approx(car.quads[..., 1].min(), abs=0.1)
    front = dented.quads[(dented.groups == BODY) & (dented.quads[..., 1].max(axis=1) > 0.5)]
    assert front[..., 1].max() < car.quads[..., 1].max() - 0.15
    assert np.array_equal(dented.quads[dented.groups == WHEEL], car.quads[car.groups == WHEEL])
