"""The paper's experiments around Table 3, and whether what they show holds elsewhere.

All patterns and scales, Fig. 5 (visual deadline), Fig. 6 (source of priorities), perturbed
settings, other links. Every study returns plain JSON values.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from eval.uplink.arrivals import Event, draw, level_of_priority
from eval.uplink.claims import MUST_HOLD, held, held_by_group
from eval.uplink.link import Link
from eval.uplink.parallel import in_parallel, over_seeds
from eval.uplink.replay import (
    TABLE_3_SCALE,
    Runs,
    at_deadline,
    compare,
    compare_at_table_3,
    link_at,
    replay,
    row_of_table_3,
)
from eval.uplink.setting import Arrivals, Setting, Sizes, Spread
from eval.uplink.timeliness import COLUMNS, Timeliness, averages, measure
from eval.uplink.trace import Rates, window

DEADLINES = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
"""D_vis of Fig. 5, seconds: around the 1.5 s of section 4.1."""

LEVEL_ERROR = 1 - 0.9883
"""Share of wrong levels in predicted priorities: 1 - SevAcc of Table 1."""

SCORE_NOISE = 0.1
"""Standard deviation of a predicted score r around the true one: our choice, the paper has none."""

OTHER_WINDOWS = 8
"""Windows of the trace, at random places, among the other links."""

LOG_NORMAL_SIGMA = 0.7
"""Standard deviation of the logarithm of the rates on the link with independent seconds."""


def all_settings(setting: Setting, rates: Rates, seeds: int) -> list[dict[str, Any]]:
    """Every arrival pattern at every bandwidth scale, every scheme."""
    cases = list(itertools.product(setting.arrivals, setting.scales))
    job = functools.partial(_one_case, setting, rates)
    rows = []
    for case, runs in zip(cases, over_seeds(job, cases, seeds, "patterns and scales"), strict=True):
        pattern, scale = case
        for method, columns in averages(runs).items():
            rows.append({"pattern": pattern, "scale": scale, "method": method, **columns})
    return rows


def _one_case(
    setting: Setting, rates: Rates, case: tuple[str, float, int]
) -> dict[str, Timeliness]:
    pattern, scale, seed = case
    return compare(setting, rates, pattern, scale, seed)


def deadline_study(setting: Setting, rates: Rates, seeds: int) -> list[dict[str, Any]]:
    """Fig. 5: DAT at burst, 0.25x, by D_vis; the age of a visual counts from capture."""
    rows = []
    for deadline in DEADLINES:
        changed = at_deadline(setting, deadline)
        runs = [
            compare(changed, rates, "burst", TABLE_3_SCALE, seed, names=("DAT",))
            for seed in range(seeds)
        ]
        rows.append({"visual_deadline": deadline, **averages(runs)["DAT"]})
    return rows


def priority_study(setting: Setting, rates: Rates, seeds: int) -> list[dict[str, Any]]:
    """Fig. 6: scheduled by predicted or by true priorities; true ones weigh W-Alarm in both."""
    link = link_at(rates, TABLE_3_SCALE)
    runs: dict[str, list[dict[str, Timeliness]]] = {"predicted": [], "ground truth": []}
    for seed in range(seeds):
        events = draw(setting, "burst", seed)
        runs["predicted"].append(
            _by_method(setting, link, predicted(setting, events, seed), events)
        )
        runs["ground truth"].append(_by_method(setting, link, events, events))
    rows = []
    for source, of_seeds in runs.items():
        for method, columns in averages(of_seeds).items():
            rows.append({"source": source, "method": method, **columns})
    return rows


def _by_method(
    setting: Setting, link: Link, seen: Sequence[Event], truth: Sequence[Event]
) -> dict[str, Timeliness]:
    """Priority-Only and DAT with the priorities of `seen`, measured with those of `truth`."""
    true_priority = {event.id: event.priority for event in truth}
    runs = {}
    for method in ("Priority-Only", "DAT"):
        deliveries = replay(setting, seen, link, row_of_table_3(setting, method))
        runs[method] = measure(deliveries, setting.parse, priority=true_priority.__getitem__)
    return runs


def predicted(setting: Setting, events: Sequence[Event], seed: int) -> list[Event]:
    """The events with priorities as a model would predict them: some levels wrong, scores noisy."""
    rng = np.random.default_rng([seed, 6])
    beta, gamma = setting.priority.beta, setting.priority.gamma
    seen = []
    for event in events:
        level, score = level_of_priority(event.priority, beta, gamma)
        if rng.random() < LEVEL_ERROR:
            level = 1 - level
            score = rng.uniform(gamma, 1) if level == 1 else rng.uniform(0, gamma)
        # Eq. 4: the score stays on its level's side of gamma.
        low, high = (gamma, 1.0) if level else (0.0, math.nextafter(gamma, 0))
        score = min(max(score + rng.normal(0, SCORE_NOISE), low), high)
        seen.append(replace(event, priority=beta * level + (1 - beta) * score))  # Eq. 7
    return seen


def perturbation_study(setting: Setting, trace: Rates, draws: int) -> dict[str, Any]:
    """How often the claims hold on settings drawn around C0, one run of each pattern a draw.

    Sizes, arrival rates and bandwidth are drawn within ±50 %, and the window anywhere in the trace.
    """
    job = functools.partial(_perturbed_run, setting, trace)
    runs = in_parallel(job, range(draws), "perturbed settings")
    return {"draws": draws, **held_by_group(runs)}


def _perturbed_run(setting: Setting, trace: Rates, number: int) -> Runs:
    changed = perturbed(setting, len(trace), number)
    return compare_at_table_3(changed, window(trace, changed.trace), number)


def perturbed(setting: Setting, rows: int, number: int) -> Setting:
    """Sizes, arrival rates and bandwidth each times U(0.5, 1.5), at another window."""
    # The order of the draws below is part of the result: another order gives other settings.
    rng = np.random.default_rng([number, 50])

    def times(value: float) -> float:
        return float(value * rng.uniform(0.5, 1.5))

    def resized(size: Spread) -> Spread:
        mean, cv = size
        return times(mean), cv

    def rearranged(arrivals: Arrivals) -> Arrivals:
        fewest, most = arrivals.together
        factor = rng.uniform(0.5, 1.5)
        few = max(1, round(fewest * factor))
        many = max(few, round(most * factor))
        return Arrivals(times(arrivals.every), (few, many))

    sizes = Sizes(
        json=resized(setting.sizes.json),
        box=resized(setting.sizes.box),
        roi_of_box=resized(setting.sizes.roi_of_box),
        other_rois_of_box=resized(setting.sizes.other_rois_of_box),
        without_roi=times(setting.sizes.without_roi),
    )
    arrivals = {name: rearranged(pattern) for name, pattern in setting.arrivals.items()}
    starts = max(1, rows - setting.trace.seconds + 1)
    trace = replace(
        setting.trace, start=int(rng.integers(0, starts)), mean=times(setting.trace.mean)
    )
    return replace(setting, sizes=sizes, arrivals=arrivals, trace=trace)


def other_links(setting: Setting, trace: Rates) -> list[dict[str, Any]]:
    """C0 on windows and made-up links that it was not fitted to: which claims held, and figures."""
    links = _other_links(setting, trace)
    job = functools.partial(compare_at_table_3, setting, seed=0)
    rows = []
    for name, runs in zip(
        links, in_parallel(job, list(links.values()), "other links"), strict=True
    ):
        claims = {claim: bool(count) for claim, count in held([runs], MUST_HOLD).items()}
        rows.append(
            {
                "link": name,
                **claims,
                "dat": _columns(runs["burst"]["DAT"]),
                "priority_only": _columns(runs["burst"]["Priority-Only"]),
            }
        )
    return rows


def _other_links(setting: Setting, trace: Rates) -> dict[str, list[float]]:
    """Bytes per second by name of the link, all with the setting's mean."""
    rng = np.random.default_rng([0, 7])
    seconds = setting.trace.seconds
    links: dict[str, list[float]] = {}
    starts = max(1, len(trace) - seconds + 1)
    for start in rng.integers(0, starts, OTHER_WINDOWS).tolist():
        moved = replace(setting.trace, start=start)
        links[f"trace, window at {start}"] = window(trace, moved)

    second = np.arange(seconds)
    shapes = {
        "constant": np.ones(seconds),
        "10 s on, 5 s at a tenth": np.where(second % 15 < 10, 1.0, 0.1),
        "log-normal, independent seconds": rng.lognormal(0.0, LOG_NORMAL_SIGMA, seconds),
        "outages: 3 s of nothing every 31 s": np.where(second % 31 < 28, 1.0, 0.0),
    }
    for name, shape in shapes.items():
        links[name] = (shape * setting.trace.mean / shape.mean()).tolist()
    return links


def _columns(run: Timeliness) -> dict[str, Any]:
    return {column: getattr(run, column) for column in COLUMNS}
