"""A batch of waiting events as a file: JSON lines, one `PendingEvent` each.

`roi_bytes`, `box_bytes`, `captured_at`, `json_sent` and `code_bytes` may be left out.
"""

from pathlib import Path
from typing import Any

from dat_runtime import fields
from dat_runtime.errors import DataError
from dat_runtime.files import parse, read_text
from dat_runtime.planning.pending import PendingEvent

MAX_BATCH_BYTES = 1 << 28
"""Of a file: a million events take half of it."""

_BYTES = fields.whole(0)
_ID = fields.Rule(
    lambda v: fields.NAME.holds(v) and fields.is_utf8(v), "a text that is not empty, in UTF-8"
)
_EVENT = {
    "id": _ID,
    "priority": fields.number(0),
    "json_bytes": _BYTES,
    "roi_bytes": fields.optional(_BYTES),
    "box_bytes": fields.optional(_BYTES),
    "captured_at": fields.number(),
    "json_sent": fields.FLAG,
    "code_bytes": fields.optional(_BYTES),
}
_MAY_BE_LEFT_OUT = ("roi_bytes", "box_bytes", "captured_at", "json_sent", "code_bytes")


def read_batch(path: Path) -> list[PendingEvent]:
    """The events in a file, in its order; empty lines are skipped.

    Raises:
        DataError: the file cannot be read, is no plain file, or is too large; with file and line:
            not JSON, a field missing, unknown or out of range, or an id that was there before.
    """
    events: dict[str, PendingEvent] = {}
    for number, line in enumerate(read_text(path, most_bytes=MAX_BATCH_BYTES).split("\n"), 1):
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
    stated = fields.checked(value, _EVENT, "", _MAY_BE_LEFT_OUT)
    visuals = {"roi_bytes": None, "box_bytes": None}  # the two that have no default
    return PendingEvent(**(visuals | stated))
