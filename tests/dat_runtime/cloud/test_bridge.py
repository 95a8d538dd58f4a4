"""From a node over a real mosquitto into a receiver: nothing that the broker took is lost."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from dat_runtime.broker import Broker as Address
from dat_runtime.cloud import bridge, lease
from dat_runtime.cloud.settings import Settings
from dat_runtime.draw import encode_jpeg
from dat_runtime.edge.uplink.mqtt import MqttSender
from dat_runtime.edge.uplink.sender import OutgoingAlert, OutgoingVisual, SendError
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.mqtt import Connection
from dat_runtime.offload import CodeUnit, pack
from tests.dat_runtime import mosquitto
from tests.dat_runtime.cloud.conftest import STATUS, Running, alert, running
from tests.dat_runtime.waiting import until

pytestmark = mosquitto.needed
JPEG = encode_jpeg(np.random.default_rng(3).integers(0, 255, (240, 320, 3), np.uint8))
OTHER = encode_jpeg(np.random.default_rng(4).integers(0, 255, (120, 160, 3), np.uint8))


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "QUIET", 0.1)
    monkeypatch.setattr(lease, "AFTER_TROUBLE", 0.1)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[mosquitto.Broker]:
    with mosquitto.running(tmp_path / "broker") as broker:
        yield broker


def on_sqlite(folder: Path, settings: Settings) -> AbstractContextManager[Running]:
    """What is kept goes through the same functions as over HTTP: SQLite will do."""
    return running(f"sqlite:///{folder}/receiver.db", folder / "data", settings=settings)


@pytest.fixture
def receiver(tmp_path: Path, broker: mosquitto.Broker) -> Iterator[Running]:
    settings = Settings(mqtt_in=broker.url)
    with running(
        f"sqlite:///{tmp_path}/receiver.db", tmp_path / "data", settings=settings
    ) as receiver:
        until(lambda: "dat/+/status" in broker.log)
        yield receiver


def outgoing(event: dict[str, Any]) -> OutgoingAlert:
    return OutgoingAlert(event["id"], json.dumps(event).encode())


async def in_pieces(content: bytes, size: int = 1_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def as_node(broker: mosquitto.Broker, work: Callable[[MqttSender], Any], node: str = "n1") -> Any:
    async def scenario() -> Any:
        sender = MqttSender(UplinkSettings(broker.url, None, 1e6), node)
        try:
            return await work(sender)
        finally:
            await sender.close()

    return asyncio.run(scenario())


def publish(broker: mosquitto.Broker, *messages: tuple[str, bytes, dict[str, str]]) -> None:
    """Messages as any client of the broker can send them, one after the other."""

    async def scenario() -> None:
        connection = await Connection.open(Address.of(broker.url), "anyone")
        for topic, payload, texts in messages:
            await connection.accepted(await connection.publish(topic, payload, **texts))
        await connection.close()

    asyncio.run(scenario())


def ids(receiver: Running) -> set[str]:
    return {event["id"] for event in receiver.client.get("/v1/events?limit=1000").json()["events"]}


def shown(receiver: Running, kind: str = "roi") -> bytes:
    answer = receiver.client.get(f"/v1/events/n1-000001/visuals/{kind}")
    return answer.content if answer.status_code == 200 else b""


def refused(receiver: Running, reason: str) -> float:
    registry = receiver.inside.metrics.registry
    name = "dat_receiver_mqtt_refused_total"
    return registry.get_sample_value(name, {"reason": reason}) or 0.0


def test_alerts_visuals_and_status_are_kept(receiver: Running, broker: mosquitto.Broker) -> None:
    async def work(sender: MqttSender) -> None:
        await sender.send_alerts([outgoing(alert()), outgoing(alert("a+b"))])
        visual = OutgoingVisual("n1-000001", "roi", len(JPEG))
        assert await sender.send_visual(visual, lambda at: in_pieces(JPEG[at:])) == len(JPEG)
        odd = OutgoingVisual("a+b", "box", len(OTHER))
        assert await sender.send_visual(odd, lambda at: in_pieces(OTHER[at:])) == len(OTHER)
        await sender.send_status(json.dumps(STATUS).encode())

    as_node(broker, work)
    until(lambda: receiver.client.get("/v1/nodes").json()["nodes"])
    until(lambda: shown(receiver))
    until(lambda: receiver.client.get("/v1/events/a+b/visuals/box").content == OTHER)
    assert ids(receiver) == {"n1-000001", "a+b"}
    assert shown(receiver) == JPEG
    (node,) = receiver.client.get("/v1/nodes").json()["nodes"]
    assert (node["node"], node["state"], node["status"]) == ("n1", "online", STATUS)


def test_a_question_comes_with_its_prompt_and_is_no_visual(
    receiver: Running, broker: mosquitto.Broker
) -> None:
    unit = pack(CodeUnit("00112233aabbccdd", (2, 2), False, np.ones((1, 4), bool)))
    visual = OutgoingVisual("n1-000001", "code", len(unit), question=("code", "Image 28 x 28."))

    async def work(sender: MqttSender) -> None:
        await sender.send_alerts([outgoing(alert())])
        assert await sender.send_visual(visual, lambda at: in_pieces(unit[at:], 10)) == len(unit)

    as_node(broker, work)
    url = "/v1/events/n1-000001"
    until(lambda: receiver.client.get(url).json().get("questions") == ["code"])
    assert receiver.client.get(url).json()["visuals"] == []
    (file,) = [p for p in (receiver.inside.folder / "visuals").rglob("*") if p.is_file()]
    assert file.read_bytes() == unit


def test_a_message_of_qos_0_is_counted_and_ends_no_connection(
    receiver: Running, broker: mosquitto.Broker
) -> None:
    """An answer to one made the broker drop the receiver, and every node waited."""
    address = Address.of(broker.url)
    at_once = paho.Client(CallbackAPIVersion.VERSION2, "at-once", protocol=paho.MQTTv5)
    at_once.connect(address.host, address.port)
    at_once.loop_start()
    at_once.publish("dat/n1/alerts", json.dumps(alert("lossy")), 0).wait_for_publish(10)
    until(lambda: refused(receiver, "qos"))
    at_once.publish("dat/n1/alerts", json.dumps(alert("safe")), 1).wait_for_publish(10)
    at_once.disconnect()
    at_once.loop_stop()
    until(lambda: ids(receiver) == {"safe"})
    assert "rotocol error" not in broker.log


def test_the_same_again_changes_nothing_and_a_revision_replaces(
    receiver: Running, broker: mosquitto.Broker
) -> None:
    async def twice(sender: MqttSender) -> None:
        for _ in range(2):
            await sender.send_alerts([outgoing(alert())])
            visual = OutgoingVisual("n1-000001", "roi", len(JPEG))
            await sender.send_visual(visual, lambda at: in_pieces(JPEG[at:]))

    async def later(sender: MqttSender) -> None:
        await sender.send_alerts([outgoing(alert(revision=1))])
        visual = OutgoingVisual("n1-000001", "roi", len(OTHER), revision=1)
        await sender.send_visual(visual, lambda at: in_pieces(OTHER[at:]))
        late = OutgoingVisual("n1-000001", "roi", len(JPEG), revision=0)
        await sender.send_visual(late, lambda at: in_pieces(JPEG[at:]))

    as_node(broker, twice)
    until(lambda: shown(receiver) == JPEG)
    as_node(broker, later)
    until(lambda: refused(receiver, "visual: 409"))
    assert shown(receiver) == OTHER
    assert ids(receiver) == {"n1-000001"}


def test_what_came_while_the_receiver_was_away_is_kept(
    tmp_path: Path, broker: mosquitto.Broker
) -> None:
    settings = Settings(mqtt_in=broker.url)
    with on_sqlite(tmp_path, settings):
        until(lambda: "dat/+/status" in broker.log)

    async def work(sender: MqttSender) -> None:
        await sender.send_alerts([outgoing(alert(f"e{n}")) for n in range(100)])
        await sender.send_alerts([outgoing(alert())])
        visual = OutgoingVisual("n1-000001", "roi", len(JPEG))
        await sender.send_visual(visual, lambda at: in_pieces(JPEG[at:]))

    as_node(broker, work)
    with running(
        f"sqlite:///{tmp_path}/receiver.db", tmp_path / "data", settings=settings
    ) as receiver:
        until(lambda: len(ids(receiver)) == 101 and shown(receiver) == JPEG)


def test_what_flows_while_the_broker_restarts_is_kept(
    receiver: Running, broker: mosquitto.Broker
) -> None:
    async def work(sender: MqttSender) -> None:
        for first in range(0, 200, 20):
            alerts = [outgoing(alert(f"e{n}")) for n in range(first, first + 20)]
            if first in (60, 140):
                broker.stop()
                broker.start()
            for _ in range(100):
                try:
                    await sender.send_alerts(alerts)
                    break
                except SendError:
                    await asyncio.sleep(0.05)

    as_node(broker, work)
    until(lambda: len(ids(receiver)) == 200)


def test_what_a_store_cannot_keep_at_the_moment_comes_again(
    receiver: Running, broker: mosquitto.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dat_runtime.cloud.store import Store, StoreError

    original, failures = Store.write_together, []

    async def failing(self: Store, work: Any, items: Any) -> Any:
        if len(failures) < 3:
            failures.append(1)
            raise StoreError("the disk is full")
        return await original(self, work, items)

    monkeypatch.setattr(Store, "write_together", failing)

    async def work(sender: MqttSender) -> None:
        await sender.send_alerts([outgoing(alert(f"e{n}")) for n in range(10)])

    as_node(broker, work)
    until(lambda: len(failures) == 3)
    until(lambda: len(ids(receiver)) == 10)


def test_what_will_never_do_is_counted_and_does_not_come_again(
    receiver: Running, broker: mosquitto.Broker
) -> None:
    good = json.dumps(alert()).encode()
    piece = {"offset": "0", "length": str(len(JPEG))}
    visual = "dat/n1/visuals/n1-000001/roi"
    publish(broker, (visual, b"too early", piece))
    until(lambda: refused(receiver, "visual: 404") == 1)
    publish(
        broker,
        ("dat/n2/alerts", good, {}),
        ("dat/n1/alerts", b"{", {}),
        ("dat/n1/alerts", b"\xff", {}),
        ("dat/n1/alerts", b"[" * 100_000, {}),
        ("dat/n1/alerts", b"{}", {}),
        ("dat/a b/alerts", good, {}),
        ("dat/n1/status", b"{}", {}),
        ("dat/n1/alerts", good, {}),
        (visual, JPEG[:100], {}),
        (visual, JPEG[:100], {"offset": "0", "length": "9000000"}),
        (visual, JPEG[:100], {"offset": str(len(JPEG)), "length": str(len(JPEG))}),
        (visual, JPEG[:100], {"offset": "-1", "length": "100"}),
        (visual, JPEG[:100], piece | {"revision": "1e6"}),
        (visual, JPEG[:100], piece | {"revision": "9000000"}),
        ("dat/n1/visuals/..%2f..%2fx/roi", JPEG[:100], piece),
        ("dat/n1/visuals/n1-000001/raw", JPEG[:100], piece),
        (visual, JPEG[:100], piece),
        (visual, JPEG[200:], piece | {"offset": "200"}),
    )
    until(lambda: refused(receiver, "visual: 409") == 1)
    assert ids(receiver) == {"n1-000001"}
    assert refused(receiver, "node") == 1
    assert refused(receiver, "alert") == 4
    assert refused(receiver, "topic") == 1
    assert refused(receiver, "status") == 1
    assert refused(receiver, "piece") == 8
    assert shown(receiver) == b""
    # The rest of the visual still gets through, with a part that is there already.
    publish(broker, (visual, JPEG[50:], piece | {"offset": "50"}))
    until(lambda: shown(receiver) == JPEG)
    html = b"<html>" * 20
    publish(
        broker, ("dat/n1/visuals/n1-000001/box", html, {"offset": "0", "length": str(len(html))})
    )
    until(lambda: refused(receiver, "visual: 400") == 1)


def test_a_receiver_does_not_hear_what_it_sends_on(
    tmp_path: Path, broker: mosquitto.Broker
) -> None:
    settings = Settings(mqtt_in=broker.url, mqtt=broker.url)
    with running(
        f"sqlite:///{tmp_path}/receiver.db", tmp_path / "data", settings=settings
    ) as receiver:
        until(lambda: "dat/+/status" in broker.log)

        async def work() -> int:
            count = 0

            def heard(_: object) -> None:
                nonlocal count
                count += 1

            other = await Connection.open(Address.of(broker.url), "other", receive=heard)
            await other.subscribe("dat-received/+/alerts")
            sender = MqttSender(UplinkSettings(broker.url, None, 1e6), "n1")
            await sender.send_alerts([outgoing(alert())])
            for _ in range(500):
                if count:
                    break
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            await sender.close()
            await other.close()
            return count

        assert asyncio.run(work()) == 1
        assert ids(receiver) == {"n1-000001"}
