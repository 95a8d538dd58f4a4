import numpy as np
import pytest

from data.prep.rendering.canvas import Canvas, blend, noise


def a_grey_picture(value: int, side: int = 16) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


def test_a_blend_shows_the_upper_picture_as_far_as_alpha_says() -> None:
    alpha = np.zeros((16, 16), np.uint8)
    alpha[:, 8:] = 255
    shown = blend(a_grey_picture(50), a_grey_picture(200), alpha)
    assert (shown[:, :8] == 50).all()
    assert (shown[:, 8:] == 200).all()


def test_shade_darkens_below_the_mask_and_nowhere_else() -> None:
    canvas = Canvas.on(a_grey_picture(100))
    mask = np.zeros((16, 16), np.uint8)
    mask[4:8, 4:8] = 255
    canvas.shade(mask, 0.4)
    assert canvas.image[5, 5] == pytest.approx(60, abs=1)
    canvas.image[4:8, 4:8] = 100
    assert (canvas.image == 100).all()


def test_what_is_painted_over_a_collision_takes_its_pixels() -> None:
    canvas = Canvas.on(a_grey_picture(100))
    canvas.own(np.array([[2, 2], [14, 2], [14, 14], [2, 14]]), 3)
    assert canvas.owner[8, 8] == 3
    canvas.fill(np.array([[0, 0], [16, 0], [16, 16], [0, 16]]), (0, 0, 0))
    assert not canvas.owner.any()


@pytest.mark.parametrize("smooth", [1, 8, 32])
def test_noise_has_mean_0_and_the_wanted_size(smooth: int) -> None:
    cut = noise(np.random.default_rng(0), 810, smooth)
    assert cut.shape == (810, 810)
    assert abs(cut.mean()) < 0.15
    assert 0.5 < cut.std() < 1.1
