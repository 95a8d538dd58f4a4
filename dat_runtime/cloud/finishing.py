"""Finishing for weak nodes: what they ask is put to a model's server, and its answer is a revision.

A question that is whole waits as a row of `uploads`, so what was acknowledged is asked after any
crash. Its answer is the revision that follows the gate's, whose number the node leaves free: asked
twice, it is kept once. One worker asks (`lease`). docs/decisions/030-weak-nodes.md
"""

import asyncio
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import prometheus_client
from fastapi import APIRouter
from sqlalchemy import Connection, Row

from dat_runtime import alert, chat, files
from dat_runtime.alert import Alert
from dat_runtime.cloud import alerts, uploads
from dat_runtime.cloud.lease import Lease, forever
from dat_runtime.cloud.questions import Asked, read_question
from dat_runtime.cloud.settings import Settings
from dat_runtime.cloud.store import StoreError
from dat_runtime.cloud.tus import metadata
from dat_runtime.cloud.upload_files import Files
from dat_runtime.endpoint import AssessmentError, AssessmentRefused, Endpoint
from dat_runtime.errors import ConfigError
from dat_runtime.event import finished
from dat_runtime.files import read_text
from dat_runtime.prompt import PROMPT_VERSION

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver

log = logging.getLogger("dat_runtime.cloud")

AT_ONCE = 4
"""Questions under way: a server that takes fewer at a time lets them wait."""

LOOKED_AT = 64
"""Questions among which the next ones are chosen."""

SECONDS = 60.0
"""For one question, all tries and pauses included."""

PAUSE, MAX_PAUSE, MAX_RETRY_AFTER = 1.0, 60.0, 3_600.0
"""Seconds before a server that failed is asked again: doubled each time, half of it random."""

MOST_FAILURES = 8
"""Of one question, each after the server answered another: then it is told that nobody answers."""

LOOK_EVERY = 0.1

MAX_WORDS = 200
"""Of a reason, as an alert carries it."""


@dataclass
class _Failed:
    """How a question fared so far: `alone` counts the failures while others were answered."""

    tries: int = 0
    alone: int = 0
    rests_until: float = 0.0


class NotAsked(Exception):
    """No server would answer this question; the message says why."""


def router(receiver: "Receiver") -> APIRouter:
    """No routes: a task asks what waits, where a server was named.

    Raises:
        ConfigError: its address or key will not do.
    """
    servers = servers_of(receiver.settings)
    if servers:
        receiver.tasks.append(Finishing(receiver, servers).run)
    return APIRouter()


def servers_of(settings: Settings) -> Mapping[str, Endpoint]:
    """Where a question of each kind is asked; none where nobody finishes.

    Raises:
        ConfigError: the address or the key will not do.
    """
    if settings.finish is None:
        return {}
    key = settings.finish_key
    secret = None if key is None else read_text(key, ConfigError).strip()
    try:
        return {
            kind: Endpoint(settings.finish, api_key=secret, timeout=SECONDS, path=path)
            for kind, path in (("code", chat.CODES), ("question", chat.CHAT))
        }
    except ValueError as error:
        raise ConfigError(f"--finish: {error}") from None


class Finishing:
    """Asks what waits, for as long as the worker runs."""

    def __init__(self, receiver: "Receiver", servers: Mapping[str, Endpoint]):
        self._store = receiver.store
        self._files = Files(receiver.folder / "visuals")
        self._told = receiver.recorded
        self._servers = servers
        self._model = receiver.settings.finish_model
        self._lease = Lease(receiver.store, "finishing")
        self._running: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, _Failed] = {}  # by question
        self._failures = 0
        self._not_before = 0.0
        self._ended = prometheus_client.Counter(
            "dat_receiver_finished_total",
            "Questions of weak nodes by what became of them.",
            ["kind", "outcome"],
            registry=receiver.metrics.registry,
        )

    async def run(self) -> None:
        try:
            await forever("what weak nodes ask", self._lease, self._round)
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _round(self) -> float:
        """Ask what there is room for; seconds until there may be more to do."""
        for key, task in list(self._running.items()):
            if task.done():
                del self._running[key]
                task.result()  # only a defect
        if time.monotonic() >= self._not_before and len(self._running) < AT_ONCE:
            waiting = await self._waiting()
            while len(self._running) < AT_ONCE and (row := self._next(waiting)) is not None:
                self._running[row.key] = asyncio.create_task(self._finish(row), name=row.node)
        return LOOK_EVERY

    async def _waiting(self) -> list[Row[Any]]:
        """What may be asked: questions that never failed, and those that did and have rested.

        Either have places of their own, so however many fail, a new one is seen.
        """
        known = [*self._failed, *self._running]
        new = await self._store.read(partial(uploads.questions, count=LOOKED_AT, without=known))
        now = time.monotonic()
        due = [
            key
            for key, failed in self._failed.items()
            if failed.rests_until <= now and key not in self._running
        ]
        if not due:
            return list(new)
        again = await self._store.read(partial(uploads.questions, count=LOOKED_AT, among=due))
        if len(again) < LOOKED_AT:  # these are all: the others are gone
            for key in set(due) - {row.key for row in again}:
                del self._failed[key]
        return [*new, *again]

    def _next(self, waiting: Sequence[Row[Any]]) -> Row[Any] | None:
        """The question that is asked next: of a node of which fewest are under way.

        Of its questions those that failed go behind: one on which the server hangs stops no other.
        """
        busy = Counter(task.get_name() for task in self._running.values())
        rest = [row for row in waiting if row.key not in self._running]

        def turn(row: Row[Any]) -> tuple[float, ...]:
            failed = self._failed.get(row.key, _Failed())
            return busy[row.node], failed.tries, -row.priority, -row.written_at

        return min(rest, key=turn, default=None)

    async def _finish(self, row: Row[Any]) -> None:
        """One question, until its answer is kept or it is known that there will be none."""
        said = alert.read_alert(json.loads(row.content))
        if said.source != "gate":  # an MLLM has answered: nothing is told in its place
            await self._keep(row, None, "refused")
            return
        try:
            asked = await self._asked(row, said)
            reply = await self._servers[row.kind].reply(asked.body(self._model))
        except (NotAsked, AssessmentRefused) as error:
            await self._give_up(row, said, error)
            return
        except AssessmentError as error:
            if self._wait(row.key, error).alone >= MOST_FAILURES:
                await self._give_up(row, said, error)
            return
        self._failures = 0
        versions = {"mllm": self._model, **reply.versions}
        told = finished(said, asked.detections, reply.text, asked.frame, versions)
        await self._keep(row, told, "answered" if told.source == "mllm" else "gate stands")

    async def _asked(self, row: Row[Any], said: Alert) -> Asked:
        """The question of a row.

        Raises:
            NotAsked: it is gone or broken, or of another release.
        """
        stated = said.origin.versions.get("prompt", PROMPT_VERSION)
        if stated != PROMPT_VERSION:
            raise NotAsked(f"the node has prompt {stated}, the receiver {PROMPT_VERSION}")
        try:
            content = await asyncio.to_thread(self._files.path(row.key).read_bytes)
            return read_question(row.kind, content, metadata(row.metadata))
        except FileNotFoundError:
            raise NotAsked("its file is gone") from None
        except ValueError as error:
            raise NotAsked(f"it {error}") from None

    async def _give_up(self, row: Row[Any], said: Alert, error: Exception) -> None:
        """Tell in the alert that nobody answers, and why."""
        log.warning("%s/%s is not finished: %s", row.node, said.id, error)
        why = f"the cloud did not answer: {error}"[:MAX_WORDS]
        await self._keep(row, finished(said, (), None, said.frame, {}, why), "refused")

    async def _keep(self, row: Row[Any], told: Alert | None, outcome: str) -> None:
        """Keep the revision, where there is one, and let the question go, both or neither."""
        news = []
        if told is not None:
            news = [alerts.received(files.parse(alert.dump(told).decode()), time.time())]

        def work(connection: Connection) -> int:
            uploads.remove(connection, row.key)
            return next(iter(alerts.record(connection, news, self._told)), alerts.CREATED)

        status = await self._written(work)
        self._failed.pop(row.key, None)
        await asyncio.to_thread(self._files.remove, row.key)
        # A node that leaves no number free has used it: its own revision stands.
        self._ended.labels(row.kind, outcome if status == alerts.CREATED else "overtaken").inc()

    async def _written(self, work: Callable[[Connection], int]) -> int:
        """Write until the store keeps it: the model has answered, and is not asked again."""
        pause = PAUSE
        while True:
            try:
                return await self._store.write(work)
            except StoreError:  # which the store tells
                await asyncio.sleep(pause)
                pause = min(MAX_PAUSE, 2 * pause)

    def _wait(self, key: str, error: AssessmentError) -> _Failed:
        """Let a question that failed rest, and all others for a while; how it fared so far."""
        failed = self._failed.setdefault(key, _Failed())
        failed.tries += 1
        if not self._failures:
            log.warning("nothing is finished for weak nodes: %s", error)
            # The server answered the question before, so this one may be the reason.
            failed.alone += 1
        self._failures += 1
        pause = min(MAX_PAUSE, PAUSE * 2 ** min(self._failures - 1, 20)) * random.uniform(0.5, 1.0)
        asked = min(error.retry_after, MAX_RETRY_AFTER)
        now = time.monotonic()
        self._not_before = now + max(pause, asked)
        failed.rests_until = now + min(MAX_RETRY_AFTER, max(pause * 2**failed.alone, asked))
        return failed
