import numpy as np
import pytest

from data.prep.rendering.bodies import build
from data.prep.rendering.vehicles import KINDS, WHEEL, on_quad


def test_an_overturned_vehicle_rests_on_the_ground_with_its_wheels_up() -> None:
    car = build("suv", (0, 0, 0)).at((0, 15), 0.4, roll=np.pi)
    quads = car.placed()
    assert quads[..., 2].min() == pytest.approx(0)
    assert quads[car.groups == WHEEL][..., 2].min() > 0.5


def test_a_quads_corners_are_its_points_at_0_and_1() -> None:
    quad = np.array([[0.0, 0, 0], [4, 0, 1], [5, 3, 2], [1, 2, 7]])
    corners = [on_quad(quad, u, v) for u, v in ((0, 0), (1, 0), (1, 1), (0, 1))]
    assert np.array_equal(corners, quad)
    assert on_quad(quad, 0.5, 0.5) == pytest.approx(quad.mean(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_vehicle_is_as_large_as_its_kind_says_and_its_outside_faces_outwards(kind: str) -> None:
    car = build(kind, (10, 20, 30))
    width, length, height = np.ptp(car.quads.reshape(-1, 3), axis=0)
    assert [length, width, height] == pytest.approx(KINDS[kind], abs=0.1)
    assert (car.colours >= 0).all()
    normals = np.cross(car.quads[:, 2] - car.quads[:, 0], car.quads[:, 3] - car.quads[:, 1])
    rightmost = car.quads[..., 0].min(axis=1) >= car.width / 2
    assert rightmost.any()
    assert (normals[rightmost, 0] > 0).all()
