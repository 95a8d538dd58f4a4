"""The node over a real mosquitto: what the broker has not answered is not acknowledged."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dat_runtime.broker import Broker as Address
from dat_runtime.edge.uplink.mqtt import MqttSender
from dat_runtime.edge.uplink.sender import (
    AccessError,
    Answer,
    OutgoingAlert,
    OutgoingVisual,
    SendError,
)
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.errors import ConfigError
from dat_runtime.mqtt import Connection, Message
from tests.dat_runtime.mosquitto import Broker, needed, running
from tests.dat_runtime.waiting import until_in_loop

pytestmark = needed
IMAGE = bytes(range(256)) * 80


def settings(url: str, token_file: Path | None = None, **more: Path) -> UplinkSettings:
    return UplinkSettings(url, token_file, 1e6, **more)


def alert(number: int, size: int = 300) -> OutgoingAlert:
    return OutgoingAlert(f"e{number}", b'{"id":"e%d","x":"%s"}' % (number, b"x" * size))


async def in_pieces(content: bytes, size: int = 1_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running(tmp_path / "broker") as broker:
        yield broker


@asynccontextmanager
async def node(broker: Broker, **more: Path) -> AsyncIterator[MqttSender]:
    sender = MqttSender(settings(broker.url, **more), "n1")
    try:
        yield sender
    finally:
        await sender.close()


@asynccontextmanager
async def receiver(broker: Broker, got: list[Message]) -> AsyncIterator[Connection]:
    """Subscribed to all that nodes send; the broker keeps what comes while it is away."""
    connection = await Connection.open(
        Address.of(broker.url), "receiver", session=600, receive=got.append
    )
    await connection.subscribe("dat/+/alerts", "dat/+/status", "dat/+/visuals/+/+")
    try:
        yield connection
    finally:
        await connection.close()


def test_alerts_and_status_arrive_as_the_wire_format_says(broker: Broker) -> None:
    async def scenario() -> None:
        got: list[Message] = []
        async with receiver(broker, got), node(broker) as sender:
            alerts = [alert(n) for n in range(100)]
            assert await sender.send_alerts(alerts) == [Answer(True)] * 100
            await sender.send_status(b"{}")
            await until_in_loop(lambda: len(got) >= 64)
            assert got[0].topic == "dat/n1/alerts"
            assert got[0].content_type == "application/cloudevents+json"
            assert [m.payload for m in got[:64]] == [a.json for a in alerts[:64]]
            progress = sender.progress()
            assert progress.in_flight == 0
            assert progress.acknowledged > 100 * 300
            assert progress.round_trip

    asyncio.run(scenario())


def test_a_message_that_nobody_subscribes_to_is_not_acknowledged(broker: Broker) -> None:
    async def scenario() -> None:
        async with node(broker) as sender:
            with pytest.raises(SendError, match="No matching subscribers"):
                await sender.send_alerts([alert(0)])
            visual = OutgoingVisual("e0", "roi", len(IMAGE))
            with pytest.raises(SendError, match="No matching subscribers"):
                await sender.send_visual(visual, lambda offset: in_pieces(IMAGE[offset:]))

    asyncio.run(scenario())


def test_a_visual_arrives_in_pieces_that_say_where_they_belong(broker: Broker) -> None:
    async def scenario() -> None:
        got: list[Message] = []
        async with receiver(broker, got), node(broker) as sender:
            visual = OutgoingVisual("a+b:c@d~e", "box", len(IMAGE), revision=2)
            assert await sender.send_visual(visual, lambda at: in_pieces(IMAGE[at:])) == len(IMAGE)
            await until_in_loop(lambda: len(got) == len(IMAGE) // 1_000 + 1)
            assert {m.topic for m in got} == {"dat/n1/visuals/a%2Bb:c@d~e/box"}
            assert b"".join(m.payload for m in got) == IMAGE
            same = {"length": str(len(IMAGE)), "revision": "2"}
            told = [m.texts for m in got[:2]]
            assert told == [{"offset": "0"} | same, {"offset": "1000"} | same]

    asyncio.run(scenario())


def test_an_alert_does_not_wait_behind_a_visual_that_waits_for_room(broker: Broker) -> None:
    async def scenario() -> None:
        got: list[Message] = []
        waiting = asyncio.Event()

        async def stalled(offset: int) -> AsyncIterator[bytes]:
            yield IMAGE[:1_000]
            waiting.set()
            await asyncio.Event().wait()

        async with receiver(broker, got), node(broker) as sender:
            visual = asyncio.ensure_future(
                sender.send_visual(OutgoingVisual("e", "roi", len(IMAGE)), stalled)
            )
            await waiting.wait()
            assert await sender.send_alerts([alert(1)]) == [Answer(True)]
            assert not visual.done()
            broker.stop()  # nothing else ends its wait
            with pytest.raises(SendError, match="lost"):
                await visual

    asyncio.run(scenario())


def test_a_visual_goes_on_where_the_broker_answered(broker: Broker) -> None:
    async def scenario() -> None:
        got: list[Message] = []
        begun: list[int] = []

        async def cut_off(offset: int) -> AsyncIterator[bytes]:
            begun.append(offset)
            yield IMAGE[offset : offset + 5_000]

        async def whole(offset: int) -> AsyncIterator[bytes]:
            begun.append(offset)
            yield IMAGE[offset:]

        visual = OutgoingVisual("e", "roi", len(IMAGE))
        async with node(broker) as sender:
            async with receiver(broker, got):
                assert await sender.send_visual(visual, cut_off) == 5_000
            again = OutgoingVisual("e", "roi", len(IMAGE), begun=True)
            broker.stop()
            with pytest.raises(SendError, match=r"lost|cannot be reached"):
                await sender.send_visual(again, whole)
            broker.start()
            assert await sender.send_visual(again, whole) == len(IMAGE)
            assert begun[0] == 0
            assert set(begun[1:]) == {5_000}
            # One that is new, of the same event and kind, begins anew.
            assert await sender.send_visual(visual, cut_off) == 5_000
            assert begun[-1] == 0

    asyncio.run(scenario())


def test_nothing_acknowledged_is_lost_when_the_broker_goes_down(broker: Broker) -> None:
    """Stopped and started five times while alerts flow, the receiver away for some of it."""

    async def scenario() -> None:
        got: list[Message] = []
        taken = 0
        async with node(broker) as sender:
            async with receiver(broker, got):
                pass
            for round in range(5):
                flowing = asyncio.ensure_future(
                    sender.send_alerts([alert(n) for n in range(taken, taken + 40)])
                )
                await asyncio.sleep(0.004 * round)
                broker.stop()
                try:
                    await flowing
                    taken += 40
                except SendError:
                    pass
                broker.start()
            await sender.send_alerts([alert(n) for n in range(taken, taken + 40)])
            taken += 40

        # Messages come while the connection is still being opened.
        opened: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

        def acknowledging(message: Message) -> None:
            got.append(message)
            opened.add_done_callback(lambda it: it.result().acknowledge(message))

        connection = await Connection.open(
            Address.of(broker.url), "receiver", session=600, receive=acknowledging
        )
        opened.set_result(connection)
        expected = {alert(n).json for n in range(taken)}
        await until_in_loop(lambda: expected <= {m.payload for m in got})
        await connection.close()

    asyncio.run(scenario())


def test_packets_are_no_larger_than_the_broker_takes(tmp_path: Path) -> None:
    async def scenario(broker: Broker) -> None:
        got: list[Message] = []
        async with receiver(broker, got), node(broker) as sender:
            answers = await sender.send_alerts([alert(0, 100), alert(1, 3_000), alert(2, 100)])
            assert [answer.taken for answer in answers] == [True, False, True]
            assert "at most" in answers[1].reason
            visual = OutgoingVisual("e", "roi", len(IMAGE))
            pieces = in_pieces(IMAGE, 8_000)
            assert await sender.send_visual(visual, lambda _: pieces) == len(IMAGE)
            await until_in_loop(lambda: sum(len(m.payload) for m in got[2:]) == len(IMAGE))

    with running(tmp_path, ("allow_anonymous true", "max_packet_size 2000")) as broker:
        asyncio.run(scenario(broker))


def test_a_piece_is_no_larger_than_a_receiver_takes(broker: Broker) -> None:
    async def whole(content: bytes) -> AsyncIterator[bytes]:
        yield content

    async def scenario() -> None:
        got: list[Message] = []
        large = bytes(1_000_000)
        async with receiver(broker, got), node(broker) as sender:
            visual = OutgoingVisual("e", "roi", len(large))
            assert await sender.send_visual(visual, lambda _: whole(large)) == len(large)
            await until_in_loop(lambda: sum(len(m.payload) for m in got) == len(large))

    asyncio.run(scenario())


def test_a_node_speaks_for_itself_only(tmp_path: Path) -> None:
    """Its token is the password, and the broker's rules bind its name to its topics."""
    passwords = tmp_path / "passwords"
    passwords.write_text("n1:secret\nn2:other\nreceiver:r\n")
    passwords.chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-U", passwords], check=True, capture_output=True)
    rules = tmp_path / "rules"
    rules.write_text("pattern write dat/%u/#\nuser receiver\ntopic read dat/#\n")
    token = tmp_path / "token"

    async def scenario(broker: Broker) -> None:
        receiver = Address.of(broker.url, user="receiver", password="r")
        reading = await Connection.open(receiver, "receiver", session=600)
        await reading.subscribe("dat/#")
        token.write_text("secret\n")
        async with node(broker, token_file=token) as sender:
            assert await sender.send_alerts([alert(0)]) == [Answer(True)]
        token.write_text("guessed\n")
        async with node(broker, token_file=token) as sender:
            with pytest.raises(AccessError, match="does not accept"):
                await sender.send_alerts([alert(0)])
            token.write_text("secret\n")  # read anew
            assert await sender.send_alerts([alert(0)]) == [Answer(True)]
        url = broker.url.replace("//", "//n2@")
        token.write_text("other")
        sender = MqttSender(settings(url, token), "n1")
        with pytest.raises(AccessError, match="Not authorized"):
            await sender.send_alerts([alert(0)])
        await sender.close()
        await reading.close()

    lines = ("allow_anonymous false", f"password_file {passwords}", f"acl_file {rules}")
    with running(tmp_path / "broker", lines) as broker:
        asyncio.run(scenario(broker))


def certificates(folder: Path) -> dict[str, Path]:
    """An authority, the broker's certificate for localhost, and the node's with its key."""

    def openssl(*words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, cwd=folder)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test", "-days", 2)
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("localhost", "n1"):
        openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key")
        openssl(*signing, "-CAcreateserial", "-out", f"{name}.pem", "-days", 2, "-extfile", "names")
    node = folder / "node.pem"
    node.write_bytes((folder / "n1.pem").read_bytes() + (folder / "n1.key").read_bytes())
    return {"certificate": node, "authorities": folder / "ca.pem"}


# paho leaves a socket whose handshake failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_certificate_says_who_the_node_is(tmp_path: Path) -> None:
    files = certificates(tmp_path)
    (tmp_path / "rules").write_text("pattern write dat/%u/#\nuser localhost\ntopic read dat/#\n")
    lines = (
        f"cafile {tmp_path}/ca.pem",
        f"certfile {tmp_path}/localhost.pem",
        f"keyfile {tmp_path}/localhost.key",
        "require_certificate true",
        "use_identity_as_username true",
        f"acl_file {tmp_path}/rules",
    )

    async def scenario(broker: Broker) -> None:
        url = broker.url.replace("mqtt:", "mqtts:")
        pair = tmp_path / "pair.pem"
        pair.write_text(
            (tmp_path / "localhost.pem").read_text() + (tmp_path / "localhost.key").read_text()
        )
        reader = Address.of(url, certificate=pair, authorities=files["authorities"])
        reading = await Connection.open(reader, "receiver", session=600)
        await reading.subscribe("dat/#")
        sender = MqttSender(settings(url, **files), "n1")
        assert await sender.send_alerts([alert(0)]) == [Answer(True)]
        await sender.close()
        other = MqttSender(settings(url, **files), "n2")
        with pytest.raises(AccessError):
            await other.send_alerts([alert(0)])
        await other.close()
        stranger = MqttSender(settings(url), "n1")
        with pytest.raises(SendError, match="certificate"):
            await stranger.send_alerts([alert(0)])
        await stranger.close()
        await reading.close()

    with running(tmp_path / "broker", lines) as broker:
        asyncio.run(scenario(broker))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://host", "expected mqtt"),
        ("mqtt://", "expected mqtt"),
        ("mqtt://host:port", "expected mqtt"),
        ("mqtt://user:secret@host", "password stands in a file"),
        ("mqtt://host/path", "ends with its port"),
        ("mqtt://broker.example", "mqtts:// and loopback"),
    ],
)
def test_an_address_that_will_not_do_is_refused_at_once(
    tmp_path: Path, url: str, words: str
) -> None:
    (tmp_path / "token").write_text("secret")
    with pytest.raises(ConfigError, match=words) as refusal:
        MqttSender(settings(url, tmp_path / "token"), "n1")
    assert "secret" not in str(refusal.value)


def test_a_broker_that_hangs_is_given_up(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dat_runtime.mqtt.TIMEOUT", 0.5)

    async def scenario() -> None:
        got: list[Message] = []
        async with receiver(broker, got), node(broker) as sender:
            await sender.send_alerts([alert(0)])
            broker.signal(signal.SIGSTOP)
            try:
                with pytest.raises(SendError, match="no answer"):
                    await sender.send_alerts([alert(1)])
                assert sender.progress().in_flight == 0
            finally:
                broker.signal(signal.SIGCONT)
            assert await sender.send_alerts([alert(1)]) == [Answer(True)]

    asyncio.run(scenario())
