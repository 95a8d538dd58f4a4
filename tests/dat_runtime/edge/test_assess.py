import base64
import gc
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.chat import GREEDY
from dat_runtime.edge.assess import EndpointAssessor, RecordedAssessor
from dat_runtime.endpoint import MAX_RESPONSE_BYTES, AssessmentError, AssessmentRefused
from dat_runtime.errors import DataError

Answer = Callable[[BaseHTTPRequestHandler], None]


def completion(text: object) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


def replies(status: int, content: bytes, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def closes_in_the_middle(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.close_connection = True


class Endpoint:
    """A server on the loopback that gives the prepared answers, the last one again and again."""

    def __init__(self, answers: list[Answer]):
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        endpoint = self

        self.connections = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # connections are kept

            def setup(self) -> None:
                endpoint.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {k.lower(): v for k, v in self.headers.items()}
                endpoint.requests.append((self.path, headers, json.loads(body)))
                # A client that gives up, as it should, closes the connection.
                with suppress(BrokenPipeError, ConnectionResetError):
                    answers[min(len(endpoint.requests), len(answers)) - 1](self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def endpoint() -> Iterator[Callable[..., Endpoint]]:
    running: list[Endpoint] = []

    def start(*answers: Answer) -> Endpoint:
        running.append(Endpoint(list(answers)))
        return running[-1]

    yield start
    for one in running:
        one.server.shutdown()
        one.server.server_close()


def assessor(url: str, **changes: Any) -> EndpointAssessor:
    return EndpointAssessor(url, "dat", **{"timeout": 5.0, "pause": 0.01, **changes})


def test_an_endpoint_is_asked_as_in_training(endpoint: Callable[..., Endpoint]) -> None:
    server = endpoint(replies(200, completion("the answer")))
    asked = assessor(server.url, api_key="secret").assess(b"\x89PNG", "system", "prompt")
    assert asked == "the answer"
    ((path, headers, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer secret"
    assert headers["accept-encoding"] == "identity"
    assert headers["content-type"] == "application/json"
    assert body["model"] == "dat"
    greedy = {"temperature": 0, "top_p": 1, "top_k": 1, "repetition_penalty": 1}
    assert body | greedy == body
    assert "presence_penalty" not in body  # LLaMA-Factory's server takes it for that of repetition
    system, user = body["messages"]
    assert system == {"role": "system", "content": "system"}
    image, text = user["content"]
    prefix, _, data = image["image_url"]["url"].partition(",")
    assert (prefix, base64.b64decode(data)) == ("data:image/png;base64", b"\x89PNG")
    assert text == {"type": "text", "text": "prompt"}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 340, "completion_tokens": 61, "total_tokens": 401}, (340, 61)),
        ({"prompt_tokens": True, "completion_tokens": -1}, (None, None)),
        ([], (None, None)),
        (None, (None, None)),
    ],
)
def test_the_tokens_that_an_endpoint_counts_come_with_the_answer(
    endpoint: Callable[..., Endpoint], usage: object, tokens: tuple[int | None, int | None]
) -> None:
    response = json.loads(completion("yes")) | {"usage": usage}
    server = endpoint(replies(200, json.dumps(response).encode()))
    assert assessor(server.url).ask(b"", "s", "p")[:4] == ("yes", *tokens, False)


def test_fields_of_the_request_can_be_set_and_left_out(endpoint: Callable[..., Endpoint]) -> None:
    server = endpoint(replies(200, completion("yes")))
    fields = dict.fromkeys((*GREEDY, "max_tokens")) | {"max_completion_tokens": 9}
    assessor(server.url, request=fields).ask(b"", "s", "p")
    ((_, _, body),) = server.requests
    assert set(body) == {"model", "messages", "max_completion_tokens"}


def test_a_field_that_a_strict_server_refuses_by_name_is_left_out_from_then_on(
    endpoint: Callable[..., Endpoint], caplog: pytest.LogCaptureFixture
) -> None:
    told = (b"Unrecognized argument: repetition_penalty", b"top_k and top_p are unknown", b"")
    server = endpoint(*(replies(400, words) for words in told[:2]), replies(200, completion("yes")))
    strict = assessor(server.url)
    assert [strict.assess(b"", "s", "p") for _ in range(2)] == ["yes", "yes"]
    bodies = [body for _, _, body in server.requests]
    assert len(bodies) == 4
    assert strict.left_out == {"repetition_penalty", "top_k", "top_p"}
    assert not strict.left_out & bodies[-1].keys()
    assert "temperature" in bodies[-1]
    assert "refuses top_k, top_p: left out" in caplog.text


def test_a_server_that_samples_always_is_no_greedy_one(endpoint: Callable[..., Endpoint]) -> None:
    server = endpoint(replies(400, b"temperature does not support 0"))
    with pytest.raises(AssessmentRefused, match="temperature does not support 0"):
        assessor(server.url).assess(b"", "s", "p")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "failure", [replies(503, b"busy"), replies(429, b""), closes_in_the_middle]
)
def test_a_passing_failure_is_asked_again(
    endpoint: Callable[..., Endpoint], failure: Answer
) -> None:
    server = endpoint(failure, failure, replies(200, completion("late")))
    assert assessor(server.url).assess(b"", "s", "p") == "late"
    assert len(server.requests) == 3


def test_asking_again_is_bounded(endpoint: Callable[..., Endpoint]) -> None:
    server = endpoint(replies(500, b"out of memory"))
    with pytest.raises(AssessmentError, match="status 500: 'out of memory'"):
        assessor(server.url).assess(b"", "s", "p")
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (replies(404, b"no such model"), "status 404: 'no such model'"),
        (replies(302, b"", location="http://127.0.0.1:1/"), "status 302"),
        (replies(200, b"<html>"), "not a chat completion"),
        (replies(200, b'{"choices": []}'), "not a chat completion"),
        (replies(200, b"[" * 100_000), "not a chat completion"),
        (replies(200, completion(None)), "holds no text"),
        (replies(200, bytes(MAX_RESPONSE_BYTES + 1)), "more than 1048576 bytes"),
        (replies(200, b"\x1f\x8b" + bytes(99), content_encoding="gzip"), "not a chat completion"),
    ],
)
def test_what_is_no_answer_is_refused_at_once(
    endpoint: Callable[..., Endpoint], answer: Answer, words: str
) -> None:
    server = endpoint(answer)
    with pytest.raises(AssessmentError, match=words) as refusal:
        assessor(server.url).assess(b"", "s", "p")
    assert server.url in str(refusal.value)
    assert len(server.requests) == 1


Conversation = Callable[[socket.socket], None]


def drips(text: bytes) -> Conversation:
    """Says its text slowly, the last byte for ever."""

    def talk(connection: socket.socket) -> None:
        for i in range(10_000):
            connection.sendall(text[i : i + 1] or text[-1:])
            time.sleep(0.02)

    return talk


def floods(beginning: bytes, text: bytes) -> Conversation:
    """Says its text without end, as fast as it is heard."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(beginning)
        for _ in range(100_000):
            connection.sendall(text * 100)

    return talk


def is_silent(connection: socket.socket) -> None:
    connection.settimeout(30)
    while connection.recv(1 << 16):
        pass


def hangs_up(connection: socket.socket) -> None:
    connection.recv(1 << 16)


@pytest.fixture
def raw_server() -> Iterator[Callable[[Conversation], str]]:
    """A server that speaks bytes, one thread a connection; gives its address."""
    listeners = []

    def start(talk: Conversation) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                talk(connection)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


OK = b"HTTP/1.1 200 OK\r\n"
BROKEN = "ReadError|RemoteProtocolError"  # the bytes, or the reset after them


@pytest.mark.parametrize(
    "talk",
    [
        drips(OK + b"x-a: b"),
        drips(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        drips(OK + b"content-length: 99999\r\n\r\n "),
        floods(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        is_silent,
    ],
    ids=["headers", "1xx", "body", "1xx-flood", "silence"],
)
def test_the_limit_of_time_holds_over_everything(
    raw_server: Callable[[Conversation], str], talk: Conversation
) -> None:
    asked = assessor(raw_server(talk), timeout=0.4)
    began = time.monotonic()
    with pytest.raises(AssessmentError, match=r"no whole answer in 0\.4 s"):
        asked.assess(bytes(1 << 20), "s", "p")
    assert time.monotonic() - began < 1.4, "the loop kept the time, not the caller's last resort"


def test_the_limit_of_time_holds_over_tls_and_for_a_server_that_reads_nothing(
    raw_server: Callable[[Conversation], str],
) -> None:
    url = raw_server(lambda connection: time.sleep(3))
    for address, words in ((url, "no whole answer in"), (f"https{url[4:]}", "ConnectTimeout")):
        began = time.monotonic()
        with pytest.raises(AssessmentError, match=words):
            assessor(address, timeout=0.4).assess(bytes(8 << 20), "s", "p")
        assert time.monotonic() - began < 1.4


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        (floods(OK + b"\r\n", b" "), "more than 1048576 bytes"),
        (floods(OK, b"x-a: b\r\n"), BROKEN),
        (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), BROKEN),
        (hangs_up, BROKEN),
    ],
    ids=["endless-body", "endless-headers", "another-protocol", "hangs-up"],
)
def test_what_cannot_be_an_answer_ends_the_try(
    raw_server: Callable[[Conversation], str], talk: Conversation, words: str
) -> None:
    with pytest.raises(AssessmentError, match=words):
        assessor(raw_server(talk), timeout=20, tries=2).assess(b"", "s", "p")


def test_all_tries_together_keep_to_the_timeout(endpoint: Callable[..., Endpoint]) -> None:
    server = endpoint(replies(503, b"loading"))
    began = time.monotonic()
    with pytest.raises(AssessmentError, match="status 503: 'loading'"):
        assessor(server.url, timeout=0.5, tries=1000, pause=0.1).assess(b"", "s", "p")
    assert time.monotonic() - began < 5
    assert 2 <= len(server.requests) <= 10


@pytest.mark.parametrize(
    "wait", [lambda: "0.3", lambda: formatdate(time.time() + 1.3, usegmt=True)], ids=["s", "date"]
)
def test_the_wait_that_a_server_asks_for_is_kept(
    endpoint: Callable[..., Endpoint], wait: Callable[[], str]
) -> None:
    # Dates have whole seconds: this one is from 0.3 to 1.3 s away, by the clock of this machine.
    server = endpoint(replies(429, b"", retry_after=wait()), replies(200, completion("now")))
    began = time.monotonic()
    assert assessor(server.url, pause=0.001).assess(b"", "s", "p") == "now"
    assert time.monotonic() - began >= 0.25


def test_a_wait_that_does_not_fit_ends_the_question_at_once(
    endpoint: Callable[..., Endpoint],
) -> None:
    server = endpoint(replies(429, b'{"error": {"message": "quota"}}', Retry_After="75"))
    began = time.monotonic()
    with pytest.raises(AssessmentError, match="status 429: 'quota'; it asks to wait 75 s") as told:
        assessor(server.url, timeout=30).assess(b"", "s", "p")
    assert told.value.retry_after == 75
    assert time.monotonic() - began < 5
    assert len(server.requests) == 1


def test_a_refusal_is_the_answer_and_is_not_asked_again(endpoint: Callable[..., Endpoint]) -> None:
    filtered = json.dumps({"error": {"message": "The response was filtered", "code": None}})
    server = endpoint(replies(400, filtered.encode()), replies(200, completion(None)))
    with pytest.raises(AssessmentRefused, match="status 400: 'The response was filtered'"):
        assessor(server.url).assess(b"", "s", "p")
    with pytest.raises(AssessmentRefused, match="holds no text"):
        assessor(server.url).assess(b"", "s", "p")
    assert len(server.requests) == 2


def test_an_error_in_a_200_is_asked_again(endpoint: Callable[..., Endpoint]) -> None:
    error = json.dumps({"error": {"message": "no worker is free", "code": 503}}).encode()
    server = endpoint(replies(200, error), replies(200, completion("yes")))
    assert assessor(server.url).assess(b"", "s", "p") == "yes"


def test_an_answer_that_was_cut_says_so(endpoint: Callable[..., Endpoint]) -> None:
    cut = {"choices": [{"message": {"content": "{"}, "finish_reason": "length"}]}
    assert assessor(endpoint(replies(200, json.dumps(cut).encode())).url).ask(b"", "s", "p").cut


def test_connections_are_kept_and_shared(endpoint: Callable[..., Endpoint]) -> None:
    server = endpoint(replies(200, completion("yes")))
    asked = assessor(server.url)
    assert [asked.assess(b"", "s", "p") for _ in range(5)] == ["yes"] * 5
    assert server.connections == 1
    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(lambda i: asked.assess(b"", "s", str(i)), range(64)))
    assert said == ["yes"] * 64
    assert server.connections <= 8 + 1


def test_an_assessor_that_nobody_uses_any_more_closes_its_connections(
    raw_server: Callable[[Conversation], str],
) -> None:
    closed = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        answer = completion("yes")
        connection.sendall(OK + b"content-length: %d\r\n\r\n" % len(answer) + answer)
        while connection.recv(1 << 16):
            pass
        closed.set()

    asked = assessor(raw_server(talk))
    assert asked.assess(b"", "s", "p") == "yes"
    del asked
    gc.collect()
    assert closed.wait(3.5), "before an unused connection would be closed anyway"


def test_an_endpoint_that_went_away_is_waited_for_by_the_patient_only(
    endpoint: Callable[..., Endpoint],
) -> None:
    def pause_of(**settings: Any) -> float:
        server = endpoint(replies(200, completion("yes"), connection="close"))
        asked = assessor(server.url, tries=3, pause=0.5, **settings)
        asked.assess(b"", "s", "p")
        server.server.shutdown()
        server.server.server_close()
        began = time.monotonic()
        with pytest.raises(AssessmentError, match="ConnectError"):
            asked.assess(b"", "s", "p")
        return time.monotonic() - began

    assert pause_of() < 0.5 <= 0.75 <= pause_of(patient=True)
    began = time.monotonic()
    with pytest.raises(AssessmentError, match="ConnectError"):
        assessor("http://127.0.0.1:1/v1", patient=True, pause=8).assess(b"", "s", "p")
    assert time.monotonic() - began < 6, "there never was anything"


def test_a_proxy_is_not_asked_about_this_machine(
    endpoint: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server = endpoint(replies(200, completion("yes")))
    assert assessor(server.url, api_key="secret").assess(b"", "s", "p") == "yes"


def test_neither_key_nor_password_is_logged(
    endpoint: Callable[..., Endpoint], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = endpoint(replies(200, completion("yes")))
    assessor(server.url, api_key="secret-key").assess(b"", "s", "p")
    assessor(server.url.replace("//", "//ann:pass-word@")).assess(b"", "s", "p")
    assert "HTTP Request: POST" in caplog.text
    assert "secret-key" not in caplog.text
    assert "pass-word" not in caplog.text


def test_an_endpoint_that_is_not_there_is_named() -> None:
    with pytest.raises(AssessmentError, match=r"127\.0\.0\.1:1/v1/chat/completions: ConnectError"):
        assessor("http://127.0.0.1:1/v1").assess(b"", "s", "p")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "file:///etc/passwd", ""])
def test_an_address_must_be_http(url: str) -> None:
    with pytest.raises(ValueError, match="begins with http"):
        assessor(url)


@pytest.mark.parametrize(
    "url",
    ["http://host:port/v1", "http://", "http://:80/v1", "https://[::1/v1", "http://a\x00b/v1"],
)
def test_an_address_that_nobody_can_have_is_refused_before_it_is_asked(url: str) -> None:
    with pytest.raises(ValueError, match="an endpoint is an address such as"):
        assessor(url)


@pytest.mark.parametrize("key", ["schlüssel", "key\n", "a\x00"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="a header cannot carry") as refusal:
        assessor("https://host/v1", api_key=key)
    assert key not in str(refusal.value)


def test_a_key_never_travels_in_the_clear() -> None:
    for url in ("https://host/v1", "http://localhost:1/v1", "http://127.0.0.2/v1", "http://[::1]/"):
        assessor(url, api_key="secret")
    for url in ("http://host/v1", "http://10.0.0.1/v1", "http://localhost.host/v1"):
        assessor(url)
        with pytest.raises(ValueError, match="https and loopback") as refusal:
            assessor(url, api_key="secret")
        assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    ["http://ann:pass@host:port/v1", "ann:pass@host/v1", "http://ann:pa/pass@x:y@host:1:1/v1"],
)
def test_a_password_in_a_refused_address_is_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="host") as refusal:
        assessor(url)
    assert "pass" not in str(refusal.value)


def test_a_password_in_an_address_is_used_and_not_shown(endpoint: Callable[..., Endpoint]) -> None:
    server = endpoint(replies(404, b"none"))
    with pytest.raises(AssessmentError, match="status 404") as refusal:
        assessor(server.url.replace("//", "//ann:pass@")).assess(b"", "s", "p")
    assert "pass" not in str(refusal.value)
    assert server.requests[0][1]["authorization"].startswith("Basic ")


def test_a_text_that_cannot_be_sent_is_no_answer(endpoint: Callable[..., Endpoint]) -> None:
    server = endpoint(replies(200, completion("yes")))
    with pytest.raises(AssessmentError, match="cannot be asked"):
        assessor(server.url).assess(b"", "s", "\ud800")


def test_a_recorded_answer_is_given_whatever_is_asked(tmp_path: Path) -> None:
    (tmp_path / "answer.json").write_text("{}", "utf-8")
    recorded = RecordedAssessor.from_file(tmp_path / "answer.json")
    assert recorded.assess(b"", "s", "p") == recorded.assess(b"x", "t", "q") == "{}"


def test_a_recorded_answer_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot be read"):
        RecordedAssessor.from_file(tmp_path / "none.json")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        RecordedAssessor.from_file(tmp_path / "bytes")
