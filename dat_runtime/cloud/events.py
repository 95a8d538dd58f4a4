"""`GET /v1/events` and `/v1/events/ID`: what the receiver knows. `docs/wire.md` is the contract."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request, Response
from sqlalchemy import Connection

from dat_runtime.alert import ID, NAME
from dat_runtime.cloud import alerts, listing
from dat_runtime.cloud.access import Who
from dat_runtime.cloud.guard import json_answer
from dat_runtime.fields import shown

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver

MAX_WAIT = 20.0
"""Seconds that a reader may wait for what is not there yet."""

LOOK_EVERY = 0.25
"""Seconds between two looks while a reader waits: other workers write too."""


def router(receiver: "Receiver") -> APIRouter:
    """The routes of this module."""
    routes = APIRouter()

    @routes.get("/v1/events")
    async def get(request: Request) -> Response:
        who = _reader(receiver, request)
        asked = _Asked(request, who)
        found, place = await receiver.store.read(asked.page)
        until = time.monotonic() + asked.wait
        while not found and time.monotonic() < until and not receiver.ending:
            await asyncio.sleep(LOOK_EVERY)
            found, place = await receiver.store.read(asked.page)
        return json_answer({"events": found, "next": place})

    @routes.get("/v1/events/{id}")
    async def get_one(request: Request, id: str) -> Response:
        who = _reader(receiver, request)
        node = who.node or request.query_params.get("node")

        def work(connection: Connection) -> dict[str, Any]:
            row = event_row(connection, id, node)
            told = listing.detail(connection, row.number)
            for add in receiver.details:
                told |= add(connection, row)
            return told

        return json_answer(await receiver.store.read(work))

    return routes


def _reader(receiver: "Receiver", request: Request) -> Who:
    """Who asks.

    Raises:
        HTTPException: 401; 429, a node that asks too often.
    """
    who = receiver.access.who(request)
    if who.node is not None:
        receiver.reads.take(who.node)
    return who


def event_row(connection: Connection, id: str, node: str | None) -> Any:
    """The row of an event that a request names.

    Args:
        node: the only node that the request may see, or that it names; `None` for all.

    Raises:
        HTTPException: 404, no such event; 409, several nodes have one of that id.
    """
    # PostgreSQL takes no text with a null in it: what cannot be a name is not looked for.
    can_be = ID.holds(id) and (node is None or NAME.holds(node))
    try:
        row = alerts.find(connection, id, node) if can_be else None
    except alerts.Ambiguous:
        raise HTTPException(409, f"several nodes have an event {id}: add ?node=NODE") from None
    if row is None:
        raise HTTPException(404, f"no event {shown(id)}")
    return row


class _Asked:
    """What a request for a list asks for.

    Raises:
        HTTPException: 400 names the parameter that is wrong; 403, another node's events.
    """

    def __init__(self, request: Request, who: Who):
        given = request.query_params
        order = given.get("order", "commit")
        if order not in listing.ORDERS:
            raise HTTPException(400, f"order is {shown(order)}, expected commit, changed, priority")
        self.order: listing.Order = order
        self.after = given.get("after", "")
        self.limit = int(_number(given.get("limit", "100"), "limit", 1, listing.MAX_PAGE))
        self.wait = _number(given.get("wait", "0"), "wait", 0, MAX_WAIT)
        verdict = given.get("verdict")
        if verdict not in (None, "open", "confirmed", "dismissed"):
            raise HTTPException(400, "verdict is one of open, confirmed, dismissed")
        since = given.get("since")
        node = _name(given.get("node"), "node")
        if who.node is not None:
            if node not in (None, who.node):
                raise HTTPException(403, f"this token is of node {who.node}, not of {node}")
            node = who.node
        self.only = listing.Filter(
            node=node,
            camera=_name(given.get("camera"), "camera"),
            since=None if since is None else _number(since, "since", 0, 1e12),
            verdict=verdict,
        )

    def page(self, connection: Connection) -> tuple[list[dict[str, Any]], int | str]:
        try:
            return listing.page(connection, self.order, self.after, self.limit, self.only)
        except ValueError as error:
            raise HTTPException(400, str(error)) from None


def _name(text: str | None, parameter: str) -> str | None:
    if text is not None and not NAME.holds(text):
        raise HTTPException(400, f"{parameter} is {shown(text)}, expected {NAME.expected}")
    return text


def _number(text: str, parameter: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not low <= value <= high:
        raise HTTPException(
            400, f"{parameter} is {shown(text)}, expected a number from {low:g} to {high:g}"
        )
    return value
