"""What is kept: by age and by size, pictures before alerts, what nobody has judged last.

Within each, what is removed first is what nobody judged and is not severe, then what was judged,
and last what is severe and still open; the oldest first. Everything is counted. It goes in small
steps, each a short transaction among those of the nodes. One worker does it (`lease`).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from prometheus_client import Counter, Gauge
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    case,
    delete,
    func,
    insert,
    select,
    update,
)

from dat_runtime.cloud import alerts
from dat_runtime.cloud.alerts import Received
from dat_runtime.cloud.lease import Lease, forever
from dat_runtime.cloud.tables import events, revisions, store_state
from dat_runtime.cloud.tus import QUESTIONS
from dat_runtime.cloud.upload_files import Files
from dat_runtime.cloud.uploads import KEPT_SECONDS, uploads
from dat_runtime.priority import BETA

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver

log = logging.getLogger("dat_runtime.cloud")

LOOK_EVERY = 30.0
STEP = 100
"""Rows that one transaction removes; which ones is found out beside the transactions."""

MAX_FOUND = 2_000
"""Rows that are looked for at a time: the order costs a sort of all."""

PAUSE = 0.02
"""Seconds between two steps: nodes write meanwhile."""

SWEEP_EVERY = 3_600.0
"""Seconds between two looks for files that belong to nothing."""

YOUNG = 600.0
"""Seconds in which a file may lie there before its row does."""

DAY = 86_400.0

_BYTES = "alert_bytes"


def router(receiver: "Receiver") -> APIRouter:
    """No routes: a task removes what need not be kept."""
    receiver.recorded.append(add_bytes)
    receiver.tasks.append(Retention(receiver).run)
    return APIRouter()


class Retention:
    """Removes what need not be kept, for as long as the worker runs."""

    def __init__(self, receiver: "Receiver"):
        self._store = receiver.store
        self._files = Files(receiver.folder / "visuals")
        self._settings = receiver.settings
        self._lease = Lease(receiver.store, "retention")
        self._sweep_at = 0.0
        self._removed = Counter(
            "dat_receiver_removed_total",
            "What was removed, by kind and reason.",
            ["kind", "reason"],
            registry=receiver.metrics.registry,
        )
        self._kept = Gauge(
            "dat_receiver_kept_bytes",
            "Bytes of visuals and alerts.",
            registry=receiver.metrics.registry,
            multiprocess_mode="mostrecent",
        )

    async def run(self) -> None:
        await forever("retention", self._lease, self.once)

    async def once(self) -> float:
        """Remove all that need not be kept; seconds until it is worth while to look again.

        Raises:
            StoreError, OSError: nothing can be removed at the moment.
        """
        now = time.time()
        rests = uploads.c.written_at < now - KEPT_SECONDS
        await self._remove("visual", "unfinished", visuals_where, ~uploads.c.complete & rests)
        await self._remove("visual", "unanswered", visuals_where, _IS_QUESTION & rests)
        if self._settings.keep_days is not None:
            old = events.c.received_at < now - self._settings.keep_days * DAY
            await self._remove("visual", "age", visuals_where, old)
            await self._remove("alert", "age", alerts_where, old)
        if self._settings.keep_bytes is not None:
            most = self._settings.keep_bytes
            await self._remove("visual", "size", visuals_beyond, most)
            await self._remove("alert", "size", alerts_beyond, most)
        self._kept.set(await self._store.read(kept_bytes))
        if time.monotonic() >= self._sweep_at:
            await self._sweep()
        return LOOK_EVERY

    async def _remove(
        self, kind: str, reason: str, find: Callable[[Connection, Any], list[Any]], limit: Any
    ) -> None:
        """Remove, step by step, what `find` finds, until it finds no more."""
        drop = drop_visuals if kind == "visual" else drop_alerts
        while found := await self._store.read(lambda connection: find(connection, limit)):
            for start in range(0, len(found), STEP):
                some = found[start : start + STEP]
                keys = await self._store.write(partial(drop, which=some))
                await asyncio.to_thread(self._remove_files, keys)
                self._removed.labels(kind, reason).inc(len(some))
                await asyncio.sleep(PAUSE)
            log.info("removed %d of kind %s for their %s", len(found), kind, reason)

    def _remove_files(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._files.remove(key)

    async def _sweep(self) -> None:
        """Remove files that no row names: left by a crash between a commit and their removal."""
        self._sweep_at = time.monotonic() + SWEEP_EVERY
        before = time.time() - YOUNG
        found = await asyncio.to_thread(self._files.keys)
        old = [key for key, written_at in found if written_at < before]
        for start in range(0, len(old), STEP):
            some = old[start : start + STEP]
            named = await self._store.read(partial(known, keys=some))
            stray = [key for key in some if key not in named]
            await asyncio.to_thread(self._remove_files, stray)
            if stray:
                self._removed.labels("file", "stray").inc(len(stray))


_IS_QUESTION = uploads.c.complete & uploads.c.kind.in_(QUESTIONS)

_RANK = case(
    (events.c.verdict.is_not(None), 1),
    (events.c.priority >= BETA, 2),  # level 1 of Eq. 7: severe
    else_=0,
)
"""What may go first: neither judged nor severe, then judged, then severe and open."""

_ORDER = (_RANK, events.c.received_at, events.c.number)


_VISUALS = (
    select(uploads.c.key, uploads.c.arrived.label("size"))
    .join(events, events.c.number == uploads.c.event)
    .order_by(*_ORDER)
    .limit(MAX_FOUND)
)
_ALERTS = (
    select(
        events.c.number,
        func.coalesce(func.sum(func.length(revisions.c.content)), 0).label("size"),
    )
    .outerjoin(revisions, revisions.c.event == events.c.number)
    .group_by(events.c.number)
    .order_by(*_ORDER)
    .limit(MAX_FOUND)
)


def visuals_where(connection: Connection, holds: ColumnElement[bool]) -> list[str]:
    """The keys of visuals for which something holds, in the order in which they go."""
    return list(connection.execute(_VISUALS.where(holds)).scalars())


def alerts_where(connection: Connection, holds: ColumnElement[bool]) -> list[int]:
    """As `visuals_where`; the numbers of events."""
    return list(connection.execute(_ALERTS.where(holds)).scalars())


def visuals_beyond(connection: Connection, most: int) -> list[str]:
    """The visuals that have to go until all that is kept has so many bytes.

    One that is under way does not go: it ends, or rests until its time is over.
    """
    return _beyond(connection, most, _VISUALS.where(uploads.c.complete))


def alerts_beyond(connection: Connection, most: int) -> list[int]:
    """As `visuals_beyond`."""
    return _beyond(connection, most, _ALERTS)


def _beyond(connection: Connection, most: int, query: Select[Any]) -> list[Any]:
    excess = kept_bytes(connection) - most
    found: list[Any] = []
    if excess <= 0:
        return found
    for name, size in connection.execute(query):
        if excess <= 0:
            break
        found.append(name)
        excess -= size
    return found


def drop_visuals(connection: Connection, which: Sequence[str]) -> Sequence[str]:
    """Remove visuals by their keys; the names of their files."""
    gone = (
        delete(uploads)
        .where(uploads.c.key.in_(which))
        .returning(uploads.c.event, uploads.c.kind, uploads.c.complete)
    )
    for row in connection.execute(gone).all():
        if row.complete and row.kind not in QUESTIONS:
            alerts.touch(connection, row.event, **{row.kind: False})
    return which


def drop_alerts(connection: Connection, which: Sequence[int]) -> Sequence[str]:
    """Remove events by their numbers, with all that belongs to them; the names of their files."""
    theirs = select(uploads.c.key).where(uploads.c.event.in_(which))
    keys = list(connection.execute(theirs).scalars())
    sizes = select(func.coalesce(func.sum(func.length(revisions.c.content)), 0))
    size = connection.execute(sizes.where(revisions.c.event.in_(which))).scalar_one()
    connection.execute(delete(events).where(events.c.number.in_(which)))
    _count_bytes(connection, -int(size))
    return keys


def kept_bytes(connection: Connection) -> int:
    """Bytes of all visuals and alerts: their contents, without what the database needs around."""
    visuals = connection.execute(select(func.coalesce(func.sum(uploads.c.arrived), 0))).scalar_one()
    counted = select(store_state.c.value).where(store_state.c.name == _BYTES)
    return int(visuals) + int(connection.execute(counted).scalar() or 0)


def add_bytes(connection: Connection, kept: Sequence[Received]) -> None:
    """Count the bytes of alerts as they are kept: a sum over all of them would read all of them."""
    _count_bytes(connection, sum(len(one.content) for one in kept))


def _count_bytes(connection: Connection, more: int) -> None:
    mine = store_state.c.name == _BYTES
    counted = update(store_state).where(mine).values(value=store_state.c.value + more)
    if connection.execute(counted).rowcount == 0:
        total = select(func.coalesce(func.sum(func.length(revisions.c.content)), 0))
        value = connection.execute(total).scalar_one()
        connection.execute(insert(store_state).values(name=_BYTES, value=value))


def known(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Those of the keys that have a row."""
    return set(connection.execute(select(uploads.c.key).where(uploads.c.key.in_(keys))).scalars())
