"""Alerts go on to real HTTP servers and a real broker: all of them, signed, the gravest first."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.broker import Broker as Address
from dat_runtime.cloud import outgoing, targets
from dat_runtime.cloud.application import app, opened
from dat_runtime.cloud.settings import Settings
from dat_runtime.errors import ConfigError
from dat_runtime.mqtt import Connection, Message
from export.live.processes import free_port
from tests.dat_runtime import mosquitto
from tests.dat_runtime.cloud.conftest import Running, alert, running
from tests.dat_runtime.waiting import until

KEY = bytes(range(24))
SECRET = b"whsec_" + base64.b64encode(KEY)

Answer = Callable[["Hook", BaseHTTPRequestHandler, dict[str, Any]], None]


class Hook:
    """An HTTP endpoint; `answer` decides, the n-th request is told by its number."""

    def __init__(self, answer: Answer, port: int = 0):
        self.got: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                hook.bodies.append(body)
                hook.got.append(json.loads(body))
                hook.headers.append({k.lower(): v for k, v in self.headers.items()})
                answer(hook, self, hook.got[-1])

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def ids(self) -> list[str]:
        return [event["id"] for event in self.got]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def say(status: int, **headers: str) -> Answer:
    def answer(hook: Hook, request: BaseHTTPRequestHandler, event: dict[str, Any]) -> None:
        request.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()

    return answer


def first(count: int, answer: Answer, then: Answer | None = None) -> Answer:
    """One answer to the first requests, another (204) to those that follow."""

    def choose(hook: Hook, request: BaseHTTPRequestHandler, event: dict[str, Any]) -> None:
        (answer if len(hook.got) <= count else then or say(204))(hook, request, event)

    return choose


@contextmanager
def listening(answer: Answer, port: int = 0) -> Iterator[Hook]:
    hook = Hook(answer, port)
    try:
        yield hook
    finally:
        hook.close()


@contextmanager
def sending(tmp_path: Path, hook: Hook | str, store: str = "", **more: Any) -> Iterator[Running]:
    url = hook if isinstance(hook, str) else hook.url
    settings = Settings(webhook=url, **more)
    store = store or f"sqlite:///{tmp_path}/r.db"
    with running(store, tmp_path / "data", settings=settings) as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "PAUSE", 0.02)
    monkeypatch.setattr(outgoing, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(outgoing, "TRIM_EVERY", 0.05)
    monkeypatch.setattr(outgoing, "REFUSED_PAUSE", 0.02)


def counted(receiver: Running, outcome: str) -> float:
    target = {"target": "webhook", "outcome": outcome}
    registry = receiver.inside.metrics.registry
    return registry.get_sample_value("dat_receiver_outgoing_total", target) or 0.0


def test_each_new_alert_and_revision_goes_on_signed(store_url: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    with (
        listening(say(204)) as hook,
        sending(tmp_path, hook, store_url, webhook_secret=tmp_path / "secret") as receiver,
    ):
        receiver.post(alert())
        receiver.post(alert())  # the same again: nothing new
        until(lambda: len(hook.got) == 1)
        receiver.post(alert(revision=1))
        receiver.post([alert(f"e{n}") for n in range(20)])
        until(lambda: counted(receiver, "delivered") == 22)
        assert sorted(hook.ids()) == sorted(["n1-000001"] * 2 + [f"e{n}" for n in range(20)])
        assert hook.got[0] == alert()
        headers = hook.headers[0]
        assert headers["content-type"] == "application/cloudevents+json"
        assert headers["webhook-id"] == "n1/n1-000001/0"
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode()
        digest = hmac.new(KEY, signed + hook.bodies[0], hashlib.sha256).digest()
        assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60


def test_what_waited_for_a_target_that_was_down_goes_the_gravest_first(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "AT_ONCE", 1)
    port = free_port()
    with sending(tmp_path, f"http://127.0.0.1:{port}/", store_url) as receiver:
        receiver.post([alert(f"e{n}", priority=n * 7 % 10 / 10) for n in range(10)])
        time.sleep(0.2)
        with listening(say(200), port) as hook:
            until(lambda: len(hook.got) >= 10)
            told = [event["data"]["priority"] for event in hook.got]
            assert told == sorted(told, reverse=True)


@pytest.mark.parametrize(
    "trouble",
    [
        say(500),
        say(503),
        say(408),
        say(404),
        say(401),
        say(302, Location="/elsewhere"),
        lambda hook, request, event: request.connection.close(),
        lambda hook, request, event: request.wfile.write(b"HTTP/1.1 2"),
        lambda hook, request, event: request.wfile.write(b"garbage\r\n\r\n"),
    ],
)
def test_a_delivery_that_fails_is_tried_again(tmp_path: Path, trouble: Answer) -> None:
    def closing(hook: Hook, request: BaseHTTPRequestHandler, event: dict[str, Any]) -> None:
        trouble(hook, request, event)
        request.close_connection = True

    with listening(first(3, closing)) as hook, sending(tmp_path, hook) as receiver:
        receiver.post(alert())
        until(lambda: counted(receiver, "delivered") == 1)
        assert hook.ids() == ["n1-000001"] * 4
        assert len({headers["webhook-id"] for headers in hook.headers}) == 1


def test_a_target_that_asks_for_time_is_given_it(tmp_path: Path) -> None:
    times = []

    def busy(hook: Hook, request: BaseHTTPRequestHandler, event: dict[str, Any]) -> None:
        times.append(time.monotonic())
        first(1, say(429, Retry_After="1"))(hook, request, event)

    with listening(busy) as hook, sending(tmp_path, hook) as receiver:
        receiver.post(alert())
        until(lambda: counted(receiver, "delivered") == 1)
        assert times[1] - times[0] >= 0.9


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 102 Processing\r\n"])
def test_a_target_that_hangs_or_drips_does_not_hold_a_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drip: bytes
) -> None:
    monkeypatch.setattr(targets, "SECONDS", 0.5)

    def hang(hook: Hook, request: BaseHTTPRequestHandler, event: dict[str, Any]) -> None:
        request.wfile.write(drip)
        for _ in range(40):
            time.sleep(0.05)
            request.wfile.write(b"a" if drip else b"")

    with listening(first(1, hang)) as hook, sending(tmp_path, hook) as receiver:
        receiver.post(alert())
        until(lambda: counted(receiver, "delivered") == 1)
        assert len(hook.got) == 2


def test_an_answer_without_end_is_not_read(tmp_path: Path) -> None:
    def endless(hook: Hook, request: BaseHTTPRequestHandler, event: dict[str, Any]) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for _ in range(100_000):
            request.wfile.write(b"10000\r\n" + bytes(65_536) + b"\r\n")

    with listening(endless) as hook, sending(tmp_path, hook) as receiver:
        receiver.post(alert())
        until(lambda: counted(receiver, "delivered") == 1)
        assert len(hook.got) == 1


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    with listening(say(204)) as elsewhere:
        redirect = say(307, Location=elsewhere.url)
        with listening(first(2, redirect)) as hook, sending(tmp_path, hook) as receiver:
            receiver.post(alert())
            until(lambda: counted(receiver, "delivered") == 1)
            assert elsewhere.got == []
            assert len(hook.got) == 3


def test_an_alert_that_is_refused_again_and_again_is_dropped_and_counted(tmp_path: Path) -> None:
    def picky(hook: Hook, request: BaseHTTPRequestHandler, event: dict[str, Any]) -> None:
        say(422 if event["id"] == "bad" else 200)(hook, request, event)

    with listening(picky) as hook, sending(tmp_path, hook) as receiver:
        receiver.post(alert("bad", priority=1.0))
        until(lambda: hook.ids() == ["bad"])
        receiver.post([alert(f"e{n}") for n in range(5)])
        until(lambda: counted(receiver, "refused") == 1)
        until(lambda: counted(receiver, "delivered") == 5)
        assert hook.ids().count("bad") == 3


def test_what_waits_is_bounded_and_the_gravest_stay(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "MAX_WAITING", 10)
    port = free_port()
    with sending(tmp_path, f"http://127.0.0.1:{port}/", store_url) as receiver:
        receiver.post([alert(f"e{n}", priority=n / 50) for n in range(50)])
        until(lambda: counted(receiver, "dropped") == 40)
        registry = receiver.inside.metrics.registry
        waiting = registry.get_sample_value("dat_receiver_outgoing_waiting", {"target": "webhook"})
        assert waiting == 10
        with listening(say(200), port) as hook:
            until(lambda: len(hook.got) == 10)
            assert sorted(hook.ids()) == sorted(f"e{n}" for n in range(40, 50))


def test_of_two_receivers_on_one_store_one_delivers(store_url: str, tmp_path: Path) -> None:
    with (
        listening(say(200)) as hook,
        sending(tmp_path, hook, store_url) as one,
        sending(tmp_path, hook, store_url) as two,
    ):
        for n in range(20):
            (one, two)[n % 2].post(alert(f"e{n}"))
        until(lambda: len(hook.got) >= 20)
        time.sleep(0.2)
        assert sorted(hook.ids()) == sorted(f"e{n}" for n in range(20))


def test_a_webhook_that_does_not_answer_slows_no_node(tmp_path: Path) -> None:
    def hang(hook: Hook, request: BaseHTTPRequestHandler, event: dict[str, Any]) -> None:
        stop.wait(10)

    stop = threading.Event()
    with listening(hang) as hook, sending(tmp_path, hook) as receiver:
        begun = time.monotonic()
        for n in range(50):
            assert receiver.post(alert(f"e{n}")).status_code == 201
        assert time.monotonic() - begun < 8  # a delivery has ten seconds
        stop.set()


@mosquitto.needed
def test_alerts_go_on_to_a_broker(store_url: str, tmp_path: Path) -> None:
    """It is down at first, and nobody is subscribed then: nothing is lost."""
    got: list[Message] = []

    async def subscribed(url: str) -> None:
        connection = await Connection.open(Address.of(url), "there", session=60)
        await connection.subscribe("dat-received/+/alerts")
        await connection.close()

    async def fetch(url: str) -> None:
        connection = await Connection.open(Address.of(url), "there", session=60, receive=got.append)
        for _ in range(1_000):
            if len({message.payload for message in got}) == 20:
                break
            await asyncio.sleep(0.01)
        await connection.close()

    folder = tmp_path / "broker"
    folder.mkdir()
    broker = mosquitto.Broker(folder)
    settings = Settings(mqtt=broker.url)
    with running(store_url, tmp_path / "data", settings=settings) as receiver:
        receiver.post([alert(f"e{n}") for n in range(10)])
        broker.start()
        try:
            time.sleep(0.1)
            asyncio.run(subscribed(broker.url))
            receiver.post([alert(f"f{n}") for n in range(10)])
            asyncio.run(fetch(broker.url))
        finally:
            broker.stop()
    assert got[0].topic == "dat-received/n1/alerts"
    assert got[0].content_type == "application/cloudevents+json"
    ids = {json.loads(message.payload)["id"] for message in got}
    assert ids == {f"{letter}{n}" for letter in "ef" for n in range(10)}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"webhook": "ftp://host/"}, "--webhook"),
        ({"webhook": "https:///path"}, "--webhook"),
        ({"webhook": "http://[::1"}, "--webhook"),
        ({"webhook": "http://h/", "webhook_secret": Path("/nowhere")}, "nowhere"),
        ({"webhook": "http://h/", "webhook_secret": Path("short")}, "at least 16"),
        ({"webhook": "http://h/", "webhook_secret": Path("broken")}, "base64"),
        ({"mqtt": "http://h/"}, "expected mqtt"),
        ({"mqtt": "mqtt://broker.example", "mqtt_password": Path("short")}, "loopback"),
    ],
)
def test_settings_that_will_not_do_are_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short").write_text("secret")
    Path("broken").write_text("whsec_???????????????????")
    receiver = opened(f"sqlite:///{tmp_path}/r.db", tmp_path / "data")
    receiver.settings = Settings(**more)
    with pytest.raises(ConfigError, match=words):
        app(receiver)
    receiver.store.close()


def test_a_secret_for_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="--webhook-secret"):
        Settings(webhook_secret=Path("x"))
    with pytest.raises(ConfigError, match="--keep-days"):
        Settings(keep_days=-1)
