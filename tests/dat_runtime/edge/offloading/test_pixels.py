import numpy as np
import pytest

from dat_runtime.edge.offloading.pixels import patches_of

MEAN, STD = np.array([0.5, 0.25, 0.125], np.float32), np.array([0.5, 0.25, 0.1], np.float32)


def test_each_pixel_lies_where_its_group_patch_colour_and_frame_put_it() -> None:
    """Pixel by pixel: groups of 2 x 2 patches row by row, red first, each frame twice."""
    picture = np.random.default_rng(1).integers(0, 256, (56, 84, 3), np.uint8)
    found = patches_of(picture, MEAN, STD)
    assert (found.shape, found.dtype) == ((4 * 6, 3 * 2 * 14 * 14), np.float32)
    assert found.flags.c_contiguous
    expected = np.empty_like(found)
    for row in range(4):
        for column in range(6):
            group = (row // 2) * 3 + column // 2
            number = 4 * group + 2 * (row % 2) + column % 2
            part = picture[14 * row : 14 * row + 14, 14 * column : 14 * column + 14, ::-1]
            colours = (part.astype(np.float64) / 255 - MEAN) / STD
            both = np.stack([colours.transpose(2, 0, 1)] * 2, axis=1)
            expected[number] = both.reshape(-1)
    assert np.abs(found - expected).max() < 1e-5


def test_black_and_white_are_the_ends_of_the_scale() -> None:
    for value, ends in ((0, [-1, -1, -1.25]), (255, [1, 3, 8.75])):
        found = patches_of(np.full((28, 28, 3), value, np.uint8), MEAN, STD)
        assert np.allclose(found.reshape(4, 3, -1)[:, :, 0], ends)


@pytest.mark.parametrize(("height", "width"), [(28, 42), (42, 28), (29, 28), (28, 55)])
def test_sides_that_are_no_multiples_of_a_group_are_named(height: int, width: int) -> None:
    words = f"^a picture of {width} x {height} pixels, expected multiples of 28$"
    with pytest.raises(ValueError, match=words):
        patches_of(np.zeros((height, width, 3), np.uint8), MEAN, STD)
