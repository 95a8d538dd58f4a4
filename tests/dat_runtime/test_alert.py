"""The alert on the wire: what is written is read back, and what came from outside is checked."""

import copy
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.alert import MAX_ALERT_BYTES, Alert, Origin, dump, read_alert
from dat_runtime.answer import target
from dat_runtime.schema import check
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


def test_an_alert_is_compact_text_with_four_digits_of_its_priority() -> None:
    spoken = replace(ALERT, degraded="Gerät", roi=None, priority=0.123456)
    content = dump(spoken)
    event = json.loads(content)
    assert content == json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    assert "Gerät".encode() in content
    assert (event["data"]["priority"], event["data"]["roi"]) == (0.1235, None)
    assert read_alert(event) == replace(spoken, priority=0.1235)


def test_an_alert_of_the_most_bytes_goes_out_and_none_above_it() -> None:
    def of(length: int) -> Alert:
        return replace(ALERT, origin=replace(ALERT.origin, versions={"mllm": "x" * length}))

    room = MAX_ALERT_BYTES - len(dump(of(0)))
    assert len(dump(of(room))) == MAX_ALERT_BYTES
    with pytest.raises(ValueError, match=r"^an alert of") as refused:
        dump(of(room + 1))
    size = f"{MAX_ALERT_BYTES + 1:,} bytes, at most {MAX_ALERT_BYTES:,}"
    assert str(refused.value) == f"an alert of {size} go out"


def test_what_no_receiver_would_take_is_named_before_it_goes_out() -> None:
    for alert, words in (
        (replace(ALERT, origin=replace(ALERT.origin, node="")), "alert: node is ''"),
        (replace(ALERT, origin=replace(ALERT.origin, camera="a/b")), "alert: camera is 'a/b'"),
        (replace(ALERT, id=""), "alert: id is ''"),
        (replace(ALERT, captured_at=-1.0), "alert: captured_at is -1.0"),
    ):
        with pytest.raises(ValueError, match=f"^{words}, expected"):
            dump(alert)


@pytest.mark.parametrize(
    ("path", "value", "start"),
    [
        (("id",), 3, "id is 3, expected"),
        (("source",), "/x", "source is '/x', expected /nodes/NODE/cameras/CAMERA"),
        (("source",), f"/nodes/{'n' * 300}/cameras/c", "source: node is 'nnn"),
        (("time",), "now", "time is 'now', expected RFC 3339, such as 2026-01-31T12:00:00Z"),
        (("time",), "2026-01-31T12:00:00", "time is '2026-01-31T12:00:00', expected RFC 3339"),
        (("data", "priority"), 2, "data: priority is 2, expected"),
        (("data", "frame", "width"), 0, "data.frame: width is 0, expected"),
        (("data", "versions", "prompt"), [], "data.versions: prompt is [], expected"),
        (("data", "roi"), [10, 20, 641, 220], "data.roi is [10, 20, 641, 220], expected a box "
         "inside 640 x 480"),
        (("data", "roi"), [10, 20, 110, 481], "data.roi is [10, 20, 110, 481], expected a box"),
        (("data", "roi"), [10, 20, 10, 220], "data.roi is [10, 20, 10, 220], expected a box"),
        (("data", "roi"), [10, 20, 110, 20], "data.roi is [10, 20, 110, 20], expected a box"),
        (("data", "answer"), {}, "data.answer: "),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_place(
    path: tuple[str, ...], value: object, start: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(start)}"):
        read_alert(changed(path, value))


def test_at_most_three_problems_of_an_answer_are_told() -> None:
    problems = check("{}", FRAME.width, FRAME.height).problems
    assert len(problems) > 3
    told = re.escape(f"data.answer: {'; '.join(problems[:3])}")
    with pytest.raises(ValueError, match=f"^{told}$"):
        read_alert(changed(("data", "answer"), {}))


def test_what_is_at_a_bound_is_read() -> None:
    whole = changed(("data", "roi"), [0, 0, 640, 480])
    assert read_alert(whole | {f"a{n}": n for n in range(32)}).roi == (0, 0, 640, 480)
