"""Decoding that keeps the rules: a model may take only tokens that `rules.Rules` can follow.

A token is allowed when the automaton can follow all its bytes. In the fixed text and in numbers few
can, and they are found from the automaton's side; a state that was met before is looked up.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from dat_runtime.errors import ModelError
from dat_runtime.types import Size
from eval.answers.asks import Ask
from eval.answers.constrained import tokenizer_of
from eval.answers.model import Loaded, ends_of
from eval.answers.rules import DONE, END, FORBIDDEN, Rules, State, most_accidents

_REMEMBERED = 100_000
"""States for which the allowed tokens are kept; most have less than a dozen."""


class RuleConstraint:
    """A logits processor for one call of `generate`.

    Raises:
        ConfigError: the limit of tokens has no room for a true answer.
        ModelError: the vocabulary cannot spell the answer, or a token was taken that breaks a rule.
    """

    def __init__(self, loaded: Loaded, asks: Sequence[Ask], max_new_tokens: int):
        words = _words(loaded)
        self._guides = []
        for ask in asks:
            self._guides.append(_guide(words, ask.frame, most_accidents(ask, max_new_tokens)))
        self._states = [State()] * len(asks)
        self._started = False

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores (rows, vocabulary), -inf where a token would break a rule."""
        import torch

        if self._started:  # the first call comes before any token was generated
            self._take(input_ids[:, -1].tolist())
        self._started = True
        allowed = torch.full_like(scores, float("-inf"))
        for row, (guide, state) in enumerate(zip(self._guides, self._states, strict=True)):
            if state == DONE:  # padding follows
                allowed[row] = scores[row]
                continue
            tokens = guide.allowed(state, scores.device)
            allowed[row, tokens] = scores[row, tokens]
        return allowed

    def _take(self, tokens: list[int]) -> None:
        """Let each row's automaton follow the token that was chosen for it."""
        for row, token in enumerate(tokens):
            self._states[row] = self._guides[row].follow(self._states[row], token)


class Words:
    """The vocabulary as texts of one character a byte, and which of it a summary may take.

    Attributes:
        texts: of each token; "" for special ones, which no answer holds.
        ids: the tokens of a text.
        prefixes: every beginning of a text.
        beyond: of a beginning with a quotation mark, the characters that come next in some text.
        in_summary, lengths: tokens that a summary may take, and how many of its bytes each is, in
            this order: one that ends in `"` or `"}` ends it.
    """

    def __init__(self, loaded: Loaded):
        tokenizer = tokenizer_of(loaded)
        self.ends = ends_of(loaded.model)
        self.texts: list[str] = []
        self.ids: dict[str, list[int]] = {}
        self.prefixes: set[str] = set()
        self.beyond: dict[str, set[str]] = {}
        in_summary = []
        known = len(loaded.processor.tokenizer)  # the model's head may have more rows
        for token in range(tokenizer.vocab_size):
            special = token >= known or token in self.ends or tokenizer.is_special_token(token)
            text = "" if special else tokenizer.decode_bytes([token]).decode("latin-1")
            self.texts.append(text)
            if not text:
                continue
            self.ids.setdefault(text, []).append(token)
            self.prefixes.update(text[:end] for end in range(1, len(text) + 1))
            for end in range(text.find('"') + 1 or len(text), len(text)):
                self.beyond.setdefault(text[:end], set()).add(text[end])
            inside, _, rest = text.partition('"')
            if not FORBIDDEN.intersection(inside) and rest in ("", "}"):
                in_summary.append((len(inside), token))
        in_summary.sort()
        self.lengths = np.array([length for length, _ in in_summary])
        self.in_summary = [token for _, token in in_summary]
        self._summary: Any = None

    def summary_on(self, device: Any) -> Any:
        """`in_summary` as a tensor there."""
        import torch

        if self._summary is None or self._summary.device != device:
            self._summary = torch.as_tensor(self.in_summary, device=device)
        return self._summary


@lru_cache(maxsize=1)
def _words(loaded: Loaded) -> Words:
    return Words(loaded)


class _Guide:
    """The automaton for one frame over the tokens of a vocabulary, with what is known already."""

    def __init__(self, words: Words, rules: Rules):
        self._words = words
        self._rules = rules
        self._allowed: dict[State, Any] = {}
        self._followed: dict[tuple[State, int], State] = {}

    def allowed(self, state: State, device: Any) -> Any:
        """The tokens that may come next, a tensor (n,)."""
        if state.slot == "summary" and not state.text:
            fitting = int(np.searchsorted(self._words.lengths, state.left, side="right"))
            return self._words.summary_on(device)[:fitting]
        known = self._allowed.get(state)
        if known is None:
            import torch

            if len(self._allowed) >= _REMEMBERED:
                self._allowed.clear()
            tokens = self._tokens(state)
            if not len(tokens):
                raise ModelError("the model's vocabulary cannot spell an answer")
            known = self._allowed[state] = torch.as_tensor(tokens, device=device)
        return known

    def _tokens(self, state: State) -> Sequence[int]:
        words = self._words
        if state == END:
            return words.ends
        found: list[int] = []
        waiting = [("", state)]
        while waiting:
            prefix, at = waiting.pop()
            if at.slot == "summary" and not at.text:  # a token may lead into the summary
                chars = words.beyond.get(prefix, set())
            else:
                chars = set(self._rules.candidates(at))
            for char in chars:
                text = prefix + char
                after = self._rules.step(at, char) if text in words.prefixes else None
                if after is not None:
                    found += words.ids.get(text, ())
                    waiting.append((text, after))
        return found

    def follow(self, state: State, token: int) -> State:
        """The state after a token.

        Raises:
            ModelError: it breaks a rule.
        """
        if state == DONE or (state == END and token in self._words.ends):
            return DONE
        known = self._followed.get((state, token))
        if known is None:
            at: State | None = state
            text = self._words.texts[token] if token < len(self._words.texts) else ""
            for char in text:
                at = None if at is None else self._rules.step(at, char)
            if at is None or not text:
                raise ModelError(f"token {token} breaks a rule of the answer")
            if len(self._followed) >= _REMEMBERED:
                self._followed.clear()
            known = self._followed[state, token] = at
        return known


@lru_cache(maxsize=64)
def _guide(words: Words, frame: Size, most: int) -> _Guide:
    """Frames of one size share what is known."""
    return _Guide(words, Rules(frame, most))
