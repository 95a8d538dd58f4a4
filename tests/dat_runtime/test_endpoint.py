"""Addresses, keys and pauses of an endpoint; `edge/test_assess.py` asks real servers."""

import math
import re

import pytest

from dat_runtime.endpoint import (
    LONGEST_PAUSE,
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
