import cv2
import numpy as np

from data.prep.rendering import places
from data.prep.rendering.bodies import build
from data.prep.rendering.collisions import collision, moderate, severe


def test_vehicles_of_a_collision_touch_and_moderate_ones_stand_upright() -> None:
    for seed in range(10):
        crash = moderate(np.random.default_rng(seed), np.array([0.0, 20.0]), 0.3)
        first, second = crash.vehicles
        whole = [build(v.kind, (0, 0, 0)).at(v.position, v.yaw) for v in (first, second)]
        assert 0 < cv2.intersectConvexConvex(*(v.footprint() for v in whole))[0] < 2.5
        assert first.roll == second.roll == 0


def test_a_severe_collision_overturns_a_vehicle_or_wrecks_two() -> None:
    rng = np.random.default_rng(0)
    crashes = [severe(rng, np.array([0.0, 20.0]), 0.0) for _ in range(30)]
    overturned = [any(abs(v.roll) > 1.2 for v in c.vehicles) for c in crashes]
    assert 15 < sum(overturned) < 30
    for crash, over in zip(crashes, overturned, strict=True):
        assert over or len(crash.vehicles) == 2
        assert len(crash.debris.near) > 30


def test_collisions_are_placed_on_a_lane_in_view() -> None:
    place = places.place(np.random.default_rng(6), 160)
    for seed in range(5):
        crash = collision(np.random.default_rng(seed), place, "moderate", (0.1, 0.6))
        x, y = place.camera.project_ground(crash.middle)
        assert -20 < x < 180
        assert 0 < y < 200
