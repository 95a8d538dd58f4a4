"""The live uplink over rates and round trips: simulated beside the kernel's own TCP."""

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dat_runtime.planning.live import LiveQueue
from dat_runtime.planning.path import Path
from eval.statistics.bootstrap import interval, resampled_sums
from eval.uplink import real_lanes
from eval.uplink.arrivals import Event
from eval.uplink.lanes import LaneDelivery, simulate, simulate_fifo
from eval.uplink.link import LinkSettings
from eval.uplink.setting import Setting
from eval.uplink.timeliness import measure
from eval.uplink.trace import Rates

CONSTANT_RATES = {"50 kB/s": 50e3, "250 kB/s": 250e3}
"""Bytes a second of IP packets."""

TRACE = "trace, 0.25x"

ROUND_TRIPS = (0.0, 0.05, 0.1, 0.3)
"""Seconds."""

LOSS = 0.02
"""The share of packets that the lossy cases lose."""

FIFO_ROUND_TRIP = 0.1
"""Of the rows of a FIFO: what an alert waits behind images hardly depends on it."""

SETTLED = 18.0
"""Seconds of a run that are figures of their own: TCP's window begins small, and opens only in the
first bursts."""

LEAST_SECONDS = 30
"""Of a run, so that there are bursts after it has settled."""

LONGEST_WAIT = 0.05
"""Seconds beyond a round trip that an alert may take behind images."""

RANKS = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
"""Shares of the alerts that wait no longer."""

DRAWS = 8
"""Simulated runs of a lossy case, each with other packets lost: by that alone one run's mean visual
delay differs from another's by up to 7 %."""

AT_ONCE = 6
"""Real runs at the same time, each taking about a tenth of a core."""


@dataclass(frozen=True)
class Case:
    """One row: a link, and who sends over it.

    `congestion` is TCP's congestion control; "" is the node's choice, BBR where the kernel has it.
    """

    rate: str
    link: LinkSettings
    fifo: bool = False
    congestion: str = ""


def cases(trace: Rates) -> list[Case]:
    """All rows; `trace` is the third rate's, bytes a second."""
    rates: dict[str, Rates] = {name: [rate] for name, rate in CONSTANT_RATES.items()}
    rates[TRACE] = trace
    rows = []
    for name, rate in rates.items():
        rows += [Case(name, LinkSettings(rate, round_trip)) for round_trip in ROUND_TRIPS]
    for name, rate in rates.items():
        rows.append(Case(name, LinkSettings(rate, FIFO_ROUND_TRIP), fifo=True))
    lossy = {name: LinkSettings([rate], loss=LOSS) for name, rate in CONSTANT_RATES.items()}
    for name, link in lossy.items():
        rows += [Case(name, replace(link, round_trip=each)) for each in ROUND_TRIPS]
    name, link = list(lossy.items())[-1]
    for each in ROUND_TRIPS:
        rows.append(Case(name, replace(link, round_trip=each), congestion="cubic"))
    return rows


def compare(
    setting: Setting, events: Sequence[Event], trace: Rates, real: bool
) -> list[dict[str, Any]]:
    """A row for each case: the link, the sender, and what came of it, simulated and real.

    Args:
        real: whether the real runs are made; they last as long as the events.
    """
    todo = cases(trace)
    simulated = [_simulated(events, case) for case in todo]
    measured: Iterable[list[LaneDelivery] | None] = [None] * len(todo)
    if real:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            measured = list(pool.map(lambda case: _real(events, case), todo))
    rows = []
    for case, by_simulation, by_kernel in zip(todo, simulated, measured, strict=True):
        row = _labels(case)
        row["simulated"] = figures(setting, by_simulation, case.link.round_trip)
        if not case.fifo:
            row["moved"] = _moved(setting, simulated[_at_no_round_trip(todo, case)], case)
        if by_kernel is not None:
            row["real"] = figures(setting, by_kernel, case.link.round_trip)
            draws = len(by_simulation) // len(by_kernel)
            row["apart"] = apart(by_simulation, by_kernel * draws, setting.parse["json"])
        rows.append(row)
    return rows


def _labels(case: Case) -> dict[str, Any]:
    return {
        "rate": case.rate,
        "round_trip": case.link.round_trip,
        "loss": case.link.loss,
        "sender": "FIFO" if case.fifo else "two lanes",
        "congestion": case.congestion or "the node's",
    }


def _simulated(events: Sequence[Event], case: Case) -> list[LaneDelivery]:
    """All deliveries, of one draw of the losses after another."""
    if case.fifo:
        return simulate_fifo(events, case.link)
    deliveries = []
    for seed in range(DRAWS if case.link.loss else 1):
        link = replace(case.link, seed=seed)
        deliveries += simulate(events, link, LiveQueue(Path(link.rates[0])))
    return deliveries


def _real(events: Sequence[Event], case: Case) -> list[LaneDelivery]:
    return real_lanes.run(events, case.link, fifo=case.fifo, congestion=case.congestion)


def _at_no_round_trip(todo: Sequence[Case], case: Case) -> int:
    """The place of the same case at round trip 0."""
    return todo.index(replace(case, link=replace(case.link, round_trip=0.0)))


def _moved(setting: Setting, deliveries: Sequence[LaneDelivery], case: Case) -> float:
    """VTR@1 of the link without a round trip, each visual half a round trip later.

    What is below it is the sender's fault, the rest is the way's.
    """
    later = case.link.round_trip / 2
    moved = [
        replace(each, visual_at=None if each.visual_at is None else each.visual_at + later)
        for each in _settled(deliveries)
    ]
    return measure(moved, setting.parse, from_capture=True).vtr_1


def figures(
    setting: Setting, deliveries: Sequence[LaneDelivery], round_trip: float
) -> dict[str, Any]:
    """What one run came to, once it has settled.

    An alert's wait is in seconds from its capture until the node knows that it has arrived, less
    the round trip. `waits` gives it by rank; None is an alert of which that was never known.
    `first_visual_delay` is that of the bursts before `SETTLED`.
    """
    settled = _settled(deliveries)
    first = [each for each in deliveries if each.event.entered_at < SETTLED]
    run = measure(settled, setting.parse, from_capture=True)
    waits = sorted(_wait(each, round_trip) for each in settled)
    ranked = {name: waits[round(share * (len(waits) - 1))] for name, share in RANKS.items()}
    delay = measure(first, setting.parse, from_capture=True).avg_visual_delay if first else None
    return {
        "waits": {name: wait if math.isfinite(wait) else None for name, wait in ranked.items()},
        "in_time": 100 * sum(wait <= LONGEST_WAIT for wait in waits) / len(waits),
        "w_alarm": run.w_alarm,
        "vtr_05": run.vtr_05,
        "vtr_1": run.vtr_1,
        "avg_visual_delay": run.avg_visual_delay,
        "first_visual_delay": delay,
        "no_alert": run.no_alert,
    }


def apart(
    simulated: Sequence[LaneDelivery], real: Sequence[LaneDelivery], parse: float = 0.0
) -> dict[str, tuple[float | None, ...]]:
    """By how many percent alerts and visuals took longer really than simulated.

    Value, low and high of the 95 % interval: a bootstrap over the bursts, as delays of one burst go
    together. Alerts weigh by priority and take `parse` more seconds, as in W-Alarm; what came not
    both ways is left out.
    """
    sums: dict[float, NDArray[np.float64]] = {}
    for one, other in zip(_settled(simulated), _settled(real), strict=True):
        event = one.event
        of = sums.setdefault(event.entered_at, np.zeros(4))
        if one.json_at is not None and other.json_at is not None:
            took = np.array([one.json_at, other.json_at]) - event.captured_at + parse
            of[:2] += event.priority * took
        if one.visual_at is not None and other.visual_at is not None:
            of[2:] += (one.visual_at - event.captured_at, other.visual_at - event.captured_at)
    bursts = np.array(list(sums.values()))
    resampled = np.vstack([bursts.sum(axis=0), resampled_sums(bursts)])
    with np.errstate(invalid="ignore", divide="ignore"):
        alerts = 100 * (resampled[:, 1] / resampled[:, 0] - 1)
        visuals = 100 * (resampled[:, 3] / resampled[:, 2] - 1)
    named = {"alerts": alerts, "visuals": visuals}
    return {name: interval(float(of[0]), of[1:]) for name, of in named.items()}


def _settled(deliveries: Sequence[LaneDelivery]) -> list[LaneDelivery]:
    return [each for each in deliveries if each.event.entered_at >= SETTLED]


def _wait(delivery: LaneDelivery, round_trip: float) -> float:
    if delivery.alert_known_at is None:
        return math.inf
    return delivery.alert_known_at - max(0.0, delivery.event.captured_at) - round_trip
