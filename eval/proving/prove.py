"""The proof of an adapter: the base, the adapter on it and the merged weights, one by one."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dat_runtime.errors import ModelError
from dat_runtime.fields import shown
from dat_runtime.schema import judge
from eval.answers import local
from eval.answers.adding import add
from eval.answers.likelihood import Question, likelihood
from eval.answers.model import Loaded, with_adapter
from eval.proving.demands import (
    TOLERANCES,
    Performance,
    demand_agreement,
    demand_better,
    demand_change,
)
from eval.understanding.trivial import NAMES

BATCH = 8

Say = Callable[[str], None]
"""Prints a line of progress."""


FORM = 0.5
"""Least share of answers that fit the schema: of less, most frames are left to the gate alone."""


def prove(
    loaded: Loaded,
    adapter: Path,
    questions: Sequence[Question],
    say: Say,
    merge: Callable[[Any, Path], Any] = add,
    rehearsal: bool = False,
) -> dict[str, Any]:
    """Check all three points; returns what proof.json holds.

    Args:
        loaded: the base model, without an adapter; it is changed.
        merge: puts an adapter into the base's weights, from its files alone and as a server does
            it, so that it tells of PEFT what PEFT would hide.
        rehearsal: answers that cannot be used, or are worse than the base's, are stated as
            `misfit`, and no error.

    Raises:
        ModelError: says which point fails, by how much, and what to do.
    """
    say(f"{len(questions)} held-out samples: the base model answers")
    base = performance(loaded, questions)
    say("the same with the adapter")
    tuned = loaded._replace(model=with_adapter(loaded.model, adapter))
    adapted = performance(tuned, questions)
    demand_change(base, adapted, adapter)
    better = demand_better(base, adapted, questions, adapter)
    found = [better["worse"], words_on_form(adapted, questions)]
    misfit = "; ".join(words for words in found if words is not None) or None
    if not rehearsal:
        demand_form(misfit, adapter)
    say("the same with the weights merged from the adapter's file")
    bare = tuned.model.unload()
    merged = likelihood(loaded._replace(model=merge(bare, adapter)), questions, BATCH)
    dtype = str(loaded.model.dtype)
    agreement = demand_agreement(adapted.likelihood, merged, TOLERANCES[dtype], adapter)
    changed = [a != b for a, b in zip(base.texts, adapted.texts, strict=True)]
    shown = changed.index(True)
    example = {
        "sample": questions[shown].ask.id,
        "true": questions[shown].answer,
        "base": base.texts[shown],
        "adapted": adapted.texts[shown],
    }
    return {
        "samples": [question.ask.id for question in questions],
        "dtype": dtype,
        "answers_changed": sum(changed),
        "loss": better["loss"],
        "answers": better["answers"],
        "merged": agreement,
        "example": example,
        "misfit": misfit,
    }


def demand_form(misfit: str | None, adapter: Path) -> None:
    """Refuse an adapter whose answers cannot be used.

    Raises:
        ModelError: says why.
    """
    if misfit is not None:
        raise ModelError(
            f"{adapter}: {misfit}: train longer, or on more samples, and check that the template "
            "is that of the base"
        )


def words_on_form(adapted: Performance, questions: Sequence[Question]) -> str | None:
    """That an adapter's answers cannot be used, however likely the true ones are.

    `None` where enough of them fit the schema.
    """
    fits = []
    for question, text in zip(questions, adapted.texts, strict=True):
        frame = question.ask.frame
        fits.append(judge(text, frame.width, frame.height).schema)
    if sum(fits) >= FORM * len(fits):
        return None
    bad = adapted.texts[fits.index(False)]
    return (
        f"{sum(fits)} of {len(fits)} answers fit the schema, expected at least {FORM:.0%}; one of "
        f"the others is {shown(bad)}"
    )


def performance(loaded: Loaded, questions: Sequence[Question]) -> Performance:
    """Likelihood of the true answers, and greedy answers, at most half as long again as these."""
    tokenizer = loaded.processor.tokenizer
    longest = max(len(tokenizer(question.answer)["input_ids"]) for question in questions)
    texts = []
    for start in range(0, len(questions), BATCH):
        asks = [question.ask for question in questions[start : start + BATCH]]
        for answer in local.generate(loaded, asks, longest + longest // 2):
            texts.append(answer.text)
    return Performance(likelihood(loaded, questions, BATCH), texts)


def summary(report: Mapping[str, Any]) -> list[str]:
    """The proof in a few lines for a person."""
    loss, merged, example = report["loss"], report["merged"], report["example"]
    gain = loss["difference"]
    judged = report.get("fitness")
    moved = []
    for name, values in report["answers"].items():
        moved.append(f"{name} {_number(values['base'])} -> {_number(values['adapted'])}")
    return [
        f"{report['answers_changed']} of {len(report['samples'])} answers differ from the base's",
        f"true answers: {loss['base']:.3f} -> {loss['adapted']:.3f} nats a token "
        f"({gain['value']:+.3f}, {gain['low']:+.3f} to {gain['high']:+.3f}); {', '.join(moved)}",
        f"merged weights agree: {merged['largest']:.1e} at most over {merged['tokens']} tokens, "
        f"{merged['same_choice']:.1%} the same choice",
        f"{example['sample']} true    {example['true']}",
        f"{example['sample']} base    {example['base']}",
        f"{example['sample']} adapted {example['adapted']}",
        *([] if judged is None else fitness_lines(judged)),
    ]


def fitness_lines(judged: Mapping[str, Any]) -> list[str]:
    """Whether it is fit for use, for a person."""
    if judged["reasons"]:
        return [f"NOT FIT FOR USE: {reason}" for reason in judged["reasons"]]
    names = ", ".join(NAMES[name].lower() for name in judged["against"])
    return [f"better than {names} on {judged['frames']} validation frames"]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
