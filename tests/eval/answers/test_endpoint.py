"""Settings of an endpoint, and what a defect in a thread does; rows: test_predict.py."""

import math
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime.chat import Reply
from dat_runtime.edge.assess import EndpointAssessor
from dat_runtime.endpoint import AssessmentError, AssessmentRefused
from dat_runtime.errors import ConfigError
from dat_runtime.types import Size
from eval.answers import endpoint
from eval.answers.asks import Answer, Ask
from eval.answers.endpoint import (
    GIVE_UP,
    TIMEOUT_S,
    TRIES,
    Outcome,
    answers,
    read_settings,
    servers,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not YAML"),
        ("prices: {}", "unknown key 'prices', expected request, usd_per_million_tokens"),
        ("- 1", "is not an object with the keys request, usd_per_million_tokens"),
        ("request: 3", "request is 3, expected a table"),
        ("usd_per_million_tokens: {prompt: 1}", "usd_per_million_tokens: completion is missing"),
        ("usd_per_million_tokens: {prompt: 1, completion: .nan}", "completion is nan, expected"),
        ("usd_per_million_tokens: {prompt: free, completion: 1}", "prompt is 'free', expected"),
        ("usd_per_million_tokens: {prompt: 1, completion: 1000000}", "expected a price below"),
    ],
)
def test_faulty_settings_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_settings(path)


def test_a_defect_in_a_thread_ends_the_run(tmp_path: Path) -> None:
    class Broken:
        def ask(self, png: bytes, system: str, prompt: str) -> Reply:
            raise ZeroDivisionError

    (tmp_path / "f.png").write_bytes(b"")
    ask = Ask("f", tmp_path / "f.png", "s", "p", Size(1, 1), Size(1, 1))
    with pytest.raises(ZeroDivisionError):
        list(answers([ask], {"broken": Broken()}, 2))


@pytest.mark.parametrize("luck", [0.5, 1.0])
def test_a_limit_of_requests_that_lasts_75_seconds_is_outlasted(
    luck: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by `Retry-After` or not; and no question waits longer than its whole time."""
    monkeypatch.setattr(random, "uniform", lambda low, high: luck)
    (server,) = servers(["http://127.0.0.1:9/v1"], "m", None, {}).values()
    assert isinstance(server, EndpointAssessor)
    pauses = [server._pause_after(attempt, None) for attempt in range(TRIES - 1)]
    assert 75 < sum(pauses) < TIMEOUT_S
    assert 75 <= server._pause_after(0, 75.0) < 76
    assert server._pause_after(TRIES - 1, 75.0) == math.inf


def test_each_address_has_a_server_with_the_key_and_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint, "EndpointAssessor", lambda *given, **more: (given, more))
    found: Any = servers(["http://me:pw@a/v1", "http://b/v1"], "m", "key", {"seed": 1})
    assert list(found) == ["http://a/v1", "http://b/v1"]
    assert found["http://a/v1"] == (
        ("http://me:pw@a/v1", "m"),
        {
            "api_key": "key",
            "timeout": TIMEOUT_S,
            "tries": TRIES,
            "patient": True,
            "request": {"seed": 1},
        },
    )
    with pytest.raises(ConfigError) as caught:
        servers(["http://a/v1", "http://b/v1", "http://me:pw@a/v1"], "m", None, {})
    assert str(caught.value) == (
        "each --endpoint can be given once; raise --batch-size to ask it more at a time"
    )
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="http"):
        servers(["nowhere"], "m", None, {})


class Server:
    """Answers by a function of the prompt; what it was asked is kept."""

    left_out: frozenset[str] = frozenset()

    def __init__(self, reply: Callable[[str], Reply]):
        self.reply = reply
        self.asked: list[tuple[bytes, str, str]] = []

    def ask(self, png: bytes, system: str, prompt: str) -> Reply:
        self.asked.append((png, system, prompt))
        return self.reply(prompt)


def works(prompt: str) -> Reply:
    return Reply(f"answer to {prompt}", 100, 10, prompt == "q0")


def refuses(prompt: str) -> Reply:
    raise AssessmentRefused(f"{prompt} is unsafe")


def fails(prompt: str) -> Reply:
    raise AssessmentError(f"no answer to {prompt}")


@pytest.fixture
def asks(monkeypatch: pytest.MonkeyPatch) -> list[Ask]:
    """More questions than a server may fail."""
    monkeypatch.setattr(Ask, "png", lambda self: self.id.encode())
    sizes = (Size(1, 1), Size(1, 1))
    return [Ask(f"f{i}", Path(f"{i}.png"), "system", f"q{i}", *sizes) for i in range(GIVE_UP + 5)]


def test_a_server_is_asked_with_the_whole_question(
    asks: list[Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 100, 3))
    stopped = SimpleNamespace(monotonic=lambda: float(next(clock)), sleep=time.sleep)
    monkeypatch.setattr(endpoint, "time", stopped)
    server = Server(works)
    found = list(answers(asks[:2], {"http://a": server}, 1))
    assert server.asked == [(b"f0", "system", "q0"), (b"f1", "system", "q1")]
    assert found == [
        Outcome(asks[0], "http://a", Answer("answer to q0", 3.0, 100, 10, True)),
        Outcome(asks[1], "http://a", Answer("answer to q1", 3.0, 100, 10, False)),
    ]


def test_a_server_that_refuses_works(asks: list[Ask]) -> None:
    found = list(answers(asks, {"http://a": Server(refuses)}, 1))
    assert found == [
        Outcome(ask, "http://a", None, f"{ask.prompt} is unsafe", refused=True) for ask in asks
    ]


def test_a_server_that_fails_each_question_is_left_and_none_is_an_error(asks: list[Ask]) -> None:
    awaited = threading.Semaphore(0)

    def when_awaited(prompt: str) -> Reply:
        assert awaited.acquire(timeout=5)  # so that no failure is ahead of who reads them
        return fails(prompt)

    def following() -> Outcome:
        awaited.release()
        return next(outcomes)

    server = Server(when_awaited)
    outcomes = answers(asks, {"http://a": server}, 1)
    found = [following() for _ in range(GIVE_UP - 1)]
    assert found == [
        Outcome(ask, "http://a", None, f"no answer to {ask.prompt}") for ask in asks[: GIVE_UP - 1]
    ]
    with pytest.raises(AssessmentError) as caught:
        following()
    last = asks[GIVE_UP - 1].prompt
    assert str(caught.value) == (f"no endpoint answers any more; the last: no answer to {last}")
    assert len(server.asked) == GIVE_UP


def test_an_answer_or_a_refusal_begins_the_count_of_failures_anew(asks: list[Ask]) -> None:
    def now_and_then(prompt: str) -> Reply:
        number = int(prompt[1:])
        if number == 5:
            return works(prompt)
        return refuses(prompt) if number == 10 else fails(prompt)

    found = list(answers(asks, {"http://a": Server(now_and_then)}, 1))
    assert [one.ask for one in found] == asks


@pytest.mark.parametrize("bad", [refuses, fails])
def test_what_one_server_does_not_answer_the_other_does(
    asks: list[Ask], bad: Callable[[str], Reply]
) -> None:
    begun = threading.Event()

    def first(prompt: str) -> Reply:
        begun.set()
        return bad(prompt)

    def second(prompt: str) -> Reply:
        assert begun.wait(5)  # so that each server has one of the questions
        return works(prompt)

    one, other = Server(first), Server(second)
    found = list(answers(asks[:6], {"http://a": one, "http://b": other}, 1))
    assert {outcome.url for outcome in found} == {"http://b"}
    assert sorted(outcome.ask.id for outcome in found) == [ask.id for ask in asks[:6]]
    assert one.asked
    assert len(set(one.asked)) == len(one.asked)  # none twice


def test_the_threads_end_with_the_run(asks: list[Ask]) -> None:
    before = threading.active_count()
    list(answers(asks[:3], {"http://a": Server(works)}, 3))
    ends = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < ends:
        time.sleep(0.01)
    assert threading.active_count() <= before
