import cv2
import numpy as np

from data.prep.rendering import frames, places


def test_severities_differ_after_the_frame_is_shrunk() -> None:
    """Same place, same draws: the two kinds of collision leave different thumbnails."""
    place = places.place(np.random.default_rng(4), 320)
    thumbnails = []
    for wanted in ("moderate", "severe"):
        image, accidents = frames.accident(np.random.default_rng(9), place, [wanted])
        assert [a.severity for a in accidents] == [wanted]
        thumbnails.append(cv2.resize(image, (112, 112), interpolation=cv2.INTER_AREA).astype(int))
    difference = np.abs(thumbnails[0] - thumbnails[1]).max(axis=2)
    assert (difference > 40).mean() > 0.02
