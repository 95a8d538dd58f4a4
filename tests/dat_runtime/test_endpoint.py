"""Addresses, keys and pauses of an endpoint; `edge/test_assess.py` asks real servers."""

import asyncio
import contextlib
import json
import math
import re
from collections.abc import AsyncIterator
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from dat_runtime import endpoint as endpoint_module
from dat_runtime.chat import Problem, Reply
from dat_runtime.endpoint import (
    LONGEST_PAUSE,
    MAX_RESPONSE_BYTES,
    AssessmentError,
    AssessmentRefused,
    Endpoint,
    without_userinfo,
)

NOBODY = "http://127.0.0.1:1"


def pauses(endpoint: Endpoint, attempt: int, asked: float | None = None) -> tuple[float, float]:
    drawn = [endpoint._pause_after(attempt, asked) for _ in range(300)]
    return min(drawn), max(drawn)


@pytest.mark.parametrize(
    ("attempt", "asked", "low", "high"),
    [
        (0, None, 2.0, 4.0),
        (1, None, 4.0, 8.0),
        (2, None, 8.0, 16.0),
        (7, None, LONGEST_PAUSE / 2, LONGEST_PAUSE),
        (0, 0.0, 2.0, 4.0),
        (0, 10.0, 10.0, 14.0),
    ],
)
def test_pauses_double_are_half_random_and_keep_to_what_a_server_asks(
    attempt: int, asked: float | None, low: float, high: float
) -> None:
    least, most = pauses(Endpoint(NOBODY, tries=9, pause=4), attempt, asked)
    room = (high - low) / 10
    assert low <= least < low + room
    assert high - room < most <= high


def test_after_the_last_try_there_is_no_pause_to_wait_for() -> None:
    endpoint = Endpoint(NOBODY, tries=2)
    assert endpoint._pause_after(0, None) <= 0.5
    assert endpoint._pause_after(1, None) == endpoint._pause_after(1, 3) == math.inf


@pytest.mark.parametrize(
    ("url", "path", "asked"),
    [
        (NOBODY, {}, f"{NOBODY}/chat/completions"),
        (f"{NOBODY}/v1/", {}, f"{NOBODY}/v1/chat/completions"),
        ("http://ann:pass@127.0.0.1:1/v1", {"path": "/codes"}, f"{NOBODY}/v1/codes"),
    ],
)
def test_what_is_asked_lies_below_the_base_address(
    url: str, path: dict[str, str], asked: str
) -> None:
    with pytest.raises(AssessmentError, match=f"^{asked}: ConnectError: ") as refusal:
        Endpoint(url, **path).wait({})  # type: ignore[arg-type]
    assert not isinstance(refusal.value, AssessmentRefused)
    assert refusal.value.retry_after == 0


def test_a_body_that_is_no_json_is_not_sent() -> None:
    for value in (math.nan, "\ud800"):
        with pytest.raises(AssessmentError, match=f"^{NOBODY}/chat/completions: cannot be asked"):
            Endpoint(NOBODY).wait({"a": value})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://ann:pass@host/v1", "http://host/v1"),
        ("ann:pa@ss@host", "host"),
        ("https://ann:pa\nss@host", "https://host"),
        ("http://host/v1", "http://host/v1"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_user_and_password(url: str, shown: str) -> None:
    assert without_userinfo(url) == shown


@pytest.mark.parametrize(
    ("url", "key", "words"),
    [
        ("ftp://ann:pw@h", None, "an endpoint begins with http:// or https://, got 'ftp://h'"),
        ("HTTP://h", None, "an endpoint begins with http:// or https://, got 'HTTP://h'"),
        (
            "http://ann:pw@/v1",
            None,
            "an endpoint is an address such as http://127.0.0.1:8000/v1, not http:///v1",
        ),
        ("https://ann:pw@h", "k\t", "the key for https://h has characters that a header cannot"),
        ("https://h", "schlüssel", "the key for https://h has characters that a header cannot"),
        (
            "http://ann:pw@h/v1",
            "key",
            "a key goes to https and loopback addresses only, not to http://h/v1: use https, or"
            " give no key (OPENAI_API_KEY, or a node's key_file)",
        ),
    ],
)
def test_an_address_or_a_key_that_cannot_be_used_is_refused_in_words(
    url: str, key: str | None, words: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        Endpoint(url, api_key=key)


def test_an_error_knows_how_long_to_wait() -> None:
    assert AssessmentError("none").retry_after == 0
    error = AssessmentRefused("none", 7.5)
    assert (str(error), error.retry_after) == ("none", 7.5)


# One request, and the tries around it, with a client that has no network


class Client:
    """In the place of an `httpx.AsyncClient`: gives what is scripted, one item a request."""

    def __init__(self, *scripted: object):
        self.scripted = list(scripted)
        self.asked: list[tuple[tuple[object, ...], dict[str, Any]]] = []

    @contextlib.asynccontextmanager
    async def stream(self, *given: object, **named: Any) -> AsyncIterator[Any]:
        self.asked.append((given, named))
        said = self.scripted.pop(0)
        if isinstance(said, Exception):
            raise said
        yield said


def response(status: int = 200, body: bytes | Exception = b"", **headers: str) -> Any:
    async def aiter_raw() -> AsyncIterator[bytes]:
        if isinstance(body, Exception):
            raise body
        for begin in range(0, len(body), 1 << 19):
            yield body[begin : begin + (1 << 19)]

    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return SimpleNamespace(status_code=status, headers=told, aiter_raw=aiter_raw)


def completion(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def scripted(*said: object, **options: Any) -> tuple[Endpoint, Client]:
    endpoint, client = Endpoint(f"{NOBODY}/v1", **options), Client(*said)
    endpoint._client = client  # type: ignore[assignment]
    return endpoint, client


def tried(endpoint: Endpoint) -> tuple[object, float | None]:
    return asyncio.run(endpoint._try(b"{}", 10.0))


def test_a_try_sends_its_content_and_keeps_time_for_the_connection() -> None:
    endpoint, client = scripted(response(body=completion("yes")))
    said, wait = tried(endpoint)
    assert isinstance(said, Reply)
    assert (said.text, wait) == ("yes", None)
    ((given, named),) = client.asked
    assert given == ("POST", f"{NOBODY}/v1/chat/completions")
    assert named["content"] == b"{}"
    assert named["timeout"] == httpx.Timeout(None, connect=9.0)


def test_a_response_may_have_its_most_bytes_and_no_more() -> None:
    for more, words in ((0, "not a chat completion"), (1, "more than 1048576 bytes")):
        endpoint, _ = scripted(response(body=bytes(MAX_RESPONSE_BYTES + more)))
        said, wait = tried(endpoint)
        assert isinstance(said, Problem)
        assert (said.kind, wait) == ("stays", None)
        assert said.words.startswith(words)


@pytest.mark.parametrize("kind", [httpx.ConnectError, httpx.ConnectTimeout])
def test_whoever_was_reached_before_is_waited_for_by_the_patient(
    kind: type[httpx.TransportError],
) -> None:
    words = f"{kind.__name__}: refused"
    for patient, expected in ((False, "stays"), (True, "passes")):
        endpoint, client = scripted(kind("refused"), patient=patient)
        assert tried(endpoint) == (Problem("stays", words), None)
        client.scripted = [response(503), kind("refused")]
        tried(endpoint)
        assert tried(endpoint) == (Problem(expected, words), None)  # type: ignore[arg-type]


def test_what_breaks_off_may_pass() -> None:
    for said in (httpx.ReadError("reset"), response(body=httpx.ReadError("reset"))):
        endpoint, _ = scripted(said)
        assert tried(endpoint) == (Problem("passes", "ReadError: reset"), None)


def test_a_server_s_own_wait_is_told_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint, _ = scripted(response(429, b"quota", retry_after="74.6"))
    assert tried(endpoint) == (
        Problem("passes", "status 429: 'quota'; it asks to wait 75 s"),
        74.6,
    )
    endpoint, _ = scripted(response(429, b"quota", retry_after="0"))
    assert tried(endpoint) == (Problem("passes", "status 429: 'quota'"), 0.0)
    endpoint, _ = scripted(response(200, completion("yes"), retry_after="7"))
    assert tried(endpoint)[1] is None
    monkeypatch.setattr(endpoint_module.time, "time", lambda: 1_000_000_000.0)
    date = formatdate(1_000_000_007, usegmt=True)
    endpoint, _ = scripted(response(503, b"", retry_after=date))
    assert tried(endpoint)[1] == 7.0


def answered(*said: object, timeout: float = 30.0, **options: Any) -> tuple[Any, list[float]]:
    """What the tries come to, and the pauses between them."""
    naps: list[float] = []
    endpoint, _ = scripted(timeout=timeout, **options)
    left = list(said)

    async def one(content: bytes, seconds: float) -> Any:
        assert content == b"{}"
        naps.append(-round(seconds))
        found = left.pop(0)
        return found if type(found) is tuple else (found, None)

    async def sleep(seconds: float) -> None:
        naps.append(seconds)

    endpoint._try = one  # type: ignore[method-assign]
    endpoint._pause_after = lambda attempt, wait: float(attempt + 1) + (wait or 0)  # type: ignore[method-assign]

    async def run() -> Any:
        deadline = asyncio.get_running_loop().time() + timeout
        return await endpoint._answered(b"{}", deadline)

    with pytest.MonkeyPatch.context() as patched:
        real = asyncio.sleep
        patched.setattr(asyncio, "sleep", lambda s: sleep(s) if s else real(0))
        try:
            return asyncio.run(run()), naps
        except AssessmentError as error:
            return error, naps


BUSY = Problem("passes", "status 503")
YES = Reply("yes", None, None)


def test_what_passes_is_asked_again_after_a_pause_that_grows() -> None:
    found, naps = answered(BUSY, (BUSY, 5.0), YES)
    assert found == YES
    assert naps == [-30, 1.0, -30, 7.0, -30]


def test_after_so_many_tries_the_last_problem_is_told() -> None:
    found, naps = answered(BUSY, Problem("passes", "last"), tries=2)
    assert (str(found), found.retry_after) == (f"{NOBODY}/v1/chat/completions: last", 0.0)
    assert type(found) is AssessmentError
    assert [nap for nap in naps if nap > 0] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (Problem("stays", "status 404"), AssessmentError),
        (Problem("refused", "filtered"), AssessmentRefused),
    ],
)
def test_what_would_be_said_again_is_not_asked_again(
    problem: Problem, kind: type[AssessmentError]
) -> None:
    found, naps = answered((problem, 7.0))
    assert type(found) is kind
    assert str(found) == f"{NOBODY}/v1/chat/completions: {problem.words}"
    assert (found.retry_after, len(naps)) == (7.0, 1)


def test_a_pause_that_the_limit_leaves_no_room_for_ends_it_at_once() -> None:
    found, naps = answered((BUSY, 40.0), YES)
    assert (str(found), found.retry_after) == (f"{NOBODY}/v1/chat/completions: status 503", 40.0)
    assert len(naps) == 1


def late(*before: object) -> str:
    endpoint, _ = scripted(timeout=0.05, pause=0.0)
    left = list(before)

    async def one(content: bytes, seconds: float) -> Any:
        if not left:
            await asyncio.sleep(60)
        return left.pop(0), None

    endpoint._try = one  # type: ignore[method-assign]

    async def run() -> Any:
        return await endpoint._answered(b"{}", asyncio.get_running_loop().time() + 0.05)

    with pytest.raises(AssessmentError) as raised:
        asyncio.run(run())
    assert raised.value.retry_after == 0
    return str(raised.value)


def test_the_limit_of_time_names_what_was_before_it() -> None:
    address = f"{NOBODY}/v1/chat/completions"
    assert late() == f"{address}: no whole answer in 0.05 s"
    assert late(BUSY) == f"{address}: no whole answer in 0.05 s; before that status 503"


def test_fields_that_a_server_refuses_by_name_are_left_out_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    endpoint, _ = scripted(timeout=7.0)
    sent: list[dict[str, Any]] = []
    words = ["top_k and top_p are unknown", "temperature is unknown"]

    async def answered(content: bytes, deadline: float) -> Reply:
        assert 6.0 < deadline - asyncio.get_running_loop().time() <= 7.0
        sent.append(json.loads(content))
        if len(sent) in (1, 3):
            raise AssessmentRefused(words.pop(0))
        return YES

    endpoint._answered = answered  # type: ignore[method-assign]
    fields = {"model": "ä", "temperature": 0, "top_k": 1, "top_p": 1}
    assert asyncio.run(endpoint._asked(fields)) == YES
    assert sent == [fields, {"model": "ä", "temperature": 0}]
    assert endpoint.left_out == {"top_k", "top_p"}
    assert caplog.messages == ["the MLLM's server refuses top_k, top_p: left out"]
    with pytest.raises(AssessmentRefused, match=r"^temperature is unknown$"):
        asyncio.run(endpoint._asked(fields))
    assert endpoint._encoded({"a": "ä"}) == '{"a": "ä"}'.encode()


def test_a_client_has_its_headers_its_login_and_connections_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[dict[str, Any]] = []

    def client(**options: Any) -> Client:
        made.append(options)
        return Client()

    monkeypatch.setattr(httpx, "AsyncClient", client)
    monkeypatch.setattr(endpoint_module, "_close", lambda *_: None)
    Endpoint("https://ann:pass@h/v1", api_key="secret")
    Endpoint("http://localhost/v1")
    Endpoint("https://h/v1")
    headers = {"accept-encoding": "identity", "content-type": "application/json"}
    limits = httpx.Limits(max_connections=None, keepalive_expiry=4.0)
    usual = {"headers": headers, "auth": None, "limits": limits}
    assert made == [
        {
            "headers": headers | {"authorization": "Bearer secret"},
            "auth": ("ann", "pass"),
            "limits": limits,
            "trust_env": True,
        },
        usual | {"trust_env": False},
        usual | {"trust_env": True},
    ]


def test_the_usual_limits_are_thirty_seconds_and_three_tries() -> None:
    endpoint = Endpoint(NOBODY)
    assert (endpoint._timeout, endpoint._tries, endpoint._pause) == (30.0, 3, 0.5)
    assert (endpoint._patient, endpoint._reached, endpoint.left_out) == (False, False, frozenset())
    assert endpoint.close.alive
    assert endpoint.close.atexit is False


def test_whoever_waits_for_an_answer_does_so_a_second_longer_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    cancelled: list[bool] = []

    def result(seconds: float) -> None:
        waited.append(seconds)
        raise TimeoutError

    def run(coming: Any, loop: object) -> Any:
        coming.close()
        return SimpleNamespace(result=result, cancel=lambda: cancelled.append(True))

    endpoint = Endpoint(NOBODY, timeout=7.0)
    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", run)
    words = f"^{NOBODY}/chat/completions: no whole answer in 7 s$"
    with pytest.raises(AssessmentError, match=words):
        endpoint.wait({})
    assert (waited, cancelled) == ([8.0], [True])


def test_an_answer_can_be_awaited_too() -> None:
    endpoint, _ = scripted()

    async def asked(fields: Any) -> Reply:
        return Reply(str(fields), None, None)

    endpoint._asked = asked  # type: ignore[method-assign]
    assert asyncio.run(endpoint.reply({"a": 1})).text == "{'a': 1}"
    assert endpoint.wait({"a": 2}).text == "{'a': 2}"
