import numpy as np

from data.prep.pictures.tones import GAMMA, corrected, of_grey
from tests.data.prep.source_builder import picture


def test_a_frame_is_resampled_to_640_and_brightened_by_the_documented_gamma():
    frame = picture(1, 128, 72)
    found = np.asarray(corrected(frame))
    assert found.shape == (640, 640, 3)
    resized = np.asarray(frame.resize((640, 640), 3)) / 255
    assert np.abs(found - 255 * resized ** (1 / GAMMA)).max() <= 0.51


def test_grey_levels_are_corrected_as_the_picture_is():
    before = picture(1, 640, 640).convert("L")
    after = np.asarray(corrected(before.convert("RGB")).convert("L"))
    found = of_grey(np.asarray(before))
    assert found.dtype == np.uint8
    assert np.array_equal(found, after)
