"""Constrained decoding: only tokens that lead to an answer of the published schema."""

from functools import lru_cache
from typing import Any

import numpy as np

from dat_runtime.errors import ModelError
from dat_runtime.schema import ANSWER_SCHEMA
from eval.answers.model import Loaded, ends_of

_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""The white space of the training targets, as `dat_runtime.answer.dump` writes it."""


class AnswerConstraint:
    """A logits processor for one call of `generate` of `rows` sequences.

    Raises:
        ModelError: the schema cannot be compiled for the tokenizer, or a token was taken that the
            schema does not allow.
    """

    def __init__(self, loaded: Loaded, rows: int):
        from llguidance import LLMatcher

        first = LLMatcher(tokenizer_of(loaded), _grammar())
        if first.is_error():
            raise ModelError(f"the answer schema cannot guide this model: {first.get_error()}")
        self._matchers = [first]
        while len(self._matchers) < rows:
            self._matchers.append(first.deep_copy())
        self._started = False

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores (rows, vocabulary), -inf where a token would leave the schema."""
        import torch

        if self._started:  # the first call comes before any token was generated
            self._take(input_ids[:, -1].tolist())
        self._started = True
        vocabulary = scores.shape[-1]
        refused = np.zeros((len(self._matchers), vocabulary), dtype=bool)
        for row, matcher in enumerate(self._matchers):
            # One bit per token, the lowest bit of a byte first; 1 where the token is allowed.
            bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
            refused[row] = np.unpackbits(bits, count=vocabulary, bitorder="little") == 0
        mask = torch.from_numpy(refused).to(scores.device)
        return scores.masked_fill(mask, float("-inf"))

    def _take(self, tokens: list[int]) -> None:
        """Let each row's matcher follow the token that was chosen for it."""
        for matcher, token in zip(self._matchers, tokens, strict=True):
            # After a complete answer come only its end token and padding.
            if matcher.is_stopped():
                continue
            if not matcher.consume_token(token):
                raise ModelError(f"token {token} leaves the schema: {matcher.get_error()}")


@lru_cache(maxsize=1)
def tokenizer_of(loaded: Loaded) -> Any:
    """The tokenizer for llguidance, about a second's work for 150,000 entries."""
    import llguidance.hf

    return llguidance.hf.from_tokenizer(
        loaded.processor.tokenizer,
        n_vocab=loaded.model.get_output_embeddings().weight.shape[0],
        eos_token=ends_of(loaded.model),
    )


@lru_cache(maxsize=1)
def _grammar() -> str:
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_json_schema(ANSWER_SCHEMA, overrides=_SPACING)
