"""A batch of waiting events as a file: JSON lines, one `PendingEvent` each.

`roi_bytes`, `box_bytes`, `captured_at` and `json_sent` may be left out.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dat_runtime.errors import DataError
from dat_runtime.fields import is_finite
from dat_runtime.files import parse
from dat_runtime.schedule import PendingEvent


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0 and is_finite(value)


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and is_finite(value)


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "id": (lambda v: isinstance(v, str) and bool(v), "a name"),
    "priority": (lambda v: _is_finite(v) and v >= 0, "a number from 0"),
    "json_bytes": (_is_size, "a whole number of bytes"),
    "roi_bytes": (lambda v: v is None or _is_size(v), "a whole number of bytes or null"),
    "box_bytes": (lambda v: v is None or _is_size(v), "a whole number of bytes or null"),
    "captured_at": (lambda v: _is_finite(v), "a time in seconds"),
    "json_sent": (lambda v: isinstance(v, bool), "true or false"),
}
_REQUIRED = ("id", "priority", "json_bytes")


def read_batch(path: Path) -> list[PendingEvent]:
    """The events in a file, in its order; empty lines are skipped.

    Raises:
        DataError: with file and line: not JSON, a field missing, unknown or out of range, or an id
            that was there before.
    """
    try:
        lines = path.read_text("utf-8").split("\n")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path) from None
    except UnicodeDecodeError:
        raise DataError("is not UTF-8 text", path) from None
    events: dict[str, PendingEvent] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = _event(parse(line))
        except ValueError as error:
            raise DataError(str(error), path, number) from None
        if event.id in events:
            raise DataError(f"id {event.id!r} was there before", path, number)
        events[event.id] = event
    return list(events.values())


def _event(value: Any) -> PendingEvent:
    if not isinstance(value, dict):
        raise ValueError("expected one JSON object")
    if missing := [name for name in _REQUIRED if name not in value]:
        raise ValueError(f"{missing[0]} is missing")
    for name, entry in value.items():
        if name not in _FIELDS:
            raise ValueError(f"unknown field {name!r:.40}, expected {', '.join(_FIELDS)}")
        holds, expected = _FIELDS[name]
        if not holds(entry):
            raise ValueError(f"{name} is {entry!r:.40}, expected {expected}")
    fields: dict[str, Any] = {"roi_bytes": None, "box_bytes": None, **value}
    return PendingEvent(**fields)
