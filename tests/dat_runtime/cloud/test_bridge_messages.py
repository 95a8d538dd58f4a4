"""What becomes of each message from a broker; in place of its connection is one without network."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from sqlalchemy import select

from dat_runtime.cloud import bridge, nodes, uploads
from dat_runtime.cloud.application import opened
from dat_runtime.cloud.bridge import Bridge
from dat_runtime.cloud.lease import Lease
from dat_runtime.cloud.receiver import Receiver
from dat_runtime.cloud.settings import Settings
from dat_runtime.cloud.tables import events
from dat_runtime.mqtt import Message, MqttError
from dat_runtime.offload import CodeUnit, pack
from dat_runtime.prompt import task_prompt
from dat_runtime.types import Size
from tests.dat_runtime.cloud.conftest import STATUS, alert
from tests.dat_runtime.cloud.evidence import jpeg

JPEG = jpeg(64, 48)
ROI = "dat/n1/visuals/e/roi"


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Receiver]:
    receiver = opened(f"sqlite:///{tmp_path}/r.db", tmp_path / "data")
    yield receiver
    receiver.store.close()


class Wire:
    """A connection that brings some messages, and is lost when all of them were acknowledged."""

    def __init__(self, *messages: Message):
        self._messages = messages
        self.acknowledged: list[Message] = []
        self.topics: tuple[str, ...] = ()
        self.closed = False

    async def open(
        self, broker: Any, name: str, *, session: int, receive: Callable[[Message], None]
    ) -> "Wire":
        self.told = (str(broker), name, session)
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        for message in self._messages:
            receive(message)
        self._end_when_done()
        return self

    async def subscribe(self, *topics: str) -> None:
        self.topics = topics

    def acknowledge(self, message: Message) -> None:
        self.acknowledged.append(message)
        self._end_when_done()

    def _end_when_done(self) -> None:
        if len(self.acknowledged) == sum(message.packet > 0 for message in self._messages):
            self.lost.set_result("the broker went away")

    async def close(self) -> None:
        self.closed = True


def message(
    topic: str,
    payload: bytes,
    texts: Mapping[str, str] | None = None,
    retained: bool = False,
    packet: int = 1,
) -> Message:
    return Message(topic, payload, "", texts or {}, retained, packet)


def told(id: str = "e", node: str = "n1", **data: Any) -> Message:
    return message(f"dat/{node}/alerts", json.dumps(alert(id, node, **data)).encode())


def piece(content: bytes, at: int, topic: str = ROI, length: int = 0, **texts: str) -> Message:
    length = length or len(JPEG)
    return message(topic, content, {"offset": str(at), "length": str(length)} | texts)


async def arrive(receiver: Receiver, wire: Wire) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bridge, "MqttConnection", wire)
        mine = Bridge(receiver, "mqtt://127.0.0.1:1883")
        with pytest.raises(MqttError, match=r"^the broker went away$"):
            await mine._connected()
        await mine._lease.give_back()
    assert wire.closed


def keep(receiver: Receiver, *messages: Message) -> Wire:
    """Let messages come: whatever becomes of them, all are acknowledged, in their order."""
    receiver.metrics = type(receiver.metrics)()
    wire = Wire(*messages)
    asyncio.run(arrive(receiver, wire))
    assert wire.acknowledged == [message for message in messages if message.packet]
    return wire


COUNTED = "dat_receiver_mqtt_refused"


def refused(receiver: Receiver) -> dict[str, float]:
    (counter,) = (m for m in receiver.metrics.registry.collect() if m.name == COUNTED)
    return {s.labels["reason"]: s.value for s in counter.samples if s.name.endswith("_total")}


def read(receiver: Receiver, query: Any) -> list[Any]:
    return list(asyncio.run(receiver.store.read(lambda c: c.execute(query).all())))


def shown(receiver: Receiver, kind: str = "roi") -> bytes | None:
    row = asyncio.run(receiver.store.read(lambda c: uploads.shown(c, 1, kind)))
    return None if row is None else bridge.Uploads(receiver).files.path(row.key).read_bytes()


def test_the_broker_keeps_a_session_for_each_store(inside: Receiver) -> None:
    wire = keep(inside)
    address, name, session = wire.told
    assert address == "mqtt://127.0.0.1:1883"
    assert name == "dat-receiver-" + hashlib.sha256(inside.store.name.encode()).hexdigest()[:12]
    assert session == 604_800
    said = {metric.name: metric.documentation for metric in inside.metrics.registry.collect()}
    words = "Messages that came from the broker and were not kept, by reason."
    assert said["dat_receiver_mqtt_refused"] == words
    assert wire.topics == ("dat/+/alerts", "dat/+/visuals/+/+", "dat/+/status")


def test_alerts_are_kept_in_the_order_in_which_they_came(inside: Receiver) -> None:
    kept: list[str] = []
    inside.recorded.append(lambda _, alerts: kept.extend(one.key for one in alerts))
    keep(inside, told("b"), told("a"), told("b"), told("b", priority=0.5), told("c", "n2"))
    assert kept == ["n1/b", "n1/a", "n2/c"]
    assert [row.id for row in read(inside, select(events).order_by(events.c.number))] == list("bac")
    name = "dat_receiver_alerts_total"
    registry = inside.metrics.registry
    outcomes = ("created", "unchanged", "conflict")
    assert [registry.get_sample_value(name, {"outcome": o}) for o in outcomes] == [3, 1, 1]
    assert refused(inside) == {}


def padded(size: int) -> bytes:
    event = json.dumps(alert("e") | {"comment": ""}).encode()
    return event.replace(b'"comment": ""', b'"comment": "%b"' % (b"x" * (size - len(event))))


@pytest.mark.parametrize(
    ("came", "reason", "words"),
    [
        (message("dat/n2/alerts", padded(1_000)), "node", "n2 spoke for n1"),
        (message("dat/n1/alerts", padded(16_385)), "alert", "of n1: more than 16,384 bytes"),
        (message("dat/n1/alerts", b"\xff"), "alert", "of n1: "),
        (message("dat/n1/alerts", b"{}"), "alert", "of n1: "),
        (message("dat/n1/alerts/e/roi", b"{}"), "topic", "topic 'dat/n1/alerts/e/roi'"),
        (message("dat/n1/visuals", b"x"), "topic", "topic 'dat/n1/visuals'"),
        (message("dat/a b/alerts", b"{}"), "topic", "topic 'dat/a b/alerts'"),
        (message("else/n1/alerts", b"{}"), "topic", "topic 'else/n1/alerts'"),
        (message("dat/" + "n" * 999, b""), "topic", "topic 'dat/" + "n" * 115),
        (message("dat/n1/status", b"{}"), "status", "schema is missing"),
        (message("dat/n1/status", b" " * 16_385), "status", "more than 16,384 bytes"),
        (message("dat/n1/status", b"{}", None, True), "status", "schema is missing"),
        (message(ROI, b"x"), "piece", "length is '', expected a whole number"),
        (piece(b"x", 0, offset="-1"), "piece", "offset is '-1', expected a whole number"),
        (piece(b"x", 0, offset="²"), "piece", "offset is '²', expected a whole number"),
        (piece(b"x", 0, length=10**11), "piece", "length is '100000000000', expected a whole"),
        (piece(b"x", 0, revision="1e6"), "piece", "revision is '1e6', expected a whole number"),
        (piece(b"x", 0, revision="9" * 99), "piece", "revision is '" + "9" * 39 + ", expected"),
        (piece(b"x", 0, revision="1000001"), "piece", "revision is '1000001', expected"),
        (piece(b"", 0), "piece", f"0 bytes at 0 of {len(JPEG)}"),
        (piece(b"abcde", 6, length=10), "piece", "5 bytes at 6 of 10"),
        (message(ROI, b"x", {"offset": "0", "length": "0"}), "piece", "1 bytes at 0 of 0"),
        (piece(b"x", 0, length=8_000_001), "piece", "1 bytes at 0 of 8000001"),
        (
            piece(b"x", 0, "dat/n1/visuals/e/code", 1_048_577, prompt="p"),
            "piece",
            "1 bytes at 0 of 1048577",
        ),
        (piece(b"x", 0, "dat/n1/visuals/e/raw"), "piece", "kind is 'raw'"),
        (piece(b"x", 0, "dat/n1/visuals/..%2Fe/roi"), "piece", "event is '../e'"),
        (piece(b"x", 0, "dat/n1/visuals/e/code"), "piece", "prompt is missing"),
        (piece(b"x", 0, prompt="p"), "piece", "prompt is there"),
        (piece(b"x", 0), "visual: 404", "no event e"),
        (message("dat/n1/alerts", b"{}", packet=0), "qos", "'dat/n1/alerts' came with QoS 0"),
    ],
)
def test_what_will_never_do_is_counted_and_told_and_what_follows_is_kept(
    inside: Receiver, caplog: pytest.LogCaptureFixture, came: Message, reason: str, words: str
) -> None:
    with caplog.at_level(logging.INFO, "dat_runtime.cloud"):
        keep(inside, came, told("f"))
    assert refused(inside) == {reason: 1}
    (line,) = [r.message for r in caplog.records if "not kept" in r.message]
    assert line.startswith(f"a message was not kept: {words}")
    assert len(line) < 200
    assert [row.id for row in read(inside, select(events))] == ["f"]


def test_the_largest_alert_is_kept(inside: Receiver) -> None:
    keep(inside, message("dat/n1/alerts", padded(16_384)))
    assert len(read(inside, select(events))) == 1


def test_a_status_is_the_nodes_that_its_topic_names(
    inside: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.dumps(STATUS).encode().ljust(16_384)
    keep(inside, message("dat/n7/status", content), message("dat/n8/status", content, None, True))
    (row,) = read(inside, select(nodes.nodes))
    assert (row.node, json.loads(row.status)) == ("n7", STATUS)
    monkeypatch.setattr(nodes, "MAX_NODES", 1)
    keep(inside, message("dat/n9/status", content))
    assert refused(inside) == {"status": 1}


def test_a_visual_comes_in_pieces_among_others(inside: Receiver) -> None:
    box = "dat/n1/visuals/e/box"
    keep(
        inside,
        told(),
        piece(JPEG[:100], 0),
        piece(JPEG[100:300], 100),
        piece(JPEG[:200], 0, box),
        piece(JPEG[300:], 300),
        piece(JPEG[200:], 200, box),
    )
    assert refused(inside) == {}
    assert shown(inside) == shown(inside, "box") == JPEG


def test_pieces_that_come_again_are_passed_over_and_missing_ones_told(
    inside: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    keep(inside, told(), piece(JPEG[:1_100], 0))
    with caplog.at_level(logging.INFO, "dat_runtime.cloud"):
        keep(inside, piece(JPEG[1_200:], 1_200))
    assert refused(inside) == {"visual: 409": 1}
    assert caplog.records[0].message.endswith(": bytes from 1,100 to 1,200 are missing")
    keep(inside, piece(JPEG[:1_100], 0), piece(JPEG[50:1_050], 50))
    assert shown(inside) is None
    keep(inside, piece(JPEG[1_000:], 1_000))
    assert refused(inside) == {}
    assert shown(inside) == JPEG
    keep(inside, piece(b"\0" * len(JPEG), 0), piece(b"\0", len(JPEG) - 1))  # it is whole
    assert refused(inside) == {}
    assert shown(inside) == JPEG


def test_a_node_adds_to_no_other_nodes_visual(inside: Receiver) -> None:
    keep(inside, told(), piece(JPEG, 0, "dat/n2/visuals/e/roi"))
    assert refused(inside) == {"visual: 404": 1}
    assert read(inside, select(uploads.uploads)) == []


def test_a_broker_is_listened_to_where_the_settings_name_one(inside: Receiver) -> None:
    bridge.router(inside)
    assert inside.tasks == []
    inside.settings = Settings(mqtt_in="mqtt://u@127.0.0.1:1884")
    bridge.router(inside)
    (run,) = inside.tasks
    mine = run.__self__  # type: ignore[attr-defined]
    assert isinstance(mine, Bridge)
    assert (run.__name__, str(mine._broker)) == ("run", "mqtt://127.0.0.1:1884")


def test_a_picture_of_a_revision_and_one_that_is_none(inside: Receiver) -> None:
    keep(inside, told(), told(revision=2), piece(JPEG, 0, revision="0"))
    assert shown(inside) == JPEG
    (row,) = read(inside, select(uploads.uploads))
    assert (row.revision, row.metadata) == (0, "event ZQ==,kind cm9p,revision MA==")
    keep(inside, piece(b"x" * len(JPEG), 0))
    assert refused(inside) == {"visual: 400": 1}
    assert shown(inside) == JPEG


def test_a_question_comes_with_its_prompt_and_one_that_was_answered_is_passed_over(
    inside: Receiver,
) -> None:
    unit = pack(CodeUnit("00112233aabbccdd", (2, 2), False, np.ones((1, 4), bool)))
    texts = {"prompt": task_prompt(Size(28, 28), None), "revision": "0"}
    asked = piece(unit, 0, "dat/n1/visuals/e%2Bf/code", len(unit), **texts)
    keep(inside, told("e+f"), asked)
    assert refused(inside) == {}
    (row,) = read(inside, select(uploads.uploads))
    assert (row.kind, row.complete, row.revision) == ("code", True, 0)
    asyncio.run(inside.store.write(lambda c: uploads.remove(c, row.key)))
    keep(inside, told("e+f", revision=1), asked)
    assert refused(inside) == {}
    assert read(inside, select(uploads.uploads)) == []


def test_while_another_holds_the_lease_nothing_is_taken(inside: Receiver) -> None:
    async def scenario() -> None:
        assert await Lease(inside.store, "bridge").held()
        wire = Wire(told())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bridge, "MqttConnection", wire)
            assert await Bridge(inside, "mqtt://127.0.0.1")._connected() == 0.0
        assert (wire.closed, wire.acknowledged) == (True, [])

    asyncio.run(scenario())


def test_what_waits_is_taken_together_and_nothing_is_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bridge, "QUIET", 0.01)

    async def scenario() -> None:
        wire = Wire(told("never"))
        came: asyncio.Queue[Message] = asyncio.Queue()
        await wire.open("", "", session=0, receive=lambda _: None)
        assert await bridge._some(came, wire) == []  # type: ignore[arg-type]
        for id in "abc":
            came.put_nowait(told(id))
        some = await bridge._some(came, wire)  # type: ignore[arg-type]
        assert some == [told(id) for id in "abc"]
        came.put_nowait(told("d"))
        wire.lost.set_result("away")
        assert await bridge._some(came, wire) == [told("d")]  # type: ignore[arg-type]
        with pytest.raises(MqttError, match=r"^away$"):
            await bridge._some(came, wire)  # type: ignore[arg-type]
        came.put_nowait(told("e"))  # nobody waits for it any more
        assert came.qsize() == 1

    asyncio.run(scenario())
