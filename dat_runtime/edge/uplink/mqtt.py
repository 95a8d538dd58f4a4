"""A node's way to its receiver over an MQTT 5 broker.

Alerts and visuals have a connection each, so that no alert waits behind the bytes of an image. What
the broker has answered (PUBACK) is acknowledged, and nothing else: "no matching subscribers" is a
failure, because the broker has thrown the message away. `docs/wire.md` states the topics.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

from dat_runtime.alert import CONTENT_TYPE
from dat_runtime.broker import Broker
from dat_runtime.edge.uplink import tcp
from dat_runtime.edge.uplink.sender import (
    AccessError,
    Answer,
    OutgoingAlert,
    OutgoingVisual,
    Pieces,
    Progress,
    RefusedError,
    SendError,
    nothing,
    together,
)
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.edge.uplink.trust import token_in
from dat_runtime.mqtt import (
    LARGEST,
    NOT_AUTHORIZED,
    OVERHEAD,
    REFUSED,
    Connection,
    MqttError,
)

DEADLINE = 30.0
"""Seconds for alerts or a status, a new connection included. A visual has none of its own: it goes
as slowly as its lane wants, and ends with its connection, which does not outlive an answer that is
overdue."""

_TEXTS = 128
"""Bytes kept free in a packet for content type and user properties."""

_PUBLISH_BYTES = 160
"""Of a message beside its alert, about: topic and properties, and the packet's own."""

_MOST_BEGUN = 1_000
"""Visuals of which a part has arrived; beyond it, the oldest begin anew."""


class MqttSender:
    """See `Sender`. A visual's pieces go as messages of their own, several of them in flight.

    Raises:
        ConfigError: the address is none, or the token cannot be read or would travel unencrypted.
    """

    def __init__(self, settings: UplinkSettings, node: str):
        self._settings = settings
        self._node = node
        self._alerts = _Lane()
        self._visuals = _Lane()
        self._arrived: dict[tuple[str, str, int], int] = {}
        self._broker()  # what is wrong with the settings is said at once

    def _broker(self) -> Broker:
        """Where to connect; the token is read anew each time."""
        settings = self._settings
        token = token_in(settings.token_file) or None
        return Broker.of(
            settings.url,
            user=None if token is None else self._node,
            password=token,
            certificate=settings.certificate,
            authorities=settings.authorities,
        )

    async def _connection(self, lane: "_Lane") -> Connection:
        name = "alerts" if lane is self._alerts else "visuals"
        return await lane.connection(self._broker(), f"dat-{self._node}-{name}")

    async def send_alerts(
        self, alerts: Sequence[OutgoingAlert], written: Callable[[], None] = nothing
    ) -> Sequence[Answer]:
        """See `Sender`. An alert is taken once the broker has it.

        When it was written is not said: a broker does not let a visual wait for its alert.
        """
        topic = f"dat/{self._node}/alerts"
        async with _bounded("the alerts"):
            connection = await self._connection(self._alerts)
            room = _room(connection, topic)
            answers = [
                await connection.publish(topic, alert.json, CONTENT_TYPE)
                if len(alert.json) <= room
                else None
                for alert in alerts
            ]
            return [await _answer(connection, answer, room) for answer in answers]

    def alert_bytes(self, alerts: Sequence[OutgoingAlert]) -> int:
        return sum(_PUBLISH_BYTES + len(alert.json) for alert in alerts)

    async def send_visual(self, visual: OutgoingVisual, pieces: Pieces) -> int:
        """See `Sender`. A broker cannot be asked how far a visual came: it goes on where this
        sender's own messages were answered, and begins anew after a restart of the node."""
        async with _bounded("a connection"):
            connection = await self._connection(self._visuals)
        key = (visual.id, visual.kind, visual.revision)
        sent: list[tuple[int, asyncio.Future[int]]] = []
        begin = self._arrived.pop(key, 0) if visual.begun else 0
        try:
            publishing = self._publish(connection, visual, pieces, begin, sent)
            await _until_lost(connection, publishing)
            for _, answer in sent:
                await connection.accepted(answer)
        except MqttError as error:
            if error.code in REFUSED:
                raise RefusedError(str(error)) from None
            raise _failure(error) from None
        finally:
            arrived = _arrived(begin, sent)
            if 0 < arrived < visual.size:
                self._arrived[key] = arrived
            if len(self._arrived) > _MOST_BEGUN:
                del self._arrived[next(iter(self._arrived))]
        return arrived

    async def _publish(
        self,
        connection: Connection,
        visual: OutgoingVisual,
        pieces: Pieces,
        offset: int,
        sent: list[tuple[int, "asyncio.Future[int]"]],
    ) -> None:
        """Publish piece by piece; `sent` gets the end of each, and what the broker says to it."""
        told = visual.told
        event, kind = quote(told.pop("event"), safe="@:~"), told.pop("kind")
        topic = f"dat/{self._node}/visuals/{event}/{kind}"
        same = {"length": str(visual.size), **told}
        media = "image/jpeg" if visual.question is None else "application/octet-stream"
        room = _room(connection, topic) - len(told.get("prompt", "").encode())
        async for piece in _cut(pieces(offset), room):
            answer = await connection.publish(topic, piece, media, offset=str(offset), **same)
            offset += len(piece)
            sent.append((offset, answer))

    async def send_status(self, status: bytes) -> None:
        topic = f"dat/{self._node}/status"
        async with _bounded("the status"):
            connection = await self._connection(self._alerts)
            answer = await connection.publish(topic, status, "application/json")
            await connection.accepted(answer)

    def progress(self) -> Progress:
        return together([self._alerts.progress(), self._visuals.progress()])

    async def close(self) -> None:
        await self._alerts.close()
        await self._visuals.close()


class _Lane:
    """A connection that is opened when it is needed, and replaced once it is lost."""

    def __init__(self) -> None:
        self._opening = asyncio.Lock()
        self._open: Connection | None = None
        self._socket: Any = None
        self._earlier = 0

    async def connection(self, broker: Broker, name: str) -> Connection:
        """Raises:
        MqttError: the broker cannot be reached, or does not accept us.
        """
        async with self._opening:
            if self._open is None or self._open.lost.done():
                await self.close()
                self._open = await Connection.open(broker, name, prepare=self._prepare)
            return self._open

    def _prepare(self, socket: Any) -> None:
        tcp.prepare(socket)
        self._socket = socket

    def progress(self) -> Progress:
        """Bytes count once the broker has answered; the kernel knows the round trip better."""
        if self._open is None:
            return Progress(self._earlier, 0, None)
        kernel = tcp.progress(self._socket)
        round_trip = self._open.round_trip
        if kernel is not None and kernel.round_trip:
            round_trip = kernel.round_trip
        return Progress(self._earlier + self._open.acknowledged, self._open.in_flight, round_trip)

    async def close(self) -> None:
        if self._open is not None:
            ended, self._open = self._open, None
            self._earlier += ended.acknowledged
            await ended.close()


@asynccontextmanager
async def _bounded(what: str) -> AsyncIterator[None]:
    """A deadline over all that happens within, and errors as a `Sender` raises them."""
    try:
        async with asyncio.timeout(DEADLINE):
            yield
    except TimeoutError:
        raise SendError(f"{what}: nothing came back in {DEADLINE:g} s") from None
    except MqttError as error:
        raise _failure(error) from None


def _failure(error: MqttError) -> SendError:
    """Of the way. Whether a broker refuses one message for good, who sent that one asks before."""
    return AccessError(str(error)) if error.code in NOT_AUTHORIZED else SendError(str(error))


async def _answer(
    connection: Connection, answer: "asyncio.Future[int] | None", room: int
) -> Answer:
    """What became of an alert; `None` was too large to go out."""
    if answer is None:
        return Answer(False, f"the broker takes messages of at most {room:,} bytes")
    try:
        await connection.accepted(answer)
    except MqttError as error:
        if error.code not in REFUSED:
            raise
        return Answer(False, str(error))
    return Answer(True)


def _room(connection: Connection, topic: str) -> int:
    """Bytes of payload that a message to this topic may have."""
    largest = min(connection.largest or LARGEST, LARGEST)  # a receiver takes no more either
    room = largest - len(topic) - OVERHEAD - _TEXTS
    if room < 1:
        raise MqttError(f"the broker takes packets of at most {largest} bytes")
    return room


async def _cut(pieces: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    async for piece in pieces:
        for start in range(0, len(piece), most):
            yield piece[start : start + most]


def _arrived(offset: int, sent: Sequence[tuple[int, "asyncio.Future[int]"]]) -> int:
    """How far the bytes came without a gap, of what the broker has taken."""
    for end, answer in sent:
        if not answer.done() or answer.result() != 0:
            break
        offset = end
    return offset


async def _until_lost(connection: Connection, work: Coroutine[Any, Any, None]) -> None:
    """Run it, but no longer than the connection lives: nothing else ends a wait for room.

    Raises:
        MqttError: the connection was lost.
    """
    task = asyncio.ensure_future(work)
    ends: set[asyncio.Future[Any]] = {task, connection.lost}
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, MqttError):
                await task
    if task.cancelled():
        raise MqttError(connection.lost.result())
    task.result()
