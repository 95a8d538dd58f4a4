"""What controllers did over a link, in figures: targets missed, accuracy given up, time lost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from dat_runtime.offload_table import Row
from eval.offloading.adaptation import CONTROLLERS, LOW, Clip, follow
from eval.offloading.scenarios import Scenario

CAMERAS = (1, 4)
"""On one link, a clip a second each."""

Figures = dict[str, Any]


def of_scenario(scenario: Scenario, rows: Sequence[Row]) -> list[Figures]:
    """A row for each number of cameras and controller; with one camera hardly anything queues."""
    found = []
    for cameras in CAMERAS:
        for controller in CONTROLLERS:
            if cameras == 1 and not controller.counts_queue:
                continue
            clips: list[Clip] = []
            for link in scenario.links:
                clips += follow(rows, link, scenario.windows, controller, cameras)
            figures = {"cameras": cameras, "controller": controller.name}
            found.append(figures | _figures(scenario, clips))
    return found


def _figures(scenario: Scenario, clips: Sequence[Clip]) -> Figures:
    """Over the windows with a latency to keep, and over those with an accuracy."""
    by_latency = {i for i, w in enumerate(scenario.windows) if w.max_latency is not None}
    timed = [clip for clip in clips if clip.window in by_latency]
    graded = [clip for clip in clips if clip.window not in by_latency]
    return {
        "latency": _kept(timed),
        "accuracy": _kept(graded),
        "windows": [_kept(c for c in clips if c.window == i) for i in range(len(scenario.windows))],
    }


def _kept(clips: Iterable[Clip]) -> Figures:
    """How often the target was missed where a row would have kept it, and what was reached there.

    Clips for which no row would have are counted apart.
    """
    clips = list(clips)
    possible = [clip for clip in clips if clip.possible]
    missed = sum(not clip.kept for clip in possible)
    return {
        "clips": len(clips),
        "infeasible": len(clips) - len(possible),
        "missed": missed,
        "missed_share": missed / len(possible) if possible else None,
        "mean_accuracy": _mean(clip.accuracy for clip in possible),
        "best_accuracy": _mean(clip.best_accuracy for clip in possible),
        "mean_latency": _mean(clip.latency for clip in possible),
        "best_latency": _mean(clip.best_latency for clip in possible),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def course(scenario: Scenario, rows: Sequence[Row]) -> Mapping[str, Any]:
    """What a figure shows: the first link second by second, one camera, controller `LOW`."""
    link = scenario.links[0]
    clips = follow(rows, link, scenario.windows, LOW)
    return {
        "bytes_per_s": [round(rate) for rate in link],
        "windows": [asdict(window) for window in scenario.windows],
        "accuracy": [clip.accuracy for clip in clips],
        "latency": [round(clip.latency, 4) for clip in clips],
        "rows": [clip.row for clip in clips],
        "possible": [clip.possible for clip in clips],
    }
