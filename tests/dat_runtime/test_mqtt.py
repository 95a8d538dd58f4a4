"""One MQTT 5 connection, to a real mosquitto and to servers that are none."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dat_runtime.broker import Broker
from dat_runtime.errors import ConfigError
from dat_runtime.mqtt import Connection, Message, MqttError
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
def answering(content: bytes, closes: bool) -> Iterator[Broker]:
    """A server that says the same to whoever connects, and nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1_000)
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
        (b"", False, "no answer in 0.3 s"),
        (b"\x20", False, "no answer in 0.3 s"),
        (b"", True, "lost|no answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", True, "lost|no answer"),
        (b"\xff" * 64, True, "lost|no answer"),
        (REFUSED, False, "Not authorized, 0x87"),
    ],
)
def test_what_is_no_broker_is_given_up(content: bytes, closes: bool, words: str) -> None:
    with answering(content, closes) as broker, pytest.raises(MqttError, match=words):
        asyncio.run(Connection.open(broker, "x", timeout=0.3))


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
