"""What a field of a JSON or YAML document may hold, and how a wrong one is named.

    number(low, high)     a finite int or float; never true or false, NaN or infinity
    above(low, high)      such a number, greater than low
    whole(low, high)      an int; 2.0 is not one
    SHARE                 a number from 0 to 1
    TEXT, NAME            a text, a text that is not empty
    FLAG                  true or false
    one_of(values)        one of some texts
    text_like(pattern)    a text that a regular expression describes whole
    optional(rule)        what the rule allows, or null
    LIST, OBJECT          a list of anything, an object of anything
    list_of(rule, n, m)   a list of n to m values that the rule allows each

`checked` takes an object with the keys that are stated and no others, and raises on the first field
that is wrong; `problems` names all of them. Both say where the field is, what it holds and what was
expected. YAML and JSON give the same types, so one set of rules serves both.
"""

import math
import re
import reprlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What a field may hold. Types are asked for exactly: to Python true and false are ints.

    Attributes:
        holds: whether a value will do.
        expected: the same in words, as they follow "expected ".
    """

    holds: Callable[[Any], bool]
    expected: str


Rules = Mapping[str, Rule]
"""The fields of an object."""


def is_finite(value: object) -> bool:
    """Whether it is a number that a float holds; `10**400`, `None` and a text are not."""
    try:
        return math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        return False


def is_utf8(text: str) -> bool:
    """Whether UTF-8 holds it: JSON may name half a character (a lone surrogate)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


_LARGEST = sys.float_info.max
"""NaN, infinity and integers that no float holds do not lie between its negative and it."""


def _range(low: float, high: float) -> str:
    """The bounds in words; a bound at the largest float is left out."""
    if low > -_LARGEST and high < _LARGEST:
        return f" from {_bound(low)} to {_bound(high)}"
    if low > -_LARGEST:
        return f" from {_bound(low)}"
    if high < _LARGEST:
        return f" up to {_bound(high)}"
    return ""


def _bound(number: float) -> str:
    """A whole one in full: 1,048,576 is not 1e+06."""
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def number(low: float = -_LARGEST, high: float = _LARGEST) -> Rule:
    """A finite number from `low` to `high`, both allowed."""
    return Rule(
        lambda v: type(v) in (int, float) and low <= v <= high, f"a number{_range(low, high)}"
    )


def above(low: float, high: float = _LARGEST) -> Rule:
    """A finite number greater than `low` and at most `high`."""
    return Rule(
        lambda v: type(v) in (int, float) and low < v <= high,
        f"a number above {low:g}{_range(-_LARGEST, high)}",
    )


def whole(low: float = -_LARGEST, high: float = _LARGEST) -> Rule:
    """An int from `low` to `high`, both allowed."""
    return Rule(lambda v: type(v) is int and low <= v <= high, f"a whole number{_range(low, high)}")


def one_of(values: Collection[str]) -> Rule:
    """One of some texts."""
    return Rule(lambda v: isinstance(v, str) and v in values, f"one of {', '.join(values)}")


def text_like(pattern: str, expected: str) -> Rule:
    """A text that the regular expression describes from its first character to its last."""
    compiled = re.compile(pattern, re.ASCII)
    return Rule(lambda v: isinstance(v, str) and compiled.fullmatch(v) is not None, expected)


def optional(rule: Rule) -> Rule:
    """What the rule allows, or null."""
    return Rule(lambda v: v is None or rule.holds(v), f"{rule.expected}, or null")


def list_of(rule: Rule, fewest: int = 0, most: int | None = None) -> Rule:
    """A list of `fewest` to `most` values that the rule allows each."""

    def holds(value: Any) -> bool:
        if not isinstance(value, list) or len(value) < fewest:
            return False
        if most is not None and len(value) > most:
            return False
        return all(map(rule.holds, value))

    if fewest == most:
        count = f"{fewest} values"
    elif most is not None:
        count = f"{fewest} to {most} values"
    elif fewest:
        count = f"{fewest} or more values"
    else:
        count = "values"
    return Rule(holds, f"a list of {count}, each {rule.expected}")


SHARE = number(0, 1)
TEXT = Rule(lambda v: isinstance(v, str), "a text")
NAME = Rule(lambda v: isinstance(v, str) and v != "", "a text that is not empty")
FLAG = Rule(lambda v: isinstance(v, bool), "true or false")
LIST = Rule(lambda v: isinstance(v, list), "a list")
OBJECT = Rule(lambda v: isinstance(v, dict), "an object")


def checked(
    value: object,
    rules: Rules,
    where: str,
    optional_keys: Collection[str] = (),
    *,
    further_keys: bool = False,
) -> dict[str, Any]:
    """The object itself, when it has the keys of `rules` and no others, and each field will do.

    Args:
        where: what the object is, as an error begins with it; "" says nothing.
        optional_keys: keys that may be left out.
        further_keys: whether other keys are allowed; their fields are not looked at.

    Raises:
        ValueError: the first problem, see `problems`.
    """
    # Files of a hundred thousand lines are read this way, and nearly every object ends here.
    if type(value) is dict and (further_keys or len(value) == len(rules)):
        try:
            for key, rule in rules.items():
                if not rule.holds(value[key]):
                    break
            else:
                return value
        except KeyError:
            pass  # named below
    first = next(problems(value, rules, where, optional_keys, further_keys=further_keys), None)
    if first is not None:
        raise ValueError(first)
    return value  # type: ignore[return-value]


def problems(
    value: object,
    rules: Rules,
    where: str,
    optional_keys: Collection[str] = (),
    *,
    further_keys: bool = False,
) -> Iterator[str]:
    """What is wrong with an object, one problem at a time; the arguments are those of `checked`."""
    place = f"{where}: " if where else ""
    if not isinstance(value, dict):
        yield f"{place}{shown(value)} is not an object with the keys {', '.join(rules)}"
        return
    if not further_keys:
        for key in value:
            if key not in rules:
                yield f"{place}unknown key {shown(key)}, expected {', '.join(rules)}"
    for key, rule in rules.items():
        if key in value:
            if not rule.holds(value[key]):
                yield f"{place}{key} is {shown(value[key])}, expected {rule.expected}"
        elif key not in optional_keys:
            yield f"{place}{key} is missing"


def shown(value: object) -> str:
    """A value in a message: as Python writes it, cut to a few dozen characters.

    The work is bounded too: of a list of a million values only the first ones are written.
    """
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
