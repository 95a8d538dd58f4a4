"""Asking the MLLM about a boxed image (Eq. 3): one method, an endpoint or a recorded answer."""

import base64
import ipaddress
import json
import random
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dat_runtime.errors import DatError
from dat_runtime.files import read_text

if TYPE_CHECKING:
    import httpx

MAX_RESPONSE_BYTES = 1 << 20
MAX_ANSWER_TOKENS = 1024
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
"""Status codes that may pass: timeouts, too many requests, a server or gateway in trouble."""


class AssessmentError(DatError):
    """The MLLM gave no answer."""


class Assessor(Protocol):
    """Whatever can look at one image and answer in text."""

    def assess(self, png: bytes, system: str, prompt: str) -> str:
        """The answer about one image, boxes in its pixels.

        Raises:
            AssessmentError: there is no answer.
        """
        ...


class Reply(NamedTuple):
    """An endpoint's answer and the tokens that it states; `None` where it states none."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None


class RecordedAssessor:
    """Gives one recorded answer, whatever it is asked."""

    def __init__(self, text: str):
        self._text = text

    @classmethod
    def from_file(cls, path: Path) -> "RecordedAssessor":
        """The text of a file is the answer.

        Raises:
            DataError: the file cannot be read as UTF-8 text.
        """
        return cls(read_text(path))

    def assess(self, png: bytes, system: str, prompt: str) -> str:
        return self._text


class EndpointAssessor:
    """An OpenAI-compatible chat endpoint, such as vLLM with the adapter loaded.

    Args:
        url: the base address, such as `http://127.0.0.1:8000/v1`.
        model: the name under which the endpoint serves the model.
        api_key: sent as bearer token when given, to https and loopback addresses only.
        timeout: seconds that all tries may take together.
        tries: how often to ask while the endpoint is unreachable or overloaded.
        pause: seconds before the second try; doubles, and half of it is random.
        request: fields to set in each request, such as `{"max_tokens": 512}`; `None` leaves a
            field out, for endpoints that refuse it.

    Raises:
        ValueError: the address is not valid, or not http or https; the key has characters that a
            header cannot carry, or would travel unencrypted.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        tries: int = 3,
        pause: float = 0.5,
        request: Mapping[str, Any] | None = None,
    ):
        _require_address(url, api_key)
        self._url = url.rstrip("/") + "/chat/completions"
        self._name = without_userinfo(self._url)
        self._model = model
        self._headers = {"accept-encoding": "identity"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._timeout = timeout
        self._tries = tries
        self._pause = pause
        self._fields = dict(request or {})

    def assess(self, png: bytes, system: str, prompt: str) -> str:
        return self.ask(png, system, prompt).text

    def ask(self, png: bytes, system: str, prompt: str) -> Reply:
        """The answer about one image, boxes in its pixels, with the number of its tokens.

        Raises:
            AssessmentError: there is no answer.
        """
        import httpx

        fields = _request(self._model, png, system, prompt) | self._fields
        body = {name: value for name, value in fields.items() if value is not None}
        try:
            return self._answered(body)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise AssessmentError(f"{self._name}: cannot be asked ({error!r:.80})") from None

    def _answered(self, body: dict[str, Any]) -> Reply:
        import httpx

        deadline = time.monotonic() + self._timeout
        problem = ""
        with httpx.Client(headers=self._headers) as client:
            for attempt in range(self._tries):
                if attempt:
                    # Random, so that many nodes do not come back at the same moment.
                    time.sleep(self._pause * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
                if time.monotonic() > deadline:
                    break
                try:
                    status, content = self._post(client, body, deadline)
                except httpx.HTTPError as error:
                    problem = f"{type(error).__name__}: {error}"
                    continue
                if status == 200:
                    return _answer(content, self._name)
                problem = f"status {status}: {content[:200].decode('utf-8', 'replace')!r}"
                if status not in _RETRIED:
                    break
        raise AssessmentError(f"{self._name}: {problem}")

    def _post(
        self, client: "httpx.Client", body: dict[str, Any], deadline: float
    ) -> tuple[int, bytes]:
        """Status and content, within the limits of size and time."""
        content = bytearray()
        remaining = deadline - time.monotonic()
        with client.stream("POST", self._url, json=body, timeout=remaining) as response:
            # Raw and uncompressed (see accept-encoding): the limit counts what is held in memory.
            for chunk in response.iter_raw():
                content += chunk
                if len(content) > MAX_RESPONSE_BYTES:
                    raise AssessmentError(f"{self._name}: more than {MAX_RESPONSE_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise AssessmentError(f"{self._name}: no whole answer in {self._timeout:g} s")
        return response.status_code, bytes(content)


def without_userinfo(url: str) -> str:
    """The address without `user:password@`, so that it may be shown and stored."""
    return re.sub(r"^(\w+://)?.*@", r"\1", url, flags=re.DOTALL)


def _require_address(url: str, api_key: str | None) -> None:
    import httpx

    name = without_userinfo(url)
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"an endpoint begins with http:// or https://, got {name!r}")
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        address = None
    if address is None or not address.host:
        raise ValueError(f"an endpoint is an address such as http://127.0.0.1:8000/v1, not {name}")
    if not api_key:
        return
    if not (api_key.isascii() and api_key.isprintable()):
        raise ValueError(f"the key for {name} has characters that a header cannot carry")
    if address.scheme != "https" and not _is_loopback(address.host):
        raise ValueError(
            f"a key goes to https and loopback addresses only, not to {name}: "
            "unset OPENAI_API_KEY, or use https"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _request(model: str, png: bytes, system: str, prompt: str) -> dict[str, Any]:
    """The chat request: the image first, then the prompt, as in training; no sampling."""
    image = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    content = [
        {"type": "image_url", "image_url": {"url": image}},
        {"type": "text", "text": prompt},
    ]
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": content},
        ],
        "temperature": 0,
        "max_tokens": MAX_ANSWER_TOKENS,
    }


def _answer(content: bytes, url: str) -> Reply:
    try:
        response = json.loads(content)
        text = response["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError):
        raise AssessmentError(f"{url}: the response is not a chat completion") from None
    if not isinstance(text, str):
        raise AssessmentError(f"{url}: the response holds no text")
    return Reply(text, _tokens(response, "prompt_tokens"), _tokens(response, "completion_tokens"))


def _tokens(response: dict[str, Any], name: str) -> int | None:
    usage = response.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    if type(count) is int and 0 <= count < 2**53:  # what JSON numbers carry exactly (RFC 8259, 6)
        return count
    return None
