"""One MQTT 5 connection, to a real mosquitto and to servers that are none."""

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from dat_runtime import mqtt
from dat_runtime.broker import Broker
from dat_runtime.errors import ConfigError
from dat_runtime.mqtt import Connection, Message, MqttError, _name
from tests.dat_runtime import mosquitto


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "user"),
    [
        ("mqtt://broker.example", "broker.example", 1883, False, None),
        ("mqtts://broker.example/", "broker.example", 8883, True, None),
        ("mqtts://n%401@broker.example:99", "broker.example", 99, True, "n@1"),
        ("mqtt://[::1]:7", "::1", 7, False, None),
    ],
)
def test_an_address_says_where_and_who(
    url: str, host: str, port: int, tls: bool, user: str | None
) -> None:
    broker = Broker.of(url)
    assert (broker.host, broker.port, broker.tls, broker.user) == (host, port, tls, user)
    assert Broker.of(url, user="other").user == (user or "other")
    assert Broker.of(str(broker)) == Broker(host, port, tls)


@pytest.mark.parametrize("url", ["", "mqtt:", "http://h", "mqtt://u:secret@h", "mqtt://h:0"])
def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        Broker.of(url)
    assert "secret" not in str(refusal.value)


def test_a_certificate_that_cannot_be_read_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    broker = Broker.of("mqtts://localhost", certificate=tmp_path / "none")
    with pytest.raises(ConfigError, match="certificate"):
        asyncio.run(Connection.open(broker, "x"))


@contextmanager
def answering(content: bytes, closes: bool, got: list[bytes] | None = None) -> Iterator[Broker]:
    """A server that says the same to whoever connects, and nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                packet = connection.recv(1_000)
                if got is not None:
                    got.append(packet)
                connection.sendall(content)
                if not closes:
                    stop.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Broker("127.0.0.1", server.getsockname()[1], False)
        stop.set()
        thread.join()


REFUSED = b"\x20\x03\x00\x87\x00"
"""CONNACK: not authorized."""


@pytest.mark.parametrize(
    ("content", "closes", "words"),
    [
        (b"", False, r"^mqtt://127\.0\.0\.1:\d+: no answer in 0\.3 s$"),
        (b"\x20", False, "no answer in 0.3 s"),
        (b"", True, "lost|no answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", True, "lost|no answer"),
        (b"\xff" * 64, True, "lost|no answer"),
        (
            REFUSED,
            False,
            r"^mqtt://127.*: does not accept the connection \(Not authorized, 0x87\)$",
        ),
    ],
)
def test_what_is_no_broker_is_given_up(content: bytes, closes: bool, words: str) -> None:
    with answering(content, closes) as broker, pytest.raises(MqttError, match=words):
        asyncio.run(Connection.open(broker, "x", timeout=0.3))


@pytest.mark.parametrize(
    ("who", "options", "flags"),
    [
        ({"user": "n", "password": "secret"}, {}, 0xC2),
        ({"user": "n", "password": "secret"}, {"session": 60}, 0xC0),
        ({"user": "n"}, {"session": 0}, 0x82),
        ({}, {}, 0x02),
    ],
)
def test_the_first_packet_says_who_we_are_and_what_we_take(
    who: dict[str, str], options: dict[str, int], flags: int
) -> None:
    async def scenario(broker: Broker) -> None:
        await (await Connection.open(broker, "node-1", **options)).close()

    got: list[bytes] = []
    with answering(b"\x20\x03\x00\x00\x00", False, got) as broker:
        asyncio.run(scenario(replace(broker, **who)))
    session = options.get("session", 0).to_bytes(4)
    takes = b"\x0d\x11" + session + b"\x21\x00\x40" + b"\x27\x00\x04\x93\xe0"
    texts = b"".join(len(text).to_bytes(2) + text.encode() for text in ("node-1", *who.values()))
    packet = b"\x00\x04MQTT\x05" + bytes([flags]) + b"\x00\x0f" + takes + texts
    assert got == [b"\x10" + bytes([len(packet)]) + packet]


class Client:
    """paho's client without a network: keeps what it is told, and says what a test says."""

    def __init__(self, fails: Exception | None = None, accepts: int | None = 0, **states: int):
        self._fails, self._accepts = fails, accepts
        self._properties = Properties(PacketTypes.CONNACK)
        for name, value in states.items():
            setattr(self._properties, name, value)
        self.told: list[Any] = []
        self.subscribes: tuple[int, int | None] = (0, 1)

    def connect(self, host: str, port: int, keep_alive: int, **_: Any) -> None:
        if self._fails:
            raise self._fails
        self.told.append((host, port, keep_alive))

    def loop_start(self) -> None:
        if self._accepts is None:
            self.on_connect_fail(self, None)
            return
        code = ReasonCode(PacketTypes.CONNACK, identifier=self._accepts)
        self.on_connect(self, None, None, code, self._properties)

    def publish(self, *message: Any, properties: Properties) -> SimpleNamespace:
        self.told.append((*message, properties.json()))
        return SimpleNamespace(mid=len(self.told))

    def answer(self, mid: int, code: int) -> None:
        self.on_publish(self, None, mid, ReasonCode(PacketTypes.PUBACK, identifier=code), None)

    def subscribe(self, topics: Any) -> tuple[int, int | None]:
        self.told.append(topics)
        return self.subscribes

    def ack(self, *which: int) -> None:
        self.told.append(which)

    def lose(self) -> None:
        code = ReasonCode(PacketTypes.DISCONNECT, identifier=0x8D)
        self.on_disconnect(self, None, None, code, None)

    def disconnect(self) -> None:
        raise OSError("never mind")

    def loop_stop(self) -> None:
        self.told.append("stopped")

    def _reset_sockets(self) -> None:
        self.told.append("sockets closed")


def run(scenario: Coroutine[Any, Any, object]) -> None:
    """To its end, which is a matter of milliseconds."""
    asyncio.run(asyncio.wait_for(scenario, 5))


async def connected(client: Any, receive: Any = None, prepare: Any = None) -> Connection:
    connection = Connection(Broker("h", 7, False), client, receive, prepare)
    await connection._open(0)
    return connection


@pytest.mark.parametrize(
    ("client", "words", "code"),
    [
        ({"fails": OSError("no route")}, r"cannot be reached \(no route\)", None),
        ({"fails": ValueError("bad name")}, r"cannot be reached \(bad name\)", None),
        ({"accepts": None}, "cannot be reached", None),
        ({"accepts": 0x97}, r"does not accept the connection \(Quota exceeded, 0x97\)", 0x97),
    ],
)
def test_a_connection_that_does_not_come_about_says_why(
    client: dict[str, Any], words: str, code: int | None
) -> None:
    with pytest.raises(MqttError, match=f"^mqtt://h:7: {words}$") as refusal:
        run(connected(Client(**client)))
    assert refusal.value.code == code


def test_a_connect_that_outlasts_its_time_holds_nobody_up_and_leaves_no_socket() -> None:
    """A name's look-up may hang: asyncio's own threads would keep the process from its end."""
    told, connects = threading.Event(), threading.Event()
    client = Client()

    def connect(host: str, port: int, keep_alive: int, **_: Any) -> None:
        client.told.append(threading.current_thread().daemon)
        told.set()
        connects.wait(10)

    client.connect = connect  # type: ignore[method-assign]

    async def scenario() -> None:
        connection = Connection(Broker("h", 7, False), client, None, None)
        opening = asyncio.create_task(connection._open(0))
        await asyncio.to_thread(told.wait, 5)
        opening.cancel()
        await asyncio.wait([opening])
        await connection.close()
        assert client.told == [True, "stopped", "sockets closed"]
        connects.set()
        while len(client.told) < 4:
            await asyncio.sleep(0.005)
        assert client.told[3:] == ["sockets closed"]

    run(scenario())


def test_a_message_counts_until_it_is_answered() -> None:
    async def scenario() -> None:
        client = Client(MaximumPacketSize=1_000)
        connection = await connected(client)
        assert (connection.largest, connection.round_trip) == (1_000, None)
        first = await connection.publish("a/b", b"12345", "text/plain", n="1", name="left")
        second = await connection.publish("c", b"")
        size = 3 + 5 + 16 + (5 + 1 + 1) + (5 + 4 + 4)
        assert connection.in_flight == size + 17
        client.answer(2, 0)
        await connection.accepted(first)
        assert (connection.in_flight, connection.acknowledged) == (17, size)
        assert connection.round_trip is not None
        assert 0 <= connection.round_trip < 5
        client.answer(2, 0)  # twice
        client.answer(9, 0)  # of no message
        client.answer(3, 0x10)
        with pytest.raises(MqttError, match=r"^mqtt://h:7: did not take .* \(No matching.*, 0x10"):
            await connection.accepted(second)
        assert (connection.in_flight, connection.acknowledged) == (0, size + 17)
        texts = [("n", "1"), ("name", "left")]
        assert client.told == [
            ("h", 7, 15),
            ("a/b", b"12345", 1, {"ContentType": "text/plain", "UserProperty": texts}),
            ("c", b"", 1, {}),
        ]

    run(scenario())


@pytest.mark.parametrize(("code", "taken"), [(0x00, True), (0x80, False), (0x97, False)])
def test_the_reason_of_an_answer_decides(code: int, taken: bool) -> None:
    async def scenario() -> None:
        client = Client()
        connection = await connected(client)
        answer = await connection.publish("a", b"")
        client.answer(2, code)
        if taken:
            await connection.accepted(answer)
            return
        with pytest.raises(MqttError, match=rf", 0x{code:X}\)$") as refusal:
            await connection.accepted(answer)
        assert refusal.value.code == code

    run(scenario())


@pytest.mark.parametrize(("says", "most"), [(None, 64), (99, 64), (2, 2)])
def test_as_many_messages_are_in_flight_as_both_sides_allow(says: int | None, most: int) -> None:
    async def scenario() -> None:
        client = Client() if says is None else Client(ReceiveMaximum=says)
        connection = await connected(client)
        assert connection.largest is None
        for _ in range(most):
            await asyncio.wait_for(connection.publish("a", b""), 5)
        further = asyncio.create_task(connection.publish("a", b""))
        await asyncio.sleep(0.01)
        assert not further.done()
        client.answer(2, 0)
        await asyncio.wait_for(further, 5)
        await connection.close()

    run(scenario())


def test_a_lost_connection_ends_what_is_in_flight_and_what_comes_after() -> None:
    async def scenario() -> None:
        client = Client(ReceiveMaximum=2)
        connection = await connected(client)
        answers = [await connection.publish("a", b"") for _ in range(2)]
        late = asyncio.create_task(connection.publish("a", b""))
        client.lose()
        lost = r"^mqtt://h:7: the connection is lost \(Keep alive timeout\)$"
        for answer in answers:
            with pytest.raises(MqttError, match=lost) as loss:
                await connection.accepted(answer)
            assert loss.value.code is None
        with pytest.raises(MqttError, match=lost):
            await late
        for _ in range(3):
            with pytest.raises(MqttError, match=lost):
                await asyncio.wait_for(connection.publish("a", b""), 5)
        assert (connection.in_flight, connection.acknowledged) == (0, 0)
        assert connection.round_trip is None
        await connection.close()
        assert await connection.lost == "the connection is lost (Keep alive timeout)"

    run(scenario())


def test_a_closed_connection_has_given_its_sockets_back() -> None:
    async def scenario() -> None:
        client = Client()
        connection = await connected(client)
        await connection.close()
        assert client.told[1:] == ["stopped", "sockets closed"]
        assert await connection.lost == "the connection was closed"

    run(scenario())


def test_a_broker_that_does_not_answer_in_time_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "TIMEOUT", 0.05)

    async def scenario() -> None:
        client = Client()
        connection = await connected(client)
        with pytest.raises(MqttError, match=r"^mqtt://h:7: no answer in 0\.05 s$"):
            await connection.subscribe("a")
        answer = await connection.publish("a", b"")
        client.answer(3, 0)
        await connection.accepted(answer)
        await asyncio.sleep(0.1)
        assert not connection.lost.done()
        with pytest.raises(MqttError, match=r"^mqtt://h:7: no answer in 0\.05 s$"):
            await connection.accepted(await connection.publish("a", b""))

    run(scenario())


def test_a_subscription_is_as_good_as_its_worst_answer() -> None:
    async def scenario() -> None:
        client = Client()
        connection = await connected(client)

        def say(*codes: int) -> None:
            said = [ReasonCode(PacketTypes.SUBACK, identifier=code) for code in codes]
            loop.call_soon(client.on_subscribe, client, None, 1, said, None)

        loop = asyncio.get_running_loop()
        say(1, 0)
        await connection.subscribe("a", "b/#")
        assert client.told[1:] == [[("a", 1), ("b/#", 1)]]
        say(1, 0x8F, 0)
        with pytest.raises(MqttError, match=r"\(Topic filter invalid, 0x8F\)$"):
            await connection.subscribe("a", "b", "c")
        for client.subscribes in ((4, 1), (0, None)):
            with pytest.raises(MqttError, match=r"^mqtt://h:7: the connection is lost$"):
                await connection.subscribe("a")

    run(scenario())


def message(topic: bytes, packet: int = 0, **properties: Any) -> paho.MQTTMessage:
    made = paho.MQTTMessage(packet, topic)
    made.payload, made.retain = b"12", bool(packet)
    made.properties = Properties(PacketTypes.PUBLISH)
    for name, value in properties.items():
        setattr(made.properties, name, value)
    return made


def test_what_comes_is_handed_over_with_its_texts_and_acknowledged_by_its_number() -> None:
    got: list[Message] = []

    async def scenario() -> None:
        client = Client()
        connection = await connected(client, got.append)
        texts = [("n", "1"), ("n", "2"), ("m", "")]
        full = message(b"a/b", 7, ContentType="text/plain", UserProperty=texts)
        for one in (full, message(b"\xff"), message(b"c")):  # the second one's topic is no text
            client.on_message(client, None, one)
        await asyncio.sleep(0.01)
        assert got == [
            Message("a/b", b"12", "text/plain", {"n": "2", "m": ""}, True, 7),
            Message("c", b"12", "", {}, False, 0),
        ]
        for each in got:
            connection.acknowledge(each)
        assert client.told[1:] == [(7, 1)]
        deaf = Client()
        await connected(deaf)
        deaf.on_message(deaf, None, full)

    run(scenario())


def test_a_socket_is_prepared_before_anything_is_sent() -> None:
    async def scenario() -> None:
        client, bare = Client(), Client()
        sockets: list[object] = []
        await connected(client, prepare=sockets.append)
        client.on_socket_open(client, None, "the socket")
        assert sockets == ["the socket"]
        await connected(bare)
        assert not hasattr(bare, "on_socket_open")

    run(scenario())


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0x87, "Not authorized, 0x87"),
        (0x86, "Bad user name or password, 0x86"),
        (0x8F, "Topic filter invalid, 0x8F"),
        (0x05, "0x05"),
    ],
)
def test_a_reason_code_is_named_as_the_specification_does(code: int, name: str) -> None:
    assert _name(code) == name


@mosquitto.needed
def test_what_is_not_acknowledged_comes_again(tmp_path: Path) -> None:
    got: list[Message] = []

    async def received(count: int) -> None:
        for _ in range(500):
            if len(got) >= count:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert len(got) == count

    async def scenario(broker: Broker) -> None:
        first = await Connection.open(broker, "reader", session=60, receive=got.append)
        await first.subscribe("a/#")
        writer = await Connection.open(broker, "writer")
        for n in range(5):
            await writer.accepted(await writer.publish(f"a/{n}", b"x", "text/plain", n=str(n)))
        await writer.close()
        await received(5)
        for message in got[:3]:
            first.acknowledge(message)
        await first.close()
        got.clear()
        second = await Connection.open(broker, "reader", session=60, receive=got.append)
        await received(2)
        assert [(message.topic, message.texts) for message in got] == [
            ("a/3", {"n": "3"}),
            ("a/4", {"n": "4"}),
        ]
        third = await Connection.open(broker, "reader", session=60)
        async with asyncio.timeout(5):  # a broker has one connection of a name
            assert "lost" in await second.lost
        with pytest.raises(MqttError, match="lost"):
            await second.publish("a/9", b"")
        with pytest.raises(MqttError):
            await second.subscribe("b")
        await second.close()
        await third.close()

    with mosquitto.running(tmp_path) as broker:
        asyncio.run(scenario(Broker.of(broker.url)))
