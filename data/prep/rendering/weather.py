"""Light and weather at a place, and how the sensor records them."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dat_runtime.draw import Image
from data.prep.rendering.camera import REFERENCE_SIDE, Camera, Floats
from data.prep.rendering.canvas import Canvas, Light, all_channels, blend, noise

COARSE = 4
"""Glow and smoke are blurred, so they are computed with a quarter of the frame's side. The side has
to be a multiple of 4."""

WEATHERS = {"clear": 0.34, "cloudy": 0.24, "rain": 0.12, "fog": 0.08, "snow": 0.08, "night": 0.14}
"""Kinds of weather, and how often a place has each."""

NIGHT_BELOW = 0.7
"""Share of daylight: between a night (0.4-0.6) and a day (0.8-1.1)."""

SUNNY_ABOVE = 0.35
"""Share of the light missing in a shadow: between an overcast day (0.1-0.3) and a clear one
(0.4-0.6)."""

FOG_VISIBLE = 0.004
"""1/m: more than in clear air (up to 0.003), less than on a foggy day (from 0.008)."""

FURTHEST = 250.0
"""Metres. Fog is computed up to this distance: rays at the horizon never meet the ground."""


@dataclass(frozen=True)
class Conditions:
    """Light and weather at one place, and the sensor's quality.

    Attributes:
        sun: unit vector from the ground towards the light.
        shadow: share of the light that is missing in a shadow.
        ambient: share of daylight, below `NIGHT_BELOW` at night.
        fog: extinction of light, 1/m.
        rain, snow: strength in [0, 1].
        tint: gain per BGR channel.
        blur: sigma in pixels, for a frame of the reference side.
        grain: sigma of the sensor's noise, in grey levels.
    """

    sun: Floats
    shadow: float
    ambient: float
    fog: float
    rain: float
    snow: float
    tint: Floats
    blur: float
    grain: float
    jpeg_quality: int

    @property
    def night(self) -> bool:
        return self.ambient < NIGHT_BELOW

    @property
    def sunny(self) -> bool:
        """Whether shadows have an edge and a direction; never at night."""
        return self.shadow > SUNNY_ABOVE


def conditions(rng: np.random.Generator) -> Conditions:
    """Light, weather and sensor of one place, drawn at random."""
    kind = rng.choice(list(WEATHERS), p=list(WEATHERS.values()))
    night = kind == "night"

    azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.2)
    level = np.cos(height)
    sun = np.array([np.cos(azimuth) * level, np.sin(azimuth) * level, np.sin(height)])
    if kind in ("fog", "snow"):
        # The light comes from the whole sky: on average from above.
        sun = np.array([0.0, 0.0, 1.0])

    shadow_range, ambient_range, fog_range = (0.1, 0.3), (0.8, 1.1), (0.0, 0.003)
    if kind == "clear":
        shadow_range = (0.4, 0.6)
    elif night:
        ambient_range = (0.4, 0.6)
    elif kind == "fog":
        fog_range = (0.008, 0.02)
    shadow = rng.uniform(*shadow_range)
    ambient = rng.uniform(*ambient_range)
    fog = rng.uniform(*fog_range)

    rain = snow = 0.0
    if kind == "rain" or (night and rng.random() < 0.3):
        rain = rng.uniform(0.4, 1.0)
    if kind == "snow":
        snow = rng.uniform(0.4, 1.0)

    tint = rng.uniform(0.95, 1.05, 3)
    if rng.random() >= 0.9:
        tint = tint * [1.0, 0.94, 0.9]  # one camera in ten shows everything bluish
    blur = rng.uniform(0.3, 1.3)
    grain = rng.uniform(1.5, 5)
    if night:
        grain += 4  # the sensor amplifies weak light and its noise
    jpeg_quality = int(rng.integers(50, 93))
    return Conditions(sun, shadow, ambient, fog, rain, snow, tint, blur, grain, jpeg_quality)


def finish(canvas: Canvas, camera: Camera, rng: np.random.Generator, weather: Conditions) -> Image:
    """The frame as the sensor records it: light, fog, rain or snow, blur, tint, noise."""
    image = _lit(canvas, weather)
    if weather.fog > FOG_VISIBLE:
        image = _fogged(image, camera, weather)
    if weather.rain or weather.snow:
        image = _falling(image, rng, weather)

    sigma = weather.blur * canvas.scale
    if sigma > 0.25:  # narrower blurs change next to nothing
        image = cv2.GaussianBlur(image, (5, 5), sigma)
    gain = weather.tint
    if not weather.night:  # at night `_lit` has darkened the picture already
        gain = gain * weather.ambient
    exposed = cv2.multiply(image, _scalar(gain))
    grain = noise(rng, camera.size) * weather.grain
    return cv2.add(exposed, all_channels(grain), dtype=cv2.CV_8U)


def _lit(canvas: Canvas, weather: Conditions) -> Image:
    """Add the light of lamps: at night ambient light, pools and halos; by day faint halos only."""
    side = canvas.image.shape[0] // COARSE
    width_height = canvas.image.shape[1::-1]
    brightness = 0.7 if weather.night else 0.35
    lamps = _glow([light for light in canvas.lights if not light.is_pool], side, brightness)

    # A halo is light in the lens: it is added to the picture.
    halo = cv2.resize(lamps, width_height)
    if not weather.night:
        return np.asarray(cv2.addWeighted(canvas.image, 1, halo, 0.45, 0), np.uint8)

    # The pools are light on objects: it multiplies their colour, as the ambient light does. The
    # ambient light at night is a little bluer than daylight.
    glow = _glow(canvas.lights, side, brightness)
    pools = cv2.GaussianBlur(glow, (0, 0), side / 18)
    lamp_light = cv2.resize(cv2.add(pools, glow), width_height)
    full = 255 * weather.ambient
    ambient = _scalar([full * 1.08, full, full], last=0)
    lit = cv2.multiply(canvas.image, cv2.add(lamp_light, ambient), scale=1 / 255)
    return np.asarray(cv2.addWeighted(lit, 1, halo, 0.55, 0), np.uint8)


def _glow(lights: Sequence[Light], side: int, brightness: float) -> Image:
    """Each light as a disc on black, blurred."""
    glow = np.zeros((side, side, 3), np.uint8)
    for light in lights:
        centre = (int(light.x / COARSE), int(light.y / COARSE))
        radius = max(1, int(light.radius / COARSE))
        colour = tuple(c * brightness for c in light.colour)
        cv2.circle(glow, centre, radius, colour, -1)
    return np.asarray(cv2.GaussianBlur(glow, (0, 0), max(1.0, side / 45)), np.uint8)


def _scalar(bgr: Floats | list[float], last: float = 1.0) -> Floats:
    """One value per channel in the form of an OpenCV scalar, which has four values."""
    return np.append(bgr, last)


def _fogged(image: Image, camera: Camera, weather: Conditions) -> Image:
    """The picture behind fog, as if everything stood on the ground.

    The rays of a row meet the ground at one distance d. The share e^(-fog d) of the light comes
    through (Koschmieder's law).
    """
    rows = np.arange(camera.size) + 0.5
    below_horizontal = camera.pitch + np.arctan((rows - camera.size / 2) / camera.focal)
    # Rays at and above the horizon never meet it: the 0.03 rad keep the quotient finite.
    distance = np.minimum(camera.height / np.sin(np.maximum(below_horizontal, 0.03)), FURTHEST)
    clear = np.exp(-weather.fog * distance)
    fog_by_row = (255 * (1 - clear)).astype(np.uint8)
    alpha = np.repeat(fog_by_row[:, None], camera.size, axis=1)
    grey = 190.0
    if weather.night:
        grey *= 0.6
    return blend(image, np.full_like(image, grey), alpha)


def _falling(image: Image, rng: np.random.Generator, weather: Conditions) -> Image:
    """Rain as slanting streaks, or snow as flakes, in front of everything."""
    side = image.shape[0]
    unit = side / REFERENCE_SIDE
    layer = np.zeros((side, side), np.uint8)
    strength = max(weather.rain, weather.snow)
    starts = rng.uniform(0, side, (int(260 * strength), 2))
    slant = rng.uniform(-0.3, 0.3)
    for x, y in starts:
        start = (int(x), int(y))
        if weather.rain:
            length = rng.uniform(8, 22) * unit
            end = (int(x + slant * length), int(y + length))
            cv2.line(layer, start, end, 90, 1)
        else:
            radius = max(1, round(rng.uniform(0.6, 2.6) * unit))
            cv2.circle(layer, start, radius, 200, -1)
    layer = cv2.GaussianBlur(layer, (3, 3), 0)
    return blend(image, np.full_like(image, 215), layer)
