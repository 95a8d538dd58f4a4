"""The answer's contract: each verdict on its own, against jsonschema, on any text."""

import copy
import json
from dataclasses import replace
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.answer import dump, in_frame, target
from dat_runtime.files import parse
from dat_runtime.schema import (
    ANSWER_SCHEMA,
    MAX_CHARACTERS,
    MAX_PROBLEMS,
    Verdict,
    _compliant,
    check,
    judge,
)
from dat_runtime.types import Accident, Box, Severity, Size

VALIDATOR = jsonschema.Draft202012Validator(ANSWER_SCHEMA)
WIDTH, HEIGHT = 640, 480
FRAME = Size(WIDTH, HEIGHT)

GOOD: dict[str, Any] = {
    "count": 2,
    "severity": "severe",
    "level": 1,
    "score": 0.83,
    "accidents": [
        {"bbox": [101, 220, 318, 402], "severity": "severe"},
        {"bbox": [400, 180, 471, 240], "severity": "moderate"},
    ],
    "summary": "Two collisions; a car lies overturned in the left lane.",
}
QUIET: dict[str, Any] = {
    "count": 0,
    "severity": "none",
    "level": 0,
    "score": 0.0,
    "accidents": [],
    "summary": "",
}


def verdicts(answer: object) -> str:
    """The four verdicts as letters: P S R when they hold, V for a violation."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    found = check(text, WIDTH, HEIGHT)
    assert judge(text, WIDTH, HEIGHT)[:4] == (
        found.parse,
        found.schema,
        found.rule,
        found.violation,
    )
    assert (found.assessment is not None) == found.schema
    assert bool(found.problems) == (verdict_letters(found) != "PSR")
    return verdict_letters(found)


def verdict_letters(found: Any) -> str:
    flags = (found.parse, found.schema, found.rule, found.violation)
    return "".join(letter for letter, flag in zip("PSRV", flags, strict=True) if flag)


def changed(path: tuple[str | int, ...], value: object, base: dict[str, Any] = GOOD) -> Any:
    answer = copy.deepcopy(base)
    place: Any = answer
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return answer


def lacking(key: str) -> dict[str, Any]:
    return {k: v for k, v in GOOD.items() if k != key}


def test_the_contracts_example_is_compliant_and_read_into_types() -> None:
    assert verdicts(GOOD) == "PSR"
    assessment = check(json.dumps(GOOD), WIDTH, HEIGHT).assessment
    assert assessment is not None
    assert (assessment.count, assessment.severity, assessment.level) == (2, "severe", 1)
    assert assessment.accidents[1] == Accident(Box(400, 180, 471, 240, FRAME), "moderate")


def test_a_frame_without_accidents_is_compliant() -> None:
    assert verdicts(QUIET) == "PSR"


def test_the_shipped_file_is_the_schema() -> None:
    shipped = resources.files("dat_runtime").joinpath("answer.schema.json").read_text("utf-8")
    assert json.loads(shipped) == ANSWER_SCHEMA
    jsonschema.Draft202012Validator.check_schema(ANSWER_SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "no JSON",
        f"```json\n{json.dumps(GOOD)}\n```",
        json.dumps(GOOD) + " {}",
        json.dumps(GOOD)[:-1],
        json.dumps(GOOD).replace("0.83", "NaN"),
        json.dumps(GOOD).replace("0.83", "Infinity"),
        json.dumps(GOOD).replace("0.83", "-Infinity"),
        json.dumps(GOOD).replace("0.83", "1e999"),
        json.dumps(GOOD).replace('"count"', '"count": 2, "count"'),
        json.dumps(GOOD).replace('"bbox"', '"severity": "severe", "bbox"', 1),
        json.dumps(GOOD).replace('"count"', '"co\\u0075nt": 2, "count"'),
        json.dumps(changed(("summary",), "a: b")).replace(":", "\\u003a", 1),
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000,
        "9" * 5_000,
        "\ufeff" + json.dumps(GOOD),
        '"\x00"',
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_what_is_not_one_json_value_fails_parse_schema_and_rule_and_is_no_violation(
    text: str,
) -> None:
    assert verdicts(text) == ""


def test_a_duplicate_key_cannot_hide_behind_an_escaped_colon() -> None:
    text = json.dumps(changed(("summary",), "a: b")).replace("a:", "a\\u003a")
    assert verdicts(text) == "PSR"
    assert verdicts(text.replace('"count"', '"count": 2, "count"')) == ""


def test_white_space_around_the_value_and_escapes_in_it_are_json() -> None:
    assert verdicts("\n\t " + json.dumps(GOOD, indent=2) + " \n") == "PSR"
    assert verdicts(json.dumps(changed(("summary",), 'a "b" \\ é \u2028'))) == "PSR"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        # schema alone: the rest is judged on what is there
        (lacking("summary"), "PR"),
        (lacking("count"), "PR"),
        (lacking("score"), "PR"),
        (lacking("level"), "PR"),
        (lacking("severity"), "PR"),
        (lacking("accidents"), "PR"),
        ({**GOOD, "note": 1}, "PR"),
        (changed(("accidents", 0, "note"), 1), "PR"),
        (changed(("summary",), "x" * 201), "PR"),
        (changed(("summary",), None), "PR"),
        (changed(("accidents", 0, "bbox"), [1, 2, 3]), "PR"),
        (changed(("accidents", 0, "bbox"), [1.5, 2, 30, 40]), "PR"),
        (changed(("accidents", 1, "severity"), "minor"), "PR"),
        (changed(("accidents", 1, "severity"), ["moderate"]), "PR"),
        (changed(("accidents", 1), None), "PR"),
        # an object with nothing of the answer in it has nothing that could hold the rule
        ({"number": 3, "first": "red"}, "P"),
        ({}, "P"),
        # rule alone
        (changed(("count",), 1), "PS"),
        (changed(("level",), 0), "PS"),
        (changed(("score",), 0.4), "PS"),
        (changed(("severity",), "moderate"), "PS"),
        (changed(("severity",), "none", QUIET) | {"severity": "moderate"}, "PS"),
        (changed(("score",), 0.5, QUIET), "PS"),
        (changed(("accidents",), [{}]) | {"count": 1, "severity": "none", "level": 0}, "P"),
        (changed(("accidents",), [None]) | {"count": 1}, "PR"),
        (changed(("accidents",), []) | {"count": 0}, "PS"),
        (changed(("accidents", 0, "severity"), "moderate"), "PS"),
        ({"level": 1, "severity": "moderate"}, "P"),
        ({"level": 1, "severity": "severe"}, "PR"),
        (changed(("accidents",), [GOOD["accidents"][0]]) | {"count": True}, "P"),
        ({**GOOD, "level": True}, "P"),
        # bounds alone
        (changed(("accidents", 0, "bbox"), [0, 0, WIDTH + 1, 10]), "PSRV"),
        (changed(("accidents", 0, "bbox"), [-1, 0, 10, 10]), "PSRV"),
        (changed(("accidents", 0, "bbox"), [10, 0, 10, 10]), "PSRV"),
        (changed(("accidents", 0, "bbox"), [0, 20, 10, 10]), "PSRV"),
        (changed(("accidents", 0, "bbox"), [0, 10, 10, 10]), "PSRV"),
        (changed(("accidents", 0, "bbox"), [0, 0, 10**400, 10]), "PSRV"),
        # several at once
        (changed(("score",), 1.2), "PSV"),
        (changed(("score",), 10**400), "PSV"),
        (changed(("count",), -1), "PSV"),
        (changed(("count",), "2"), "P"),
        (changed(("level",), 2), "P"),
        (changed(("accidents", 0, "bbox"), [-1.5, 0, 10, 10]), "PRV"),
        # JSON, but no object
        ([], "P"),
        (None, "P"),
        ("null", "P"),
        ('"text"', "P"),
        (True, "P"),
        (7, "P"),
        ([GOOD], "P"),
    ],
    ids=lambda value: value if isinstance(value, str) else ascii(value)[:40],
)
def test_each_verdict_is_judged_on_its_own(answer: object, expected: str) -> None:
    assert verdicts(answer) == expected


@pytest.mark.parametrize(
    ("score", "level", "expected"),
    [
        (0.5, 1, "PSR"),
        (1, 1, "PSR"),
        (1.0, 1, "PSR"),
        (0.49, 1, "PS"),
        (0.49, 0, "PSR"),
        (0.0, 0, "PSR"),
        (0.5, 0, "PS"),
        (1.01, 1, "PSV"),
        (-0.01, 0, "PSV"),
    ],
)
def test_gamma_parts_the_scores_of_the_levels(score: float, level: int, expected: str) -> None:
    severity = "severe" if level else "moderate"
    accident = {"bbox": [0, 0, WIDTH, HEIGHT], "severity": severity}
    answer = {
        **QUIET,
        "count": 1,
        "severity": severity,
        "level": level,
        "score": score,
        "accidents": [accident],
    }
    assert verdicts(answer) == expected
    assert verdicts(" " + json.dumps(answer)) == expected  # white space: past the quick look


SMALL = {"bbox": [0, 0, WIDTH, HEIGHT], "severity": "moderate"}
LARGE = {"bbox": [1, 1, 2, 2], "severity": "severe"}
ONE: dict[str, Any] = {**QUIET, "count": 1, "severity": "moderate", "accidents": [SMALL]}


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        QUIET,
        {**ONE, "score": 0.49, "summary": "a: b".ljust(200)},
        {**GOOD, "score": 1, "accidents": [SMALL, LARGE]},
        {**GOOD, "score": 0.5, "count": 64, "accidents": [LARGE] * 64},
    ],
    ids=lambda answer: f"{answer['count']} {answer['severity']}",
)
def test_a_quick_look_is_enough_for_a_compliant_answer(answer: dict[str, Any]) -> None:
    text = json.dumps(answer)
    assert _compliant(text, WIDTH, HEIGHT) == answer
    assert _compliant(" " + text, WIDTH, HEIGHT) is None
    quick, full = check(text, WIDTH, HEIGHT), check(" " + text, WIDTH, HEIGHT)
    assert (quick.problems, quick.assessment) == ((), full.assessment)
    assert judge(text, WIDTH, HEIGHT) == Verdict(True, True, True, False, answer)


def test_a_severity_that_is_not_known_does_not_pass_at_the_quick_look() -> None:
    minor = {**ONE, "severity": "minor", "accidents": [{**SMALL, "severity": "minor"}]}
    assert verdicts(minor) == "PR"


def words(answer: object) -> tuple[str, ...]:
    return check(json.dumps(answer), WIDTH, HEIGHT).problems


def test_what_is_wrong_is_told_in_these_words() -> None:
    assert words({**GOOD, "count": 1, "severity": "none", "level": 0, "score": 0.5}) == (
        "rule: count is not the number of accidents",
        "rule: severity is not none exactly when there are no accidents",
        "rule: score is not in [0, 0.5) at level 0",
    )
    assert words({**GOOD, "severity": "moderate", "score": 0.49}) == (
        "rule: severity is not the highest of the accidents'",
        "rule: level is not 1 exactly when severity is severe",
        "rule: score is not in [0.5, 1] at level 1",
    )
    outside = changed(("accidents", 1, "bbox"), [0, 0, 641, 480])
    assert words({**outside, "count": -1, "score": 1.5})[2:] == (
        "bounds: score outside [0, 1]",
        "bounds: negative count",
        "bounds: accidents[1] is not a box inside 640 x 480",
    )
    assert words([]) == (
        "schema: [] is not an object with the keys "
        "count, severity, level, score, accidents, summary",
        "rule: it has none of the answer's fields",
    )
    assert words(lacking("level")) == ("schema: level is missing",)
    [broken] = words(changed(("accidents", 1, "severity"), "minor"))
    assert broken.startswith("schema: accidents[1]: severity is 'minor', expected ")
    [long] = check("x" * (MAX_CHARACTERS + 1), WIDTH, HEIGHT).problems
    assert long == "parse: 8,000,001 characters, at most 8,000,000 are read"
    nothing = Verdict(False, False, False, False, None)
    assert judge("x" * (MAX_CHARACTERS + 1), WIDTH, HEIGHT) == nothing
    assert judge("no JSON", WIDTH, HEIGHT) == nothing
    assert judge(json.dumps(GOOD).ljust(MAX_CHARACTERS), WIDTH, HEIGHT).answer == GOOD


@pytest.mark.parametrize(("length", "expected"), [(200, "PSR"), (201, "PR")])
def test_a_summary_has_two_hundred_characters_at_most(length: int, expected: str) -> None:
    answer = {**GOOD, "summary": "ü" * length}
    assert verdicts(answer) == expected
    assert verdicts(json.dumps(answer, ensure_ascii=False)) == expected
    assert verdicts(" " + json.dumps(answer, ensure_ascii=False)) == expected


def test_a_whole_float_is_an_integer_as_json_schema_says() -> None:
    assert verdicts(changed(("count",), 2.0)) == "PSR"
    assert verdicts(changed(("accidents", 0, "bbox"), [101.0, 220, 318, 402])) == "PSR"
    assert verdicts(changed(("count",), True)) == "P"


def test_half_a_character_is_judged_as_it_is_and_told_as_a_question_mark() -> None:
    text = json.dumps(GOOD).replace("Two", "\\ud800")
    assert verdicts(text) == "PSR"
    assessment = check(text, WIDTH, HEIGHT).assessment
    assert assessment is not None
    assert assessment.summary.encode("utf-8").startswith(b"? collisions")
    assert verdicts("\ud800") == ""


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 700)
    | st.sampled_from([0.0, 0.49, 0.5, 0.83, 1.0, 1.5, 2.0, -0.5, 10**20, 1e300])
    | st.sampled_from(["none", "moderate", "severe", "", "a: b", '"', "\\", "x" * 201])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
SEVERITIES = st.sampled_from(["moderate", "severe"])
COORDINATE = st.integers(-2, WIDTH + 2)
BOXES = st.lists(COORDINATE, min_size=4, max_size=4) | VALUES
ACCIDENT = st.fixed_dictionaries(
    {"bbox": BOXES, "severity": SEVERITIES | VALUES}, optional={"extra": VALUES}
)
ANSWER = st.fixed_dictionaries(
    {},
    optional={
        "count": st.integers(-1, 3) | VALUES,
        "severity": st.sampled_from(["none", "moderate", "severe"]) | VALUES,
        "level": st.integers(0, 1) | VALUES,
        "score": st.floats(-0.1, 1.1) | VALUES,
        "accidents": st.lists(ACCIDENT | VALUES, max_size=3) | VALUES,
        "summary": st.text(max_size=8) | VALUES,
        "extra": VALUES,
    },
)


@st.composite
def nearly_good(draw: st.DrawFn) -> Any:
    """The good answer with some of its values replaced."""
    answer = copy.deepcopy(GOOD)
    paths: list[tuple[str | int, ...]] = [(k,) for k in GOOD]
    paths += [("accidents", 0, "bbox"), ("accidents", 1, "severity"), ("accidents", 1)]
    for path in draw(st.lists(st.sampled_from(paths), max_size=2, unique=True)):
        if len(path) == 1 or isinstance(answer["accidents"], list):
            answer = changed(path, draw(VALUES), answer) if _reachable(answer, path) else answer
    return answer


def _reachable(answer: Any, path: tuple[str | int, ...]) -> bool:
    try:
        for step in path[:-1]:
            answer = answer[step]
        answer[path[-1]]
    except (KeyError, IndexError, TypeError):
        return False
    return isinstance(answer, dict | list)


@settings(max_examples=400, deadline=None)
@given(ANSWER | nearly_good() | VALUES)
def test_schema_agrees_with_jsonschema(answer: object) -> None:
    assert check(json.dumps(answer), WIDTH, HEIGHT).schema == VALIDATOR.is_valid(answer)


@settings(max_examples=300, deadline=None)
@given(nearly_good() | ANSWER)
def test_the_quick_look_and_the_full_examination_agree(answer: object) -> None:
    """A space in front keeps the text from the quick look and changes nothing in the answer."""
    text = json.dumps(answer)
    assert judge(text, WIDTH, HEIGHT) == judge(" " + text, WIDTH, HEIGHT)


DAMAGE = """``` NaN "count":2, : , { } [ ] " \\ \\u003a \\ud800 1e400 - true null \x00 é severe"""
PIECES = st.sampled_from([*DAMAGE.split(" "), " ", "9" * 400])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 6), PIECES), max_size=4))
def test_no_damage_to_an_answer_makes_check_raise(cuts: list[tuple[int, int, str]]) -> None:
    text = json.dumps(GOOD)
    for at, length, piece in cuts:
        text = text[:at] + piece + text[at + length :]
    verdicts(text)
    assert judge(text, WIDTH, HEIGHT) == judge(" " + text, WIDTH, HEIGHT)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_no_text_makes_check_raise(text: str) -> None:
    verdicts(text)


def test_a_long_text_is_judged_too() -> None:
    assert verdicts("[" + "0," * 2_000_000 + "0]") == "P"
    assert verdicts(" " * 5_000_000) == ""


@st.composite
def labels(draw: st.DrawFn) -> list[Accident]:
    accidents = []
    for _ in range(draw(st.integers(0, 4))):
        x1, y1 = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
        x2, y2 = draw(st.integers(x1 + 1, WIDTH)), draw(st.integers(y1 + 1, HEIGHT))
        accidents.append(Accident(Box(x1, y1, x2, y2, FRAME), draw(SEVERITIES)))
    return accidents


@settings(deadline=None)
@given(labels())
def test_training_targets_are_compliant_and_come_back_as_they_were(
    accidents: list[Accident],
) -> None:
    wanted = target(accidents)
    assert verdicts(dump(wanted)) == "PSR"
    assert check(dump(wanted), WIDTH, HEIGHT).assessment == wanted


def test_a_target_lists_severe_accidents_first_then_from_left_to_right_and_down() -> None:
    def accident(x: int, y: int, severity: Severity) -> Accident:
        return Accident(Box(x, y, x + 9, y + 9, FRAME), severity)

    ordered = [
        accident(300, 0, "severe"),
        accident(400, 9, "severe"),
        accident(400, 50, "severe"),
        accident(0, 99, "moderate"),
        accident(20, 0, "moderate"),
    ]
    for listed in (ordered, ordered[::-1], ordered[2:] + ordered[:2]):
        assert list(target(listed).accidents) == ordered
    assert target(ordered).summary == "Accidents: 3 severe, 2 moderate."


def test_an_answer_is_written_in_the_letters_of_its_summary() -> None:
    assert target([]).summary == "No accident."
    assert '"Zwei Autos, quer über der Straße"' in dump(
        replace(target([]), summary="Zwei Autos, quer über der Straße")
    )


def test_an_answer_in_another_frame_keeps_the_letters_of_its_summary() -> None:
    text = json.dumps({**GOOD, "summary": "über der Straße"}, ensure_ascii=False)
    assert '"über der Straße"' in in_frame(text, FRAME, Size(320, 240))


def test_a_fraction_at_the_edge_of_a_frame_stays_inside_the_other() -> None:
    edge = changed(("accidents", 0, "bbox"), [0, 0.5, WIDTH, HEIGHT])
    assert verdicts(edge) == "PR"
    moved = in_frame(json.dumps(edge), FRAME, Size(320, 960))
    assert verdict_letters(check(moved, 320, 960)) == "PR"


def test_boxes_move_to_the_original_frame_and_nothing_else_changes() -> None:
    moved = parse(in_frame(json.dumps(GOOD), FRAME, Size(WIDTH * 2, HEIGHT * 3)))
    assert moved["accidents"][0]["bbox"] == [202, 660, 636, 1206]
    assert {**moved, "accidents": None} == {**GOOD, "accidents": None}


@pytest.mark.parametrize(
    "text", ["no JSON", "[1]", '{"accidents": [{"bbox": "x"}, 3]}', "[" * 10_000]
)
def test_texts_without_boxes_are_carried_over_unharmed(text: str) -> None:
    moved = in_frame(text, FRAME, Size(1280, 960))
    assert judge(moved, 1280, 960)[:4] == judge(text, WIDTH, HEIGHT)[:4]


def test_an_endless_coordinate_stays_a_violation_in_another_frame() -> None:
    text = json.dumps(changed(("accidents", 0, "bbox"), [0, 0, 10**400, 10]))
    assert judge(in_frame(text, FRAME, Size(64, 48)), 64, 48).violation


SIDES = st.sampled_from([(644, 320), (644, 640), (112, 640), (640, 112), (3, 1), (1, 3)])
FRACTIONS = st.sampled_from([0.5, 1.5, -0.5, 99.25, 320.5])


@settings(max_examples=300, deadline=None)
@given(SIDES, SIDES, st.data())
def test_no_verdict_changes_with_the_frame(
    wide: tuple[int, int], high: tuple[int, int], data: st.DataObject
) -> None:
    ends = [
        st.integers(-2, side + 2) | st.sampled_from([-1, 0, side - 1, side, side + 1]) | FRACTIONS
        for side in (wide[0], high[0], wide[0], high[0])
    ]
    text = json.dumps(changed(("accidents", 0, "bbox"), [data.draw(end) for end in ends]))
    moved = in_frame(text, Size(wide[0], high[0]), Size(wide[1], high[1]))
    assert judge(moved, wide[1], high[1])[:4] == judge(text, wide[0], high[0])[:4]


@pytest.mark.parametrize(("source", "target"), [(644, 320), (644, 640), (112, 640)])
@pytest.mark.parametrize("ends", [(0, 1), (643, 644), (-1, 9), (0, 645), (7, 7), (8, 7)])
def test_neither_a_sliver_nor_a_pixel_outside_is_rounded_away(
    source: int, target: int, ends: tuple[int, int]
) -> None:
    """Ends are given for a frame of 644: the last ones move with the frame's side."""
    low, high = (v - 644 + source if v > 600 else v for v in ends)
    text = json.dumps({"accidents": [{"bbox": [low, 0, high, source]}]})
    moved = in_frame(text, Size(source, source), Size(target, target))
    assert judge(moved, target, target).violation == (not 0 <= low < high <= source)


def test_an_answer_of_more_than_64_accidents_fails_the_schema_alone() -> None:
    for count, letters in ((64, "PSR"), (65, "PR")):
        accidents = [{"bbox": [0, 0, 9, 9], "severity": "severe"}] * count
        assert verdicts({**GOOD, "count": count, "accidents": accidents}) == letters


def test_the_work_and_the_words_for_a_hostile_answer_are_bounded() -> None:
    empty = '{"accidents":[' + "{}," * 1_000_000 + "{}]}"
    found = check(empty, WIDTH, HEIGHT)
    assert (found.parse, found.schema) == (True, False)
    assert len(found.problems) == MAX_PROBLEMS
    longer = check(empty + " " * MAX_CHARACTERS, WIDTH, HEIGHT)
    assert (longer.parse, len(longer.problems)) == (False, 1)
