"""The five baselines of section 4.1.3 and JSON-only, with the signature of `schedule.plan`.

They ignore the budget unless their docstring states otherwise: the link simulator returns to the
queue what an interval had no time for.
"""

import functools
from collections.abc import Callable, Sequence

from dat_runtime.schedule import Kind, PendingEvent, Transmission, plan
from eval.uplink.sending import Planner, Scheme

SEVERE_FROM = 0.5
"""For β = γ = 0.5, S of a severe event lies above it and S of another below (Eq. 4 and 7)."""

Unit = tuple[PendingEvent, Kind, int]
"""What is sent: the event, the kind of unit, and its bytes."""


def in_sequence(units: Sequence[Unit], bandwidth: float) -> list[Transmission]:
    """The units one after the other over a link of this bandwidth."""
    if not bandwidth:
        return []
    planned = []
    total = 0
    for event, kind, size in units:
        total += size
        planned.append(Transmission(event.id, kind, size, total / bandwidth))
    return planned


def _json(event: PendingEvent) -> list[Unit]:
    return [] if event.json_sent else [(event, "json", event.json_bytes)]


def _visual(event: PendingEvent, kinds: Sequence[Kind]) -> list[Unit]:
    """The first of the kinds that the event has."""
    sizes = {"roi": event.roi_bytes, "box": event.box_bytes}
    for kind in kinds:
        size = sizes[kind]
        if size is not None:
            return [(event, kind, size)]
    return []


def fixed(kinds: Sequence[Kind]) -> Planner:
    """FIFO, everything sent: per event the JSON (unless it needs none) and one visual."""

    def planner(
        events: Sequence[PendingEvent],
        bandwidth: float,
        interval: float = 1.0,
        visual_deadline: float = 1.5,
        now: float | None = None,
    ) -> list[Transmission]:
        units: list[Unit] = []
        for event in events:
            units += _json(event) + _visual(event, kinds)
        return in_sequence(units, bandwidth)

    return planner


def priority_only(
    events: Sequence[PendingEvent],
    bandwidth: float,
    interval: float = 1.0,
    visual_deadline: float = 1.5,
    now: float | None = None,
) -> list[Transmission]:
    """By S, JSON and visual together: the boxed image of a severe event, the ROI of another."""
    units: list[Unit] = []
    for event in sorted(events, key=lambda event: -event.priority):
        kinds: tuple[Kind, ...] = ("roi", "box")
        if event.priority >= SEVERE_FROM:
            kinds = ("box", "roi")
        units += _json(event) + _visual(event, kinds)
    return in_sequence(units, bandwidth)


def bandwidth_only(mean: float, box_from: float, roi_from: float) -> Planner:
    """FIFO within the budget: the kind of visual depends on the bandwidth alone.

    `mean` is the reference bandwidth in bytes per second: boxed images from `box_from` of it, ROIs
    from `roi_from`, below that visuals are deferred. The plan ends at the first unit that the
    budget has no room for.
    """

    def planner(
        events: Sequence[PendingEvent],
        bandwidth: float,
        interval: float = 1.0,
        visual_deadline: float = 1.5,
        now: float | None = None,
    ) -> list[Transmission]:
        kinds: tuple[Kind, ...] = ()
        if bandwidth >= roi_from * mean:
            kinds = ("roi", "box")
        if bandwidth >= box_from * mean:
            kinds = ("box", "roi")
        budget = bandwidth * interval
        units: list[Unit] = []
        total = 0
        for event in events:
            for unit in _json(event) + _visual(event, kinds):
                _, _, size = unit
                if total + size > budget:
                    return in_sequence(units, bandwidth)
                total += size
                units.append(unit)
        return in_sequence(units, bandwidth)

    return planner


def dat(policy: str = "dat") -> Planner:
    """One of the library's slotted planners."""
    planner: Callable[..., list[Transmission]] = functools.partial(plan, policy=policy)
    return planner


def schemes(mean: float, box_from: float, roi_from: float) -> list[Scheme]:
    """The rows of Table 3; `mean` is the bandwidth at 0.25x, bytes per second."""
    return [
        Scheme("Bandwidth-Only", bandwidth_only(mean, box_from, roi_from)),
        Scheme("Priority-Only", priority_only),
        Scheme("DAT", dat(), expires=True),
        Scheme("JSON-Only", dat(), visual=False),
        Scheme("Fixed Box Upload", fixed(("box",)), alert="box"),
        Scheme("Fixed ROI Upload", fixed(("roi",)), alert="roi", all_rois=True),
        Scheme("Fixed JSON+Box", fixed(("box",))),
    ]
