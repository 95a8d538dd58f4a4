"""Alerts go on: to a webhook, to an MQTT broker. At least once, the highest priority first.

What is to go on is noted in the transaction that keeps the alert, so that a crash loses nothing.
One worker delivers (`lease`) to `targets`.
"""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from prometheus_client import Counter, Gauge
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    Row,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)

from dat_runtime.cloud.alerts import Received
from dat_runtime.cloud.lease import Lease, forever
from dat_runtime.cloud.tables import events, metadata, revisions
from dat_runtime.cloud.targets import AT_ONCE, Outcome, Target, targets_of

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver

log = logging.getLogger("dat_runtime.cloud")

MAX_WAITING = 100_000
"""Alerts that wait for one target; beyond it, those of the lowest priority go, counted."""

PAUSE, MAX_PAUSE, MAX_RETRY_AFTER = 1.0, 300.0, 3_600.0
"""Seconds before a target that failed is tried again: doubled each time, half of it random."""

REFUSALS = 3
"""Times that a target may refuse the same alert before it is dropped, `REFUSED_PAUSE` apart."""

REFUSED_PAUSE = 60.0

LOOK_EVERY = 0.25
TRIM_EVERY = 5.0

outbox = Table(
    "outbox",
    metadata,
    Column(
        "number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    Column("target", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("priority", Double, nullable=False),
    Column("refusals", Integer, nullable=False),
    Column("not_before", Double, nullable=False),
    Index("outbox_by_priority", "target", "priority", "number"),
)
"""One row for each target and revision that has not been delivered. `event` is the event's key,
NODE/ID; the alert itself stays where it is."""


def router(receiver: "Receiver") -> APIRouter:
    """No routes: alerts are noted as they are kept, and delivered by a task.

    Raises:
        ConfigError: an address, a secret or a password that will not do.
    """
    targets = targets_of(receiver.settings)
    counts = _Counts(receiver)
    if targets:
        receiver.recorded.append(partial(note, targets=[target.name for target in targets]))
    for target in targets:
        receiver.tasks.append(Delivery(receiver, target, counts).run)
    return APIRouter()


def note(connection: Connection, alerts: Sequence[Received], targets: Sequence[str]) -> None:
    """Note that alerts are to go on, in the transaction that keeps them."""
    rows = [
        {
            "target": target,
            "event": one.key,
            "revision": one.alert.revision,
            "priority": one.alert.priority,
            "refusals": 0,
            "not_before": 0.0,
        }
        for target in targets
        for one in alerts
    ]
    connection.execute(insert(outbox), rows)


class _Counts:
    def __init__(self, receiver: "Receiver"):
        registry = receiver.metrics.registry
        self.ended = Counter(
            "dat_receiver_outgoing_total",
            "Alerts that were to go on, by target and what became of them.",
            ["target", "outcome"],
            registry=registry,
        )
        self.failures = Counter(
            "dat_receiver_outgoing_failures_total",
            "Deliveries that failed and are tried again.",
            ["target"],
            registry=registry,
        )
        self.waiting = Gauge(
            "dat_receiver_outgoing_waiting",
            "Alerts that wait for a target.",
            ["target"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )


class Delivery:
    """Takes to one target what waits for it, for as long as the worker runs."""

    def __init__(self, receiver: "Receiver", target: Target, counts: _Counts):
        self._store = receiver.store
        self._target = target
        self._counts = counts
        self._lease = Lease(receiver.store, f"outgoing-{target.name}")
        self._failures = 0
        self._trim_at = 0.0

    async def run(self) -> None:
        try:
            await forever(f"alerts for {self._target.shown}", self._lease, self._round)
        finally:
            await self._target.close()

    async def _round(self) -> float:
        """Deliver the next few; seconds until there may be more to do."""
        if time.monotonic() >= self._trim_at:
            await self._trim()
        rows = await self._store.read(partial(due, target=self._target.name, count=AT_ONCE))
        if not rows:
            return LOOK_EVERY
        outcomes = await asyncio.gather(*(self._deliver(row) for row in rows))
        ended = list(zip(rows, outcomes, strict=True))
        counted = await self._store.write(partial(settle, ended=ended))
        for outcome in counted:
            self._counts.ended.labels(self._target.name, outcome).inc()
        return self._pause_after(outcomes)

    async def _deliver(self, row: Row[Any]) -> Outcome:
        if row.content is None:
            return Outcome("gone", "it was removed before it was delivered")
        return await self._target.deliver(row)

    def _pause_after(self, outcomes: Sequence[Outcome]) -> float:
        for outcome in outcomes:
            if outcome.kind == "refused":
                log.warning("%s refused an alert: %s", self._target.shown, outcome.words)
        failed = [outcome for outcome in outcomes if outcome.kind == "failed"]
        if not failed:
            if self._failures:
                log.warning("%s takes alerts again", self._target.shown)
            self._failures = 0
            return 0.0
        self._counts.failures.labels(self._target.name).inc(len(failed))
        if not self._failures:
            log.warning("%s takes no alerts: %s", self._target.shown, failed[0].words)
        self._failures += 1
        pause = min(MAX_PAUSE, PAUSE * 2 ** min(self._failures - 1, 20))
        asked = max(outcome.retry_after for outcome in failed)
        # Random, so that many receivers do not come back at the same moment.
        return float(max(pause * random.uniform(0.5, 1.0), min(asked, MAX_RETRY_AFTER)))

    async def _trim(self) -> None:
        self._trim_at = time.monotonic() + TRIM_EVERY
        waiting, dropped = await self._store.write(partial(trim, target=self._target.name))
        self._counts.waiting.labels(self._target.name).set(waiting)
        if dropped:
            self._counts.ended.labels(self._target.name, "dropped").inc(dropped)
            log.error("%d alerts for the %s were dropped", dropped, self._target.name)


def due(connection: Connection, target: str, count: int) -> list[Row[Any]]:
    """What is to be delivered next, of each event one revision at a time."""
    query = (
        select(outbox, revisions.c.content)
        .outerjoin(events, events.c.key == outbox.c.event)
        .outerjoin(
            revisions,
            (revisions.c.event == events.c.number) & (revisions.c.revision == outbox.c.revision),
        )
        .where(outbox.c.target == target, outbox.c.not_before <= time.time())
        .order_by(outbox.c.priority.desc(), outbox.c.number)
        .limit(count)
    )
    first: dict[str, Row[Any]] = {}
    for row in connection.execute(query):
        first.setdefault(row.event, row)
    return list(first.values())


def settle(connection: Connection, ended: Sequence[tuple[Row[Any], Outcome]]) -> list[str]:
    """Note what became of deliveries; the outcomes that are final."""
    final, done = [], []
    for row, outcome in ended:
        refusals = row.refusals + (outcome.kind == "refused")
        if outcome.kind in ("delivered", "gone") or refusals >= REFUSALS:
            final.append(outcome.kind)
            done.append(row.number)
        elif outcome.kind == "refused":
            later = time.time() + REFUSED_PAUSE * refusals
            one = update(outbox).where(outbox.c.number == row.number)
            connection.execute(one.values(refusals=refusals, not_before=later))
    connection.execute(delete(outbox).where(outbox.c.number.in_(done)))
    return final


def trim(connection: Connection, target: str) -> tuple[int, int]:
    """Drop what waits beyond `MAX_WAITING`; how many wait then, and how many were dropped."""
    mine = outbox.c.target == target
    waiting = connection.execute(select(func.count()).where(mine)).scalar_one()
    excess = max(0, waiting - MAX_WAITING)
    if excess:
        least = (
            select(outbox.c.number)
            .where(mine)
            .order_by(outbox.c.priority, outbox.c.number)
            .limit(min(excess, 10_000))
        )
        excess = connection.execute(delete(outbox).where(outbox.c.number.in_(least))).rowcount
    return waiting - excess, excess
