"""The answer of the MLLM: its schema, how it is read, and what makes it compliant (Table 2)."""

import json
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime import fields
from dat_runtime.files import parse, read_json
from dat_runtime.priority import GAMMA
from dat_runtime.types import Accident, Assessment, Box, Size, highest_severity

__all__ = [
    "ANSWER_SCHEMA",
    "MAX_ACCIDENTS",
    "MAX_CHARACTERS",
    "SCHEMA_VERSION",
    "Check",
    "Verdict",
    "accidents_of",
    "check",
    "is_box",
    "is_integer",
    "judge",
]

SCHEMA_VERSION = 1

ANSWER_SCHEMA: dict[str, Any] = read_json(Path(__file__).with_name("answer.schema.json"))
"""The published JSON Schema; also shipped as `answer.schema.json` beside this module."""

_OVERALL = ANSWER_SCHEMA["properties"]["severity"]["enum"]
_PER_ACCIDENT = ANSWER_SCHEMA["properties"]["accidents"]["items"]["properties"]["severity"]["enum"]
_LEVELS = ANSWER_SCHEMA["properties"]["level"]["enum"]
_SUMMARY_LENGTH = ANSWER_SCHEMA["properties"]["summary"]["maxLength"]

MAX_ACCIDENTS: int = ANSWER_SCHEMA["properties"]["accidents"]["maxItems"]
"""Of one answer."""

MAX_CHARACTERS = 8_000_000
"""A longer text is not read: the longest compliant answer has under 20,000."""

MAX_PROBLEMS = 50
"""Of one answer that are told in words."""


@dataclass(frozen=True)
class Check:
    """The verdict on one answer (the columns of Table 2).

    Attributes:
        parse: the text is one JSON value, without duplicate keys, NaN or Infinity.
        schema: it validates against `ANSWER_SCHEMA`.
        rule: count, severities, level and score agree with one another, as far as they are there.
        violation: some number is out of bounds (lower is better).
        assessment: the answer, typed, when `schema` holds.
        problems: what is wrong, in words; of a great many the first `MAX_PROBLEMS`.
    """

    parse: bool
    schema: bool
    rule: bool
    violation: bool
    assessment: Assessment | None
    problems: tuple[str, ...]


class Verdict(NamedTuple):
    """What `check` decides, without the words: `answer` is the JSON object when `schema` holds."""

    parse: bool
    schema: bool
    rule: bool
    violation: bool
    answer: dict[str, Any] | None


def check(text: str, width: int, height: int) -> Check:
    """Judge the answer for a frame of `width` x `height` pixels. Never raises on any text."""
    answer = _compliant(text, width, height)
    if answer is not None:
        return Check(True, True, True, False, _assessment(answer, Size(width, height)), ())
    verdict, problems = _examine(text, width, height)
    answer = verdict.answer
    assessment = None if answer is None else _assessment(answer, Size(width, height))
    return Check(
        parse=verdict.parse,
        schema=verdict.schema,
        rule=verdict.rule,
        violation=verdict.violation,
        assessment=assessment,
        problems=problems,
    )


def judge(text: str, width: int, height: int) -> Verdict:
    """`check` for scoring many answers: the same verdict, neither typed nor explained."""
    answer = _compliant(text, width, height)
    if answer is not None:
        return Verdict(True, True, True, False, answer)
    return _examine(text, width, height)[0]


_read = json.JSONDecoder().raw_decode
_answer_fields = itemgetter("count", "severity", "level", "score", "accidents", "summary")
_accident_fields = itemgetter("bbox", "severity")


def _compliant(text: str, width: int, height: int) -> dict[str, Any] | None:
    """The answer, if a quick look shows that it meets everything; `None` calls for `_examine`.

    Nearly every answer of a tuned model is compliant, and `_examine` takes several times as long.
    The quick look may refuse what `_examine` allows, such as white space around the value, and
    never allows what it refuses; a property test holds the two together.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    try:
        answer, end = _read(text)
        count, severity, level, score, accidents, summary = _answer_fields(answer)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    # The six fields of the schema and no others, each of its type. `type(...) is int` refuses true,
    # which is an int to Python, and 2.0, which `_examine` allows.
    if not (
        end == len(text)
        and len(answer) == 6
        and type(count) is type(level) is int
        and type(score) in (float, int)
        and type(accidents) is list
        and count == len(accidents) <= MAX_ACCIDENTS
        and type(summary) is str
        and len(summary) <= _SUMMARY_LENGTH
    ):
        return None

    highest = "none"
    for accident in accidents:
        # Two fields and no others; four whole numbers that make a box inside the frame.
        try:
            bbox, kind = _accident_fields(accident)
        except (KeyError, TypeError):
            return None
        if not (len(accident) == 2 and type(bbox) is list and len(bbox) == 4):
            return None
        x1, y1, x2, y2 = bbox
        if not (
            type(x1) is type(y1) is type(x2) is type(y2) is int
            and 0 <= x1 < x2 <= width
            and 0 <= y1 < y2 <= height
        ):
            return None
        if kind == "severe" or (kind == "moderate" and highest != "severe"):
            highest = kind
        elif kind != "moderate":
            return None

    # The rule: the highest severity, level 1 exactly when it is severe, the score in the level's
    # range (Eq. 4). A NaN, which `_read` lets pass, is in neither range.
    if severity != highest or level != (severity == "severe"):
        return None
    if level and not GAMMA <= score <= 1:
        return None
    if not level and not 0 <= score < GAMMA:
        return None

    # A dict forgets duplicate keys, so colons are counted: one a field and accident field, and the
    # summary's own. A further one belongs to a duplicate. With escapes the count would not hold.
    if "\\" in text or text.count(":") != 6 + 2 * count + summary.count(":"):
        return None
    return answer  # type: ignore[no-any-return]


def _examine(text: str, width: int, height: int) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on any text, and what is wrong with it."""
    if len(text) > MAX_CHARACTERS:
        problem = f"parse: {len(text):,} characters, at most {MAX_CHARACTERS:,} are read"
        return Verdict(False, False, False, False, None), (problem,)
    try:
        value = parse(text)
    except ValueError as error:
        return Verdict(False, False, False, False, None), (f"parse: {error}",)
    shape = _schema_problems(value)
    rules = _rule_problems(value)
    bounds = _bound_problems(value, width, height)
    problems = [f"schema: {problem}" for problem in shape]
    problems += [f"rule: {problem}" for problem in rules]
    problems += [f"bounds: {problem}" for problem in bounds]
    answer = None if shape else value
    verdict = Verdict(True, not shape, not rules, bool(bounds), answer)
    return verdict, tuple(problems[:MAX_PROBLEMS])


def is_number(value: object) -> bool:
    """JSON Schema's number: an integer of any length is one, true is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equals(value: object, number: int) -> bool:
    """1 and 1.0 are 1, true is not."""
    return is_number(value) and value == number


def is_integer(value: object) -> bool:
    """JSON Schema's integer: 2 and 2.0 are, true is not."""
    return is_number(value) and value == value // 1  # type: ignore[operator]


_INTEGER = fields.Rule(is_integer, "an integer")

_ANSWER = {
    "count": _INTEGER,
    "severity": fields.one_of(_OVERALL),
    "level": fields.Rule(lambda v: is_integer(v) and v in _LEVELS, f"one of {_LEVELS}"),
    "score": fields.Rule(is_number, "a number"),
    "accidents": fields.Rule(
        lambda v: isinstance(v, list) and len(v) <= MAX_ACCIDENTS,
        f"a list of at most {MAX_ACCIDENTS} accidents",
    ),
    "summary": fields.Rule(
        lambda v: isinstance(v, str) and len(v) <= _SUMMARY_LENGTH,
        f"a text of at most {_SUMMARY_LENGTH} characters",
    ),
}
_ACCIDENT = {
    "bbox": fields.list_of(_INTEGER, 4, 4),
    "severity": fields.one_of(_PER_ACCIDENT),
}


def _schema_problems(value: object) -> list[str]:
    """What `ANSWER_SCHEMA` refuses; written out for speed, held to the file by a property test."""
    problems = list(fields.problems(value, _ANSWER, ""))
    if isinstance(value, dict) and isinstance(value.get("accidents"), list):
        for i, accident in enumerate(value["accidents"][:MAX_ACCIDENTS]):
            problems += fields.problems(accident, _ACCIDENT, f"accidents[{i}]")
    return problems


def accidents_of(value: dict[str, Any]) -> list[dict[str, Any]]:
    """The accidents of a parsed answer that are objects, whatever else is wrong with it."""
    accidents = value.get("accidents")
    if not isinstance(accidents, list):
        return []
    return [accident for accident in accidents if isinstance(accident, dict)]


def _rule_problems(value: object) -> list[str]:
    """Contradictions between the fields that are there (Eq. 4 among them)."""
    if not isinstance(value, dict) or not value.keys() & _ANSWER.keys():
        return ["it has none of the answer's fields"]
    problems = []
    if isinstance(value.get("accidents"), list):
        if "count" in value and not _equals(value["count"], len(value["accidents"])):
            problems.append("count is not the number of accidents")
        severities = [a.get("severity") for a in accidents_of(value)]
        known = [s for s in severities if s in ("moderate", "severe")]
        if "severity" in value:
            is_none = value["severity"] == "none"
            has_accidents = bool(value["accidents"])
            if is_none == has_accidents:
                problems.append("severity is not none exactly when there are no accidents")
            elif (known or not has_accidents) and value["severity"] != highest_severity(known):
                # With accidents of unknown severity only, nothing is known of the highest.
                problems.append("severity is not the highest of the accidents'")
    if value.keys() >= {"level", "severity"} and (
        _equals(value["level"], 1) != (value["severity"] == "severe")
    ):
        problems.append("level is not 1 exactly when severity is severe")
    if "score" in value and "level" in value:
        problems += _score_problems(value["level"], value["score"])
    return problems


def _score_problems(level: object, score: object) -> list[str]:
    """Eq. 4: r in [γ, 1] at level 1, in [0, γ) at level 0."""
    if _equals(level, 1) and not (is_number(score) and GAMMA <= score <= 1):  # type: ignore[operator]
        return [f"score is not in [{GAMMA}, 1] at level 1"]
    if _equals(level, 0) and not (is_number(score) and 0 <= score < GAMMA):  # type: ignore[operator]
        return [f"score is not in [0, {GAMMA}) at level 0"]
    return []


def _bound_problems(value: object, width: int, height: int) -> list[str]:
    """Numbers out of bounds (Viol. of Table 2)."""
    if not isinstance(value, dict):
        return []
    problems = []
    score, count = value.get("score"), value.get("count")
    if is_number(score) and not 0 <= score <= 1:  # type: ignore[operator]
        problems.append("score outside [0, 1]")
    if is_number(count) and count < 0:  # type: ignore[operator]
        problems.append("negative count")
    for i, accident in enumerate(accidents_of(value)):
        bbox: Any = accident.get("bbox")
        if is_box(bbox):
            x1, y1, x2, y2 = bbox
            if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
                problems.append(f"accidents[{i}] is not a box inside {width} x {height}")
    return problems


FAR = 10**9
"""Typed numbers are cut off here: integers of any length are JSON, but do not fit a float."""


def is_box(value: Any) -> bool:
    """Whether it is a list of four numbers."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def _box(bbox: list[int], frame: Size) -> Box:
    x1, y1, x2, y2 = (int(max(-FAR, min(v, FAR))) for v in bbox)
    return Box(x1, y1, x2, y2, frame)


def _assessment(value: dict[str, Any], frame: Size) -> Assessment:
    accidents = tuple(Accident(_box(a["bbox"], frame), a["severity"]) for a in value["accidents"])
    return Assessment(
        count=int(max(-FAR, min(value["count"], FAR))),
        severity=value["severity"],
        level=int(value["level"]),
        score=float(max(-FAR, min(value["score"], FAR))),
        accidents=accidents,
        # Half a character (a lone surrogate), which JSON allows and UTF-8 does not, becomes "?".
        summary=value["summary"].encode("utf-8", "replace").decode("utf-8"),
    )
