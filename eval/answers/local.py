"""Answers of a model in this process, one padded batch at a time."""

import time
from collections.abc import Sequence
from typing import Any, Literal

from dat_runtime.errors import ModelError
from eval.answers.asks import Answer, Ask
from eval.answers.constrained import AnswerConstraint
from eval.answers.model import Loaded, encode, ends_of
from eval.answers.ruled import RuleConstraint

Constrained = Literal["schema", "rules"] | None
"""What decoding is held to."""


def generate(
    loaded: Loaded, batch: Sequence[Ask], max_new_tokens: int, constrained: Constrained = None
) -> list[Answer]:
    """Greedy answers to one batch; each counts the whole batch's seconds.

    Args:
        constrained: only tokens that lead to an answer of the published schema are chosen, or to
            one that keeps the rules too.

    Raises:
        ModelError: the batch does not fit the card's memory.
    """
    import torch

    options: dict[str, Any] = {}
    # Before the clock starts: grammar and vocabulary are read once for all batches.
    if constrained == "schema":
        options["logits_processor"] = [AnswerConstraint(loaded, len(batch))]
    elif constrained == "rules":
        options["logits_processor"] = [RuleConstraint(loaded, batch, max_new_tokens)]
    started = time.monotonic()
    encoded = encode(loaded.processor, batch).to(loaded.model.device)
    try:
        with torch.inference_mode():
            tokens = loaded.model.generate(
                **encoded, max_new_tokens=max_new_tokens, do_sample=False, **options
            )
    except torch.OutOfMemoryError:
        raise ModelError(
            f"{len(batch)} frames at once do not fit the card's memory: a smaller --batch-size"
        ) from None
    prompt_length = encoded["input_ids"].shape[1]
    new_tokens = tokens[:, prompt_length:]
    texts = loaded.processor.batch_decode(new_tokens, skip_special_tokens=True)
    prompt_tokens = encoded["attention_mask"].sum(dim=1).tolist()
    seconds = time.monotonic() - started
    ends = ends_of(loaded.model)
    return [
        Answer(text, seconds, prompt, _generated(row, ends), cut=_is_cut(row, ends, max_new_tokens))
        for text, prompt, row in zip(texts, prompt_tokens, new_tokens.tolist(), strict=True)
    ]


def _is_cut(tokens: Sequence[int], ends: Sequence[int], most: int) -> bool:
    """Whether the limit came before the end token."""
    return len(tokens) == most and not set(ends) & set(tokens)


def _generated(tokens: Sequence[int], ends: Sequence[int]) -> int:
    """How many tokens there are up to the end token, which counts; the rest is padding."""
    for count, token in enumerate(tokens, 1):
        if token in ends:
            return count
    return len(tokens)
