"""`/v1/nodes`: how nodes say they are, and what the receiver makes of their silence."""

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request, Response
from sqlalchemy import Column, Connection, Double, Table, Text, func, insert, select, update

from dat_runtime import fields
from dat_runtime.alert import NAME
from dat_runtime.cloud.body import require_type
from dat_runtime.cloud.guard import json_answer
from dat_runtime.cloud.tables import metadata
from dat_runtime.fields import Rule, Rules, checked, shown

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver

MAX_BYTES = 16_384
"""Of one status."""

MAX_NODES = 10_000
"""That a receiver without tokens, which knows no names, remembers."""

LATE, LOST = 25.0, 60.0
"""Seconds since the last status, by the receiver's clock: nodes send one every ten."""

nodes = Table(
    "nodes",
    metadata,
    Column("node", Text, primary_key=True),
    Column("seen_at", Double, nullable=False),
    Column("status", Text, nullable=False),
)
"""The last status of each node."""

_NUMBER = fields.optional(fields.number(0, 1e18))


def _named(rule: Rule, most: int) -> Rule:
    """An object of at most `most` entries, with values that a rule allows."""
    return Rule(
        lambda v: (
            isinstance(v, dict)
            and len(v) <= most
            and all(len(key) <= 100 for key in v)
            and all(map(rule.holds, v.values()))
        ),
        f"an object of at most {most} entries, each {rule.expected}",
    )


_TEXT = Rule(
    lambda v: isinstance(v, str) and len(v) <= 200 and v.isprintable(),
    "a printable text of at most 200 characters",
)
_STATUS: Rules = {
    "schema": Rule(lambda v: v == 1 and type(v) is int, "1"),
    "time": fields.number(0, 1e12),
    "cameras": _named(_TEXT, 100),
    "uplink": fields.OBJECT,
    "waiting": fields.OBJECT,
    "dropped": _named(fields.whole(0, 10**15), 100),
    "not_fit": _TEXT,
}
_UPLINK: Rules = {"bytes_per_s": _NUMBER, "round_trip_s": _NUMBER}
_WAITING: Rules = {"alerts": fields.whole(0, 10**15), "visuals": fields.whole(0, 10**15)}


def read_status(value: object) -> dict[str, Any]:
    """A node's status, already parsed; further fields are left out.

    Raises:
        ValueError: names the first field that is wrong.
    """
    status = checked(value, _STATUS, "", ("not_fit",), further_keys=True)
    uplink = checked(status["uplink"], _UPLINK, "uplink", further_keys=True)
    waiting = checked(status["waiting"], _WAITING, "waiting", further_keys=True)
    return {name: status[name] for name in _STATUS if name in status} | {
        "uplink": {name: uplink[name] for name in _UPLINK},
        "waiting": {name: waiting[name] for name in _WAITING},
    }


def router(receiver: "Receiver") -> APIRouter:
    """The routes of this module."""
    routes = APIRouter()

    @routes.put("/v1/nodes/{node}")
    async def put(request: Request, node: str) -> Response:
        who = receiver.access.who(request)
        if not NAME.holds(node):
            raise HTTPException(400, f"node is {shown(node)}, expected {NAME.expected}")
        who.require_node(node)
        require_type(request, "application/json")
        try:
            status = read_status(await receiver.bodies.read_json(request, MAX_BYTES))
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        await receiver.store.write(partial(seen, node=node, status=status, now=time.time()))
        return Response(None, 204)

    @routes.get("/v1/nodes")
    async def get(request: Request) -> Response:
        who = receiver.access.who(request)
        found = await receiver.store.read(partial(listed, now=time.time(), only=who.node))
        return json_answer({"nodes": found})

    return routes


def seen(connection: Connection, node: str, status: dict[str, Any], now: float) -> None:
    """Note a node's status.

    Raises:
        HTTPException: 503, a further node is one too many.
    """
    told = {"seen_at": now, "status": json.dumps(status, separators=(",", ":"))}
    known = update(nodes).where(nodes.c.node == node).values(**told)
    if connection.execute(known).rowcount:
        return
    if connection.execute(select(func.count()).select_from(nodes)).scalar_one() >= MAX_NODES:
        raise HTTPException(503, f"{MAX_NODES:,} nodes are known already")
    connection.execute(insert(nodes).values(node=node, **told))


def listed(connection: Connection, now: float, only: str | None) -> list[dict[str, Any]]:
    """What is known of each node, by name, and the receiver's verdict on it."""
    query = select(nodes).order_by(nodes.c.node)
    if only is not None:
        query = query.where(nodes.c.node == only)
    return [
        {
            "node": row.node,
            "state": state(now - row.seen_at),
            "seen_at": row.seen_at,
            "status": json.loads(row.status),
        }
        for row in connection.execute(query)
    ]


def state(silence: float) -> str:
    """How a node is after so many seconds of silence: "online", "late" or "lost"."""
    # A clock that was set back makes it negative: the node is as well as it was.
    if silence <= LATE:
        return "online"
    return "late" if silence <= LOST else "lost"
