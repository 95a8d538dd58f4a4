import numpy as np
import pytest

from data.prep.rendering.roads import SHARES, STEP, Road, random_roads


def a_straight_road() -> Road:
    """Two lanes away from the camera, one towards it; each 3 m wide."""
    metres = np.arange(0, 40, STEP)
    centre = np.stack([np.zeros_like(metres), metres], axis=1)
    return Road(centre, ahead=2, back=1, lane_width=3.0)


def test_traffic_keeps_to_the_right() -> None:
    towards, first, second = a_straight_road().lanes()
    assert towards[:, 0] == pytest.approx(-3.0)
    assert first[:, 0] == pytest.approx(0.0)
    assert second[:, 0] == pytest.approx(3.0)
    assert towards[0, 1] > towards[-1, 1]
    assert first[0, 1] < first[-1, 1]


@pytest.mark.parametrize("kind", SHARES)
def test_roads_run_close_to_the_focus_with_a_point_every_half_metre(kind: str) -> None:
    focus = np.array([0.0, 25.0])
    for seed in range(5):
        roads = random_roads(np.random.default_rng(seed), kind, focus)
        assert len(roads) == (2 if kind in ("intersection", "ramp") else 1)
        for road in roads:
            steps = np.linalg.norm(np.diff(road.centre, axis=0), axis=1)
            assert steps == pytest.approx(STEP)
        nearest = np.linalg.norm(roads[0].centre - focus, axis=1).min()
        assert nearest < 4.5
