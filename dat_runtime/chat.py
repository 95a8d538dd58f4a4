"""One question in the form of OpenAI's chat completions: what is sent, and what comes back.

Values only. `endpoint.Endpoint` sends them, and asks again where `Problem.passes` says so.
"""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

CHAT = "/chat/completions"
"""Where OpenAI-compatible servers answer, below their base address."""

CODES = "/codes/completions"
"""Where a server answers that finishes codes of weak nodes: in the same form."""

MAX_ANSWER_TOKENS = 1024
_MAX_WORDS = 300
"""Characters of a server's message that are kept."""

_NEVER_PASS = frozenset({501, 505})
"""Not implemented, version not supported: the next try would hear the same."""

_PASS = frozenset({408, 409, 425, 429})
"""Of the 4xx those that a client may repeat: a timeout, a lock, too early, too many requests."""

_OF_THE_QUESTION = frozenset({400, 413, 422})
"""The server works, and this one question it will not answer: a content filter, too long, ..."""


GREEDY = {
    "temperature": 0,
    "top_p": 1,
    "top_k": 1,
    "repetition_penalty": 1.0,
}
"""Decoding without sampling and without penalties, stated whole: what a request leaves open, a
server takes from its model's generation_config.json, and Qwen2.5-VL-7B's holds
`repetition_penalty: 1.05`. No such file holds OpenAI's two other penalties, which are 0 unless they
are sent; and LLaMA-Factory's server takes the one for presence for that of repetition."""

Kind = Literal["refused", "passes", "stays"]
"""What a problem means: it is the answer to this question; it is worth another try; the next try
would hear the same."""


class Reply(NamedTuple):
    """An endpoint's answer.

    Attributes:
        prompt_tokens, completion_tokens: as the endpoint states them; `None` where it does not.
        cut: the answer ran into the limit of tokens, so its end is missing.
        versions: what answered, where the endpoint states it: "codec", "base", "adapter".
    """

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cut: bool = False
    versions: Mapping[str, str] = {}


class Problem(NamedTuple):
    """Why a response holds no answer.

    Attributes:
        words: the server's own, as Python writes them: a terminal obeys nothing in them.
    """

    kind: Kind
    words: str


def request(
    model: str, image: bytes, system: str, prompt: str, media: str = "png"
) -> dict[str, Any]:
    """The chat request: the image first, then the prompt, as in training; no sampling.

    Args:
        media: the image's type, "png", "jpeg" or "webp".
    """
    url = f"data:image/{media};base64," + base64.b64encode(image).decode("ascii")
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": prompt},
    ]
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": content},
        ],
        **GREEDY,
        "max_tokens": MAX_ANSWER_TOKENS,
    }


def dispensable(words: str) -> frozenset[str]:
    """Fields of `GREEDY` that a refusal names: a strict server knows not all of them.

    Without them a request is greedy still, by its temperature, which no server may refuse silently.
    """
    named = set(re.findall(r"\w+", words))
    return frozenset(GREEDY.keys() - {"temperature"} & named)


def code_request(model: str, unit: bytes, system: str, prompt: str) -> dict[str, Any]:
    """The request to `CODES`: a code unit in the image's place (`eval.answers.codes` answers)."""
    return {
        "model": model,
        "unit": base64.b64encode(unit).decode("ascii"),
        "system": system,
        "prompt": prompt,
        "max_tokens": MAX_ANSWER_TOKENS,
    }


def read(status: int, content: bytes) -> Reply | Problem:
    """What a whole response comes to.

    A gateway may say 200 and put an error into the body; the code in it then counts as the status.
    """
    value = _parsed(content)
    if status != 200:
        return Problem(_kind(status), f"status {status}: {_words(value, content)}")
    choice = _choice(value)
    for holder in (value, choice):
        error = holder.get("error") if isinstance(holder, dict) else None
        if error:
            return Problem(_kind_in_body(error), f"an error: {_words(holder, content)}")
    if choice is None:
        return Problem("stays", f"not a chat completion: {_words(value, content)}")
    said = _reply(choice, value.get("usage"))
    return said._replace(versions=_versions(value)) if isinstance(said, Reply) else said


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _choice(value: Any) -> dict[str, Any] | None:
    """The first choice, when it has a message that could hold a text."""
    try:
        choice: dict[str, Any] = value["choices"][0]
        choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None
    return choice


def _reply(choice: dict[str, Any], usage: Any) -> Reply | Problem:
    text, finish = choice["message"]["content"], choice.get("finish_reason")
    if isinstance(text, str):
        prompt, completion = _tokens(usage, "prompt_tokens"), _tokens(usage, "completion_tokens")
        return Reply(text, prompt, completion, cut=finish == "length")
    refusal = choice["message"].get("refusal")
    said = refusal if isinstance(refusal, str) else f"finish_reason {finish}"
    return Problem("refused", f"the response holds no text: {_short(said)}")


_VERSIONS = ("codec", "base", "adapter")


def _versions(value: dict[str, Any]) -> dict[str, str]:
    """Those that an alert can state."""
    stated = value.get("versions")
    if not isinstance(stated, dict):
        return {}
    found = {name: stated.get(name) for name in _VERSIONS}
    return {
        name: text[:200]
        for name, text in found.items()
        if isinstance(text, str) and text.isprintable()  # half a character cannot be written
    }


def _kind(status: int) -> Kind:
    if status in _OF_THE_QUESTION:
        return "refused"
    if status in _PASS or (500 <= status <= 599 and status not in _NEVER_PASS):
        return "passes"
    return "stays"


def _kind_in_body(error: Any) -> Kind:
    code = error.get("code") if isinstance(error, dict) else None
    if code == "content_filter":
        return "refused"
    # Without a status nobody knows; what a gateway reports this way mostly passes.
    return _kind(code) if type(code) is int else "passes"


def _words(value: Any, content: bytes) -> str:
    """What an error body says: its message, or its beginning where it has none."""
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(key):
            value = value[key]
    if isinstance(value, str):
        return _short(value)
    return _short(content[: 4 * _MAX_WORDS].decode("utf-8", "replace"))


def _short(text: str) -> str:
    return repr(" ".join(text[: 4 * _MAX_WORDS].split())[:_MAX_WORDS])


def _tokens(usage: Any, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, dict) else None
    if type(count) is int and 0 <= count < 2**53:  # what JSON numbers carry exactly (RFC 8259, 6)
        return count
    return None
