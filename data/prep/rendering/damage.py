"""Dents: what a collision does to a vehicle's body."""

from dataclasses import replace

import numpy as np

from data.prep.rendering.camera import Floats
from data.prep.rendering.vehicles import DISC, WHEEL, Vehicle, on_quad

CUTS = 3
"""Each quad of a dented body becomes 3 x 3 quads: a single one can bend only at its corners."""

HIT_HEIGHT = 0.8
"""Metres above the ground at which a vehicle is hit: between bumper and bonnet."""

BONNET = 0.9
"""Metres above the ground; what lies higher also sinks."""


def crush(
    vehicle: Vehicle, rng: np.random.Generator, hit: tuple[float, float], depth: float
) -> Vehicle:
    """The vehicle dented around `hit` (x, y in its own axes) by about `depth` metres.

    Wheels keep their shape.
    """
    rigid = np.isin(vehicle.groups, (WHEEL, DISC))
    soft = ~rigid
    quads = _subdivided(vehicle.quads[soft], CUTS)

    # How much each corner moves: a bell curve around the hit, wider for a deeper dent.
    radius = 0.9 + 1.3 * depth
    from_hit = (quads - np.append(hit, HIT_HEIGHT)) / [radius, radius, 1.6]
    share = np.exp(-(from_hit**2).sum(axis=-1))[..., None]

    # Sheet metal goes inwards, in waves. The 0.3 m avoid a division by zero in the middle.
    hit_distance = max(0.3, float(np.hypot(hit[0], hit[1])))
    inwards = -np.array([hit[0], hit[1], 0.0]) / hit_distance
    waves = np.sin(quads @ rng.uniform(-4, 4, (3, 3)) + rng.uniform(0, 6, 3))
    dent = inwards * depth + waves * depth * 0.3 * [1, 1, 0.7]
    dented = quads + share * dent
    above_bonnet = quads[..., 2] > BONNET
    dented[..., 2] -= depth * 0.3 * share[..., 0] * above_bonnet

    # Grime: dented quads get darker, each to a different degree.
    uneven = rng.uniform(0.3, 1.0, (len(quads), 1))
    brightness = 1 - 0.5 * share.mean(axis=1) * uneven * min(1, depth)
    colours = np.repeat(vehicle.colours[soft], CUTS**2, axis=0) * brightness
    groups = np.repeat(vehicle.groups[soft], CUTS**2)
    lamps = np.repeat(vehicle.lamps[soft], CUTS**2)
    return replace(
        vehicle,
        quads=np.concatenate([vehicle.quads[rigid], dented]),
        colours=np.concatenate([vehicle.colours[rigid], colours]),
        groups=np.concatenate([vehicle.groups[rigid], groups]),
        lamps=np.concatenate([vehicle.lamps[rigid], lamps]),
        crushed=True,
    )


def _subdivided(quads: Floats, n: int) -> Floats:
    """Quads (m, 4, 3), each cut into n x n: (m n n, 4, 3), those of one quad in a row."""
    steps = np.linspace(0, 1, n + 1)
    u, v = np.meshgrid(steps, steps)
    corners = np.moveaxis(quads, 1, 0)[:, :, None, None]  # (4, m, 1, 1, 3)
    grid = on_quad(corners, u[..., None], v[..., None])  # (m, n + 1, n + 1, 3)
    around = [grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, 1:], grid[:, 1:, :-1]]
    return np.stack(around, axis=3).reshape(-1, 4, 3)
