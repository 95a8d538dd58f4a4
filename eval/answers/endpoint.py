"""Answers of OpenAI-compatible servers: GPT-5, vLLM replicas, `llamafactory-cli api`."""

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dat_runtime.chat import Reply
from dat_runtime.edge.assess import EndpointAssessor
from dat_runtime.endpoint import AssessmentError, AssessmentRefused, without_userinfo
from dat_runtime.errors import ConfigError
from dat_runtime.fields import Rule, checked
from dat_runtime.files import read_yaml
from dat_runtime.schema import ANSWER_SCHEMA
from eval.answers.asks import Answer, Ask

GIVE_UP = 10
"""Failures in a row after which a server is no longer asked."""
TRIES = 12
"""Their pauses add up to 90 s or more: a limit of requests per minute has passed by then."""
TIMEOUT_S = 300.0
"""Seconds for one question, all its tries and the pauses between them included."""

JSON_SCHEMA_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": ANSWER_SCHEMA, "strict": True},
}
"""The `response_format` by which OpenAI and vLLM constrain decoding."""


class Server(Protocol):
    """Whatever answers one question with its tokens counted.

    Attributes:
        left_out: fields of the decoding that it refused.
    """

    left_out: frozenset[str]

    def ask(self, png: bytes, system: str, prompt: str) -> Reply:
        """The answer.

        Raises:
            AssessmentRefused: the server works and does not answer this question.
            AssessmentError: there is none.
        """
        ...


@dataclass(frozen=True)
class Settings:
    """What one kind of server needs besides its address (`configs/endpoints/`).

    Attributes:
        request: fields of the chat request; `None` leaves a field out, for a server that refuses
            it.
        usd_per_million_tokens: prices of "prompt" and "completion"; empty when not known.
    """

    request: Mapping[str, Any] = field(default_factory=dict)
    usd_per_million_tokens: Mapping[str, float] = field(default_factory=dict)


_TABLE = Rule(lambda v: isinstance(v, dict), "a table")
_PRICE = Rule(lambda v: type(v) in (int, float) and 0 <= v < 1e6, "a price below a million")
_SETTINGS = {"request": _TABLE, "usd_per_million_tokens": _TABLE}
_PRICES = {"prompt": _PRICE, "completion": _PRICE}


def read_settings(path: Path) -> Settings:
    """The settings of a YAML file.

    Raises:
        ConfigError: it cannot be read, has an unknown key, or a price is not a number.
    """
    content = read_yaml(path)
    try:
        checked(content, _SETTINGS, "", optional_keys=_SETTINGS)
        settings = Settings(**content)
        if settings.usd_per_million_tokens:
            checked(settings.usd_per_million_tokens, _PRICES, "usd_per_million_tokens")
    except ValueError as error:
        raise ConfigError(str(error), path) from None
    return settings


def servers(
    urls: Sequence[str], model: str, key: str | None, request: Mapping[str, Any]
) -> dict[str, Server]:
    """One server per address; the keys are the addresses to show and store, without a password.

    Raises:
        ConfigError: an address is not one, is given twice, or must not be sent the key.
    """
    by_address: dict[str, Server] = {}
    for url in urls:
        address = without_userinfo(url)
        if address in by_address:
            raise ConfigError(
                "each --endpoint can be given once; raise --batch-size to ask it more at a time"
            )
        try:
            by_address[address] = EndpointAssessor(
                url,
                model,
                api_key=key,
                timeout=TIMEOUT_S,
                tries=TRIES,
                patient=True,
                request=request,
            )
        except ValueError as error:
            raise ConfigError(str(error)) from None
    return by_address


class Outcome(NamedTuple):
    """How one question ended: with an answer, or with the reason why there is none.

    Attributes:
        refused: the server does not answer this question, whenever it is asked; the reason is its
            answer.
    """

    ask: Ask
    url: str
    answer: Answer | None
    reason: str = ""
    refused: bool = False


class _Job(NamedTuple):
    ask: Ask
    tried: frozenset[str]


def answers(asks: Sequence[Ask], servers: Mapping[str, Server], at_once: int) -> Iterator[Outcome]:
    """Each question's outcome as it comes, `at_once` questions under way at each server.

    The servers take from one list, so a faster one answers more. A question that one server fails
    or refuses goes to the others. A server that fails `GIVE_UP` questions in a row is asked no
    more; one that refuses a question works.

    Raises:
        AssessmentError: no server is left. The answers so far are kept, and a new run continues.
    """
    pool = _Pool(servers, asks)
    try:
        pool.start(at_once)
        left = len(asks)
        while left:
            result = pool.results.get()
            if isinstance(result, BaseException):
                raise result
            job, outcome = result
            if outcome.answer is None:
                if not outcome.refused and not pool.alive():
                    raise AssessmentError(
                        f"no endpoint answers any more; the last: {outcome.reason}"
                    )
                untried = pool.alive() - job.tried - {outcome.url}
                if untried:
                    pool.waiting.put(_Job(job.ask, job.tried | {outcome.url}))
                    continue
            left -= 1
            yield outcome
    finally:
        pool.stopped.set()


class _Pool:
    """The servers' threads, the list they take from, and how many questions each failed."""

    def __init__(self, servers: Mapping[str, Server], asks: Sequence[Ask]):
        self.servers = servers
        self.waiting: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[tuple[_Job, Outcome] | BaseException] = queue.SimpleQueue()
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
                # With a limit, to notice the end; and another server may give a question back.
                job = self.waiting.get(timeout=0.05)
            except queue.Empty:
                continue
            if url in job.tried and self.alive() - job.tried:
                self.waiting.put(job)  # for a server that has not tried it yet
                time.sleep(0.01)
                continue
            try:
                self.results.put((job, self._ask(url, job.ask)))
            except BaseException as error:  # a defect: raised where the results are read
                self.results.put(error)
                return

    def _ask(self, url: str, ask: Ask) -> Outcome:
        started = time.monotonic()
        try:
            reply = self.servers[url].ask(ask.png(), ask.system, ask.prompt)
        except AssessmentRefused as error:
            self.failures[url] = 0
            return Outcome(ask, url, None, str(error), refused=True)
        except (AssessmentError, OSError) as error:
            self.failures[url] += 1
            return Outcome(ask, url, None, str(error))
        self.failures[url] = 0
        seconds = time.monotonic() - started
        return Outcome(
            ask,
            url,
            Answer(reply.text, seconds, reply.prompt_tokens, reply.completion_tokens, reply.cut),
        )
