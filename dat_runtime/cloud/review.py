"""`/v1/reviews`, and `POST /v1/events/ID/review`: what operators say of events."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from dat_runtime import fields
from dat_runtime.cloud import labels, listing, verdicts
from dat_runtime.cloud.access import Who
from dat_runtime.cloud.body import require_type
from dat_runtime.cloud.events import event_row
from dat_runtime.cloud.guard import json_answer
from dat_runtime.cloud.verdicts import Review
from dat_runtime.fields import Rule, checked

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver

MAX_BYTES = 16_384
MAX_NOTE = 1_000
"""Characters."""

MAX_EXPORTS = 4
"""At a time: each reads all that was judged."""

ANYONE = "anyone"
"""Who reviews at a receiver without tokens."""


def router(receiver: "Receiver") -> APIRouter:
    """The routes of this module."""
    routes = APIRouter()
    receiver.recorded.append(verdicts.reopen_worse)
    receiver.details.append(
        lambda connection, row: {"reviews": verdicts.history(connection, row.number)}
    )

    @routes.post("/v1/events/{id}/review")
    async def post(request: Request, id: str) -> Response:
        who = receiver.access.who(request)
        who.require_review()
        require_type(request, "application/json")
        value = await receiver.bodies.read_json(request, MAX_BYTES)
        review = _read(value, who)
        node = who.node or request.query_params.get("node")

        def work(connection: Connection) -> tuple[dict[str, Any], bool]:
            row = event_row(connection, id, node)
            is_new = _record(connection, row, review)
            told = listing.detail(connection, row.number)
            return told | {"reviews": verdicts.history(connection, row.number)}, is_new

        told, is_new = await receiver.store.write(work)
        return json_answer(told, 201 if is_new else 200)

    @routes.get("/v1/reviews")
    async def get(request: Request) -> Response:
        who = receiver.access.who(request)
        after = _whole(request, "after", 0, 10**18)
        limit = _whole(request, "limit", 1, listing.MAX_PAGE, 100)
        is_current = request.query_params.get("current", "false") == "true"
        list_ = verdicts.current if is_current else verdicts.page
        told = await receiver.store.read(lambda c: list_(c, after, limit, who.node))
        return json_answer({"reviews": told, "next": told[-1]["cursor"] if told else after})

    @routes.get("/v1/reviews/summary")
    async def get_summary(request: Request) -> Response:
        who = receiver.access.who(request)
        return json_answer(await receiver.store.read(lambda c: verdicts.summary(c, who.node)))

    exports = asyncio.Semaphore(MAX_EXPORTS)

    async def pieces(node: str | None) -> AsyncGenerator[bytes]:
        async with exports, aclosing(labels.archive(receiver, node)) as archive:
            async for piece in archive:
                yield piece

    @routes.get("/v1/reviews/export")
    async def export(request: Request) -> Response:
        who = receiver.access.who(request)
        if exports.locked():
            raise HTTPException(503, f"{MAX_EXPORTS} exports are under way", {"Retry-After": "10"})
        return StreamingResponse(
            pieces(who.node),
            headers={
                "Cache-Control": "no-store",
                "Content-Disposition": 'attachment; filename="reviews.zip"',
            },
            media_type="application/zip",
        )

    return routes


def _record(connection: Connection, row: Any, review: Review) -> bool:
    try:
        return verdicts.record(connection, row, review, time.time())
    except verdicts.Outdated as error:
        raise HTTPException(409, str(error)) from None
    except ValueError as error:
        raise HTTPException(400, str(error)) from None


def _is_note(value: object) -> bool:
    # No store takes half a character or a null.
    if not isinstance(value, str) or len(value) > MAX_NOTE:
        return False
    return all(c in "\n\t" or (c >= " " and not "\ud800" <= c <= "\udfff") for c in value)


_FIELDS = {
    "verdict": fields.one_of(("confirmed", "dismissed", "open")),
    "note": fields.optional(
        Rule(_is_note, f"a text of at most {MAX_NOTE:,} characters without control characters")
    ),
    "revision": fields.optional(fields.whole(0, 1_000_000)),
}


def _read(value: object, who: Who) -> Review:
    try:
        said = checked(value, _FIELDS, "", ("note", "revision"))
    except ValueError as error:
        raise HTTPException(400, str(error)) from None
    note = (said.get("note") or "").strip()
    return Review(said["verdict"], note, who.name or ANYONE, said.get("revision"))


def _whole(request: Request, name: str, low: int, high: int, default: int = 0) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1
    if not low <= value <= high:
        raise HTTPException(400, f"{name} is {fields.shown(text)}, expected {low} to {high}")
    return value
