"""What nodes send by way of an MQTT broker, kept as what comes over HTTP is.

A message is acknowledged to the broker after its commit, and the broker keeps what comes while no
receiver is connected, so that nothing which a node's PUBACK covered is lost on the way. Who may
publish to whose topics is the broker's to say: here a message counts as the node's that its topic
names, and an alert has to name the same.
"""

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from fastapi import APIRouter, HTTPException
from prometheus_client import Counter
from sqlalchemy import Connection, Row

from dat_runtime import files
from dat_runtime.alert import MAX_ALERT_BYTES, NAME
from dat_runtime.cloud import alerts, nodes, uploads
from dat_runtime.cloud.alerts import Received
from dat_runtime.cloud.lease import Lease, forever
from dat_runtime.cloud.targets import broker_of
from dat_runtime.cloud.tus import Wanted, metadata_of, most_bytes
from dat_runtime.cloud.upload_files import Uploads
from dat_runtime.cloud.uploads import UploadError
from dat_runtime.mqtt import Connection as MqttConnection
from dat_runtime.mqtt import Message, MqttError

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver

log = logging.getLogger("dat_runtime.cloud")

TOPICS = ("dat/+/alerts", "dat/+/visuals/+/+", "dat/+/status")

SESSION = 7 * 24 * 3600
"""Seconds that the broker keeps what comes for a receiver that is away."""

QUIET = 5.0
"""Seconds without a message after which the lease is looked at."""

_OUTCOMES = {
    alerts.CREATED: "created",
    alerts.UNCHANGED: "unchanged",
    alerts.CONFLICT: "conflict",
}

_TOPIC = re.compile(r"dat/([^/]+)/(alerts|status|visuals)(?:/([^/]+)/([^/]+))?")


def router(receiver: "Receiver") -> APIRouter:
    """No routes: a task takes what comes, where there is a broker.

    Raises:
        ConfigError: the address or the password will not do.
    """
    if receiver.settings.mqtt_in is not None:
        receiver.tasks.append(Bridge(receiver, receiver.settings.mqtt_in).run)
    return APIRouter()


class Refused(Exception):
    """A message that will never be kept; the words go to the log, the reason to the counter."""

    def __init__(self, reason: str, words: str):
        super().__init__(words)
        self.reason = reason


@dataclass
class _Run:
    """Bytes of one visual that follow one another."""

    wanted: Wanted
    start: int
    content: bytearray

    @property
    def end(self) -> int:
        return self.start + len(self.content)


class Bridge:
    """Takes what comes from one broker, for as long as the worker runs."""

    def __init__(self, receiver: "Receiver", url: str):
        self._receiver = receiver
        self._broker = broker_of(receiver.settings, url)
        self._record = partial(alerts.record, told=receiver.recorded)
        self._uploads = Uploads(receiver)
        self._lease = Lease(receiver.store, "bridge")
        # The same after a restart: by it the broker knows the session.
        digest = hashlib.sha256(receiver.store.name.encode()).hexdigest()
        self._name = f"dat-receiver-{digest[:12]}"
        self._refused = Counter(
            "dat_receiver_mqtt_refused_total",
            "Messages that came from the broker and were not kept, by reason.",
            ["reason"],
            registry=receiver.metrics.registry,
        )

    async def run(self) -> None:
        await forever(f"what comes from {self._broker}", self._lease, self._connected)

    async def _connected(self) -> float:
        """Take what comes until the connection or the lease is lost.

        Raises:
            MqttError: the connection is lost.
            StoreError, OSError: something cannot be kept. It was not acknowledged, and the broker
                sends it again over the next connection.
        """
        came: asyncio.Queue[Message] = asyncio.Queue()  # the broker sends no more than is in flight

        def take(message: Message) -> None:
            if message.packet:
                came.put_nowait(message)
            else:  # of those it sends without end, and nobody knows which of them are lost
                self._count(Refused("qos", f"{message.topic!r:.120} came with QoS 0"))

        connection = await MqttConnection.open(
            self._broker, self._name, session=SESSION, receive=take
        )
        try:
            await connection.subscribe(*TOPICS)
            while await self._lease.held():
                messages = await _some(came, connection)
                await self._keep(messages)
                for message in messages:
                    connection.acknowledge(message)
        finally:
            await connection.close()
        return 0.0

    async def _keep(self, messages: Sequence[Message]) -> None:
        """Keep what can be kept; the rest is counted."""
        came: list[Received] = []
        runs: list[_Run] = []
        for message in messages:
            try:
                node, kind, event, part = _place(message)
                if kind == "alerts":
                    came.append(_alert(node, message))
                elif kind == "visuals":
                    _append(runs, _piece(node, event, part, message), message.payload)
                else:
                    await self._status(node, message)
            except Refused as error:
                self._count(error)
        if came:
            statuses = await self._receiver.store.write_together(self._record, came)
            for status in statuses:
                self._receiver.metrics.alerts.labels(_OUTCOMES[status]).inc()
        for run in runs:
            try:
                await self._add(run)
            except uploads.Answered:
                pass  # all of it was here, and is not needed again
            except UploadError as error:
                self._count(Refused(f"visual: {error.status}", str(error)))

    def _count(self, error: Refused) -> None:
        self._refused.labels(error.reason).inc()
        log.info("a message was not kept: %s", error)

    async def _status(self, node: str, message: Message) -> None:
        try:
            if len(message.payload) > nodes.MAX_BYTES:
                raise ValueError(f"more than {nodes.MAX_BYTES:,} bytes")
            status = nodes.read_status(files.parse(message.payload.decode()))
        except ValueError as error:
            raise Refused("status", str(error)) from None
        if message.retained:
            return  # how it was, some time ago
        seen = partial(nodes.seen, node=node, status=status, now=time.time())
        try:
            await self._receiver.store.write(seen)
        except HTTPException as error:
            raise Refused("status", error.detail) from None

    async def _add(self, run: _Run) -> None:
        """Add bytes to a visual: those that are there already are passed over.

        Raises:
            UploadError: they cannot be added; 409 when bytes before them are missing.
        """

        def work(connection: Connection) -> Row[object]:
            event = alerts.find(connection, run.wanted.event, run.wanted.node)
            if event is None:
                raise UploadError(404, f"no event {run.wanted.event}")
            return uploads.create(connection, event, run.wanted)[0]

        key = (await self._receiver.store.write(work)).key
        writing, row, there = await self._uploads.begin(key, None)
        try:
            if run.start > there:
                raise UploadError(409, f"bytes from {there:,} to {run.start:,} are missing")
            if row.complete or run.end <= there:
                return
            writing.write(bytes(run.content[there - run.start :]))
            await self._uploads.acknowledge(writing, row, run.end)
        finally:
            writing.close()


async def _some(came: "asyncio.Queue[Message]", connection: MqttConnection) -> list[Message]:
    """What came and waits, in its order; nothing after `QUIET`.

    Raises:
        MqttError: the connection is lost.
    """
    first = asyncio.ensure_future(came.get())
    ends: set[asyncio.Future[Any]] = {first, connection.lost}
    try:
        await asyncio.wait(ends, timeout=QUIET, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not first.done():
            first.cancel()
    if first.cancelled() or not first.done():
        if connection.lost.done():
            raise MqttError(connection.lost.result())
        return []
    messages = [first.result()]
    while not came.empty():
        messages.append(came.get_nowait())
    return messages


def _place(message: Message) -> tuple[str, str, str, str]:
    """Node, "alerts", "status" or "visuals", and of a visual its event and kind."""
    match = _TOPIC.fullmatch(message.topic)
    if match is None or not NAME.holds(match[1]) or (match[2] == "visuals") is (match[3] is None):
        raise Refused("topic", f"topic {message.topic!r:.120}")
    return match[1], match[2], unquote(match[3] or ""), match[4] or ""


def _alert(node: str, message: Message) -> Received:
    try:
        if len(message.payload) > MAX_ALERT_BYTES:
            raise ValueError(f"more than {MAX_ALERT_BYTES:,} bytes")
        one = alerts.received(files.parse(message.payload.decode()), time.time())
    except ValueError as error:
        raise Refused("alert", f"of {node}: {error}") from None
    if one.alert.origin.node != node:
        raise Refused("node", f"{node} spoke for {one.alert.origin.node}")
    return one


def _piece(node: str, event: str, kind: str, message: Message) -> tuple[Wanted, int]:
    """What a piece belongs to, and where in it."""
    length, offset = _number(message, "length"), _number(message, "offset")
    revision = _number(message, "revision") if "revision" in message.texts else None
    size = len(message.payload)
    if not (0 < length <= most_bytes(kind) and size and offset + size <= length):
        raise Refused("piece", f"{size} bytes at {offset} of {length}")
    told = {"event": event, "kind": kind}
    if revision is not None:
        told["revision"] = str(revision)
    if "prompt" in message.texts:
        told["prompt"] = message.texts["prompt"]
    try:
        text = metadata_of(told)
    except ValueError as error:
        raise Refused("piece", str(error)) from None
    return Wanted(event, kind, node, revision, length, text), offset


def _number(message: Message, name: str) -> int:
    text = message.texts.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise Refused("piece", f"{name} is {text!r:.40}, expected a whole number")
    return int(text)


def _append(runs: list[_Run], piece: tuple[Wanted, int], content: bytes) -> None:
    """Add a piece to the run that it continues: one write, one sync for many pieces."""
    wanted, offset = piece
    for run in reversed(runs):
        if run.wanted == wanted:
            if run.end == offset:
                run.content += content
                return
            break
    runs.append(_Run(wanted, offset, bytearray(content)))
