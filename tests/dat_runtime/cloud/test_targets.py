"""One delivery at a time: to an HTTP server that listens, and to a broker without a network."""

import asyncio
import base64
import math
import time
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import httpx
import pytest

pytest.importorskip("sqlalchemy")

from dat_runtime import __version__
from dat_runtime.cloud import targets
from dat_runtime.cloud.settings import Settings
from dat_runtime.cloud.targets import DELIVERED, MqttTarget, Outcome, Webhook, targets_of
from dat_runtime.errors import ConfigError
from dat_runtime.mqtt import MqttError
from tests.dat_runtime.cloud.test_outgoing import Hook, listening, say

ROW: Any = SimpleNamespace(event="n1/e", revision=2, content='{"id":"é"}')


def test_a_signature_is_that_of_the_standard() -> None:
    """The example of https://github.com/standard-webhooks/standard-webhooks."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    id, seconds = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330
    content = b'{"test": 2432232314}'
    assert targets.signature(key, id, seconds, content) == {
        "webhook-id": id,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert targets.signature(None, id, seconds, content) == {
        "webhook-id": id,
        "webhook-timestamp": "1614265330",
    }


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b" 0123456789abcdef\n", b"0123456789abcdef"),
        (b"whsec_" + base64.b64encode(b"k" * 16), b"k" * 16),
        (b"k" * 10_000, b"k" * 10_000),
    ],
)
def test_a_secret_is_read_as_it_is_written(tmp_path: Path, content: bytes, key: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert targets._key(tmp_path / "secret") == key


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"0123456789abcde", "is no secret: expected at least 16 bytes"),
        (b"whsec_" + base64.b64encode(b"k" * 15), "is no secret: expected at least 16 bytes"),
        (b"whsec_?" + b"k" * 20, "is no secret: whsec_ is followed by base64"),
        (b"k" * 10_001, "10,000"),
    ],
)
def test_a_secret_that_will_not_do_is_named_by_its_file(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigError) as told:
        Webhook("http://h/", tmp_path / "secret")
    assert str(told.value).startswith(f"{tmp_path}/secret: ")
    assert str(told.value).endswith(f": {words}") or words == "10,000"


def deliver(url: str, secret: Path | None = None) -> Outcome:
    async def scenario() -> Outcome:
        hook = Webhook(url, secret)
        try:
            return await hook.deliver(ROW)
        finally:
            await hook.close()

    return asyncio.run(scenario())


def test_an_alert_goes_as_it_is_with_what_says_whose_it_is(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"0123456789abcdef")
    began = int(time.time())
    with listening(say(204)) as hook:
        assert deliver(hook.url, tmp_path / "secret") == DELIVERED
    assert hook.bodies == [ROW.content.encode()]
    headers = hook.headers[0]
    seconds = int(headers["webhook-timestamp"])
    assert began <= seconds <= time.time()
    expected = targets.signature(b"0123456789abcdef", "n1/e/2", seconds, ROW.content.encode())
    assert {name: headers[name] for name in expected} == expected
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["user-agent"] == f"dat-runtime/{__version__}"
    assert headers["accept-encoding"] == "identity"


def test_a_server_that_is_away_or_says_nothing_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = deliver("http://127.0.0.1:9/")
    assert (failed.kind, failed.retry_after) == ("failed", 0)
    assert failed.words.startswith("ConnectError: ")
    monkeypatch.setattr(targets, "SECONDS", 0.125)
    with listening(lambda *_: time.sleep(0.5)) as hook:
        assert deliver(hook.url) == Outcome("failed", "no answer in 0.125 s")


def test_an_answer_without_end_is_not_read() -> None:
    def endless(hook: Hook, request: BaseHTTPRequestHandler, event: dict[str, Any]) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        with suppress(OSError):
            while True:
                request.wfile.write(b"10000\r\n" + bytes(65_536) + b"\r\n")

    with listening(endless) as hook:
        assert deliver(hook.url) == DELIVERED


def test_a_reason_is_cut_to_two_hundred_letters() -> None:
    async def scenario() -> Outcome:
        hook = Webhook("http://h/", None)

        async def fail(*_: Any, **__: Any) -> None:
            raise httpx.ReadError("x" * 300)

        hook._client.send = fail  # type: ignore[assignment]
        return await hook.deliver(ROW)

    assert asyncio.run(scenario()) == Outcome("failed", "ReadError: " + "x" * 189)


def response(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_what_an_answer_means() -> None:
    for status in (200, 202, 204, 299):
        assert targets._outcome(response(status)) == Outcome("delivered", "", 0.0)
    for status in (400, 413, 415, 422):
        assert targets._outcome(response(status, retry_after="5")) == Outcome(
            "refused", f"status {status}"
        )
    moved = response(307, location="http://elsewhere/", retry_after="5")
    assert targets._outcome(moved) == Outcome("failed", "status 307: redirects are not followed")
    for status in (401, 404, 429, 500, 503):
        assert targets._outcome(response(status, retry_after="5")) == Outcome(
            "failed", f"status {status}", 5.0
        )
    assert targets._outcome(response(503)) == Outcome("failed", "status 503", 0.0)


def test_when_to_come_again_is_said_in_seconds_or_as_a_date() -> None:
    def asked(text: str) -> float:
        return targets._retry_after(response(503, retry_after=text).headers)

    assert [asked(text) for text in ("7", " 7 ", "", "soon", "-7", "1.5")] == [7, 7, 0, 0, 0, 1.5]
    assert asked("9" * 400) == math.inf  # whoever waits bounds it
    # A year that no clock holds: the error went past the delivery, and with it all of its round.
    assert asked(f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT") == 0
    assert targets._retry_after(httpx.Headers([(b"retry-after", b"\xb2")])) == 0
    now = time.time()
    assert asked(formatdate(now + 60, usegmt=True)) == pytest.approx(60, abs=5)
    assert asked(formatdate(now - 60, usegmt=True)) == 0


def test_a_webhook_is_an_address_that_is_shown_without_its_secrets() -> None:
    hook = Webhook("https://user:password@alerts.example:8443/hook?key=k", None)
    assert (hook.name, hook.shown) == ("webhook", "the webhook at alerts.example")
    assert not hook._client.follow_redirects
    assert hook._client.timeout == httpx.Timeout(10.0)
    assert hook._client._transport._pool._max_connections == 8  # type: ignore[attr-defined]
    for url in ("ftp://h/", "https:///path", "http://[::1", "alerts.example", "http://h\udcff/"):
        with pytest.raises(ConfigError) as told:
            Webhook(url, None)
        words = "--webhook is no address such as https://alerts.example/hook"
        assert str(told.value) == words


def test_where_alerts_go_is_what_the_settings_say(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(" secret\n")
    assert targets_of(Settings()) == []
    password = tmp_path / "password"
    both = Settings(webhook="http://h/", mqtt="mqtt://u@127.0.0.1:1884", mqtt_password=password)
    hook, broker = targets_of(both)
    assert isinstance(hook, Webhook)
    assert isinstance(broker, MqttTarget)
    assert (broker.name, broker.shown) == ("mqtt", f"the broker {broker._broker}")
    assert (broker._broker.host, broker._broker.port) == ("127.0.0.1", 1884)
    assert (broker._broker.user, broker._broker.password) == ("u", "secret")
    targets.require_usable(both)
    for wrong in (Settings(mqtt="http://h/"), Settings(mqtt_in="http://h/")):
        with pytest.raises(ConfigError, match="expected mqtt"):
            targets.require_usable(wrong)
    none = Settings(mqtt="mqtt://u@127.0.0.1", mqtt_password=tmp_path / "none")
    with pytest.raises(ConfigError, match="none"):
        targets_of(none)
    secure = Settings(mqtt="mqtts://h", mqtt_certificate=password, mqtt_authorities=tmp_path / "ca")
    broker = targets.broker_of(secure, "mqtts://h")
    assert (broker.certificate, broker.authorities) == (password, tmp_path / "ca")


class Wire:
    """A broker's connection without a network; `code` is how it answers, 0 is well."""

    opened: ClassVar[list[tuple[str, str]]]
    code: int | None = 0

    @classmethod
    async def open(cls, broker: Any, name: str) -> "Wire":
        cls.opened.append((str(broker), name))
        return cls()

    def __init__(self) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.published: list[tuple[str, bytes, str]] = []
        self.closed = False

    async def publish(self, *message: Any) -> str:
        self.published.append(message)
        return "answer"

    async def accepted(self, answer: str) -> None:
        assert answer == "answer"
        if self.code != 0:
            raise MqttError("it will not have it", self.code)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> type[Wire]:
    class Fresh(Wire):
        opened: ClassVar[list[tuple[str, str]]] = []

    monkeypatch.setattr(targets, "Connection", Fresh)
    return Fresh


def test_alerts_for_a_broker_share_a_connection_until_it_is_lost(wire: type[Wire]) -> None:
    async def scenario() -> None:
        target = MqttTarget(targets.broker_of(Settings(), "mqtt://127.0.0.1"))
        assert await asyncio.gather(*(target.deliver(ROW) for _ in range(3))) == [DELIVERED] * 3
        assert len(wire.opened) == 1
        first: Any = target._connection
        assert (
            first.published
            == [("dat-received/n1/alerts", ROW.content.encode(), "application/cloudevents+json")]
            * 3
        )
        first.lost.set_result("away")
        assert await target.deliver(ROW) == DELIVERED
        second: Any = target._connection
        assert (first.closed, second.closed, len(second.published)) == (True, False, 1)
        (address, one), (_, two) = wire.opened
        assert address == "mqtt://127.0.0.1:1883"
        assert one.startswith("dat-receiver-out-")
        assert int(one.removeprefix("dat-receiver-out-"), 16) < 2**48
        assert one != two
        await target.close()
        await target.close()
        assert second.closed
        assert target._connection is None

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("code", "kind"), [(0x95, "refused"), (0x97, "failed"), (0x10, "failed"), (None, "failed")]
)
def test_what_a_broker_refuses_for_good_is_told_apart(
    wire: type[Wire], monkeypatch: pytest.MonkeyPatch, code: int | None, kind: str
) -> None:
    monkeypatch.setattr(wire, "code", code)

    async def scenario() -> Outcome:
        return await MqttTarget(targets.broker_of(Settings(), "mqtt://127.0.0.1")).deliver(ROW)

    assert asyncio.run(scenario()) == Outcome(kind, "it will not have it")
