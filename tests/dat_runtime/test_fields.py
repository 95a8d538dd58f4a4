"""The one validator: what each rule allows, and how a wrong field is named."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime import fields
from dat_runtime.fields import Rule, checked, problems, shown

HUGE = 10**400
"""An integer that JSON can hold and a float cannot."""

BIGGEST = 1.7976931348623157e308


@pytest.mark.parametrize(
    ("made", "allowed", "refused"),
    [
        (
            lambda: fields.number(),
            [0, -1, 1.5, BIGGEST, -BIGGEST, 10**308],
            [True, None, "1", [], math.nan, math.inf, -math.inf, HUGE, -HUGE, 1j],
        ),
        (lambda: fields.number(0, 2), [0, 2, 0.0, 1.5], [-0.001, 2.001, True, HUGE, math.nan]),
        (lambda: fields.number(3), [3, 1e300], [2.999, HUGE, math.inf]),
        (
            lambda: fields.above(0),
            [5e-324, 1, BIGGEST],
            [0, 0.0, -1, True, math.nan, math.inf, HUGE],
        ),
        (lambda: fields.above(0, 9), [1, 9, 9.0], [0, 9.001, HUGE, math.inf]),
        (lambda: fields.whole(), [0, -7, 10**300], [1.0, True, "1", None, HUGE]),
        (lambda: fields.whole(1, 4), [1, 4], [0, 5, 2.0, True, False]),
        (lambda: fields.SHARE, [0, 1, 0.5], [-1e-9, 1.0000001, True, math.nan, "0.5"]),
        (lambda: fields.TEXT, ["", "a", "\ud800"], [b"a", 1, None, ["a"]]),
        (lambda: fields.NAME, ["a", " "], ["", None, 1]),
        (lambda: fields.text_like(r"\d+", "digits"), ["7", "42"], ["", "4a", "4\n", "٣", 4, None]),
        (lambda: fields.FLAG, [True, False], [0, 1, None, "true"]),
        (lambda: fields.LIST, [[], [1]], [(), {}, "ab", None]),
        (lambda: fields.OBJECT, [{}, {"a": 1}], [[], None, "ab"]),
        (
            lambda: fields.one_of(("one", "two")),
            ["one", "two"],
            ["three", "", None, 1, ["one"], {}],
        ),
        (lambda: fields.optional(fields.SHARE), [None, 0.5], [2, "", False]),
        (
            lambda: fields.list_of(fields.SHARE),
            [[], [0], [0.5, 1]],
            [[2], [0.5, True], 0.5, None, (0.5,)],
        ),
        (
            lambda: fields.list_of(fields.TEXT, 2, 2),
            [["a", "b"]],
            [["a"], ["a", "b", "c"], ["a", 1], "ab"],
        ),
        (lambda: fields.list_of(fields.TEXT, 1), [["a"], ["a"] * 9], [[], [None]]),
        (
            lambda: fields.list_of(fields.list_of(fields.whole()), 1, 2),
            [[[]], [[1], [2]]],
            [[1], [[1.5]]],
        ),
    ],
    ids=lambda value: value().expected if callable(value) else "",
)
def test_a_rule_allows_this_and_refuses_that(
    made: Callable[[], Rule], allowed: list[object], refused: list[object]
) -> None:
    rule = made()
    assert [value for value in allowed if not rule.holds(value)] == []
    assert [value for value in refused if rule.holds(value)] == []


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: fields.number(), "a number"),
        (lambda: fields.number(0), "a number from 0"),
        (lambda: fields.number(high=5), "a number up to 5"),
        (lambda: fields.number(-1e9, 1e9), "a number from -1e+09 to 1e+09"),
        (lambda: fields.above(0), "a number above 0"),
        (lambda: fields.above(0, 9), "a number above 0 up to 9"),
        (lambda: fields.whole(1), "a whole number from 1"),
        (lambda: fields.optional(fields.FLAG), "true or false, or null"),
        (lambda: fields.one_of(("one", "two")), "one of one, two"),
        (lambda: fields.list_of(fields.SHARE), "a list of values, each a number from 0 to 1"),
        (
            lambda: fields.list_of(fields.SHARE, 1),
            "a list of 1 or more values, each a number from 0 to 1",
        ),
        (lambda: fields.list_of(fields.TEXT, 1, 3), "a list of 1 to 3 values, each a text"),
        (lambda: fields.list_of(fields.TEXT, 4, 4), "a list of 4 values, each a text"),
    ],
)
def test_a_rule_says_in_words_what_it_expects(made: Callable[[], Rule], words: str) -> None:
    assert made().expected == words


RULES = {"name": fields.NAME, "share": fields.SHARE, "size": fields.whole(1)}
GOOD: dict[str, Any] = {"name": "a", "share": 0.5, "size": 3}


def test_a_good_object_comes_back_itself() -> None:
    for value in (GOOD, dict(reversed(GOOD.items()))):
        assert checked(value, RULES, "") is value
        assert list(problems(value, RULES, "")) == []


def lacking(key: str) -> dict[str, Any]:
    return {k: v for k, v in GOOD.items() if k != key}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (GOOD | {"share": 2}, "share is 2, expected a number from 0 to 1"),
        (GOOD | {"name": ""}, "name is '', expected a text that is not empty"),
        (GOOD | {"size": True}, "size is True, expected a whole number from 1"),
        (GOOD | {"note": 1}, "unknown key 'note', expected name, share, size"),
        (GOOD | {4: 1}, "unknown key 4, expected name, share, size"),
        (lacking("share"), "share is missing"),
        (lacking("share") | {"shore": 0.5}, "unknown key 'shore', expected name, share, size"),
        ({}, "name is missing"),
        ([GOOD], "[{'name': 'a', 'share': 0.5, 'size': 3}] is not an object with the keys name"),
        (None, "None is not an object with the keys name, share, size"),
        ("name", "'name' is not an object with the keys name, share, size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_first_wrong_field_is_named_with_its_place(value: object, message: str) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        checked(value, RULES, "")
    assert str(refusal.value).startswith(message)
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        checked(value, RULES, "camera 3")
    assert str(refusal.value).startswith(f"camera 3: {message}")


def test_every_problem_is_named_and_not_only_the_first() -> None:
    value = {"share": 2, "size": 0, "note": 1}
    assert list(problems(value, RULES, "")) == [
        "unknown key 'note', expected name, share, size",
        "name is missing",
        "share is 2, expected a number from 0 to 1",
        "size is 0, expected a whole number from 1",
    ]


def test_an_optional_key_may_be_left_out_but_not_be_wrong() -> None:
    assert checked(lacking("share"), RULES, "", ("share",)) == lacking("share")
    with pytest.raises(ValueError, match="share is None, expected a number"):
        checked(GOOD | {"share": None}, RULES, "", ("share",))
    with pytest.raises(ValueError, match="size is missing"):
        checked(lacking("size"), RULES, "", ("share",))


def test_further_keys_are_left_alone_where_they_are_allowed() -> None:
    value = GOOD | {"note": math.nan}
    assert checked(value, RULES, "", further_keys=True) is value
    assert list(problems(value, RULES, "", further_keys=True)) == []
    with pytest.raises(ValueError, match="size is missing"):
        checked(lacking("size") | {"note": 1}, RULES, "", further_keys=True)
    with pytest.raises(ValueError, match="share is 7"):
        checked(value | {"share": 7}, RULES, "", further_keys=True)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 4) | st.floats() | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=3,
)
OBJECTS = st.dictionaries(st.sampled_from([*RULES, "note"]), VALUES | st.just("a"))


@given(OBJECTS | VALUES, st.booleans(), st.sampled_from([(), ("share",), tuple(RULES)]))
def test_the_quick_look_of_checked_agrees_with_the_list_of_problems(
    value: object, further_keys: bool, optional_keys: tuple[str, ...]
) -> None:
    named = list(problems(value, RULES, "it", optional_keys, further_keys=further_keys))
    if named:
        with pytest.raises(ValueError) as refusal:  # noqa: PT011
            checked(value, RULES, "it", optional_keys, further_keys=further_keys)
        assert str(refusal.value) == named[0]
    else:
        assert checked(value, RULES, "it", optional_keys, further_keys=further_keys) is value


@pytest.mark.parametrize(
    "value",
    [HUGE, -HUGE, math.nan, math.inf, -math.inf, None, "1", [], 1j],
    ids=lambda v: str(v)[:9],
)
def test_what_a_float_does_not_hold_is_not_finite(value: object) -> None:
    assert not fields.is_finite(value)


@pytest.mark.parametrize("value", [0, 1.5, True, BIGGEST, 10**308])
def test_what_a_float_holds_is_finite(value: object) -> None:
    assert fields.is_finite(value)


@pytest.mark.parametrize(
    "value",
    ["x" * 10_000, ["x" * 1000] * 10_000, {"k" * 1000: "v" * 1000}, HUGE, 10**5000, [10**5000]],
    ids=["text", "list", "object", "long number", "number that is not written", "in a list"],
)
def test_what_a_message_shows_of_a_value_is_short(value: object) -> None:
    assert len(shown(value)) < 500
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        checked({"share": value}, {"share": fields.SHARE}, "")
    assert len(str(refusal.value)) < 600


def test_what_a_message_shows_can_be_printed() -> None:
    assert shown("\ud800\x00\n").isprintable()
    assert shown("\ud800\x00\n").isascii()
    assert shown(json.loads('"tab\\t"')) == r"'tab\t'"
