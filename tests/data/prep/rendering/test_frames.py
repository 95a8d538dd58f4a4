import cv2
import numpy as np

from data.prep.rendering import frames, places


def test_severities_differ_after_the_frame_is_shrunk() -> None:
    """Same place, same draws: the two kinds of collision leave different thumbnails."""
    place = places.place(np.random.default_rng(4), 320)
    thumbnails = []
    for wanted in ("moderate", "severe"):
        scene = frames.accident(np.random.default_rng(9), place, [wanted])
        assert [wreck.severity for wreck in scene.wrecks] == [wanted]
        shrunk = cv2.resize(scene.image, (112, 112), interpolation=cv2.INTER_AREA)
        thumbnails.append(shrunk.astype(int))
    difference = np.abs(thumbnails[0] - thumbnails[1]).max(axis=2)
    assert (difference > 40).mean() > 0.02


def test_a_scene_says_what_is_to_be_seen() -> None:
    """A moderate collision overturns nothing."""
    place = places.place(np.random.default_rng(4), 320)
    for i in range(12):
        scene = frames.accident(np.random.default_rng(i), place, ["moderate", "severe"])
        for wreck in scene.wrecks:
            mild = wreck.severity == "moderate"
            assert not (mild and wreck.overturned)
            assert wreck.overturned or wreck.vehicles == 2
        for car in scene.vehicles:
            assert 0 <= car.x1 < car.x2 <= 320
            assert all(car.iou(wreck.box) < 0.9 for wreck in scene.wrecks)


def test_vehicles_that_go_their_way_are_listed() -> None:
    place = places.place(np.random.default_rng(4), 320)
    scenes = [frames.ordinary(np.random.default_rng(i), place) for i in range(8)]
    assert not any(scene.wrecks for scene in scenes)
    assert sum(len(scene.vehicles) for scene in scenes) > 8
