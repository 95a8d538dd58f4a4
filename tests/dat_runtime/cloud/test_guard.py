"""What holds for every request, asked without a network."""

import asyncio
import json
from typing import Any

import pytest

pytest.importorskip("fastapi")

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from dat_runtime.cloud.guard import Guard, json_answer, told
from dat_runtime.cloud.metrics import Metrics
from dat_runtime.cloud.store import StoreBusy, StoreError


class Inside:
    """An application that says its name, or what the test lets it do."""

    def __init__(self, name: str, status: int = 200):
        self._name, self._status = name, status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"].startswith("/")
        assert (await receive())["type"] == "http.request"
        await send({"type": "http.response.start", "status": self._status, "headers": []})
        await send({"type": "http.response.body", "body": self._name.encode()})


class Ends:
    """An application that is cancelled, before or after it began to answer."""

    def __init__(self, began: bool):
        self._began = began

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._began:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise asyncio.CancelledError


def asked(guard: Guard, method: str, path: str, **headers: str) -> list[Message]:
    """What is sent in answer to a request."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": pairs}
    asyncio.run(guard(scope, receive, send))
    return sent


def guard(application: Any = None, only_local: bool = False) -> Guard:
    return Guard(application or Inside("application"), Inside("intake"), Metrics(), only_local)


@pytest.mark.parametrize(
    ("method", "path", "by"),
    [
        ("POST", "/v1/events", b"intake"),
        ("GET", "/v1/events", b"application"),
        ("POST", "/v1/session", b"application"),
        ("GET", "/healthz", b"application"),
    ],
)
def test_alerts_go_past_the_application(method: str, path: str, by: bytes) -> None:
    start, body = asked(guard(), method, path)
    assert body["body"] == by
    assert start["headers"] == [(b"x-content-type-options", b"nosniff")]


def test_other_methods_for_events_are_refused_with_those_that_there_are() -> None:
    start, body = asked(guard(), "DELETE", "/v1/events")
    headers = dict(start["headers"])
    assert (start["status"], headers[b"allow"]) == (405, b"GET, POST")
    assert headers[b"content-type"] == b"application/problem+json"
    assert json.loads(body["body"]) == {"status": 405, "detail": "Method Not Allowed"}


@pytest.mark.parametrize(("status", "count"), [(399, None), (400, 1.0), (503, 1.0)])
def test_refusals_are_counted_by_their_status(status: int, count: float | None) -> None:
    metrics = Metrics()
    inside = Guard(Inside("application", status), Inside("intake"), metrics, False)
    asked(inside, "GET", "/")
    sample = {"status": str(status)}
    assert metrics.registry.get_sample_value("dat_receiver_refused_total", sample) == count


def test_what_is_no_request_goes_to_the_application_as_it_is() -> None:
    seen: list[Scope] = []

    async def application(scope: Scope, receive: Any, send: Any) -> None:
        assert (receive, send) == ("receive", "send")
        seen.append(scope)

    asyncio.run(guard(application, True)({"type": "lifespan"}, "receive", "send"))  # type: ignore[arg-type]
    assert seen == [{"type": "lifespan"}]


def test_a_request_that_the_end_cuts_off_is_told_unless_its_answer_began() -> None:
    start, body = asked(guard(Ends(began=False)), "GET", "/")
    headers = dict(start["headers"])
    assert (start["status"], headers[b"retry-after"]) == (503, b"5")
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert json.loads(body["body"])["detail"] == "the receiver is ending"
    (start,) = asked(guard(Ends(began=True)), "GET", "/")
    assert start["status"] == 200


HERE = "127.0.0.1:8080"


@pytest.mark.parametrize(
    ("method", "headers", "words"),
    [
        ("GET", {}, None),
        ("GET", {"host": HERE}, None),
        ("GET", {"host": "localhost"}, None),
        ("GET", {"host": "[::1]:8080"}, None),
        ("GET", {"host": "[::1]"}, None),
        ("POST", {"host": HERE}, None),
        ("POST", {"host": HERE, "origin": f"http://{HERE}"}, None),
        ("GET", {"host": HERE, "origin": "http://else.where"}, None),
        ("HEAD", {"host": HERE, "origin": "http://else.where"}, None),
        ("OPTIONS", {"host": HERE, "origin": "http://else.where"}, None),
        ("POST", {"host": HERE, "origin": "http://127.0.0.1"}, "a page of http://127.0.0.1 may"),
        ("DELETE", {"host": HERE, "origin": "null"}, "a page of null may change nothing here"),
        (
            "GET",
            {"host": "else.where:80"},
            "this receiver has no tokens and answers to loopback only, not to else.where:80",
        ),
        ("GET", {"host": "[2001:db8::1]:80"}, "not to [2001:db8::1]:80"),
        ("GET", {"host": "h\xe9"}, "not to h\xe9"),
        ("GET", {"host": "h" * 99}, "not to " + "h" * 80),
        ("PUT", {"host": HERE, "origin": "\xe9" * 99}, "a page of " + "\xe9" * 80 + " may"),
    ],
)
def test_a_receiver_without_tokens_answers_to_this_machines_own_programs(
    method: str, headers: dict[str, str], words: str | None
) -> None:
    start, body = asked(guard(only_local=True), method, "/", **headers)
    if words is None:
        assert (start["status"], body["body"]) == (200, b"application")
    else:
        assert start["status"] == 403
        assert words in json.loads(body["body"])["detail"]
        assert "h" * 81 not in json.loads(body["body"])["detail"]
    start, _ = asked(guard(only_local=False), method, "/", **headers)
    assert start["status"] == 200


def test_json_is_kept_by_nobody_between() -> None:
    answer = json_answer({"a": [1, 2]}, 201)
    assert (answer.status_code, answer.body) == (201, b'{"a":[1,2]}')
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    assert json_answer(1).status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "detail", "retry_after"),
    [
        (HTTPException(429, "too often", {"Retry-After": "7"}), 429, "too often", "7"),
        (StoreBusy("busy"), 503, "busy", "1"),
        (StoreError("no disk"), 503, "no disk", "5"),
    ],
)
def test_an_error_is_told_in_words_with_when_to_come_again(
    error: Any, status: int, detail: str, retry_after: str
) -> None:
    answer = told(error)
    assert json.loads(answer.body) == {"status": status, "detail": detail}
    assert (answer.status_code, answer.headers["retry-after"]) == (status, retry_after)
