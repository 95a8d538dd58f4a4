"""`POST /v1/events` without a network: what is refused, and what is told of what was kept."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from starlette.types import Message

from dat_runtime.cloud import intake as module
from dat_runtime.cloud.application import opened
from dat_runtime.cloud.intake import intake
from dat_runtime.cloud.rates import Rates
from dat_runtime.cloud.receiver import Receiver
from tests.dat_runtime.cloud.conftest import alert


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Receiver]:
    receiver = opened(f"sqlite:///{tmp_path}/r.db", tmp_path)
    yield receiver
    receiver.store.close()


def post(receiver: Receiver, event: Any, kind: str | None = None) -> tuple[int, Any]:
    """What is answered to an alert, or to a batch of them: its status, and its body parsed."""
    batch = "-batch" if isinstance(event, list) else ""
    kind = kind or f"application/cloudevents{batch}+json"
    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": json.dumps(event).encode(), "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(intake(receiver)(scope, receive, send))
    start, body = sent
    assert [start["type"], body["type"]] == ["http.response.start", "http.response.body"]
    headers = dict(start["headers"])
    assert headers[b"content-length"] == str(len(body["body"])).encode()
    if start["status"] < 400 or "detail" not in json.loads(body["body"]):
        assert headers[b"content-type"] == b"application/json"
    return start["status"], json.loads(body["body"])


def count(receiver: Receiver, outcome: str) -> float:
    name = "dat_receiver_alerts_total"
    return receiver.metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


DIFFERENT = "revision 3 is here already, with other content"


def test_an_alert_is_told_what_became_of_it(inside: Receiver) -> None:
    kept: list[str] = []
    inside.recorded.append(lambda _, alerts: kept.extend(one.key for one in alerts))
    one = alert("e", revision=3)
    assert post(inside, one) == (201, {"id": "e", "status": 201})
    assert post(inside, one) == (200, {"id": "e", "status": 200})
    other = alert("e", revision=3, priority=0.5)
    assert post(inside, other) == (409, {"id": "e", "status": 409, "detail": DIFFERENT})
    assert kept == ["n1/e"]
    assert [count(inside, name) for name in ("created", "unchanged", "conflict")] == [1, 1, 1]
    seconds = inside.metrics.registry.get_sample_value("dat_receiver_commit_seconds_sum")
    assert seconds is not None
    assert 0 < seconds < 60


def test_a_batch_is_told_of_each_and_the_worst_is_its_status(inside: Receiver) -> None:
    a, b = alert("a"), alert("b", revision=3)
    told = {"events": [{"id": "a", "status": 201}, {"id": "a", "status": 200}]}
    assert post(inside, [a, a]) == (201, told)
    assert post(inside, [a]) == (200, {"events": [{"id": "a", "status": 200}]})
    assert post(inside, [b])[0] == 201
    status, told = post(inside, [a, alert("c"), alert("b", revision=3, priority=0.5)])
    assert status == 409
    assert told["events"][1:] == [
        {"id": "c", "status": 201},
        {"id": "b", "status": 409, "detail": DIFFERENT},
    ]
    assert post(inside, []) == (200, {"events": []})
    assert [count(inside, name) for name in ("created", "unchanged", "conflict")] == [3, 3, 1]


def padded(id: str, size: int) -> dict[str, Any]:
    """An alert that travels in so many bytes."""
    event = alert(id) | {"comment": ""}
    event["comment"] = "é" * ((size - module._size(event)) // 2)
    event["comment"] += "x" * (size - module._size(event))
    return event


@pytest.mark.parametrize(
    ("event", "kind", "status", "words"),
    [
        (alert(priority=2), None, 400, "data: priority is 2, expected a number from 0 to 1"),
        ([alert("a"), alert("b", priority=2)], None, 400, "[1] "),
        ({}, "application/cloudevents-batch+json", 400, "a batch is a list of alerts"),
        ([0] * 1_001, None, 413, "a batch holds at most 1,000 alerts"),
        ([0] * 1_000, None, 400, "[0] "),
        ([alert("a"), padded("b", 16_385)], None, 413, "[1] is larger than 16,384 bytes"),
        (alert() | {"comment": "x" * 16_384}, None, 413, "the body is larger than 16,384 bytes"),
        (alert() | {"comment": "x" * 10**6}, None, 413, "the body is larger than 16,384 bytes"),
        ([0] * 500_000, None, 413, "the body is larger than 1,000,000 bytes"),
        (
            {},
            "application/json",
            415,
            "content-type: expected application/cloudevents+json or "
            "application/cloudevents-batch+json",
        ),
    ],
)
def test_what_will_not_do_is_refused_whole(
    inside: Receiver, event: Any, kind: str | None, status: int, words: str
) -> None:
    code, told = post(inside, event, kind)
    assert code == status
    assert told["detail"].startswith(words)
    assert count(inside, "created") == 0


def test_an_alert_is_as_large_in_a_batch_as_alone(inside: Receiver) -> None:
    largest = padded("a", 16_384)
    assert len(json.dumps(largest)) > 16_384  # escaped
    assert post(inside, [largest])[0] == 201
    assert module._size({"a": "é\ud800"}) == len(b'{"a":"??_"}')


def test_a_node_sends_for_itself_and_within_its_rate(inside: Receiver, tmp_path: Path) -> None:
    inside.rates = Rates(rate=1e-3, burst=3)
    assert post(inside, [alert(f"e{n}") for n in range(3)])[0] == 201
    status, told = post(inside, [alert("m", "n2"), alert("n")])
    assert status == 429
    assert "n1" in told["detail"]
    assert post(inside, [alert(f"e{n}", "n3") for n in range(2)])[0] == 201
    assert post(inside, alert("f", "n3"))[0] == 201
    assert post(inside, alert("g", "n3"))[0] == 429
    file = tmp_path / "tokens"
    file.write_text("n1\tone\n")
    inside.access = type(inside.access)(file)
    assert post(inside, alert("x"))[0] == 401
