"""A model's server that is asked over HTTP: tries, pauses, one limit of time over everything.

The node and whoever finishes for a weak one ask here. What is sent and what comes back are values
of `dat_runtime.chat`.
"""

import asyncio
import functools
import json
import logging
import math
import random
import re
import threading
import time
import weakref
from collections.abc import Mapping
from concurrent import futures
from typing import TYPE_CHECKING, Any

from dat_runtime import chat
from dat_runtime.chat import Kind, Problem, Reply
from dat_runtime.errors import DatError
from dat_runtime.network import is_loopback
from dat_runtime.retry_after import seconds_asked

if TYPE_CHECKING:
    import httpx

MAX_RESPONSE_BYTES = 1 << 20

LONGEST_PAUSE = 30.0
"""Seconds to which the pause between two tries grows."""

log = logging.getLogger("dat_runtime")

_IDLE = 4.0
"""Seconds for which an unused connection is kept. Servers close theirs after 5, such as uvicorn and
llama.cpp, and a question that is on its way then would be lost."""


class AssessmentError(DatError):
    """The MLLM gave no answer.

    Attributes:
        retry_after: seconds that the server asked to wait; 0 when it said nothing.
    """

    def __init__(self, message: str, retry_after: float = 0.0):
        super().__init__(message)
        self.retry_after = retry_after


class AssessmentRefused(AssessmentError):
    """The MLLM works, and will not answer this question: a content filter, an image too large."""


class Endpoint:
    """An address that answers as chat completions do.

    Safe to use from every thread; connections are kept and shared. The work is done in one event
    loop of the process: only there does one limit of time hold over everything, from the name's
    look-up through headers that drip to the last byte.

    Args:
        url: the base address, such as `http://127.0.0.1:8000/v1`.
        api_key: sent as bearer token when given, to https and loopback addresses only.
        timeout: seconds that all tries may take together, pauses included.
        tries: how often to ask while the endpoint is overloaded or breaks off.
        pause: seconds before the second try; doubles up to `LONGEST_PAUSE`, and half of it is
            random. A longer `Retry-After` of the server is kept to; one that the timeout leaves no
            room for ends the question at once.
        patient: whether an endpoint that refuses the connection is asked again, once it was reached
            before: for a long run. A node has other frames to ask about, and nobody waits for an
            address at which there never was anything.
        path: below the base address.

    Raises:
        ValueError: the address is not valid, or not http or https; the key has characters that a
            header cannot carry, or would travel unencrypted.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        tries: int = 3,
        pause: float = 0.5,
        patient: bool = False,
        path: str = chat.CHAT,
    ):
        import httpx

        address = _checked_address(url, api_key)
        headers = {"accept-encoding": "identity", "content-type": "application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        # Outside the address, a password stands in no message and in no log.
        login = (address.username, address.password) if address.userinfo else None
        self._url = address.copy_with(userinfo=b"", path=address.path.rstrip("/") + path)
        self._timeout = timeout
        self._tries = tries
        self._pause = pause
        self._patient = patient
        self._reached = False
        self._loop = _event_loop()
        client = httpx.AsyncClient(
            headers=headers,
            auth=login,
            limits=httpx.Limits(max_connections=None, keepalive_expiry=_IDLE),
            # A key for this machine does not travel through a proxy.
            trust_env=not is_loopback(address.host),
        )
        self._client = client
        self.left_out: frozenset[str] = frozenset()
        """Fields of `chat.GREEDY` that the server refused by name; they are no longer sent."""
        self.close = weakref.finalize(self, _close, client, self._loop)
        """Closes the connections; they close by themselves when this is no longer used."""
        self.close.atexit = False

    def wait(self, body: Mapping[str, Any]) -> Reply:
        """The answer to a request, waiting for it.

        Raises:
            AssessmentRefused: the endpoint will not answer this question.
            AssessmentError: there is no answer.
        """
        asked = asyncio.run_coroutine_threadsafe(self._asked(body), self._loop)
        try:
            # The loop keeps the time; this second is for a process that is short of it.
            return asked.result(self._timeout + 1)
        except futures.TimeoutError:
            raise AssessmentError(f"{self._url}: {self._late}") from None
        finally:
            asked.cancel()

    async def reply(self, body: Mapping[str, Any]) -> Reply:
        """The same for a caller with an event loop of its own; cancelled with it.

        Raises:
            AssessmentError: as `wait`.
        """
        asked = asyncio.run_coroutine_threadsafe(self._asked(body), self._loop)
        return await asyncio.wrap_future(asked)

    async def _asked(self, fields: Mapping[str, Any]) -> Reply:
        """The answer, without those fields of a greedy decoding that the server refuses by name."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        while True:
            body = {name: value for name, value in fields.items() if name not in self.left_out}
            try:
                return await self._answered(self._encoded(body), deadline)
            except AssessmentRefused as error:
                refused = chat.dispensable(str(error)) & body.keys()
                if not refused:
                    raise
                self.left_out |= refused
                log.warning("the MLLM's server refuses %s: left out", ", ".join(sorted(refused)))

    def _encoded(self, body: Mapping[str, Any]) -> bytes:
        try:
            return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except ValueError as error:  # half a character, or NaN in a field
            raise AssessmentError(f"{self._url}: cannot be asked ({error!r:.80})") from None

    @property
    def _late(self) -> str:
        return f"no whole answer in {self._timeout:g} s"

    async def _answered(self, content: bytes, deadline: float) -> Reply:
        """The answer, after as many tries as it takes and the limits allow."""
        clock = asyncio.get_running_loop().time
        problem, asked_to_wait = Problem("stays", self._late), None
        try:
            async with asyncio.timeout_at(deadline):
                for attempt in range(self._tries):
                    said, asked_to_wait = await self._try(content, deadline - clock())
                    if isinstance(said, Reply):
                        return said
                    problem = said
                    pause = self._pause_after(attempt, asked_to_wait)
                    if problem.kind != "passes" or clock() + pause >= deadline:
                        break
                    await asyncio.sleep(pause)
        except TimeoutError:
            before = "" if problem.words == self._late else f"; before that {problem.words}"
            raise AssessmentError(f"{self._url}: {self._late}{before}") from None
        kind = AssessmentRefused if problem.kind == "refused" else AssessmentError
        raise kind(f"{self._url}: {problem.words}", asked_to_wait or 0.0)

    def _pause_after(self, attempt: int, asked_to_wait: float | None) -> float:
        """Seconds until the next try; infinite after the last one."""
        if attempt + 1 == self._tries:
            return math.inf
        # Random, so that many nodes do not come back at the same moment.
        own: float = min(self._pause * 2**attempt, LONGEST_PAUSE) * random.uniform(0.5, 1.0)
        if asked_to_wait is None:
            return own
        return max(own, asked_to_wait + self._pause * random.random())

    async def _try(self, content: bytes, seconds: float) -> tuple[Reply | Problem, float | None]:
        """What one request comes to, and how long the server asks to wait before the next."""
        import httpx

        # A little less than is left: httpx closes a connection that it gives up, but leaves one
        # open whose TLS handshake is cancelled from outside.
        limits = httpx.Timeout(None, connect=0.9 * seconds)
        asked = self._client.stream("POST", self._url, content=content, timeout=limits)
        try:
            async with asked as response:
                self._reached = True
                body = bytearray()
                # Raw and uncompressed (accept-encoding): the limit counts what memory holds.
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > MAX_RESPONSE_BYTES:
                        return Problem("stays", f"more than {MAX_RESPONSE_BYTES} bytes"), None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            kind: Kind = "passes" if self._patient and self._reached else "stays"
            return Problem(kind, f"{type(error).__name__}: {error}"), None
        except httpx.HTTPError as error:
            return Problem("passes", f"{type(error).__name__}: {error}"), None
        said, wait = chat.read(response.status_code, bytes(body)), None
        if isinstance(said, Problem):
            wait = seconds_asked(response.headers, time.time())
            if wait:
                said = Problem(said.kind, f"{said.words}; it asks to wait {wait:.0f} s")
        return said, wait


@functools.cache
def _event_loop() -> asyncio.AbstractEventLoop:
    """The loop of all endpoints, in a thread that ends with the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="endpoints", daemon=True).start()
    asyncio.run_coroutine_threadsafe(_warm_up(), loop)
    return loop


async def _warm_up() -> None:
    """Load what httpx would load during the first question, which waits for it up to 0.2 s."""
    import anyio

    await anyio.sleep(0)


def _close(client: "httpx.AsyncClient", loop: asyncio.AbstractEventLoop) -> None:
    asyncio.run_coroutine_threadsafe(client.aclose(), loop)


def without_userinfo(url: str) -> str:
    """The address without `user:password@`, so that it may be shown and stored."""
    return re.sub(r"^(\w+://)?.*@", r"\1", url, flags=re.DOTALL)


def _checked_address(url: str, api_key: str | None) -> "httpx.URL":
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
        return address
    if not (api_key.isascii() and api_key.isprintable()):
        raise ValueError(f"the key for {name} has characters that a header cannot carry")
    if address.scheme != "https" and not is_loopback(address.host):
        raise ValueError(
            f"a key goes to https and loopback addresses only, not to {name}: "
            "use https, or give no key (OPENAI_API_KEY, or a node's key_file)"
        )
    return address
