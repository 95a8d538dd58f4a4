"""From a rehearsal's few steps to the whole run: hours with an interval, memory, disk."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from train.mllm import resources
from train.mllm.memory import CUDA_CONTEXT
from train.mllm.model_sizes import Text, Vision
from train.mllm.rehearsal import LONGEST_STEPS, Rehearsed
from train.mllm.run_settings import RunSettings
from train.recipe.projecting import Rows, in_hours, seconds_each

MOST_BATCH = 64


@dataclass(frozen=True)
class Projection:
    """What is to be expected of the whole run; seconds, bytes.

    Attributes:
        seconds: of all steps and checkpoints, with the bounds of a 95 % interval.
        start: from the command to the first step; real weights take longer to read.
        peak: measured on the card, CUDA's context with it; of the process where there is none.
        largest_batch: by the estimate, scaled to the measured peak; None without a card.
    """

    steps: int
    seconds: tuple[float, float, float]
    tokens_a_second: float
    start: float
    checkpoint: float
    checkpoints: int
    peak: int
    estimated_peak: int
    card: resources.Card | None
    largest_batch: int | None
    disk: int

    def rows(self) -> Rows:
        """Of the page: what, and how much."""
        where = "of the process, libraries with it: no card"
        if self.card is not None:
            where = f"of {self.card.memory / 1e9:.1f} GB, {self.card.name}"
        largest = "no card" if self.largest_batch is None else str(self.largest_batch)
        return [
            ("steps", f"{self.steps}"),
            ("to the end", in_hours(self.seconds)),
            ("speed", f"{self.tokens_a_second:,.0f} tokens/s"),
            ("peak memory, measured", f"{self.peak / 1e9:.2f} GB {where}"),
            ("peak memory, estimated", f"{self.estimated_peak / 1e9:.2f} GB"),
            ("largest batch that fits", largest),
            ("a checkpoint", f"{self.checkpoint:.1f} s, {self.checkpoints} of them"),
            ("a start or a resume", f"{self.start:.0f} s, and the time to read the real weights"),
            ("disk", f"{self.disk / 1e9:.2f} GB"),
            ("path of the adapter", "it loads whole into a base of these sizes"),
        ]

    def as_json(self) -> dict[str, Any]:
        values = {name: value for name, value in vars(self).items() if name != "card"}
        return {**values, "card": None if self.card is None else self.card.name}


def project(rehearsed: Rehearsed, settings: RunSettings, sizes: tuple[Text, Vision]) -> Projection:
    """The whole run on one card, from what the rehearsal measured."""
    card, measured = resources.find_card(settings), rehearsed.measured
    if card is not None:
        card = replace(card, count=1)
    samples = len(rehearsed.samples.tokens)
    steps = resources.steps_of(settings, samples, processes=1)
    seconds, rate = _steps_seconds(rehearsed, settings, steps)
    checkpoint = float(np.mean(measured["checkpoint_seconds"]))
    checkpoints = resources.checkpoints_written(settings, samples, processes=1)
    estimated = rehearsed.report["memory"]["peak"]
    peak = measured["peak_process_bytes"]
    if measured["peak_card_bytes"] is not None:
        peak = measured["peak_card_bytes"] + CUDA_CONTEXT
    value, low, high = (part + checkpoints * checkpoint for part in seconds)
    return Projection(
        steps=steps,
        seconds=(value, low, high),
        tokens_a_second=rate,
        start=measured["start_seconds"],
        checkpoint=checkpoint,
        checkpoints=checkpoints,
        peak=peak,
        estimated_peak=estimated,
        card=card,
        largest_batch=_largest(rehearsed, settings, sizes, card, peak / estimated),
        disk=resources.disk_needed(settings, sizes, samples, processes=1),
    )


def _steps_seconds(
    rehearsed: Rehearsed, settings: RunSettings, steps: int
) -> tuple[tuple[float, float, float], float]:
    """Seconds of all steps with their interval, and tokens a second.

    A step takes as long as it has tokens, so the whole run's tokens are divided by the speed of the
    steps drawn at random.
    """
    seconds = rehearsed.measured["step_seconds"][LONGEST_STEPS:]
    each = seconds_each(seconds, rehearsed.step_tokens[LONGEST_STEPS:])
    whole = steps * settings.samples_a_step(processes=1) * float(np.mean(rehearsed.samples.tokens))
    value, low, high = (whole * bound for bound in each)
    return (value, low, high), 1 / each[0]


def _largest(
    rehearsed: Rehearsed,
    settings: RunSettings,
    sizes: tuple[Text, Vision],
    card: resources.Card | None,
    scale: float,
) -> int | None:
    """The largest batch whose estimate fits the card, with the margin of the preflight."""
    if card is None:
        return None
    fitting = 0
    for size in range(1, MOST_BATCH + 1):
        changed = replace(settings, per_device_train_batch_size=size)
        needed = resources.estimated(changed, sizes, rehearsed.samples, card).peak
        if needed * max(scale, 1.0) * resources.MARGIN > card.memory:
            break
        fitting = size
    return fitting
