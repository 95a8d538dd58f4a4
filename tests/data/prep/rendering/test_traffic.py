import cv2
import numpy as np

from data.prep.rendering import places
from data.prep.rendering.traffic import traffic


def test_an_ordinary_frame_has_no_collision_and_its_traffic_does_not_touch() -> None:
    place = places.place(np.random.default_rng(2), 160)
    cars = traffic(np.random.default_rng(3), place, [], density=0.1, most=8)
    assert len(cars) >= 2
    for i, car in enumerate(cars):
        for other in cars[:i]:
            shared = cv2.intersectConvexConvex(car.footprint(), other.footprint())[0]
            assert shared == 0
