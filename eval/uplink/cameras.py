"""Beyond the paper: several cameras on one link, alike or with one that crowds it."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from eval.uplink.arrivals import Event, draw
from eval.uplink.beyond import live_queue, slotted_schemes
from eval.uplink.parallel import over_seeds
from eval.uplink.replay import link_at, replay
from eval.uplink.sending import Delivery, run_live
from eval.uplink.setting import Setting
from eval.uplink.timeliness import measure, spread
from eval.uplink.trace import Rates

CAMERAS = (1, 2, 4)
"""Cameras on the link."""

CAMERA_SCALE = 0.1
"""Bandwidth scale: visuals are scarce, so that cameras compete for them."""

CAMERA_SHARE = 3
"""A camera has the setting's events divided by this."""

CROWDING = 5
"""The camera that crowds the link has this many times the events of another, in larger bursts."""

COLUMNS = ("w_alarm", "on_time", "worst")
"""Of a run: two of `Timeliness` for all cameras, and `on_time` of the worst one."""


def camera_study(setting: Setting, rates: Rates, seeds: int) -> list[dict[str, Any]]:
    """Several cameras on one link at 0.1x; delays from capture.

    Where `crowded`, one camera has five times the bursts of the others, and `worst` is the worst of
    these others.
    """
    cases = []
    for cameras, crowded in itertools.product(CAMERAS, (False, True)):
        if cameras > 1 or not crowded:  # one camera alone has nobody to crowd out
            cases.append((cameras, crowded))
    job = functools.partial(_camera_run, setting, rates)
    rows: list[dict[str, Any]] = []
    for case, runs in zip(cases, over_seeds(job, cases, seeds, "cameras"), strict=True):
        cameras, crowded = case
        for planner in runs[0]:
            row = {"cameras": cameras, "crowded": crowded, "planner": planner}
            for column in COLUMNS:
                row[column] = spread([run[planner][column] for run in runs])
            rows.append(row)
    return rows


def _camera_run(
    setting: Setting, rates: Rates, case: tuple[int, bool, int]
) -> dict[str, dict[str, float]]:
    """The columns of one seed, by planner."""
    cameras, crowded, seed = case
    events: list[Event] = []
    for camera in range(cameras):
        events += _of_camera(setting, camera, crowded, seed)
    events.sort(key=lambda event: event.entered_at)

    link = link_at(rates, CAMERA_SCALE)
    runs = {scheme.name: replay(setting, events, link, scheme) for scheme in slotted_schemes()}
    runs["dat_live"] = run_live(events, link, live_queue(setting, link))
    runs["dat_live, fair"] = run_live(events, link, live_queue(setting, link, fair=True))
    return {name: _columns(setting, run, crowded) for name, run in runs.items()}


def _of_camera(setting: Setting, camera: int, crowded: bool, seed: int) -> list[Event]:
    """The events of one camera; the first one crowds the link where it is crowded."""
    factor = CROWDING if crowded and camera == 0 else 1
    bursts = setting.arrivals["burst"]
    fewest, most = bursts.together
    larger = replace(bursts, together=(fewest * factor, most * factor))
    own = replace(
        setting,
        events=setting.events // CAMERA_SHARE * factor,
        arrivals={**setting.arrivals, "burst": larger},
    )
    name = _camera_name(camera)
    return [
        replace(event, id=f"{name} {event.id}", camera=name)
        for event in draw(own, "burst", 100 * seed + camera)
    ]


def _camera_name(camera: int) -> str:
    return f"camera {camera}"


def _columns(setting: Setting, deliveries: Sequence[Delivery], crowded: bool) -> dict[str, float]:
    """W-Alarm and priority shown in time of all cameras, and the latter of the worst one."""
    by_camera: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        by_camera.setdefault(delivery.event.camera, []).append(delivery)
    if crowded:
        del by_camera[_camera_name(0)]
    on_time = [
        measure(of_camera, setting.parse, from_capture=True).on_time
        for of_camera in by_camera.values()
    ]
    whole = measure(deliveries, setting.parse, from_capture=True)
    return {"w_alarm": whole.w_alarm, "on_time": whole.on_time, "worst": min(on_time)}
