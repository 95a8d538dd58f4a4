"""Whose token it is, and what they may do, without a network."""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import HTTPException, Request

from dat_runtime.cloud import access as module
from dat_runtime.cloud.access import ANYONE, Access, Who, read_tokens
from dat_runtime.errors import ConfigError

NODE = Who("n1", "n1", reviews=False, sends=True)
ADA = Who("operator:ada", None, reviews=True, sends=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def test_a_file_says_whose_each_token_is(file: Path) -> None:
    hashed = hashlib.sha256(b"three").hexdigest()
    file.write_text(f"n1\tone\n\n  \n# n9\tnine\nn2\t two \noperator\tsha256:{hashed}\n")
    assert read_tokens(file) == {
        digest("one"): Who("n1", "n1", reviews=False, sends=True),
        digest("two"): Who("n2", "n2", reviews=False, sends=True),
        digest("three"): Who("operator", None, reviews=True, sends=False),
    }
    file.write_text("n1\tone\noperators\tfour\n")  # a node's name
    assert read_tokens(file) == {
        digest("one"): Who("n1", "n1", reviews=True, sends=True),
        digest("four"): Who("operators", "operators", reviews=True, sends=True),
    }
    file.write_text(f"n1\tsha256:{hashed.upper()}\noperator:ada\tx\n")  # is a token itself
    assert read_tokens(file) == {
        digest(f"sha256:{hashed.upper()}"): NODE,
        digest("x"): ADA,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ": has no line NODE<TAB>TOKEN: nobody could send"),
        ("# n1\tone\n", ": has no line NODE<TAB>TOKEN: nobody could send"),
        ("\nn1 one\n", ":2: expected NODE<TAB>TOKEN"),
        ("n1\t \n", ":1: expected NODE<TAB>TOKEN"),
        ("n1\tschl\u00fcssel\n", ":1: a token is of printable ASCII"),
        ("n1\ta\tb\n", ":1: a token is of printable ASCII"),
        ("a/b\tone\n", ":1: 'a/b' is not a name of up to 64 letters"),
        ("operator:\tone\n", ":1: 'operator:' is not a name of up to 64 letters"),
        ("n" * 99 + "\tone\n", f":1: '{'n' * 79} is not a name of up to 64 letters"),
        ("n1\tone\noperator\tone\n", ": n1 and operator have the same token"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_line(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as told:
        read_tokens(file)
    assert str(told.value).startswith(f"{file}{words}")


def test_a_file_has_an_end(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 7)
    file.write_text("n1\tone\n")
    assert len(read_tokens(file)) == 1
    file.write_text("n1\tfour\n")
    with pytest.raises(ConfigError):
        read_tokens(file)


def refused(work: Any, *given: Any) -> tuple[int, str, Any]:
    with pytest.raises(HTTPException) as refusal:
        work(*given)
    return refusal.value.status_code, refusal.value.detail, refusal.value.headers


def test_a_node_sends_for_itself_and_operators_review() -> None:
    NODE.require_node("n1")
    ANYONE.require_node("n1")
    assert refused(NODE.require_node, "n2")[:2] == (403, "this token is of node n1, not of n2")
    assert refused(ADA.require_node, "n1")[:2] == (
        403,
        "operator:ada reads and reviews, nodes send",
    )
    ADA.require_review()
    ANYONE.require_review()
    assert refused(NODE.require_review)[:2] == (403, "n1 sends, operators review")
    assert Who("", None, reviews=True, sends=True) == ANYONE


def request(**headers: str) -> Request:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "headers": pairs})


def test_who_asks_is_known_by_the_bearer_token_or_else_by_the_cookie(file: Path) -> None:
    file.write_text("n1\tone\noperator:ada\ttwo\n")
    mine = Access(file)
    assert not mine.is_open
    for headers, who in (
        ({"authorization": "Bearer one"}, NODE),
        ({"authorization": "bEARER  one "}, NODE),
        ({"authorization": "Bearer one", "cookie": "dat_token=two"}, NODE),
        ({"cookie": "a=b; dat_token=two"}, ADA),
        ({"authorization": "Basic one", "cookie": "dat_token=two"}, ADA),
    ):
        assert mine.who(request(**headers)) == who
    for headers in (
        {},
        {"authorization": "one"},
        {"authorization": "Bearer"},
        {"authorization": "Basic one"},
        {"authorization": "Bearer three", "cookie": "dat_token=two"},
        {"authorization": "Bearer \xff"},
        {"cookie": "token=two"},
    ):
        told = (401, "a known token is needed", {"WWW-Authenticate": "Bearer"})
        assert refused(mine.who, request(**headers)) == told
    assert mine.of("\ud800") is None
    assert Access(None).is_open
    assert Access(None).who(request()) == ANYONE


def test_a_file_that_is_the_same_is_not_read_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [5.0]
    file.write_text("n1\tone\n")
    mine = Access(file, clock=lambda: now[0])
    monkeypatch.setattr(module, "read_tokens", lambda _: {})
    now[0] += 60
    assert mine.of("one") is not None


def test_a_file_that_changed_is_read_again_after_a_second(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [5.0]
    file.write_text("n1\tone\n")
    os.utime(file, (1, 1))
    mine = Access(file, clock=lambda: now[0])
    assert mine.problem == ""

    def known(token: str, later: float = 0.0) -> bool:
        now[0] += later
        return mine.of(token) is not None

    file.write_text("n1\tlonger\n")
    assert known("one", 0.5)
    assert known("longer", 0.5)
    assert not known("one")
    file.write_text("n1 broken\n")
    with caplog.at_level(logging.ERROR, "dat_runtime.cloud"):
        for _ in range(3):
            assert known("longer", 1.0)
    words = f"the tokens as they were before hold: {file}:1: expected NODE<TAB>TOKEN"
    assert mine.problem == words
    assert [record.message for record in caplog.records] == [words]  # once
    file.unlink()
    assert known("longer", 1.0)
    assert "cannot be read" in mine.problem or "No such file" in mine.problem
    file.write_text("n1\tone\n")
    os.utime(file, (2, 2))
    assert known("one", 1.0)
    assert mine.problem == ""
    # The same size at the same time, in another file's place.
    other = file.with_name("other")
    other.write_text("n1\ttwo\n")
    os.utime(other, (2, 2))
    other.rename(file)
    assert known("two", 1.0)
    file.write_text("n1\tsix\n")
    os.utime(file, (3, 3))
    assert known("six", 1.0)
