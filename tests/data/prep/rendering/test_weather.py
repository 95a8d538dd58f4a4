from dataclasses import replace

import numpy as np
import pytest

from data.prep.rendering.canvas import Canvas, Light
from data.prep.rendering.weather import Conditions, conditions, finish
from tests.data.prep.rendering.builders import a_camera, an_empty

CLEAR = Conditions(
    sun=np.array([0.0, 0.0, 1.0]),
    shadow=0.5,
    ambient=1.0,
    fog=0.0,
    rain=0.0,
    snow=0.0,
    tint=np.ones(3),
    blur=0.0,
    grain=0.0,
    jpeg_quality=90,
)
"""Nothing that changes a picture without lights."""


def finished(canvas: Canvas, weather: Conditions) -> np.ndarray:
    return finish(canvas, a_camera(), np.random.default_rng(0), weather).astype(int)


def test_a_clear_day_changes_nothing() -> None:
    canvas = an_empty(a_camera())
    assert np.array_equal(finished(canvas, CLEAR), canvas.image)


def test_a_lamp_lights_the_night_around_it() -> None:
    canvas = an_empty(a_camera())
    night = replace(CLEAR, ambient=0.4)
    assert finished(canvas, night)[160, 160] == pytest.approx([43, 40, 40], abs=1)
    canvas.lights.append(Light(160.0, 160.0, 20.0, (200.0, 200.0, 200.0)))
    lit = finished(canvas, night)
    assert (lit[160, 160] > 80).all()
    assert lit[10, 10] == pytest.approx([43, 40, 40], abs=1)


def test_a_pool_of_light_shows_what_lies_in_it_and_only_a_lamp_shines_into_the_lens() -> None:
    night = replace(CLEAR, ambient=0.4)
    for is_pool, weather, expected in (
        (True, night, 0),
        (True, CLEAR, 0),
        (False, night, 70),
        (False, CLEAR, 28),
    ):
        canvas = an_empty(a_camera())
        canvas.image[:] = 0
        canvas.lights.append(Light(160.0, 160.0, 40.0, (200.0, 200.0, 200.0), is_pool))
        assert finished(canvas, weather)[160, 160] == pytest.approx([expected] * 3, abs=10)


def test_fog_is_thicker_the_farther_the_ground() -> None:
    foggy = finished(an_empty(a_camera()), replace(CLEAR, fog=0.02))
    rows = foggy[:, 160, 0]
    assert (np.diff(rows) <= 1).all()  # sums are rounded
    assert rows[0] > rows[-1] + 20


def test_rain_and_snow_brighten_some_pixels() -> None:
    for weather in (replace(CLEAR, rain=1.0), replace(CLEAR, snow=1.0)):
        brighter = finished(an_empty(a_camera()), weather)[..., 0] > 105
        assert 0.005 < brighter.mean() < 0.5


def test_drawn_conditions_agree_with_one_another() -> None:
    drawn = [conditions(np.random.default_rng(seed)) for seed in range(300)]
    assert 0.05 < np.mean([weather.night for weather in drawn]) < 0.25
    assert 0.2 < np.mean([weather.sunny for weather in drawn]) < 0.5
    for weather in drawn:
        assert np.linalg.norm(weather.sun) == pytest.approx(1)
        assert not (weather.night and weather.sunny)
        assert not (weather.rain and weather.snow)
