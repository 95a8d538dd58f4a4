"""What an adapter must show: a change, an improvement, and the same model when it is merged.

Each demand returns what proof.json says about it, or raises a `ModelError` that says which point
fails, by how much, and what to do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dat_runtime.errors import ModelError
from eval.answers.likelihood import Likelihood, Question
from eval.statistics.bootstrap import Interval, mean_interval
from eval.understanding.metrics import difference, measure, score

METRICS = ("parse", "schema", "count_em", "bbox_miou")
JUDGED = METRICS[1:]
"""All but parse: a base that answers in a JSON of its own parses, and is useless all the same."""


@dataclass(frozen=True)
class Tolerance:
    """How far merged weights may be from the adapter on its base.

    Attributes:
        largest: of the differences of a token's log-probability, nats.
        mean: of these differences over all tokens.
        same_choice: least share of tokens at which both prefer the same one.
    """

    largest: float
    mean: float
    same_choice: float


TOLERANCES = {
    "torch.float32": Tolerance(largest=1e-3, mean=1e-4, same_choice=0.999),
    # A merged weight is rounded to 8 significant bits once more, so an update smaller than 1/256 of
    # the weight may vanish or double. In the adapter's own matrices it does neither.
    "torch.bfloat16": Tolerance(largest=1.0, mean=0.05, same_choice=0.97),
}


@dataclass(frozen=True)
class Performance:
    """How a model does on the questions: likelihood of the true answers, and its own answers."""

    likelihood: Likelihood
    texts: list[str]


def demand_change(base: Performance, adapted: Performance, adapter: Path) -> None:
    """Refuse an adapter with which every answer is the base's own."""
    if base.texts == adapted.texts:
        loss = np.abs(base.likelihood.loss - adapted.likelihood.loss).max()
        raise ModelError(
            f"{adapter} changes nothing: all {len(base.texts)} greedy answers are the base's own "
            f"(likelihoods differ by at most {loss:.2g} nats a token): train longer or with a "
            "higher learning rate, and check that the adapter's modules are those of this base"
        )


def demand_better(
    base: Performance, adapted: Performance, questions: Sequence[Question], adapter: Path
) -> dict[str, Any]:
    """Refuse an adapter that makes the true answers no likelier.

    Returns:
        `loss`, `answers`, and as `worse` that its own answers are worse than the base's, or `None`.
    """
    gain = _demand_likelier(base.likelihood, adapted.likelihood, adapter)
    answers, worse = compare({"base": base.texts, "adapted": adapted.texts}, questions)
    if worse is not None:
        worse = f"gives worse answers than its base: {worse}"
    loss = {
        "base": float(base.likelihood.loss.mean()),
        "adapted": float(adapted.likelihood.loss.mean()),
        "difference": gain._asdict(),
    }
    return {"loss": loss, "answers": answers, "worse": worse}


def compare(
    texts: Mapping[str, Sequence[str | None]], questions: Sequence[Question]
) -> tuple[dict[str, Any], str | None]:
    """Answers before and after, and in words that the latter are worse.

    They are where the interval of a difference lies on the worse side.

    Args:
        texts: the answers before and after, each by the name that proof.json gives them.
    """
    truth = [question.truth for question in questions]
    before, after = (measure(truth, answers) for answers in texts.values())
    changes = difference(after, before)
    worse = None
    for name in reversed(JUDGED):  # the first of those that are worse
        change = changes[name]
        if change.high is not None and change.high < 0:
            worse = (
                f"{name} changes by {change.value:+.3f}, 95 % interval "
                f"{change.low:+.3f} to {change.high:+.3f}"
            )
    scores = dict(zip(texts, (score(before), score(after)), strict=True))
    answers = {}
    for name in METRICS:
        answers[name] = {which: of[name].value for which, of in scores.items()}
        answers[name]["difference"] = changes[name]._asdict()
    return answers, worse


def _demand_likelier(base: Likelihood, adapted: Likelihood, adapter: Path) -> Interval:
    """The change of the loss with the adapter; refuse one whose interval does not lie below 0."""
    gain = mean_interval(adapted.loss - base.loss)
    if gain.high is None or gain.high >= 0:
        raise ModelError(
            f"{adapter} scores no better than its base on {len(base.loss)} held-out samples: the "
            f"negative log-likelihood of the true answers changes by {gain.value:+.3f} nats a "
            f"token, 95 % interval {gain.low:+.3f} to {gain.high:+.3f}, expected below 0: train "
            "longer, and check that it was trained on these instructions and this prompt version"
        )
    return gain


def demand_agreement(
    adapted: Likelihood,
    merged: Likelihood,
    tolerance: Tolerance,
    adapter: Path,
    what: str = "merged weights",
) -> dict[str, Any]:
    """Refuse merged or quantised weights that are another model than the adapter on its base."""
    apart = np.abs(np.concatenate(adapted.log_probs) - np.concatenate(merged.log_probs))
    same_choice = np.concatenate(adapted.choices) == np.concatenate(merged.choices)
    largest, mean, same = float(apart.max()), float(apart.mean()), float(same_choice.mean())
    within = largest <= tolerance.largest and mean <= tolerance.mean
    if not within or same < tolerance.same_choice:
        raise ModelError(
            f"{adapter}: {what} differ from the adapter on its base: the log-probabilities "
            f"of {len(apart)} tokens by {mean:.2g} on average and {largest:.2g} at most, "
            f"{same:.2%} prefer the same token; expected at most {tolerance.mean:g} and "
            f"{tolerance.largest:g}, at least {tolerance.same_choice:.1%}: serve the adapter "
            "on its base, or make the form again from this very base"
        )
    return {
        "tokens": len(apart),
        "largest": largest,
        "mean": mean,
        "same_choice": same,
        "tolerance": asdict(tolerance),
    }
