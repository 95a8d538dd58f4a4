"""Answers of OpenAI-compatible servers: GPT-5, vLLM replicas, `llamafactory-cli api`."""

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dat_runtime.edge.assess import AssessmentError, EndpointAssessor, Reply, without_userinfo
from dat_runtime.errors import ConfigError
from dat_runtime.schema import ANSWER_SCHEMA
from eval.answers.asks import Answer, Ask

GIVE_UP = 10
"""Failures in a row after which a server is no longer asked."""
TRIES, TIMEOUT_S = 8, 300.0

JSON_SCHEMA_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": ANSWER_SCHEMA, "strict": True},
}
"""`response_format` with which OpenAI and vLLM constrain their decoding."""


class Server(Protocol):
    """Whatever answers one question with its tokens counted."""

    def ask(self, png: bytes, system: str, prompt: str) -> Reply:
        """The answer.

        Raises:
            AssessmentError: there is none.
        """
        ...


@dataclass(frozen=True)
class Settings:
    """What one kind of server needs besides its address (`configs/endpoints/`).

    Attributes:
        request: fields of the chat request; `None` leaves out one that the server refuses.
        usd_per_million_tokens: of "prompt" and "completion"; empty when not known.
    """

    request: Mapping[str, Any] = field(default_factory=dict)
    usd_per_million_tokens: Mapping[str, float] = field(default_factory=dict)


def read_settings(path: Path) -> Settings:
    """The settings of a YAML file.

    Raises:
        ConfigError: it cannot be read, has an unknown key, or a price is none.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        settings = Settings(**content)
        request, prices = dict(settings.request), dict(settings.usd_per_million_tokens)
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path}: expected request and usd_per_million_tokens, each a table ({error})"
        ) from None
    if prices and set(prices) != {"prompt", "completion"}:
        raise ConfigError(f"{path}: usd_per_million_tokens needs prompt and completion")
    for name, price in prices.items():
        if not isinstance(price, int | float) or not 0 <= price < 1e6:
            raise ConfigError(f"{path}: {name} has no price: {price!r}")
    return Settings(request, prices)


def servers(
    urls: Sequence[str], model: str, key: str | None, request: Mapping[str, Any]
) -> dict[str, Server]:
    """One server per address; the addresses are those to show and store, without a password.

    Raises:
        ConfigError: an address is none, is given twice, or must not be sent the key.
    """
    if len(set(map(without_userinfo, urls))) < len(urls):
        raise ConfigError("each --endpoint can be given once; --batch-size asks it more at a time")
    try:
        return {
            without_userinfo(url): EndpointAssessor(
                url, model, api_key=key, timeout=TIMEOUT_S, tries=TRIES, request=request
            )
            for url in urls
        }
    except ValueError as error:
        raise ConfigError(str(error)) from None


class Came(NamedTuple):
    """What came of one question: an answer, or the reason why there is none."""

    ask: Ask
    url: str
    answer: Answer | None
    reason: str = ""


class _Job(NamedTuple):
    ask: Ask
    tried: frozenset[str]


def answers(asks: Sequence[Ask], servers: Mapping[str, Server], at_once: int) -> Iterator[Came]:
    """Each question's outcome as it comes, `at_once` questions under way at each server.

    The servers take from one list, so a faster one does more. A question that one server fails
    goes to the others; a server that fails `GIVE_UP` in a row is asked no more.

    Raises:
        AssessmentError: no server is left: what came so far stands, and a new start goes on.
    """
    pool = _Pool(servers, asks)
    try:
        pool.start(at_once)
        left = len(asks)
        while left:
            outcome = pool.came.get()
            if isinstance(outcome, BaseException):
                raise outcome
            job, came = outcome
            if came.answer is None:
                if not pool.alive():
                    raise AssessmentError(f"no endpoint answers any more; the last: {came.reason}")
                if pool.alive() - job.tried - {came.url}:
                    pool.waiting.put(_Job(job.ask, job.tried | {came.url}))
                    continue
            left -= 1
            yield came
    finally:
        pool.stopped.set()


class _Pool:
    """The servers' threads, the list they take from, and how they fare."""

    def __init__(self, servers: Mapping[str, Server], asks: Sequence[Ask]):
        self.servers = servers
        self.waiting: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self.came: queue.SimpleQueue[tuple[_Job, Came] | BaseException] = queue.SimpleQueue()
        self.stopped = threading.Event()
        self.failures: Counter[str] = Counter()
        for ask in asks:
            self.waiting.put(_Job(ask, frozenset()))

    def start(self, at_once: int) -> None:
        # Daemons: an interrupted run does not wait for the questions under way.
        for url in self.servers:
            for _ in range(at_once):
                threading.Thread(target=self._work, args=(url,), daemon=True).start()

    def alive(self) -> set[str]:
        return {url for url in self.servers if self.failures[url] < GIVE_UP}

    def _work(self, url: str) -> None:
        while not self.stopped.is_set() and url in self.alive():
            try:
                job = self.waiting.get(timeout=0.05)
            except queue.Empty:
                continue
            if url in job.tried and self.alive() - job.tried:
                self.waiting.put(job)
                time.sleep(0.01)
                continue
            try:
                self.came.put((job, self._ask(url, job.ask)))
            except BaseException as error:  # a defect: told where it is seen
                self.came.put(error)
                return

    def _ask(self, url: str, ask: Ask) -> Came:
        started = time.monotonic()
        try:
            reply = self.servers[url].ask(ask.image.read_bytes(), ask.system, ask.prompt)
        except (AssessmentError, OSError) as error:
            self.failures[url] += 1
            return Came(ask, url, None, str(error))
        self.failures[url] = 0
        return Came(ask, url, Answer(reply.text, time.monotonic() - started, *reply[1:]))
