"""What a response comes to: values only."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.chat import (
    Problem,
    Reply,
    code_request,
    dispensable,
    read,
    request,
)


def body(value: object) -> bytes:
    return json.dumps(value).encode()


def choice(content: object, **more: object) -> bytes:
    return body({"choices": [{"message": {"content": content}, **more}]})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, "passes") for status in (408, 409, 425, 429, 500, 502, 503, 504, 520, 529, 599)),
        *((status, "refused") for status in (400, 413, 422)),
        *((status, "stays") for status in (204, 302, 401, 403, 404, 501, 505)),
    ],
)
def test_a_status_says_whether_to_ask_again(status: int, kind: str) -> None:
    said = read(status, b"busy")
    assert said == Problem(kind, f"status {status}: 'busy'")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (body({"error": {"message": "no worker", "code": 502}}), "passes", "'no worker'"),
        (body({"error": {"message": "not yours", "code": 401}}), "stays", "'not yours'"),
        (body({"error": {"message": "odd", "code": "x"}}), "passes", "'odd'"),
        (body({"error": {"message": "no", "code": "content_filter"}}), "refused", "'no'"),
        (body({"error": "busy"}), "passes", "'busy'"),
        (choice(None, error={"message": "gone", "code": 503}), "passes", "'gone'"),
        (choice(None, finish_reason="content_filter"), "refused", "finish_reason content_filter"),
        (choice(None), "refused", "holds no text"),
        (choice(["a"]), "refused", "holds no text"),
        (b"<html>\n <b>welcome</b>", "stays", "not a chat completion: '<html> <b>welcome</b>'"),
        (body({"choices": []}), "stays", "not a chat completion"),
        (body({"choices": [[]]}), "stays", "not a chat completion"),
        (body({"choices": [{"message": "text"}]}), "stays", "not a chat completion"),
        (b"[" * 100_000, "stays", "not a chat completion"),
        (b"", "stays", "not a chat completion: ''"),
    ],
)
def test_a_200_can_hold_a_problem(content: bytes, kind: str, words: str) -> None:
    said = read(200, content)
    assert isinstance(said, Problem)
    assert said.kind == kind
    assert words in said.words


def test_a_refusal_in_words_is_kept() -> None:
    message = {"content": None, "refusal": "I cannot look at that."}
    said = read(200, body({"choices": [{"message": message}]}))
    assert said == Problem("refused", "the response holds no text: 'I cannot look at that.'")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (body({"error": {"message": "slow\n down"}}), "'slow down'"),
        (body({"error": {"type": "x"}}), """'{"error": {"type": "x"}}'"""),
        (body({"message": "vLLM's old form", "code": 503}), '"vLLM\'s old form"'),
        (body({"detail": "FastAPI's"}), '"FastAPI\'s"'),
        (body({"detail": [{"msg": "x"}]}), """'{"detail": [{"msg": "x"}]}'"""),
        (b"\xff\xfe", "'��'"),
        (b"a" * 5000, f"'{'a' * 300}'"),
    ],
)
def test_the_words_are_the_servers_own(content: bytes, words: str) -> None:
    assert read(503, content).words == f"status 503: {words}"  # type: ignore[union-attr]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_a_terminal_obeys_nothing_in_the_words(content: bytes) -> None:
    said = read(500, content)
    assert isinstance(said, Problem)
    assert said.words.isprintable()


def test_an_escape_of_a_server_is_shown_and_not_sent() -> None:
    said = read(500, body({"error": {"message": "\x1b[2J\x9b1mred\u202e"}}))
    assert said == Problem("passes", r"status 500: '\x1b[2J\x9b1mred\u202e'")


@pytest.mark.parametrize(("finish", "cut"), [("stop", False), ("length", True), (None, False)])
def test_an_answer_that_ran_into_the_limit_is_cut(finish: str | None, cut: bool) -> None:
    assert read(200, choice("{", finish_reason=finish)) == Reply("{", None, None, cut)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "error", "code", "usage", "detail"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from([200, 400, 503]), json_values)
def test_no_body_raises(status: int, value: Any) -> None:
    read(status, body(value))


def test_a_question_is_sent_image_first_and_greedy_to_the_letter() -> None:
    asked = request("m", b"\x00\xff\xfe", "system", "prompt", "jpeg")
    assert asked == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "system"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AP/+"}},
                    {"type": "text", "text": "prompt"},
                ],
            },
        ],
        "temperature": 0,
        "top_p": 1,
        "top_k": 1,
        "repetition_penalty": 1.0,
        "max_tokens": 1024,
    }
    default = request("m", b"", "", "")["messages"][1]["content"][0]["image_url"]["url"]
    assert default == "data:image/png;base64,"


def test_codes_are_sent_in_the_images_place() -> None:
    assert code_request("m", b"\x00\xff\xfe", "system", "prompt") == {
        "model": "m",
        "unit": "AP/+",
        "system": "system",
        "prompt": "prompt",
        "max_tokens": 1024,
    }


def test_a_strict_server_goes_without_what_it_names_but_never_without_the_temperature() -> None:
    words = "unknown fields: 'top_k', `repetition_penalty`; temperature, max_tokens; atop_p"
    assert dispensable(words) == {"top_k", "repetition_penalty"}
    assert dispensable("") == frozenset()


@pytest.mark.parametrize(
    ("count", "read_as"),
    [(0, 0), (7, 7), (2**53 - 1, 2**53 - 1), (2**53, None), (-1, None), (1.0, None), (True, None),
     ("7", None)],
)  # fmt: skip
def test_tokens_are_counted_as_far_as_json_carries_them(count: object, read_as: int | None) -> None:
    choices = {"choices": [{"message": {"content": "a"}}]}
    for name in ("prompt_tokens", "completion_tokens"):
        said = read(200, body(choices | {"usage": {name: count}}))
        assert isinstance(said, Reply)
        tokens = {"prompt_tokens": None, "completion_tokens": None, name: read_as}
        assert said == Reply("a", **tokens)
    both = {"prompt_tokens": 3, "completion_tokens": 4}
    assert read(200, body(choices | {"usage": both})) == Reply("a", 3, 4)
    assert read(200, body(choices | {"usage": [3, 4]})) == Reply("a", None, None)


def test_what_answered_is_kept_as_far_as_an_alert_can_state_it() -> None:
    choices = {"choices": [{"message": {"content": "a"}}]}
    stated = {"codec": "c" * 201, "base": "b", "adapter": "\ud800", "other": "x"}
    said = read(200, body(choices | {"versions": stated}))
    assert isinstance(said, Reply)
    assert said.versions == {"codec": "c" * 200, "base": "b"}
    for odd in ({"base": 3, "codec": None}, ["base"], "base"):
        said = read(200, body(choices | {"versions": odd}))
        assert isinstance(said, Reply)
        assert said.versions == {}


def test_what_is_no_status_of_a_server_stays() -> None:
    said = read(600, b"")
    assert isinstance(said, Problem)
    assert said.kind == "stays"


def test_a_body_that_is_json_but_no_completion_is_told_by_its_message() -> None:
    assert read(200, body({"message": "no model"})) == Problem(
        "stays", "not a chat completion: 'no model'"
    )
