import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.edge.assess import (
    MAX_RESPONSE_BYTES,
    AssessmentError,
    EndpointAssessor,
    RecordedAssessor,
)
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


def dribbles(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


class Endpoint:
    """A server on the loopback that gives the prepared answers, the last one again and again."""

    def __init__(self, answers: list[Answer]):
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
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
    assert (body["model"], body["temperature"]) == ("dat", 0)
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
    assert assessor(server.url).ask(b"", "s", "p") == ("yes", *tokens, False)


def test_fields_of_the_request_can_be_set_and_left_out(endpoint: Callable[..., Endpoint]) -> None:
    server = endpoint(replies(200, completion("yes")))
    fields = {"temperature": None, "max_tokens": None, "max_completion_tokens": 9}
    assessor(server.url, request=fields).ask(b"", "s", "p")
    ((_, _, body),) = server.requests
    assert set(body) == {"model", "messages", "max_completion_tokens"}


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


def is_silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1)


@pytest.mark.slow
def test_all_tries_together_keep_to_the_timeout(endpoint: Callable[..., Endpoint]) -> None:
    server = endpoint(is_silent)
    with pytest.raises(AssessmentError, match="no whole answer in 3 s"):
        assessor(server.url, timeout=3, tries=1000).assess(b"", "s", "p")
    # Each try takes a second and all together three: the fourth is cut off.
    assert len(server.requests) <= 4


@pytest.mark.slow
def test_an_endpoint_that_dribbles_is_left_in_time(endpoint: Callable[..., Endpoint]) -> None:
    server = endpoint(dribbles)
    with pytest.raises(AssessmentError, match=r"no whole answer in 3 s"):
        assessor(server.url, timeout=3).assess(b"", "s", "p")


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
