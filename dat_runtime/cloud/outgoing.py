"""Alerts go on: to a webhook, to an MQTT broker. At least once, the highest priority first.

What is to go on is noted in the transaction that keeps the alert, so that a crash loses nothing.
One worker delivers (`lease`). The addresses are the operator's own configuration: no alert, no
node and no answer changes where anything goes, so that a private address is theirs to choose, and a
redirect is a failure, never followed.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import httpx
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

from dat_runtime import __version__
from dat_runtime.alert import CONTENT_TYPE
from dat_runtime.cloud.alerts import Received
from dat_runtime.cloud.lease import Lease, forever
from dat_runtime.cloud.settings import Settings
from dat_runtime.cloud.tables import events, metadata, revisions
from dat_runtime.errors import ConfigError
from dat_runtime.files import read_bytes, read_text
from dat_runtime.mqtt import REFUSED, Broker, MqttError
from dat_runtime.mqtt import Connection as MqttConnection

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver

log = logging.getLogger("dat_runtime.cloud")

MAX_WAITING = 100_000
"""Alerts that wait for one target; beyond it, those of the lowest priority go, counted."""

AT_ONCE = 8
"""Alerts on their way to one target."""

SECONDS = 10.0
"""For one delivery, from name to answer."""

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


@dataclass(frozen=True)
class Outcome:
    """What became of a delivery.

    Attributes:
        kind: "delivered"; "refused", this alert will not be taken; "failed", the target takes
            nothing at the moment.
        words: why.
        retry_after: seconds that the target asked to wait.
    """

    kind: str
    words: str = ""
    retry_after: float = 0.0


DELIVERED = Outcome("delivered")


class Target(Protocol):
    """Where alerts go."""

    name: str
    shown: str
    """Its address without secrets."""

    async def deliver(self, row: Row[Any]) -> Outcome:
        """One alert, within `SECONDS`; never raises."""
        ...

    async def close(self) -> None: ...


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


def targets_of(settings: Settings) -> list[Target]:
    """Raises:
    ConfigError: an address, a secret or a password that will not do.
    """
    targets: list[Target] = []
    if settings.webhook is not None:
        targets.append(Webhook(settings.webhook, settings.webhook_secret))
    if settings.mqtt is not None:
        targets.append(MqttTarget(broker_of(settings, settings.mqtt)))
    return targets


def require_usable(settings: Settings) -> None:
    """See that alerts can go on, and come in by MQTT, as far as the settings say.

    Raises:
        ConfigError: an address, a secret or a password that will not do.
    """
    targets_of(settings)
    if settings.mqtt_in is not None:
        broker_of(settings, settings.mqtt_in)


def broker_of(settings: Settings, url: str) -> Broker:
    """Raises:
    ConfigError: the address or the password will not do.
    """
    password = settings.mqtt_password
    return Broker.of(
        url,
        password=None if password is None else read_text(password, ConfigError).strip(),
        certificate=settings.mqtt_certificate,
        authorities=settings.mqtt_authorities,
    )


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


class Webhook:
    """An HTTP endpoint that gets each alert as a CloudEvent, signed where there is a secret.

    The signature is that of Standard Webhooks (https://www.standardwebhooks.com).

    Raises:
        ConfigError: no http or https address, or a secret that cannot be read.
    """

    name = "webhook"

    def __init__(self, url: str, secret: Path | None):
        try:
            address = httpx.URL(url)
        except (httpx.InvalidURL, UnicodeError):
            address = httpx.URL("")
        if address.scheme not in ("http", "https") or not address.host:
            raise ConfigError("--webhook is no address such as https://alerts.example/hook")
        self.shown = f"the webhook at {address.host}"
        self._url = address
        self._key = None if secret is None else _key(secret)
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            timeout=SECONDS,
            limits=httpx.Limits(max_connections=AT_ONCE),
        )

    async def deliver(self, row: Row[Any]) -> Outcome:
        try:
            async with asyncio.timeout(SECONDS):
                return await self._post(row)
        except TimeoutError:
            return Outcome("failed", f"no answer in {SECONDS:g} s")
        except (httpx.HTTPError, OSError) as error:
            return Outcome("failed", f"{type(error).__name__}: {error}"[:200])

    async def _post(self, row: Row[Any]) -> Outcome:
        content = row.content.encode()
        headers = {
            "Content-Type": CONTENT_TYPE,
            "User-Agent": f"dat-runtime/{__version__}",
            "Accept-Encoding": "identity",
        } | signature(self._key, message_id(row), int(time.time()), content)
        request = self._client.build_request("POST", self._url, content=content, headers=headers)
        response = await self._client.send(request, stream=True)
        try:
            return _outcome(response)
        finally:
            await response.aclose()  # what it says is not read: it may never end

    async def close(self) -> None:
        await self._client.aclose()


def message_id(row: Row[Any]) -> str:
    """The same for each try of the same revision: by it a repetition is known."""
    return f"{row.event}/{row.revision}"


def signature(key: bytes | None, id: str, seconds: int, content: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks; without a key there is no signature."""
    headers = {"webhook-id": id, "webhook-timestamp": str(seconds)}
    if key is not None:
        signed = hmac.digest(key, f"{id}.{seconds}.".encode() + content, hashlib.sha256)
        headers["webhook-signature"] = "v1," + base64.b64encode(signed).decode()
    return headers


def _key(file: Path) -> bytes:
    """A secret as Standard Webhooks writes it, `whsec_` and base64, or any other bytes."""
    secret = read_bytes(file, ConfigError, most_bytes=10_000).strip()
    if secret.startswith(b"whsec_"):
        try:
            secret = base64.b64decode(secret.removeprefix(b"whsec_"), validate=True)
        except ValueError:
            raise ConfigError("is no secret: whsec_ is followed by base64", file) from None
    if len(secret) < 16:
        raise ConfigError("is no secret: expected at least 16 bytes", file)
    return secret


_NOT_THIS_ONE = frozenset({400, 413, 415, 422})
"""What an endpoint says of one alert; any other refusal is a fault that an operator can mend."""


def _outcome(response: httpx.Response) -> Outcome:
    status = response.status_code
    if response.is_success:
        return DELIVERED
    if status in _NOT_THIS_ONE:
        return Outcome("refused", f"status {status}")
    if response.is_redirect:
        return Outcome("failed", f"status {status}: redirects are not followed")
    return Outcome("failed", f"status {status}", _retry_after(response.headers))


def _retry_after(headers: httpx.Headers) -> float:
    """Seconds that `Retry-After` asks for, in seconds or as a date; 0 when it does not."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return 0.0


class MqttTarget:
    """A broker; alerts of a node go to `dat-received/NODE/alerts`, as CloudEvents, QoS 1.

    Not to the topics that nodes publish to: a receiver that takes alerts from the same broker
    would hear its own.
    """

    name = "mqtt"

    def __init__(self, broker: Broker):
        self.shown = f"the broker {broker}"
        self._broker = broker
        self._connection: MqttConnection | None = None
        self._connecting = asyncio.Lock()

    async def deliver(self, row: Row[Any]) -> Outcome:
        try:
            connection = await self._connected()
            topic = f"dat-received/{row.event.partition('/')[0]}/alerts"
            answer = await connection.publish(topic, row.content.encode(), CONTENT_TYPE)
            await connection.accepted(answer)
        except MqttError as error:
            return Outcome("refused" if error.code in REFUSED else "failed", str(error))
        return DELIVERED

    async def _connected(self) -> MqttConnection:
        async with self._connecting:
            if self._connection is None or self._connection.lost.done():
                await self.close()
                name = f"dat-receiver-out-{random.getrandbits(48):x}"
                self._connection = await MqttConnection.open(self._broker, name)
            return self._connection

    async def close(self) -> None:
        if self._connection is not None:
            ended, self._connection = self._connection, None
            await ended.close()
