"""Decoding that keeps the rules: whatever a model prefers, its answer is compliant (Table 2).

An automaton of our own follows the answer character by character, in the order and with the white
space of the training targets. What comes first binds what follows: `count` the number of accidents,
the overall severity theirs and the level, the level the score, and the corners x1 and y1 of a box
the other two. So no field waits for a later one, and a model is never asked to look ahead.

    count      0 to what fits into the limit of tokens, so that no answer is cut off
    severity   none exactly without accidents
    level      1 exactly when it is severe
    score      two decimals, from γ on at level 1, below it at level 0 (Eq. 4)
    bbox       whole pixels, 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
    severity   of an accident: none above the overall one, and the last one severe where none was
    summary    up to 200 bytes without quotation marks, backslashes and control characters

`ruled` lets a model take only tokens that the automaton can follow. Pure.
"""

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dat_runtime.errors import ConfigError
from dat_runtime.priority import GAMMA, level_of
from dat_runtime.schema import ANSWER_SCHEMA, MAX_ACCIDENTS, judge
from dat_runtime.types import SEVERITIES, Size
from eval.answers.asks import Ask

SUMMARY_BYTES: int = ANSWER_SCHEMA["properties"]["summary"]["maxLength"]
LEAST_ACCIDENTS = 8
"""Room that an answer has at least, where all true answers have fewer."""

Options = range | tuple[str, ...]
"""Values that a field may have: whole numbers, or texts."""

_SCORES = tuple(
    tuple(json.dumps(k / 100) for k in part)
    for part in (range(round(100 * GAMMA)), range(round(100 * GAMMA), 101))
)
"""By level."""

_START = '{"count": '
_ACCIDENT = '{"bbox": ['
_SUMMARY = '], "summary": "'
FORBIDDEN = frozenset(map(chr, range(32))) | frozenset('"\\')
"""Characters that a summary does not have: those that JSON would have to escape."""


class State(NamedTuple):
    """Where an answer is.

    Attributes:
        text: what comes next, whatever the model prefers.
        slot: the field whose value follows it.
        typed: what is there of that value; of the summary nothing.
        left: accidents that are still to come, or the bytes that the summary may still have.
        severity: the overall one.
        seen: whether an accident was severe.
        x1, y1: of the box that is not complete; -1 where they no longer matter.
    """

    text: str = _START
    slot: str = "count"
    typed: str = ""
    left: int = 0
    severity: str = ""
    seen: bool = False
    x1: int = -1
    y1: int = -1


END = State("", "end")
DONE = State("", "done")


class Rules:
    """The automaton for one frame.

    Args:
        frame: the size of the image sent; boxes are in its pixels.
        most: accidents of an answer.
    """

    def __init__(self, frame: Size, most: int):
        self._frame = frame
        self._most = most

    def step(self, state: State, char: str) -> State | None:
        """The state after a character; `None` where it breaks a rule."""
        if state.text:
            return state._replace(text=state.text[1:]) if char == state.text[0] else None
        if state.slot == "summary":
            if char == '"':
                return State("}", "end")
            fits = state.left > 0 and char not in FORBIDDEN
            return state._replace(left=state.left - 1) if fits else None
        if state.slot in ("end", "done"):
            return None
        options = self._options(state)
        typed = state.typed + char
        if _begins(options, typed):
            return state._replace(typed=typed)
        if _is_one(options, state.typed):
            after = self._after(state)
            return after._replace(text=after.text[1:]) if char == after.text[0] else None
        return None

    def candidates(self, state: State) -> Iterator[str]:
        """Characters that may come next, and some that may not; of a summary none are named."""
        if state.text:
            yield state.text[0]
        elif state.slot not in ("summary", "end", "done"):
            options = self._options(state)
            if isinstance(options, range):
                yield from "0123456789"
            else:
                place = len(state.typed)
                yield from {o[place] for o in options if o.startswith(state.typed) and o[place:]}
            if _is_one(options, state.typed):
                yield self._after(state).text[0]

    def _options(self, state: State) -> Options:
        """The values that the field may have after those before it."""
        width, height = self._frame.width, self._frame.height
        match state.slot:
            case "count":
                return range(self._most + 1)
            case "severity":
                return SEVERITIES if state.left else ("none",)
            case "level":
                return (str(level_of(state.severity)),)
            case "score":
                return _SCORES[level_of(state.severity)]
            case "x1":
                return range(width)
            case "y1":
                return range(height)
            case "x2":
                return range(state.x1 + 1, width + 1)
            case "y2":
                return range(state.y1 + 1, height + 1)
        # The severity of an accident, `left` of which this one is the first.
        if state.severity == "moderate":
            return ("moderate",)
        return SEVERITIES if state.seen or state.left > 1 else ("severe",)

    def _after(self, state: State) -> State:
        """The state after a value that is complete: the text up to the next one."""
        value, state = state.typed, state._replace(typed="")
        match state.slot:
            case "count":
                return state._replace(text=', "severity": "', slot="severity", left=int(value))
            case "severity":
                return state._replace(text='", "level": ', slot="level", severity=value)
            case "level":
                return state._replace(text=', "score": ', slot="score")
            case "score":
                return _next_accident(state, ', "accidents": [')
            case "x1":
                return state._replace(text=", ", slot="y1", x1=int(value))
            case "y1":
                return state._replace(text=", ", slot="x2", y1=int(value))
            case "x2":
                return state._replace(text=", ", slot="y2", x1=-1)
            case "y2":
                return state._replace(text='], "severity": "', slot="kind", y1=-1)
        seen = state.seen or value == "severe"
        state = state._replace(left=state.left - 1, seen=seen)
        return _next_accident(state, '"}, ' if state.left else '"}')


def _next_accident(state: State, text: str) -> State:
    if state.left:
        return state._replace(text=text + _ACCIDENT, slot="x1")
    return State(text + _SUMMARY, "summary", left=SUMMARY_BYTES)


def _begins(options: Options, typed: str) -> bool:
    """Whether a value of the options begins so."""
    if not isinstance(options, range):
        return any(option.startswith(typed) for option in options)
    if not typed.isdecimal() or (typed[0] == "0" and typed != "0"):
        return False
    low, high = options.start, options.stop - 1
    first = last = int(typed)
    while first <= high:
        if last >= low:
            return True
        if first == 0:
            return False
        first, last = 10 * first, 10 * last + 9  # one digit more
    return False


def _is_one(options: Options, typed: str) -> bool:
    if isinstance(options, range):
        return typed != "" and int(typed) in options
    return typed in options


def room(accidents: int, frame: Size) -> int:
    """Tokens that an answer with so many accidents may take at most: a byte each, and the end."""
    ends = len(_START + '64, "severity": "moderate", "level": 0, "score": 0.00, "accidents": [')
    digits = 2 * len(str(frame.width)) + 2 * len(str(frame.height))
    each = len(_ACCIDENT + ", , , " + '], "severity": "moderate"}, ') + digits
    return ends + accidents * each + len(_SUMMARY) + SUMMARY_BYTES + len('"}') + 1


def room_for(asks: Sequence[Ask]) -> int:
    """Tokens with which every true answer can be given, and one of `LEAST_ACCIDENTS`."""
    return max(room(max(LEAST_ACCIDENTS, _true_count(ask)), ask.frame) for ask in asks)


def _true_count(ask: Ask) -> int:
    answer = judge(ask.truth, ask.frame.width, ask.frame.height).answer
    return 0 if answer is None else len(answer["accidents"])


def most_accidents(ask: Ask, max_new_tokens: int) -> int:
    """How many accidents an answer within the limit can have.

    Raises:
        ConfigError: fewer than the true answer has.
    """
    most = MAX_ACCIDENTS
    while most >= 0 and room(most, ask.frame) > max_new_tokens:
        most -= 1
    if most < _true_count(ask):
        raise ConfigError(
            f"decoding that keeps the rules has room for the true answer of {ask.id} from "
            f"--max-new-tokens {room(_true_count(ask), ask.frame)} on, and it is {max_new_tokens}: "
            "raise it, or leave it out"
        )
    return most
