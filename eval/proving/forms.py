"""A form of a tuned model held to the adapter on its base: merged, quantised, or served elsewhere.

The adapter is applied as a server applies it, beside the base's own weights.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime.errors import DataError, ModelError
from dat_runtime.files import read_json_lines
from eval.answers.likelihood import Question
from eval.answers.model import load, with_adapter
from eval.proving.demands import (
    TOLERANCES,
    Performance,
    Tolerance,
    compare,
    demand_agreement,
)
from eval.proving.prove import Say, performance
from eval.proving.quantised import is_quantised, load_quantised
from eval.understanding.metrics import measure
from eval.understanding.requirements import Requirement, RequirementError, unmet_reason
from eval.understanding.scores import scores_of

ANSWERS = "predictions.jsonl"

MERGED = TOLERANCES["torch.bfloat16"]
QUANTISED = Tolerance(largest=2.0, mean=0.1, same_choice=0.94)
"""FP8 keeps 4 significant bits of a weight and of an activation."""


def hold(
    base: str,
    revision: str | None,
    adapter: Path,
    form: Path,
    questions: Sequence[Question],
    say: Say,
) -> dict[str, Any]:
    """Check a form against the adapter on its base; returns what proof.json holds.

    Args:
        form: a model's folder, or one of eval.predict with the answers of a served form.

    Raises:
        ModelError: the form is another model, or answers worse.
    """
    say(f"{len(questions)} held-out samples: the base with the adapter beside it answers")
    loaded = load(base, revision, None)
    adapted = performance(loaded._replace(model=with_adapter(loaded.model, adapter)), questions)
    del loaded  # two models of 7B at once need twice the memory
    say(f"{form.name} answers")
    report: dict[str, Any] = {"samples": [question.ask.id for question in questions]}
    if (form / ANSWERS).is_file():
        texts = answers_in(form, questions)
    else:
        formed, tolerance = _perform(form, base, revision, questions)
        report["agreement"] = demand_agreement(
            adapted.likelihood, formed.likelihood, tolerance, form, "its weights"
        )
        texts = formed.texts
    report["same_answers"] = sum(a == b for a, b in zip(adapted.texts, texts, strict=True))
    report["answers"], worse = compare({"adapter": adapted.texts, "form": texts}, questions)
    if worse is not None:
        raise ModelError(
            f"{form} gives worse answers than its adapter: {worse}: serve the adapter on its base, "
            "or a form with more bits"
        )
    truth = [question.truth for question in questions]
    report["scores"] = scores_of(measure(truth, texts))
    return report


def _perform(
    form: Path, base: str, revision: str | None, questions: Sequence[Question]
) -> tuple[Performance, Tolerance]:
    if is_quantised(form):
        return performance(load_quantised(form, base, revision), questions), QUANTISED
    return performance(load(str(form), None, None), questions), MERGED


def answers_in(form: Path, questions: Sequence[Question]) -> list[str | None]:
    """The answers that eval.predict left in a folder, in pixels of the images that were sent.

    Raises:
        DataError: there is none about one of the questions.
    """
    given = {}
    for _, record in read_json_lines(form / ANSWERS):
        given[record.get("image_id")] = record.get("model_text", record.get("text"))
    missing = [question.ask.id for question in questions if question.ask.id not in given]
    if missing:
        raise DataError(
            f"holds no answer for {missing[0]}, {len(missing)} of {len(questions)} are missing: "
            "run eval.predict with --part val",
            form / ANSWERS,
        )
    return [given[question.ask.id] for question in questions]


def demand_scores(report: dict[str, Any], required: Sequence[Requirement]) -> None:
    """Refuse a form whose answers are not as good as `--require` says.

    Raises:
        RequirementError: names every score that falls short.
    """
    reasons = [unmet_reason(report["scores"], requirement) for requirement in required]
    unmet = [reason for reason in reasons if reason]
    if unmet:
        raise RequirementError("required, but not met: " + "; ".join(unmet))


def summary(report: dict[str, Any]) -> list[str]:
    """The proof in a few lines for a person."""
    lines = [f"{report['same_answers']} of {len(report['samples'])} answers are the adapter's own"]
    agreement = report.get("agreement")
    if agreement:
        lines.append(
            f"log-probabilities differ by {agreement['mean']:.1e} on average, "
            f"{agreement['largest']:.1e} at most over {agreement['tokens']} tokens; "
            f"{agreement['same_choice']:.1%} the same choice"
        )
    moved = []
    for name, values in report["answers"].items():
        moved.append(f"{name} {_number(values['adapter'])} -> {_number(values['form'])}")
    lines.append(", ".join(moved))
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
