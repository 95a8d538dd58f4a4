"""Beyond the paper: the improved planners, their distance from the optimum, and a rougher world.

Counted from capture, where slotted planning pays for its waiting. Every study returns plain values.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dat_runtime.planning.live import Bandwidth, LiveQueue
from dat_runtime.planning.pending import Limits
from dat_runtime.schedule import PendingEvent, plan
from eval.uplink.arrivals import Event, Setting, draw
from eval.uplink.baselines import dat
from eval.uplink.link import Delivery, Link, Scheme, run_live
from eval.uplink.optimum import best_by_enumeration, best_by_milp, least_mean_delay, vtr_bound
from eval.uplink.replay import TABLE_3_SCALE, at_deadline, averages, in_parallel, link_at, replay
from eval.uplink.timeliness import COLUMNS, Timeliness, measure, spread

Rates = Sequence[float]
BEYOND_COLUMNS = (*COLUMNS, "on_time")
BOUND_WITHIN = 0.5
"""Seconds from capture of the clairvoyant VTR bound."""

BOUND_SEEDS = 5
"""The clairvoyant bound takes 0.3 s a run."""

LINK_CASES = ((0.25, 1.5), (0.1, 1.0))
"""(bandwidth scale, D_vis) of the beyond table."""

SHORT_SLOT = 0.05
"""Seconds: what becomes of Algorithm 1 when its slots are merely made shorter."""

CAMERAS = (1, 2, 4)
CAMERA_SCALE = 0.1
CAMERA_SHARE = 3
"""A camera has the setting's events divided by this."""


def live_queue(
    setting: Setting, link: Link, fair: bool = False, first_layer: float = 1.0
) -> LiveQueue:
    """An empty queue that begins with the link's bandwidth at second 0 as its estimate."""
    first = Bandwidth(initial=max(1.0, link.bandwidth(0)))
    return LiveQueue(first, setting.visual_deadline, fair=fair, first_layer=first_layer)


def simultaneous(events: Sequence[Event]) -> list[Event]:
    """The same events, captured when they enter: a burst all at once."""
    return [replace(event, captured_at=event.entered_at) for event in events]


def entering(events: Sequence[Event], interval: float) -> list[Event]:
    """The same events, each entering at the first interval's start after its capture."""
    entered = [
        replace(event, entered_at=math.ceil(event.captured_at / interval) * interval)
        for event in events
    ]
    return sorted(entered, key=lambda event: event.entered_at)


def slotted_schemes() -> list[Scheme]:
    return [Scheme(name, dat(name), expires=True) for name in ("dat", "dat_plus")]


def planners(setting: Setting, events: Sequence[Event], link: Link) -> dict[str, list[Delivery]]:
    """What became of the events under each planner; `json_live` sends alerts only, at once."""
    runs = {s.name: replay(setting, events, link, s) for s in slotted_schemes()}
    hasty = replace(setting, interval=SHORT_SLOT)
    runs[f"dat, slots of {SHORT_SLOT:g} s"] = replay(
        hasty, entering(events, SHORT_SLOT), link, slotted_schemes()[0]
    )
    runs["dat_live"] = run_live(events, link, live_queue(setting, link))
    progressive = live_queue(setting, link, first_layer=0.25)
    runs["dat_live, first layer 25 %"] = run_live(events, link, progressive)
    runs["json_live"] = run_live(events, link, live_queue(setting, link), visual=False)
    return runs


def beyond_table(setting: Setting, rates: Rates, seeds: int) -> list[dict[str, Any]]:
    """`dat`, `dat_plus`, `dat_live` and the clairvoyant bounds at burst, from capture."""
    cases = [
        (scale, deadline, arrival, seed)
        for scale, deadline in LINK_CASES
        for arrival in ("spread over 1 s", "simultaneous")
        for seed in range(seeds)
    ]
    runs = in_parallel(functools.partial(_beyond_run, setting, rates), cases, "beyond the paper")
    rows: list[dict[str, Any]] = []
    for i in range(0, len(cases), seeds):
        scale, deadline, arrival, _ = cases[i]
        of_case = [run for run, _ in runs[i : i + seeds]]
        bounds = [bound for _, bound in runs[i : i + seeds] if bound]
        case = {"scale": scale, "visual_deadline": deadline, "arrival": arrival}
        for planner, columns in averages(of_case, BEYOND_COLUMNS).items():
            rows.append({**case, "planner": planner, **columns})
        rows.append(
            {
                **case,
                "planner": "clairvoyant bound",
                "vtr_05": spread([vtr for vtr, _ in bounds]),
                "dat_live_vtr_05": spread([r["dat_live"].vtr_05 for r in of_case[: len(bounds)]]),
                "avg_visual_delay": spread([delay for _, delay in bounds]),
            }
        )
    return rows


def _beyond_run(
    setting: Setting, rates: Rates, case: tuple[float, float, str, int]
) -> tuple[dict[str, Timeliness], tuple[float, float] | None]:
    scale, deadline, arrival, seed = case
    events, link = draw(setting, "burst", seed), link_at(rates, scale)
    if arrival == "simultaneous":
        events = simultaneous(events)
    at = at_deadline(setting, deadline)
    runs = {
        name: measure(found, setting.parse, from_capture=True, visual_deadline=deadline)
        for name, found in planners(at, events, link).items()
    }
    if seed >= BOUND_SEEDS:
        return runs, None
    return runs, (vtr_bound(events, link, BOUND_WITHIN), least_mean_delay(events, link))


def forecast_study(setting: Setting, rates: Rates, seeds: int) -> list[dict[str, Any]]:
    """What a wrong bandwidth costs at burst, 0.25x: the planner is told another than the link has.

    `dat_live` needs no forecast; its estimate of what was really sent is biased instead.
    """
    jobs = list(range(seeds))
    runs = in_parallel(functools.partial(_forecast_run, setting, rates), jobs, "forecast error")
    return [{"case": case, **columns} for case, columns in averages(runs, BEYOND_COLUMNS).items()]


def _forecast_run(setting: Setting, rates: Rates, seed: int) -> dict[str, Timeliness]:
    events, link = draw(setting, "burst", seed), link_at(rates, TABLE_3_SCALE)
    rng = np.random.default_rng([seed, 8])
    noise = np.exp(rng.normal(0.0, 0.3, len(rates))).tolist()
    forecasts: dict[str, Callable[[float], float]] = {
        "true": link.bandwidth,
        "the last second's": lambda now: link.bandwidth(max(0.0, now - 1)),
        "30 % too low": lambda now: 0.7 * link.bandwidth(now),
        "30 % too high": lambda now: 1.3 * link.bandwidth(now),
        "log-normal error, sd 0.3": lambda now: link.bandwidth(now) * noise[int(now) % len(noise)],
    }
    runs = {
        f"{scheme.name}, {name}": measure(
            replay(setting, events, link, scheme, forecast), setting.parse, from_capture=True
        )
        for scheme in slotted_schemes()
        for name, forecast in forecasts.items()
    }
    for name, bias in (("true", 1.0), ("30 % too low", 0.7), ("30 % too high", 1.3)):
        found = run_live(events, link, live_queue(setting, link), bias=bias)
        runs[f"dat_live, {name}"] = measure(found, setting.parse, from_capture=True)
    return runs


def camera_study(setting: Setting, rates: Rates, seeds: int) -> list[dict[str, Any]]:
    """Several cameras on one link at 0.1x, from capture; `crowded` has one camera with five times
    the bursts of the others. `worst` is the worst of the cameras that do not crowd."""
    cases = [(n, crowded, s) for n in CAMERAS for crowded in (False, True) for s in range(seeds)]
    cases = [case for case in cases if case[0] > 1 or not case[1]]
    runs = in_parallel(functools.partial(_camera_run, setting, rates), cases, "cameras")
    rows: list[dict[str, Any]] = []
    for i in range(0, len(cases), seeds):
        cameras, crowded, _ = cases[i]
        for planner in runs[i]:
            found = [run[planner] for run in runs[i : i + seeds]]
            means = {key: spread([run[key] for run in found]) for key in found[0]}
            rows.append({"cameras": cameras, "crowded": crowded, "planner": planner, **means})
    return rows


def _camera_run(
    setting: Setting, rates: Rates, case: tuple[int, bool, int]
) -> dict[str, dict[str, float]]:
    cameras, crowded, seed = case
    events = sorted(
        (event for c in range(cameras) for event in _of_camera(setting, c, crowded, seed)),
        key=lambda event: event.entered_at,
    )
    link = link_at(rates, CAMERA_SCALE)
    runs = {s.name: replay(setting, events, link, s) for s in slotted_schemes()}
    runs["dat_live"] = run_live(events, link, live_queue(setting, link))
    runs["dat_live, fair"] = run_live(events, link, live_queue(setting, link, fair=True))
    return {name: _by_camera(setting, found, crowded) for name, found in runs.items()}


def _of_camera(setting: Setting, camera: int, crowded: bool, seed: int) -> list[Event]:
    bursts = setting.arrivals["burst"]
    many = 5 if crowded and camera == 0 else 1
    together = (bursts.together[0] * many, bursts.together[1] * many)
    own = replace(
        setting,
        events=setting.events // CAMERA_SHARE * many,
        arrivals={**setting.arrivals, "burst": replace(bursts, together=together)},
    )
    name = _camera_name(camera)
    return [
        replace(event, id=f"{name} {event.id}", camera=name)
        for event in draw(own, "burst", 100 * seed + camera)
    ]


def _camera_name(camera: int) -> str:
    return f"camera {camera}"


def _by_camera(setting: Setting, deliveries: Sequence[Delivery], crowded: bool) -> dict[str, float]:
    cameras: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        cameras.setdefault(delivery.event.camera, []).append(delivery)
    whole = measure(deliveries, setting.parse, from_capture=True)
    worst = min(
        measure(found, setting.parse, from_capture=True).on_time
        for camera, found in cameras.items()
        if not (crowded and camera == _camera_name(0))
    )
    return {"w_alarm": whole.w_alarm, "on_time": whole.on_time, "worst": worst}


GAP_CASES = [(n, share) for n in (8, 16, 40, 100) for share in (0.25, 0.5, 0.75)]
"""(number of visuals, budget as a share of their bytes)."""


def gap_study(instances: int) -> list[dict[str, Any]]:
    """How far from the optimum the visuals of one interval are: share of the optimal on-time
    priority that is lost, by number of visuals and budget. The optimum is the mixed-integer
    program's, checked by enumeration for N = 8."""
    job = functools.partial(_gaps, instances)
    return in_parallel(job, GAP_CASES, "optimality gaps")


def _gaps(instances: int, case: tuple[int, float]) -> dict[str, Any]:
    count, share = case
    rng = np.random.default_rng([count, int(100 * share)])
    lost: dict[str, list[float]] = {"dat": [], "dat_plus": []}
    for _ in range(instances):
        events, bandwidth = _instance(rng, count, share)
        limits = Limits(bandwidth, bandwidth, 1.5, 1.0)
        weights = [event.priority for event in events]
        sizes = [event.box_bytes or 0 for event in events]
        due = [limits.due(limits.age(event)) for event in events]
        optimum = best_by_milp(weights, sizes, due)
        if count <= 8 and not math.isclose(optimum, best_by_enumeration(weights, sizes, due)):
            raise AssertionError("the mixed-integer program and the enumeration disagree")
        for policy, of_policy in lost.items():
            planned = plan(events, bandwidth, now=1.0, policy=policy)
            weight = {event.id: event.priority for event in events}
            got = math.fsum(weight[unit.event_id] for unit in planned)
            of_policy.append(1 - got / optimum if optimum else 0.0)
    return {
        "visuals": count,
        "budget": share,
        "instances": instances,
        **{
            policy: {"mean": 100 * sum(v) / len(v), "worst": 100 * max(v)}
            for policy, v in lost.items()
        },
    }


def _instance(
    rng: np.random.Generator, count: int, share: float
) -> tuple[list[PendingEvent], float]:
    """Visuals whose alerts went out, captured up to 1 s before the interval starts."""
    sizes = np.maximum(1, rng.lognormal(9.5, 0.8, count)).astype(int).tolist()
    events = [
        PendingEvent(
            id=f"e{i}",
            priority=float(rng.uniform(0.05, 1.0)),
            json_bytes=0,
            roi_bytes=None,
            box_bytes=size,
            captured_at=float(rng.uniform(0.0, 1.0)),
            json_sent=True,
        )
        for i, size in enumerate(sizes)
    ]
    return events, share * sum(sizes)


def my_link(setting: Setting, events: Sequence[Event], rates: Rates) -> list[dict[str, Any]]:
    """What this link would have done with these events under each planner, from capture."""
    link = Link(rates)
    rows = []
    for name, found in planners(setting, entering(events, setting.interval), link).items():
        run = measure(
            found, setting.parse, from_capture=True, visual_deadline=setting.visual_deadline
        )
        rows.append(
            {"planner": name, **{c: getattr(run, c) for c in (*BEYOND_COLUMNS, "no_alert")}}
        )
    return rows
