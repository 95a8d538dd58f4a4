"""Which units to send over the uplink and in what order: Algorithm 1 (Eq. 8-15), or better ones.

Pure: reads no clock, socket or file.
"""

from collections.abc import Callable, Sequence

from dat_runtime.planning.algorithm1 import algorithm_1
from dat_runtime.planning.pending import (
    VISUAL_DEADLINE,
    Kind,
    Limits,
    PendingEvent,
    Transmission,
)
from dat_runtime.planning.planners import live, plus

__all__ = ["VISUAL_DEADLINE", "Kind", "PendingEvent", "Transmission", "plan"]


def plan(
    events: Sequence[PendingEvent],
    bandwidth: float,
    interval: float = 1.0,
    visual_deadline: float = VISUAL_DEADLINE,
    now: float | None = None,
    policy: str = "dat",
) -> list[Transmission]:
    """What to send in the coming interval, in sending order.

    `policy="dat"` is Algorithm 1; `"dat_plus"` selects better visuals; `"dat_live"` orders all that
    waits, whatever the interval. With `now`, the age of a visual counts against its deadline:
    `now - captured_at + t + c/B <= visual_deadline`. An event without ROI and boxed image sends its
    JSON only; equal scores keep the input order; a ROI goes before a boxed image of equal size.
    A unit of no bytes costs nothing and comes first. Zero bandwidth gives an empty plan. A code
    goes behind all alerts and before the visuals of its priority or less (`planning.codes`).

    Raises:
        ValueError: a negative or non-finite number, by the name of its field (times may be
            negative); an unknown policy.
    """
    limits = Limits.of(bandwidth, interval, visual_deadline, now)
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(sorted(POLICIES))}, got {policy!r}")
    return POLICIES[policy](events, limits)


POLICIES: dict[str, Callable[[Sequence[PendingEvent], Limits], list[Transmission]]] = {
    "dat": algorithm_1,
    "dat_plus": plus,
    "dat_live": live,
}
