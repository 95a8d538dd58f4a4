"""A made-up record of a mobile link, second by second."""

import numpy as np
from numpy.typing import NDArray

MEDIANS = (1.6e6, 1.05e6)
"""Down- and uplink, bytes per second."""

SLOW, FAST = 180, 6
"""Seconds after which the correlation of the link's slow and fast changes is down to 1/e."""


def uplink_trace(rng: np.random.Generator, seconds: int) -> NDArray[np.int64]:
    """(seconds, 2): down- and uplink, bytes per second; bursty, with dips to almost nothing."""
    series = np.empty((seconds, 2))
    for column, median in enumerate(MEDIANS):
        slow = _autoregressive(rng, seconds, SLOW) * 0.32
        fast = _autoregressive(rng, seconds, FAST) * 0.22
        level = median * np.exp(slow + fast)
        # Once in SLOW seconds, on average, the link is all but lost for 2 to 8 seconds.
        for start in np.flatnonzero(rng.random(seconds) < 1 / SLOW):
            level[start : start + rng.integers(2, 9)] *= rng.uniform(0.0, 0.06)
        series[:, column] = np.minimum(level, 2.2 * median)
    return series.astype(np.int64)


def _autoregressive(rng: np.random.Generator, steps: int, memory: float) -> NDArray[np.float64]:
    """A unit-variance series that forgets over about `memory` steps."""
    keep = np.exp(-1 / memory)
    noise = rng.standard_normal(steps)
    series = np.empty(steps)
    value = noise[0]
    for t in range(steps):
        # The second factor keeps the variance at 1: keep² + (1 - keep²).
        value = keep * value + np.sqrt(1 - keep**2) * noise[t]
        series[t] = value
    return series
