"""Light, weather, smoke, and what the sensor makes of it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.prep.rendering.camera import Camera, Canvas, Floats, noise

GLOW = 4
"""Light and smoke are computed at a quarter of the frame's sides."""


@dataclass(frozen=True)
class Conditions:
    """Light and weather at one place, and the sensor's quality.

    Attributes:
        sun: unit vector towards the light. shadow: share of light that a shadow takes.
        ambient: share of daylight, below 1 at night. fog: 1/m. rain, snow: strength in [0, 1].
        tint: gain per BGR channel. blur: sigma, grain: sigma, both for a 640-pixel frame.
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
        return self.ambient < 0.7


def conditions(rng: np.random.Generator) -> Conditions:
    kind = rng.choice(
        ["clear", "cloudy", "rain", "fog", "snow", "night"], p=[0.34, 0.24, 0.12, 0.08, 0.08, 0.14]
    )
    angle, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.2)
    sun = np.array([np.cos(angle) * np.cos(height), np.sin(angle) * np.cos(height), np.sin(height)])
    night = kind == "night"
    return Conditions(
        sun=np.array([0.0, 0.0, 1.0]) if kind in ("fog", "snow") else sun,
        shadow=rng.uniform(0.4, 0.6) if kind == "clear" else rng.uniform(0.1, 0.3),
        ambient=rng.uniform(0.4, 0.6) if night else rng.uniform(0.8, 1.1),
        fog=rng.uniform(0.008, 0.02) if kind == "fog" else rng.uniform(0, 0.003),
        rain=rng.uniform(0.4, 1.0) if kind == "rain" or (night and rng.random() < 0.3) else 0.0,
        snow=rng.uniform(0.4, 1.0) if kind == "snow" else 0.0,
        tint=rng.uniform(0.95, 1.05, 3) * (1 if rng.random() < 0.9 else [1.0, 0.94, 0.9]),
        blur=rng.uniform(0.3, 1.3),
        grain=rng.uniform(1.5, 5) + 4 * night,
        jpeg_quality=int(rng.integers(50, 93)),
    )


def smoke(
    canvas: Canvas,
    rng: np.random.Generator,
    foot: Floats,
    height: float,
    grey: float,
    density: float,
) -> None:
    """Blend a plume that rises `height` pixels from `foot` (x, y), drifting to one side."""
    side = canvas.image.shape[0] // GLOW
    top = max(0, int((foot[1] - 1.5 * height) / GLOW)) * GLOW
    if top >= canvas.image.shape[0]:
        return
    layer = np.zeros((side, side), np.uint8)
    drift = rng.uniform(-0.6, 0.6)
    for t in np.sort(rng.uniform(0, 1, 26)):
        spread = height * (0.07 + 0.2 * t)
        x = foot[0] + drift * height * t + rng.normal(0, spread * 0.4)
        y = foot[1] - height * t + rng.normal(0, spread * 0.25)
        value = int(255 * density * (1 - 0.6 * t) * rng.uniform(0.75, 1))
        centre = (int(x / GLOW), int(y / GLOW))
        cv2.circle(layer, centre, max(1, int(spread * rng.uniform(0.7, 1.2) / GLOW)), value, -1)
    layer = cv2.GaussianBlur(layer, (0, 0), max(1.0, height * 0.035 / GLOW))
    shade = grey + 18 * noise(rng, side, 8)
    alpha = cv2.resize(layer, None, fx=GLOW, fy=GLOW)[top:]
    colour = cv2.resize(np.clip(shade, 0, 255).astype(np.uint8), None, fx=GLOW, fy=GLOW)[top:]
    part = canvas.image[top:]
    part[:] = _blend(part, cv2.merge([colour] * 3), alpha)


def fire(canvas: Canvas, rng: np.random.Generator, foot: Floats, height: float) -> None:
    """Flames of about `height` pixels above `foot`."""
    for t in np.sort(rng.uniform(0, 1, 22)):
        x = foot[0] + rng.normal(0, height * 0.3 * (1.1 - t))
        y = foot[1] - height * t
        half = height * 0.16 * (1.15 - t)
        tip = [x + rng.normal(0, half), y - half * 2.6]
        colour = (20 + 110 * (1 - t), 120 + 110 * (1 - t) * rng.random(), 255.0)
        canvas.fill(np.array([[x - half, y], tip, [x + half, y], [x, y + half]]), colour)
    canvas.lamps.append(
        (float(foot[0]), float(foot[1] - height / 2), height * 1.2, (40.0, 140.0, 255.0))
    )


def finish(
    canvas: Canvas, camera: Camera, rng: np.random.Generator, weather: Conditions
) -> NDArray[np.uint8]:
    """The frame as the sensor gives it: light, fog, rain or snow, tint, blur, noise."""
    image = _lit(canvas, weather)
    if weather.fog > 0.004:
        image = _fogged(image, camera, weather)
    if weather.rain or weather.snow:
        image = _falling(image, rng, weather)
    gain = weather.tint * (1 if weather.night else weather.ambient)
    sigma = weather.blur * canvas.scale
    if sigma > 0.25:
        image = cv2.GaussianBlur(image, (5, 5), sigma)
    channels = cv2.merge([noise(rng, camera.size) * weather.grain] * 3)
    return cv2.add(cv2.multiply(image, np.array([*gain, 1.0])), channels, dtype=cv2.CV_8U)


def _blend(
    below: NDArray[np.uint8], above: NDArray[np.uint8], alpha: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    share = cv2.merge([alpha] * 3)
    kept = cv2.multiply(below, cv2.bitwise_not(share), scale=1 / 255)
    return np.asarray(cv2.add(kept, cv2.multiply(above, share, scale=1 / 255)), np.uint8)


def _lit(canvas: Canvas, weather: Conditions) -> NDArray[np.uint8]:
    """At night: ambient light and pools of lamp light. By day: lamps hardly glow."""
    side = canvas.image.shape[0] // GLOW
    glow = np.zeros((side, side, 3), np.uint8)
    for x, y, radius, colour in canvas.lamps:
        layer = tuple(c * (0.7 if weather.night else 0.35) for c in colour)
        cv2.circle(glow, (int(x / GLOW), int(y / GLOW)), max(1, int(radius / GLOW)), layer, -1)
    glow = cv2.GaussianBlur(glow, (0, 0), max(1.0, side / 45))
    halo = cv2.resize(glow, canvas.image.shape[1::-1])
    if not weather.night:
        return np.asarray(cv2.addWeighted(canvas.image, 1, halo, 0.45, 0), np.uint8)
    pools = cv2.GaussianBlur(glow, (0, 0), side / 18)
    light = cv2.resize(cv2.add(pools, glow), canvas.image.shape[1::-1])
    dark = np.array([255 * weather.ambient * 1.08, *[255 * weather.ambient] * 2, 0])
    lit = cv2.multiply(canvas.image, cv2.add(light, dark), scale=1 / 255)
    return np.asarray(cv2.addWeighted(lit, 1, halo, 0.55, 0), np.uint8)


def _fogged(image: NDArray[np.uint8], camera: Camera, weather: Conditions) -> NDArray[np.uint8]:
    rows = np.arange(camera.size) + 0.5
    angle = camera.pitch + np.arctan((rows - camera.size / 2) / camera.focal)
    distance = np.minimum(camera.height / np.sin(np.maximum(angle, 0.03)), 250)
    clear = np.exp(-weather.fog * distance)
    share = np.repeat((255 * (1 - clear)).astype(np.uint8)[:, None], camera.size, axis=1)
    grey = 190 * (0.6 if weather.night else 1)
    return _blend(image, np.full_like(image, grey), share)


def _falling(
    image: NDArray[np.uint8], rng: np.random.Generator, weather: Conditions
) -> NDArray[np.uint8]:
    side = image.shape[0]
    layer = np.zeros((side, side), np.uint8)
    strength = max(weather.rain, weather.snow)
    starts = rng.uniform(0, side, (int(260 * strength), 2))
    unit = side / 640
    slant = rng.uniform(-0.3, 0.3)
    for x, y in starts:
        if weather.rain:
            length = rng.uniform(8, 22) * unit
            end = (int(x + slant * length), int(y + length))
            cv2.line(layer, (int(x), int(y)), end, 90, 1)
        else:
            cv2.circle(
                layer, (int(x), int(y)), max(1, round(rng.uniform(0.6, 2.6) * unit)), 200, -1
            )
    layer = cv2.GaussianBlur(layer, (3, 3), 0)
    return _blend(image, np.full_like(image, 215), layer)
