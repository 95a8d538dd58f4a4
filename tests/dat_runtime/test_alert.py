"""The alert on the wire: what is written is read back, and what came from outside is checked."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.alert import Alert, Origin, dump, read_alert
from dat_runtime.answer import target
from dat_runtime.types import Accident, Box, Size

FRAME = Size(640, 480)
ALERT = Alert(
    id="n1-000001",
    origin=Origin("n1", "north", {"bundle": "ab12", "prompt": 1, "schema": 1, "drawing": 1}),
    captured_at=1_790_000_000.25,
    priority=0.8125,
    source="gate",
    degraded="no answer in 0.9 s",
    conflict=True,
    frame=FRAME,
    roi=(10, 20, 110, 220),
    answer=target([Accident(Box(12, 24, 100, 200, FRAME), "severe")]),
    revision=2,
)


def sent() -> Any:
    return json.loads(dump(ALERT))


def changed(path: tuple[str, ...], value: object) -> Any:
    event = sent()
    place = event
    for step in path[:-1]:
        place = place[step]
    if value is Ellipsis:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return event


def test_an_alert_is_read_back_as_it_was_written() -> None:
    assert read_alert(sent()) == ALERT
    assert sent()["time"] == "2026-09-21T14:13:20.250Z"


def test_what_may_be_left_out_has_its_plain_meaning() -> None:
    event = sent()
    for key in ("degraded", "conflict", "roi", "versions", "revision"):
        del event["data"][key]
    read = read_alert(event)
    assert (read.degraded, read.conflict, read.roi, read.revision) == (None, False, None, 0)


def test_further_attributes_of_a_cloud_event_are_allowed() -> None:
    assert read_alert(sent() | {"subject": "x", "traceparent": "00-1"}) == ALERT


@pytest.mark.parametrize(
    ("further", "named"),
    [
        ({"deep": [[]]}, "'deep' is an object or a list"),
        ({"deep": {}}, "'deep' is an object or a list"),
        ({f"a{n}": n for n in range(33)}, "33 further attributes, expected at most 32"),
    ],
)
def test_further_attributes_are_simple_and_few(further: dict[str, Any], named: str) -> None:
    """One that was nested deeply was kept, and no list with it could be written again."""
    with pytest.raises(ValueError, match=named):
        read_alert(sent() | further)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("specversion",), "0.3", "specversion"),
        (("id",), "../../etc/passwd", "id"),
        (("id",), "", "id"),
        (("id",), "a" * 129, "id"),
        (("id",), ["a"], "id"),
        (("id",), ..., "id"),
        (("source",), "/nodes/n1", "source"),
        (("source",), "/nodes/../cameras/x", "source"),
        (("source",), "/nodes/a b/cameras/x", "source"),
        (("type",), "dat.alert.v2", "type"),
        (("time",), "yesterday", "time"),
        (("time",), "2026-01-01T00:00:00", "time"),
        (("time",), "2026-01-01", "time"),
        (("data",), [], "data"),
        (("data", "schema"), 2, "schema"),
        (("data", "schema"), True, "schema"),
        (("data", "captured_at"), -1, "captured_at"),
        (("data", "captured_at"), "now", "captured_at"),
        (("data", "priority"), 1.01, "priority"),
        (("data", "source"), "operator", "source"),
        (("data", "degraded"), "x" * 201, "degraded"),
        (("data", "conflict"), 1, "conflict"),
        (("data", "frame"), {"width": 640}, "height"),
        (("data", "frame"), {"width": 0, "height": 480}, "width"),
        (("data", "roi"), [0, 0, 641, 10], "roi"),
        (("data", "roi"), [10, 0, 10, 10], "roi"),
        (("data", "roi"), [0, 0, 1], "roi"),
        (("data", "answer", "count"), 2, "answer"),
        (("data", "answer", "extra"), 2, "answer"),
        (("data", "answer", "accidents"), [], "answer"),
        (("data", "versions"), {"prompt": [1]}, "prompt"),
        (("data", "versions"), {"other": 1}, "other"),
        (("data", "revision"), -1, "revision"),
        (("data", "revision"), 1.0, "revision"),
        (("data", "html"), "<b>", "html"),
    ],
)
def test_a_field_that_is_wrong_is_named(path: tuple[str, ...], value: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_alert(changed(path, value))


SCALARS = st.none() | st.booleans() | st.floats() | st.integers() | st.text()
JSON: st.SearchStrategy[Any] = st.deferred(
    lambda: SCALARS | st.lists(JSON, max_size=3) | st.dictionaries(st.text(), JSON, max_size=3)
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_nothing_from_outside_raises_anything_else(value: object) -> None:
    for event in (value, changed(("data",), value), changed(("data", "answer"), value)):
        before = copy.deepcopy(event)
        with pytest.raises(ValueError, match=r"\S"):
            read_alert(event)
        assert str(event) == str(before)


def test_a_summary_of_the_longest_kind_fits_an_alert() -> None:
    boxes = [Accident(Box(600, 400, 640, 480, FRAME), "moderate")] * 64
    told = target(boxes)
    longest = Alert(
        **(vars(ALERT) | {"answer": type(told)(**(vars(told) | {"summary": "\0" * 200}))})
    )
    assert len(dump(longest)) < 8_000
