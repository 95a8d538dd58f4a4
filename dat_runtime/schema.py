"""The answer of the MLLM: its schema, how it is read, and what makes it compliant (Table 2)."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from operator import itemgetter
from typing import Any, NamedTuple

from dat_runtime.priority import GAMMA, level_of, target_score
from dat_runtime.types import Accident, Assessment, Box, Size, highest_severity

SCHEMA_VERSION = 1

ANSWER_SCHEMA: dict[str, Any] = json.loads(
    resources.files("dat_runtime").joinpath("answer.schema.json").read_text("utf-8")
)
"""The published JSON Schema; also shipped as `answer.schema.json` beside this module."""

_OVERALL = ANSWER_SCHEMA["properties"]["severity"]["enum"]
_PER_ACCIDENT = ANSWER_SCHEMA["properties"]["accidents"]["items"]["properties"]["severity"]["enum"]
_LEVELS = ANSWER_SCHEMA["properties"]["level"]["enum"]
_SUMMARY_LENGTH = ANSWER_SCHEMA["properties"]["summary"]["maxLength"]


@dataclass(frozen=True)
class Check:
    """The verdict on one answer (the columns of Table 2).

    Attributes:
        parse: the text is one JSON value, without duplicate keys, NaN or Infinity.
        schema: it validates against `ANSWER_SCHEMA`.
        rule: count, severities, level and score agree with one another, as far as they are there.
        violation: some number is out of bounds (lower is better).
        assessment: the answer, typed, when `schema` holds.
        problems: what is wrong, in words.
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
    return Check(*verdict[:4], assessment, problems)


def judge(text: str, width: int, height: int) -> Verdict:
    """`check` for scoring many answers: the same verdict, neither typed nor explained."""
    answer = _compliant(text, width, height)
    if answer is not None:
        return Verdict(True, True, True, False, answer)
    return _examine(text, width, height)[0]


_read = json.JSONDecoder().raw_decode
_fields = itemgetter("count", "severity", "level", "score", "accidents", "summary")


def _compliant(text: str, width: int, height: int) -> dict[str, Any] | None:
    """The answer, if a quick look shows that it meets everything; `None` calls for `_examine`."""
    try:
        answer, end = _read(text)
        count, severity, level, score, accidents, summary = _fields(answer)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not (
        end == len(text)
        and len(answer) == 6
        and type(count) is type(level) is int
        and type(score) in (float, int)
        and type(accidents) is list
        and count == len(accidents)
        and type(summary) is str
        and len(summary) <= _SUMMARY_LENGTH
    ):
        return None
    highest = "none"
    for accident in accidents:
        if not (type(accident) is dict and len(accident) == 2 and "bbox" in accident):
            return None
        bbox, kind = accident["bbox"], accident.get("severity")
        if not (type(bbox) is list and len(bbox) == 4):
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
    if severity != highest or level != (severity == "severe"):
        return None
    if not (GAMMA <= score <= 1 if level else 0 <= score < GAMMA):
        return None
    # Without escapes each colon is a key's or the summary's: one more belongs to a duplicate key.
    if "\\" in text or text.count(":") != 6 + 2 * count + summary.count(":"):
        return None
    return answer  # type: ignore[no-any-return]


def _examine(text: str, width: int, height: int) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on any text, and what is wrong with it."""
    try:
        value = parse(text)
    except ValueError as error:
        return Verdict(False, False, False, False, None), (f"parse: {error}",)
    shape = _schema_problems(value)
    rules = _rule_problems(value)
    bounds = _bound_problems(value, width, height)
    problems = (
        *(f"schema: {p}" for p in shape),
        *(f"rule: {p}" for p in rules),
        *(f"bounds: {p}" for p in bounds),
    )
    return Verdict(True, not shape, not rules, bool(bounds), None if shape else value), problems


def parse(text: str) -> Any:
    """The one JSON value that the text is.

    Raises:
        ValueError: it is not one, or has duplicate keys, NaN, Infinity or an endless nesting.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate key")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"number out of range: {digits[:20]}")
    return number


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equals(value: object, number: int) -> bool:
    """1 and 1.0 are 1, true is not."""
    return _is_number(value) and value == number


def _is_integer(value: object) -> bool:
    """JSON Schema's integer: 2 and 2.0 are, true is not."""
    return _is_number(value) and value == value // 1  # type: ignore[operator]


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "count": (_is_integer, "an integer"),
    "severity": (lambda v: isinstance(v, str) and v in _OVERALL, f"one of {_OVERALL}"),
    "level": (lambda v: _is_integer(v) and v in _LEVELS, f"one of {_LEVELS}"),
    "score": (_is_number, "a number"),
    "accidents": (lambda v: isinstance(v, list), "an array"),
    "summary": (
        lambda v: isinstance(v, str) and len(v) <= _SUMMARY_LENGTH,
        f"a string of at most {_SUMMARY_LENGTH} characters",
    ),
}
_ACCIDENT_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "bbox": (
        lambda v: isinstance(v, list) and len(v) == 4 and all(map(_is_integer, v)),
        "four integers",
    ),
    "severity": (lambda v: isinstance(v, str) and v in _PER_ACCIDENT, f"one of {_PER_ACCIDENT}"),
}


def _schema_problems(value: object) -> list[str]:
    """What `ANSWER_SCHEMA` refuses; written out for speed, held to the file by a property test."""
    problems = _field_problems(value, _FIELDS, "the answer")
    if isinstance(value, dict) and isinstance(value.get("accidents"), list):
        for i, accident in enumerate(value["accidents"]):
            problems += _field_problems(accident, _ACCIDENT_FIELDS, f"accidents[{i}]")
    return problems


def _field_problems(
    value: object, fields: dict[str, tuple[Callable[[Any], bool], str]], where: str
) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where} is not an object"]
    problems = [f"{where} has an unknown key {k!r:.40}" for k in value if k not in fields]
    for key, (holds, expected) in fields.items():
        if key not in value:
            problems.append(f"{where} lacks {key!r}")
        elif not holds(value[key]):
            problems.append(f"{key} of {where} is not {expected}")
    return problems


def _accidents_of(value: dict[str, Any]) -> list[dict[str, Any]]:
    accidents = value.get("accidents")
    return [a for a in accidents if isinstance(a, dict)] if isinstance(accidents, list) else []


def _rule_problems(value: object) -> list[str]:
    """Contradictions between the fields that are there (Eq. 4 among them)."""
    if not isinstance(value, dict) or not value.keys() & _FIELDS.keys():
        return ["nothing of the answer is there"]
    problems = []
    if isinstance(value.get("accidents"), list):
        if "count" in value and not _equals(value["count"], len(value["accidents"])):
            problems.append("count is not the number of accidents")
        severities = [a.get("severity") for a in _accidents_of(value)]
        known = [s for s in severities if s in ("moderate", "severe")]
        if "severity" not in value:
            pass
        elif (value["severity"] == "none") != (not value["accidents"]):
            problems.append("severity is not none exactly when there are no accidents")
        elif (known or not value["accidents"]) and value["severity"] != highest_severity(known):
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
    if _equals(level, 1) and not (_is_number(score) and GAMMA <= score <= 1):  # type: ignore[operator]
        return [f"score is not in [{GAMMA}, 1] at level 1"]
    if _equals(level, 0) and not (_is_number(score) and 0 <= score < GAMMA):  # type: ignore[operator]
        return [f"score is not in [0, {GAMMA}) at level 0"]
    return []


def _bound_problems(value: object, width: int, height: int) -> list[str]:
    """Numbers out of bounds (Viol. of Table 2)."""
    if not isinstance(value, dict):
        return []
    problems = []
    score, count = value.get("score"), value.get("count")
    if _is_number(score) and not 0 <= score <= 1:  # type: ignore[operator]
        problems.append("score outside [0, 1]")
    if _is_number(count) and count < 0:  # type: ignore[operator]
        problems.append("negative count")
    for i, accident in enumerate(_accidents_of(value)):
        bbox: Any = accident.get("bbox")
        if _is_box(bbox):
            x1, y1, x2, y2 = bbox
            if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
                problems.append(f"accidents[{i}] is not a box inside {width} x {height}")
    return problems


_FAR = 10**9
"""Typed numbers end here: integers of any length are JSON, but do not fit a float."""


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _box(bbox: list[int], frame: Size) -> Box:
    x1, y1, x2, y2 = (int(max(-_FAR, min(v, _FAR))) for v in bbox)
    return Box(x1, y1, x2, y2, frame)


def _assessment(value: dict[str, Any], frame: Size) -> Assessment:
    accidents = tuple(Accident(_box(a["bbox"], frame), a["severity"]) for a in value["accidents"])
    return Assessment(
        count=int(max(-_FAR, min(value["count"], _FAR))),
        severity=value["severity"],
        level=int(value["level"]),
        score=float(max(-_FAR, min(value["score"], _FAR))),
        accidents=accidents,
        summary=value["summary"].encode("utf-8", "replace").decode("utf-8"),  # half a character
    )


def in_frame(text: str, source: Size, target: Size) -> str:
    """The answer with its boxes carried from frame `source` to frame `target`, whole pixels.

    The verdict of `check` stays: a box inside its frame keeps at least one pixel inside the other,
    one that is outside or empty stays so, and all else is as it was. A text that does not parse, or
    whose frames are equal, comes back unchanged.
    """
    if source == target:
        return text
    try:
        value = parse(text)
    except ValueError:
        return text
    if not isinstance(value, dict):
        return text
    for accident in _accidents_of(value):
        bbox: Any = accident.get("bbox")
        if _is_box(bbox):
            carried = _carried if all(map(_is_integer, bbox)) else _carried_fractions
            x1, x2 = carried(bbox[0], bbox[2], source.width, target.width)
            y1, y2 = carried(bbox[1], bbox[3], source.height, target.height)
            accident["bbox"] = [x1, y1, x2, y2]
    return json.dumps(value, ensure_ascii=False)


def _carried(low: float, high: float, source: int, target: int) -> tuple[float, float]:
    """Both ends of a box along one axis, whole pixels, in the other frame."""
    start, end = (_coordinate(v, source, target) for v in (low, high))
    if 0 <= low < high <= source and end - start < 1:
        start = min(start, target - 1)
        end = start + 1
    return start, end


def _coordinate(value: float, source: int, target: int) -> int:
    """Never falls as `value` rises; what is outside stays outside."""
    there = round(max(-_FAR, min(value, _FAR)) * target / source)
    if value < 0:
        return min(there, -1)
    return max(there, target + 1) if value > source else there


def _carried_fractions(low: float, high: float, source: int, target: int) -> tuple[float, float]:
    """Both ends unrounded, a hair's breadth inward: fractions stay fractions, and in order."""
    start, end = (max(-_FAR, min(v, _FAR)) * target / source for v in (low, high))
    return start + 2**-20, end - 2**-20


def dump(assessment: Assessment) -> str:
    """The assessment as the text of a compliant answer."""
    return json.dumps(
        {
            "count": assessment.count,
            "severity": assessment.severity,
            "level": assessment.level,
            "score": assessment.score,
            "accidents": [
                {"bbox": list(a.box.pixels()), "severity": a.severity} for a in assessment.accidents
            ],
            "summary": assessment.summary,
        },
        ensure_ascii=False,
    )


def target(accidents: Sequence[Accident]) -> Assessment:
    """The assessment that the labels of a frame call for: the training target.

    Accidents are listed severe first, then from left to right, so that one frame has one answer.
    """
    ordered = tuple(sorted(accidents, key=lambda a: (a.severity != "severe", a.box.x1, a.box.y1)))
    severity = highest_severity([a.severity for a in ordered])
    return Assessment(
        count=len(ordered),
        severity=severity,
        level=level_of(severity),
        score=target_score(ordered),
        accidents=ordered,
        summary=_summary(ordered),
    )


def _summary(accidents: Sequence[Accident]) -> str:
    if not accidents:
        return "No accident."
    severe = sum(a.severity == "severe" for a in accidents)
    parts = [
        f"{n} {s}" for n, s in ((severe, "severe"), (len(accidents) - severe, "moderate")) if n
    ]
    return f"Accidents: {', '.join(parts)}."
