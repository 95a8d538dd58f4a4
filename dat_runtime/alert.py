"""The alert on the wire: a CloudEvents 1.0 event in structured JSON, written and read here only.

The node writes it, the receiver reads it back; `docs/wire.md` is its contract for others.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from dat_runtime import fields
from dat_runtime.answer import as_json
from dat_runtime.fields import Rule, checked
from dat_runtime.schema import check
from dat_runtime.types import Assessment, Size

ALERT_VERSION = 1
TYPE = "dat.alert.v1"
CONTENT_TYPE = "application/cloudevents+json"
BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"

MAX_ALERT_BYTES = 16_384
"""A larger one is a fault of the answer: 64 accidents and a summary take less than half of it."""

MAX_FURTHER = 32
"""Attributes of a CloudEvent beside ours; each takes many times its length in memory."""

MAX_SIDE = 65_535
"""Of a frame: the longest that a JPEG can state."""

LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
"""Seconds since 1970 up to which RFC 3339 can write a time."""

Source = Literal["mllm", "gate"]
"""Whose assessment an alert carries."""

Corners = tuple[int, int, int, int]
"""`(x1, y1, x2, y2)` in whole pixels of the frame; right and bottom are exclusive."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+~-]{0,127}")
_SOURCE = re.compile(r"/nodes/([^/]+)/cameras/([^/]+)")

NAME = Rule(
    lambda v: isinstance(v, str) and _NAME.fullmatch(v) is not None,
    "a name of up to 64 letters, digits, dots, underscores and hyphens",
)
"""What a node or a camera may be called: it stands in addresses and file names."""

ID = Rule(
    lambda v: isinstance(v, str) and _ID.fullmatch(v) is not None,
    "an id of up to 128 letters, digits and . _ : @ + ~ -, beginning with a letter or digit",
)
"""What an event may be called."""


@dataclass(frozen=True)
class Origin:
    """Where an alert comes from.

    Attributes:
        node, camera: names as `NAME` allows them.
        versions: by name: "bundle" (its digest), "prompt", "schema", "drawing", "mllm"; and of an
            answer that was finished elsewhere "codec", "base" and "adapter".
    """

    node: str
    camera: str
    versions: Mapping[str, str | int | None]


@dataclass(frozen=True)
class Alert:
    """What an alert says of one event, at one revision.

    Attributes:
        id: unique at its node, as `ID` allows it.
        captured_at: seconds since 1970, the node's clock.
        priority: S of Eq. 7, in [0, 1].
        source: "mllm", or "gate" when there was no compliant answer or the gate knew better.
        degraded: why the MLLM did not speak, `None` when it did or was not needed.
        conflict: whether gate and MLLM disagreed and the higher priority was kept.
        frame: of the camera; the answer's boxes and `roi` are in its pixels.
        roi: where the ROI lies in the frame.
        revision: from 0; a later one of the same id replaces what is shown.
    """

    id: str
    origin: Origin
    captured_at: float
    priority: float
    source: Source
    degraded: str | None
    conflict: bool
    frame: Size
    roi: Corners | None
    answer: Assessment
    revision: int = 0


def dump(alert: Alert) -> bytes:
    """The alert as it is sent: compact JSON, UTF-8.

    Raises:
        ValueError: an id, a name or a time that no receiver would take; more than
            `MAX_ALERT_BYTES`.
    """
    origin = alert.origin
    checked({"node": origin.node, "camera": origin.camera}, _ORIGIN, "alert")
    checked({"id": alert.id, "captured_at": alert.captured_at}, _CHECKED, "alert")
    event = {
        "specversion": "1.0",
        "id": alert.id,
        "source": f"/nodes/{origin.node}/cameras/{origin.camera}",
        "type": TYPE,
        "time": rfc3339(alert.captured_at),
        "data": {
            "schema": ALERT_VERSION,
            "captured_at": alert.captured_at,
            "priority": round(alert.priority, 4),
            "source": alert.source,
            "degraded": alert.degraded,
            "conflict": alert.conflict,
            "frame": {"width": alert.frame.width, "height": alert.frame.height},
            "roi": None if alert.roi is None else list(alert.roi),
            "answer": as_json(alert.answer),
            "versions": dict(origin.versions),
            "revision": alert.revision,
        },
    }
    content = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    if len(content) > MAX_ALERT_BYTES:
        raise ValueError(f"an alert of {len(content):,} bytes, at most {MAX_ALERT_BYTES:,} go out")
    return content


def rfc3339(seconds: float) -> str:
    """A time as CloudEvents state it, with milliseconds, in UTC."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


_TIME = fields.number(0, LATEST)
_ORIGIN = {"node": NAME, "camera": NAME}
_CHECKED = {"id": ID, "captured_at": _TIME}

_EVENT = {
    "specversion": Rule(lambda v: v == "1.0", '"1.0"'),
    "id": ID,
    "source": fields.NAME,
    "type": Rule(lambda v: v == TYPE, f'"{TYPE}"'),
    "time": fields.NAME,
    "data": fields.OBJECT,
}
_SIDE = fields.whole(1, MAX_SIDE)
_FRAME = {"width": _SIDE, "height": _SIDE}
_DATA = {
    "schema": Rule(lambda v: v == ALERT_VERSION and type(v) is int, str(ALERT_VERSION)),
    "captured_at": _TIME,
    "priority": fields.SHARE,
    "source": fields.one_of(("mllm", "gate")),
    "degraded": fields.optional(
        Rule(lambda v: isinstance(v, str) and len(v) <= 200, "a text of at most 200 characters")
    ),
    "conflict": fields.FLAG,
    "frame": fields.OBJECT,
    "roi": fields.optional(fields.list_of(fields.whole(0, MAX_SIDE), 4, 4)),
    "answer": fields.OBJECT,
    "versions": fields.OBJECT,
    "revision": fields.whole(0, 1_000_000),
}
_MAY_BE_LEFT_OUT = ("degraded", "conflict", "roi", "versions", "revision")
_VERSION = fields.optional(
    Rule(
        lambda v: (type(v) is int and abs(v) < 2**53) or (isinstance(v, str) and len(v) <= 200),
        "a whole number or a text of at most 200 characters",
    )
)
_NAMED = ("bundle", "prompt", "schema", "drawing", "mllm", "codec", "base", "adapter")
_VERSIONS = dict.fromkeys(_NAMED, _VERSION)


def read_alert(value: object) -> Alert:
    """The alert in a CloudEvent that came from outside, already parsed (`files.parse`).

    Further attributes of the CloudEvent are allowed, as its specification asks, and as it has them:
    texts, numbers and flags. `data` has the fields that are stated and no others.

    Raises:
        ValueError: names the first field that is wrong.
    """
    event = checked(value, _EVENT, "", further_keys=True)
    _require_simple(event)
    origin = _SOURCE.fullmatch(event["source"])
    if origin is None:
        raise ValueError(
            f"source is {fields.shown(event['source'])}, expected /nodes/NODE/cameras/CAMERA"
        )
    checked({"node": origin[1], "camera": origin[2]}, _ORIGIN, "source")
    _require_time(event["time"])
    data = checked(event["data"], _DATA, "data", _MAY_BE_LEFT_OUT)
    checked(data["frame"], _FRAME, "data.frame")
    frame = Size(data["frame"]["width"], data["frame"]["height"])
    versions = data.get("versions", {})
    checked(versions, _VERSIONS, "data.versions", tuple(_VERSIONS))
    return Alert(
        id=event["id"],
        origin=Origin(origin[1], origin[2], versions),
        captured_at=data["captured_at"],
        priority=data["priority"],
        source=data["source"],
        degraded=data.get("degraded"),
        conflict=data.get("conflict", False),
        frame=frame,
        roi=_roi(data.get("roi"), frame),
        answer=_answer(data["answer"], frame),
        revision=data.get("revision", 0),
    )


def _require_simple(event: Mapping[str, Any]) -> None:
    """See that further attributes are few and hold nothing else (CloudEvents 1.0.2, "Type System").

    Nested, one would be taken and then be too deep to be written into a list of events.
    """
    further = [key for key in event if key not in _EVENT]
    if len(further) > MAX_FURTHER:
        raise ValueError(f"{len(further)} further attributes, expected at most {MAX_FURTHER}")
    for key in further:
        if isinstance(event[key], (dict, list)):
            raise ValueError(f"{fields.shown(key)} is an object or a list, expected a simple value")


def _require_time(text: str) -> None:
    try:
        has_zone = "T" in text and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        has_zone = False
    if not has_zone:
        raise ValueError(
            f"time is {fields.shown(text)}, expected RFC 3339, such as 2026-01-31T12:00:00Z"
        )


def _roi(corners: list[int] | None, frame: Size) -> Corners | None:
    if corners is None:
        return None
    x1, y1, x2, y2 = corners
    if not (x1 < x2 <= frame.width and y1 < y2 <= frame.height):
        raise ValueError(
            f"data.roi is {corners}, expected a box inside {frame.width} x {frame.height}"
        )
    return x1, y1, x2, y2


def _answer(value: dict[str, Any], frame: Size) -> Assessment:
    verdict = check(json.dumps(value), frame.width, frame.height)
    compliant = verdict.assessment is not None and verdict.rule and not verdict.violation
    if verdict.assessment is None or not compliant:
        raise ValueError(f"data.answer: {'; '.join(verdict.problems[:3])}")
    return verdict.assessment
