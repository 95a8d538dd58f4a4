"""One MQTT 5 connection: publish until the broker answers, subscribe and acknowledge late.

Node and receiver both speak MQTT through it. It is built on paho-mqtt rather than on a library over
it, because the reason in a PUBACK decides: a broker answers "no matching subscribers" (0x10), or
"quota exceeded" (0x97), to a message that it has thrown away.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from dat_runtime.broker import Broker, tls_of
from dat_runtime.errors import DatError
from dat_runtime.network import in_daemon_thread

TIMEOUT = 10.0
"""Seconds that the broker has for each answer, the one to a connection included."""

KEEP_ALIVE = 15
"""Seconds; a connection without a sign of life for 1.5 times as long is taken as lost."""

MOST_IN_FLIGHT = 64
"""Messages without an answer; fewer when the broker says so."""

LARGEST = 300_000
"""Bytes of a packet that we take; a broker keeps larger ones from us."""

OVERHEAD = 16
"""About the bytes of a PUBLISH packet beside its topic, payload and texts."""

NO_SUBSCRIBER = 0x10
NOT_AUTHORIZED = frozenset({0x84, 0x86, 0x87, 0x8A, 0x8C})
"""MQTT 5, 2.4: version, user name or password, not authorized, banned, authentication method."""
REFUSED = frozenset({0x90, 0x95, 0x99})
"""What no later try would change: topic name invalid, packet too large, payload invalid."""
FAILED = 0x80
"""Reason codes from here on say that something went wrong (MQTT 5, 2.4)."""
_LOST = -1


class MqttError(DatError):
    """The broker did not take something, or cannot be reached.

    Attributes:
        code: the broker's reason code; `None` when it gave none.
    """

    def __init__(self, message: str, code: int | None = None):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Message:
    """What a subscription brings; `texts` are its user properties, the last one of each name."""

    topic: str
    payload: bytes
    content_type: str
    texts: Mapping[str, str]
    retained: bool
    packet: int
    """The packet's identifier, for `Connection.acknowledge`; 0 of one that was sent with QoS 0."""


class Connection:
    """One connection to a broker, used from one event loop.

    It is never mended: once it is `lost`, whoever uses it opens another, and sends again what was
    not answered. So it asks the broker to keep nothing about what it publishes.

    Attributes:
        lost: done when the connection has ended, with the reason in words.
        largest: bytes of a packet that the broker takes at most; `None` when it does not say.
        acknowledged, in_flight: bytes that the broker has taken, and those without an answer yet.
    """

    def __init__(
        self,
        broker: Broker,
        client: paho.Client,
        receive: Callable[[Message], None] | None,
        prepare: Callable[[Any], None] | None,
    ):
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.largest: int | None = None
        self.acknowledged = 0
        self.in_flight = 0
        self._broker = broker
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._answers: dict[int, asyncio.Future[int]] = {}
        self._slots = asyncio.Semaphore(MOST_IN_FLIGHT)
        self._round_trips: deque[float] = deque(maxlen=MOST_IN_FLIGHT)
        self._connected: asyncio.Future[int] = self._loop.create_future()
        self._receive = receive
        if prepare is not None:
            client.on_socket_open = lambda _client, _data, socket: prepare(socket)
        client.on_connect = self._on_connect
        client.on_connect_fail = lambda *_: self._call(self._end, "cannot be reached")
        client.on_disconnect = lambda _c, _u, _f, code, _p: self._call(
            self._end, f"the connection is lost ({code})"
        )
        client.on_publish = lambda _c, _u, mid, code, _p: self._call(self._answer, mid, code.value)
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message

    @classmethod
    async def open(
        cls,
        broker: Broker,
        name: str,
        *,
        timeout: float = TIMEOUT,
        session: int = 0,
        receive: Callable[[Message], None] | None = None,
        prepare: Callable[[Any], None] | None = None,
    ) -> "Connection":
        """A connection that the broker has accepted.

        Args:
            name: of the client; a broker ends an older connection of the same name.
            session: seconds that the broker keeps subscriptions and what came for them after the
                connection has ended; 0 begins anew each time.
            receive: takes what subscriptions bring, in the event loop; each message is to be
                acknowledged with `acknowledge`.
            prepare: is given the socket before anything is sent.

        Raises:
            MqttError: it cannot be reached, or does not accept us (then with its code).
            ConfigError: a certificate cannot be read.
        """
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=name,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = timeout
        client.max_inflight_messages_set(0)  # bounded here, by what the broker says
        if broker.user is not None or broker.password is not None:
            client.username_pw_set(broker.user, broker.password)
        if broker.tls:
            client.tls_set_context(tls_of(broker))
        connection = cls(broker, client, receive, prepare)
        try:
            async with asyncio.timeout(timeout):
                await connection._open(session)
        except BaseException as error:
            await connection.close()
            if isinstance(error, TimeoutError):
                raise MqttError(f"{broker}: no answer in {timeout:g} s") from None
            raise
        return connection

    async def _open(self, session: int) -> None:
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = session
        properties.ReceiveMaximum = MOST_IN_FLIGHT
        properties.MaximumPacketSize = LARGEST
        broker = self._broker

        def connect() -> None:
            self._client.connect(
                broker.host,
                broker.port,
                KEEP_ALIVE,
                clean_start=session == 0,
                properties=properties,
            )
            # Nobody has waited so long: the broker is not to think we are here.
            if self.lost.done():
                self._client._reset_sockets()

        try:
            await in_daemon_thread(connect, "mqtt-connect")
        except (OSError, ValueError) as error:
            raise MqttError(f"{broker}: cannot be reached ({error})") from None
        self._client.loop_start()
        ends: set[asyncio.Future[Any]] = {self._connected, self.lost}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not self._connected.done():
            raise MqttError(f"{broker}: {self.lost.result()}")
        code = self._connected.result()
        if code:
            raise MqttError(f"{broker}: does not accept the connection ({_name(code)})", code)

    @property
    def round_trip(self) -> float | None:
        """The shortest time lately from a message to its answer, seconds."""
        return min(self._round_trips, default=None)

    async def publish(
        self, topic: str, payload: bytes, content_type: str = "", **texts: str
    ) -> asyncio.Future[int]:
        """Hand over a message (QoS 1) once it may be in flight; the future is for `accepted`.

        Raises:
            MqttError: the connection is lost.
        """
        await self._slots.acquire()
        properties = _properties(PacketTypes.PUBLISH)
        if content_type:
            properties.ContentType = content_type
        if texts:
            properties.UserProperty = list(texts.items())
        size = (
            len(topic)
            + len(payload)
            + OVERHEAD
            + sum(5 + len(k) + len(v) for k, v in texts.items())
        )
        answer: asyncio.Future[int] = self._loop.create_future()
        if self.lost.done():
            self._slots.release()
            raise MqttError(f"{self._broker}: {self.lost.result()}")
        sent = self._client.publish(topic, payload, 1, properties=properties)
        began = time.monotonic()
        self.in_flight += size
        self._answers[sent.mid] = answer
        overdue = self._loop.call_later(TIMEOUT, self._end, f"no answer in {TIMEOUT:g} s")

        def answered(answer: asyncio.Future[int]) -> None:
            overdue.cancel()
            self._slots.release()
            self.in_flight -= size
            if not answer.cancelled() and answer.result() != _LOST:
                self.acknowledged += size
                self._round_trips.append(time.monotonic() - began)

        answer.add_done_callback(answered)
        return answer

    async def accepted(self, answer: asyncio.Future[int]) -> None:
        """Wait until the broker has taken a message.

        Raises:
            MqttError: it has not, with its reason code; `None` when the connection was lost.
        """
        code = await asyncio.shield(answer)
        if code == _LOST:
            raise MqttError(f"{self._broker}: {self.lost.result()}")
        if code >= FAILED or code == NO_SUBSCRIBER:
            raise MqttError(f"{self._broker}: did not take the message ({_name(code)})", code)

    async def subscribe(self, *topics: str) -> None:
        """Subscribe with QoS 1.

        Raises:
            MqttError: the broker refuses one of the topics, or the connection is lost.
        """
        answer: asyncio.Future[int] = self._loop.create_future()
        result, mid = self._client.subscribe([(topic, 1) for topic in topics])
        if result or mid is None:
            raise MqttError(f"{self._broker}: the connection is lost")
        self._answers[mid] = answer
        try:
            async with asyncio.timeout(TIMEOUT):
                await self.accepted(answer)
        except TimeoutError:
            raise MqttError(f"{self._broker}: no answer in {TIMEOUT:g} s") from None

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that a message need not be kept any longer.

        One of QoS 0 is not kept: the broker would end the connection over an answer to it.
        """
        if message.packet:
            self._client.ack(message.packet, 1)

    async def close(self) -> None:
        """End the connection; never raises."""
        with suppress(ValueError, OSError):
            self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)
        # Without a public name: else the collector closes them, some time or other.
        self._client._reset_sockets()
        self._end("the connection was closed")

    # paho calls what follows in a thread of its own: each hands over to the event loop.

    def _call(self, function: Callable[..., None], *values: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *values)

    def _on_connect(
        self,
        _client: paho.Client,
        _data: Any,
        _flags: paho.ConnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._call(self._accept, code.value, properties)

    def _on_subscribe(
        self, _client: paho.Client, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any
    ) -> None:
        self._call(self._answer, mid, max(code.value for code in codes))

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        properties = message.properties
        texts = dict(getattr(properties, "UserProperty", ()))
        content_type = getattr(properties, "ContentType", "")
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        told = Message(
            topic, bytes(message.payload), content_type, texts, message.retain, message.mid
        )
        if self._receive is not None:
            self._call(self._receive, told)

    # In the event loop again.

    def _accept(self, code: int, properties: Properties | None) -> None:
        self.largest = getattr(properties, "MaximumPacketSize", None)
        most = min(MOST_IN_FLIGHT, getattr(properties, "ReceiveMaximum", MOST_IN_FLIGHT))
        self._slots = asyncio.Semaphore(most)
        if not self._connected.done():
            self._connected.set_result(code)

    def _answer(self, mid: int, code: int) -> None:
        answer = self._answers.pop(mid, None)
        if answer is not None and not answer.done():
            answer.set_result(code)

    def _end(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(_LOST)
        self._answers.clear()


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]


def _name(code: int) -> str:
    """A reason code in the words of the specification."""
    for packet in (PacketTypes.PUBACK, PacketTypes.CONNACK, PacketTypes.SUBACK):
        with suppress(KeyError, AssertionError, ValueError):
            return f"{ReasonCode(packet, identifier=code)}, 0x{code:02X}"
    return f"0x{code:02X}"
