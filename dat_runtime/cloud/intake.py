"""`POST /v1/events`: one alert or a batch comes in and is answered once it is committed.

All of a fleet's load comes this way, so it is plain ASGI: the router's layers took as long as
everything else together. `docs/wire.md` is the contract.
"""

import json
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from fastapi import HTTPException, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from dat_runtime.alert import BATCH_CONTENT_TYPE, CONTENT_TYPE, MAX_ALERT_BYTES
from dat_runtime.cloud import alerts
from dat_runtime.cloud.access import Who
from dat_runtime.cloud.alerts import CONFLICT, CREATED, UNCHANGED, Received
from dat_runtime.cloud.body import ACCEPTED, parsed, require_type
from dat_runtime.cloud.guard import told
from dat_runtime.cloud.store import StoreError

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver

MAX_BATCH_BYTES = 1_000_000
MAX_BATCH = 1_000
"""Alerts in one batch."""

_ACCEPTED = [(name.lower().encode(), value.encode()) for name, value in ACCEPTED.items()]
"""As ASGI has headers."""


def intake(receiver: "Receiver") -> ASGIApp:
    """The application that takes alerts."""
    record = partial(alerts.record, told=receiver.recorded)
    outcomes = {
        CREATED: receiver.metrics.alerts.labels("created"),
        UNCHANGED: receiver.metrics.alerts.labels("unchanged"),
        CONFLICT: receiver.metrics.alerts.labels("conflict"),
    }

    async def take(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, content = await answer(Request(scope, receive))
        except (HTTPException, StoreError) as error:
            refusal = told(error)
            refusal.headers.update(ACCEPTED)
            await refusal(scope, receive, send)
            return
        head = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            *_ACCEPTED,
        ]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": content})

    async def answer(request: Request) -> tuple[int, bytes]:
        who = receiver.access.who(request)
        is_batch = require_type(request, CONTENT_TYPE, BATCH_CONTENT_TYPE) == BATCH_CONTENT_TYPE
        most = MAX_BATCH_BYTES if is_batch else MAX_ALERT_BYTES
        async with receiver.bodies.held(request, most) as body:
            came = _batch(parsed(body)) if is_batch else [_one(parsed(body))]
            _require_sender(receiver, who, came)
            begun = time.perf_counter()
            statuses = await receiver.store.write_together(record, came)
            receiver.metrics.commit_seconds.observe(time.perf_counter() - begun)
        for status in statuses:
            outcomes[status].inc()
        return _told_all(came, statuses) if is_batch else (statuses[0], _told(came[0], statuses[0]))

    return take


def _one(value: object, place: str = "") -> Received:
    try:
        return alerts.received(value, time.time())
    except ValueError as error:
        raise HTTPException(400, f"{place}{error}") from None


def _batch(value: object) -> list[Received]:
    """The alerts of a batch, all of them or none.

    Raises:
        HTTPException: 400 names the first one that is wrong, and its field; 413, too many.
    """
    if not isinstance(value, list):
        raise HTTPException(400, "a batch is a list of alerts")
    if len(value) > MAX_BATCH:
        raise HTTPException(413, f"a batch holds at most {MAX_BATCH:,} alerts")
    came = [_one(event, f"[{index}] ") for index, event in enumerate(value)]
    for index, (event, one) in enumerate(zip(value, came, strict=True)):
        if len(one.content) > MAX_ALERT_BYTES and _size(event) > MAX_ALERT_BYTES:
            raise HTTPException(413, f"[{index}] is larger than {MAX_ALERT_BYTES:,} bytes")
    return came


def _size(event: object) -> int:
    """Bytes of an alert when it travels alone."""
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode("utf-8", "replace"))


def _require_sender(receiver: "Receiver", who: Who, came: Sequence[Received]) -> None:
    """See that the alerts are the sender's own, and not too many.

    Raises:
        HTTPException: 403, another node's; 429.
    """
    counts: dict[str, int] = {}
    for one in came:
        node = one.alert.origin.node
        counts[node] = counts.get(node, 0) + 1
    for node in counts:
        who.require_node(node)
    for node, count in counts.items():
        receiver.rates.take(node, count)


def _told(one: Received, status: int) -> bytes:
    if status == CONFLICT:
        return (
            b'{"id":"%b","status":409,"detail":"revision %d is here already, with other content"}'
            % (one.alert.id.encode(), one.alert.revision)
        )
    return b'{"id":"%b","status":%d}' % (one.alert.id.encode(), status)  # an id needs no escapes


def _told_all(came: Sequence[Received], statuses: Sequence[int]) -> tuple[int, bytes]:
    each = [_told(one, status) for one, status in zip(came, statuses, strict=True)]
    overall = CREATED if CREATED in statuses else UNCHANGED
    status = CONFLICT if CONFLICT in statuses else overall
    return status, b'{"events":[%b]}' % b",".join(each)
