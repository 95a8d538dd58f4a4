"""Beyond the paper: the improved planners beside Algorithm 1, and what a wrong bandwidth costs.

Delays count from capture, so that slotted planning pays for its waiting. Every study returns plain
values.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from dat_runtime.planning.live import Bandwidth, LiveQueue
from eval.uplink.arrivals import Event, draw
from eval.uplink.baselines import dat
from eval.uplink.link import Link
from eval.uplink.optimum import least_mean_delay, priority_bound, vtr_bound
from eval.uplink.parallel import in_parallel, over_seeds
from eval.uplink.replay import TABLE_3_SCALE, at_deadline, link_at, replay
from eval.uplink.sending import Delivery, Scheme, run_live
from eval.uplink.setting import Setting
from eval.uplink.timeliness import COLUMNS_FROM_CAPTURE, Timeliness, averages, measure, spread
from eval.uplink.trace import Rates

BOUND_WITHIN = 0.5
"""Seconds from capture of the clairvoyant VTR bound."""

BOUND_SEEDS = 5
"""Seeds for which the clairvoyant bounds are computed: they solve many integer programs."""

LINK_CASES = ((0.25, 1.5), (0.1, 1.0))
"""(bandwidth scale, D_vis) of the beyond table: Table 3's, and one where visuals are scarce."""

SPREAD_ARRIVAL, SIMULTANEOUS_ARRIVAL = "spread over 1 s", "simultaneous"
"""How the events of a burst are captured."""

SHORT_SLOT = 0.05
"""Seconds: shows what happens to Algorithm 1 when its slots are merely made shorter."""

FIRST_LAYER = 0.25
"""The share of a progressive image with which it can be viewed."""

FORECAST_SIGMA = 0.3
"""Standard deviation of the logarithm of a forecast's error."""


class Bounds(NamedTuple):
    """What no scheduler can beat in one run, and what `dat_live` reaches of it.

    Percent within `BOUND_WITHIN` of capture: of visuals, and of priority. `dat_live` serves
    priority; `live_vtr_if_equal` is how many visuals it shows where all priorities are equal.
    """

    vtr: float
    priority: float
    mean_delay: float
    live_vtr: float
    live_priority: float
    live_vtr_if_equal: float


def live_queue(
    setting: Setting, link: Link, fair: bool = False, first_layer: float = 1.0
) -> LiveQueue:
    """An empty queue that begins with the link's bandwidth at second 0 as its estimate."""
    # An estimate must be above 0, and the link may begin with an outage.
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
    """The deliveries under each planner; `json_live` sends alerts only, at once."""
    algorithm_1, dat_plus = slotted_schemes()
    short_slots = replace(setting, interval=SHORT_SLOT)
    progressive = live_queue(setting, link, first_layer=FIRST_LAYER)
    return {
        "dat": replay(setting, events, link, algorithm_1),
        "dat_plus": replay(setting, events, link, dat_plus),
        f"dat, slots of {SHORT_SLOT:g} s": replay(
            short_slots, entering(events, SHORT_SLOT), link, algorithm_1
        ),
        "dat_live": run_live(events, link, live_queue(setting, link)),
        f"dat_live, first layer {100 * FIRST_LAYER:g} %": run_live(events, link, progressive),
        "json_live": run_live(events, link, live_queue(setting, link), visual=False),
    }


def beyond_table(setting: Setting, rates: Rates, seeds: int) -> list[dict[str, Any]]:
    """`dat`, `dat_plus`, `dat_live` and the clairvoyant bounds at burst, from capture."""
    cases = []
    for scale, deadline in LINK_CASES:
        cases.append((scale, deadline, SPREAD_ARRIVAL))
        cases.append((scale, deadline, SIMULTANEOUS_ARRIVAL))
    job = functools.partial(_beyond_run, setting, rates)
    rows: list[dict[str, Any]] = []
    for case, results in zip(cases, over_seeds(job, cases, seeds, "beyond the paper"), strict=True):
        scale, deadline, arrival = case
        labels = {"scale": scale, "visual_deadline": deadline, "arrival": arrival}
        runs = [run for run, _ in results]
        bounds = [bound for _, bound in results if bound is not None]
        for planner, columns in averages(runs, COLUMNS_FROM_CAPTURE).items():
            rows.append({**labels, "planner": planner, **columns})
        rows.append({**labels, "planner": "clairvoyant bound", **_bound_columns(bounds)})
    return rows


def _bound_columns(bounds: Sequence[Bounds]) -> dict[str, Any]:
    """The bounds, and `dat_live` in the runs that they were computed for: the first ones."""
    return {
        "vtr_05": spread([bound.vtr for bound in bounds]),
        "dat_live_vtr_05": spread([bound.live_vtr for bound in bounds]),
        "dat_live_vtr_05_if_equal": spread([bound.live_vtr_if_equal for bound in bounds]),
        "priority_05": spread([bound.priority for bound in bounds]),
        "dat_live_priority_05": spread([bound.live_priority for bound in bounds]),
        "avg_visual_delay": spread([bound.mean_delay for bound in bounds]),
    }


def _beyond_run(
    setting: Setting, rates: Rates, case: tuple[float, float, str, int]
) -> tuple[dict[str, Timeliness], Bounds | None]:
    """Every planner on one seed's bursts, and the bounds for the first seeds."""
    scale, deadline, arrival, seed = case
    events = draw(setting, "burst", seed)
    link = link_at(rates, scale)
    if arrival == SIMULTANEOUS_ARRIVAL:
        events = simultaneous(events)
    runs = {}
    for name, deliveries in planners(at_deadline(setting, deadline), events, link).items():
        runs[name] = measure(deliveries, setting.parse, from_capture=True, visual_deadline=deadline)
    if seed >= BOUND_SEEDS:
        return runs, None
    return runs, _bounds(setting, events, link)


def _bounds(setting: Setting, events: Sequence[Event], link: Link) -> Bounds:
    equal = [replace(event, priority=1.0) for event in events]
    live, live_if_equal = (
        measure(
            run_live(served, link, live_queue(setting, link)),
            setting.parse,
            from_capture=True,
            visual_deadline=BOUND_WITHIN,
        )
        for served in (events, equal)
    )
    return Bounds(
        vtr=vtr_bound(events, link, BOUND_WITHIN),
        priority=priority_bound(events, link, BOUND_WITHIN),
        mean_delay=least_mean_delay(events, link),
        live_vtr=live.vtr_05,
        live_priority=live.on_time,
        live_vtr_if_equal=live_if_equal.vtr_05,
    )


def forecast_study(setting: Setting, rates: Rates, seeds: int) -> list[dict[str, Any]]:
    """What it costs at burst, 0.25x, when the planner believes another bandwidth than the link's.

    `dat_live` needs no forecast. Its estimate, made from what was really sent, is biased instead.
    """
    job = functools.partial(_forecast_run, setting, rates)
    runs = in_parallel(job, range(seeds), "forecast error")
    means = averages(runs, COLUMNS_FROM_CAPTURE)
    return [{"case": case, **columns} for case, columns in means.items()]


def _forecast_run(setting: Setting, rates: Rates, seed: int) -> dict[str, Timeliness]:
    events = draw(setting, "burst", seed)
    link = link_at(rates, TABLE_3_SCALE)
    forecasts = _forecasts(link, len(rates), seed)
    runs = {}
    for scheme, (name, forecast) in itertools.product(slotted_schemes(), forecasts.items()):
        deliveries = replay(setting, events, link, scheme, forecast)
        runs[f"{scheme.name}, {name}"] = measure(deliveries, setting.parse, from_capture=True)
    for name, bias in (("true", 1.0), ("30 % too low", 0.7), ("30 % too high", 1.3)):
        deliveries = run_live(events, link, live_queue(setting, link), bias=bias)
        runs[f"dat_live, {name}"] = measure(deliveries, setting.parse, from_capture=True)
    return runs


def _forecasts(link: Link, seconds: int, seed: int) -> dict[str, Callable[[float], float]]:
    """By name: the bandwidth that a planner believes at a time."""
    rng = np.random.default_rng([seed, 8])
    error = np.exp(rng.normal(0.0, FORECAST_SIGMA, seconds)).tolist()
    return {
        "true": link.bandwidth,
        "the last second's": lambda now: link.bandwidth(max(0.0, now - 1)),
        "30 % too low": lambda now: 0.7 * link.bandwidth(now),
        "30 % too high": lambda now: 1.3 * link.bandwidth(now),
        f"log-normal error, sd {FORECAST_SIGMA:g}": lambda now: (
            link.bandwidth(now) * error[int(now) % seconds]
        ),
    }


def my_link(setting: Setting, events: Sequence[Event], rates: Rates) -> list[dict[str, Any]]:
    """What this link would have done with these events under each planner; delays from capture."""
    queued = entering(events, setting.interval)
    rows = []
    for name, deliveries in planners(setting, queued, Link(rates)).items():
        run = measure(
            deliveries, setting.parse, from_capture=True, visual_deadline=setting.visual_deadline
        )
        columns = {column: getattr(run, column) for column in (*COLUMNS_FROM_CAPTURE, "no_alert")}
        rows.append({"planner": name, **columns})
    return rows
