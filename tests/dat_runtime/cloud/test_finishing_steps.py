"""Which question is asked next, and what becomes of each; its server answers without a network."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from sqlalchemy import Connection, select

from dat_runtime.cloud import alerts, finishing, uploads
from dat_runtime.cloud.application import opened
from dat_runtime.cloud.finishing import Finishing, servers_of
from dat_runtime.cloud.lease import Lease
from dat_runtime.cloud.receiver import Receiver
from dat_runtime.cloud.settings import Settings
from dat_runtime.cloud.store import StoreError
from dat_runtime.cloud.tus import Wanted, metadata_of
from dat_runtime.endpoint import AssessmentError, AssessmentRefused
from dat_runtime.errors import ConfigError
from dat_runtime.offload import CodeUnit, pack
from dat_runtime.prompt import PROMPT_VERSION, task_prompt
from dat_runtime.types import Box, Detection, Size
from tests.dat_runtime.cloud.conftest import alert

FRAME = Size(56, 56)
UNSURE = Detection(Box(7, 7, 28, 28, FRAME), "severe", 0.4)
UNIT = pack(CodeUnit("00112233aabbccdd", (4, 4), False, np.ones((3, 16), bool)))
SEVERE = json.dumps(
    {
        "count": 1,
        "severity": "severe",
        "level": 1,
        "score": 0.75,
        "accidents": [{"bbox": [14, 14, 28, 42], "severity": "severe"}],
        "summary": "A car on its roof.",
    }
)


class Server:
    """A model's server that says what it is told to; the last of it for ever."""

    def __init__(self, *says: str | Exception):
        self.says = list(says)
        self.asked: list[Any] = []

    async def reply(self, body: Any) -> Any:
        self.asked.append(body)
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(said, Exception):
            raise said
        return SimpleNamespace(text=said, versions={"base": "tiny@1"})


Scenario = Callable[[Receiver, Finishing], Coroutine[Any, Any, None]]


def within(folder: Path, server: Any, scenario: Scenario) -> Receiver:
    """Run with a receiver and who asks for it, both ended afterwards."""
    receiver = opened(f"sqlite:///{folder}/r.db", folder / "data")
    receiver.settings = Settings(finish="http://127.0.0.1:9/v1", finish_model="m")

    async def run() -> None:
        mine = Finishing(receiver, {"code": server})
        try:
            await scenario(receiver, mine)
        finally:
            for task in mine._running.values():
                task.cancel()
            await asyncio.gather(*mine._running.values(), return_exceptions=True)

    try:
        asyncio.run(run())
    finally:
        receiver.store.close()
    return receiver


def gate(id: str, node: str = "n1", **data: Any) -> alerts.Received:
    versions = {"prompt": PROMPT_VERSION, "bundle": "b"}
    said = {"source": "gate", "degraded": "the cloud finishes", "priority": 0.8}
    return alerts.received(alert(id, node, **(said | {"versions": versions} | data)), 5.0)


async def ask(receiver: Receiver, id: str = "e", node: str = "n1", **data: Any) -> str:
    """Let a question about a new event wait; its key."""
    told = {"event": id, "kind": "code", "prompt": task_prompt(FRAME, [UNSURE]), "revision": "0"}

    def work(connection: Connection) -> str:
        alerts.record(connection, [gate(id, node, **data)])
        event = alerts.find(connection, id, node)
        assert event is not None
        wanted = Wanted(id, "code", node, 0, len(UNIT), metadata_of(told))
        row, _ = uploads.create(connection, event, wanted)
        uploads.complete(connection, row.key)
        return str(row.key)

    key = await receiver.store.write(work)
    path = finishing.Files(receiver.folder / "visuals").path(key)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(UNIT)
    return key


async def settled(mine: Finishing) -> None:
    """Until nothing is under way."""
    await asyncio.gather(*mine._running.values())


async def told(receiver: Receiver, id: str = "e") -> dict[str, Any]:
    """The data of an event's newest revision."""
    revisions = alerts.revisions

    def work(connection: Connection) -> str:
        event = alerts.find(connection, id)
        assert event is not None
        query = select(revisions.c.content).where(revisions.c.event == event.number)
        newest = query.where(revisions.c.revision == event.revision)
        return str(connection.execute(newest).scalar_one())

    data: dict[str, Any] = json.loads(await receiver.store.read(work))["data"]
    return data


COUNTED = "dat_receiver_finished"


def count(receiver: Receiver) -> dict[str, float]:
    (counter,) = (m for m in receiver.metrics.registry.collect() if m.name == COUNTED)
    samples = [s for s in counter.samples if s.name.endswith("_total")]
    assert {s.labels["kind"] for s in samples} <= {"code"}
    return {s.labels["outcome"]: s.value for s in samples}


def test_a_question_is_asked_once_and_its_answer_is_kept_in_its_place(tmp_path: Path) -> None:
    server = Server(SEVERE)

    async def scenario(receiver: Receiver, mine: Finishing) -> None:
        kept: list[int] = []
        receiver.recorded.append(lambda _, some: kept.extend(o.alert.revision for o in some))
        key = await ask(receiver)
        began = time.time()
        assert await mine._round() == finishing.LOOK_EVERY == 0.1
        await settled(mine)
        data = await told(receiver)
        assert (data["revision"], data["source"], data["degraded"]) == (1, "mllm", None)
        assert data["priority"] == 0.875
        versions = {"prompt": PROMPT_VERSION, "bundle": "b", "mllm": "m", "base": "tiny@1"}
        assert data["versions"] == versions
        assert data["answer"]["accidents"][0]["bbox"] == [160, 120, 320, 360]
        assert kept == [1]
        row = await receiver.store.read(lambda c: alerts.find(c, "e"))
        assert row is not None
        assert began <= row.received_at <= time.time()
        assert await receiver.store.read(lambda c: uploads.find(c, key)) is None
        assert not mine._files.path(key).exists()
        await mine._round()
        assert (len(server.asked), mine._running) == (1, {})
        said = {metric.name: metric.documentation for metric in receiver.metrics.registry.collect()}
        words = "Questions of weak nodes by what became of them."
        assert said["dat_receiver_finished"] == words
        assert server.asked[0]["model"] == "m"
        assert server.asked[0]["prompt"] == task_prompt(FRAME, [UNSURE])

    assert count(within(tmp_path, server, scenario)) == {"answered": 1}


def test_an_answer_that_nobody_can_read_leaves_the_gates_own(tmp_path: Path) -> None:
    async def scenario(receiver: Receiver, mine: Finishing) -> None:
        await ask(receiver)
        await mine._round()
        await settled(mine)
        data = await told(receiver)
        assert (data["revision"], data["source"], data["priority"]) == (1, "gate", 0.9)
        assert data["degraded"] == "the answer is not compliant"

    assert count(within(tmp_path, Server("I cannot say."), scenario)) == {"gate stands": 1}


@pytest.mark.parametrize(
    ("data", "spoil", "words"),
    [
        (
            {"versions": {"prompt": 99}},
            None,
            f"the node has prompt 99, the receiver {PROMPT_VERSION}",
        ),
        ({}, lambda path: path.unlink(), "its file is gone"),
        ({}, lambda path: path.write_bytes(UNIT[:-1]), "it is refused: "),
    ],
)
def test_what_cannot_be_asked_is_told_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: Any, spoil: Any, words: str
) -> None:
    server = Server(SEVERE)

    async def scenario(receiver: Receiver, mine: Finishing) -> None:
        key = await ask(receiver, **data)
        if spoil:
            spoil(mine._files.path(key))
        await mine._round()
        await settled(mine)
        said = await told(receiver)
        assert (said["revision"], said["source"], said["priority"]) == (1, "gate", 0.9)
        assert said["degraded"].startswith(f"the cloud did not answer: {words}")
        assert server.asked == []

    assert count(within(tmp_path, server, scenario)) == {"refused": 1}
    assert caplog.records[0].message.startswith(f"n1/e is not finished: {words}")


def test_a_reason_is_cut_where_an_alert_ends(tmp_path: Path) -> None:
    async def scenario(receiver: Receiver, mine: Finishing) -> None:
        await ask(receiver)
        await mine._round()
        await settled(mine)
        degraded = (await told(receiver))["degraded"]
        assert degraded == "the cloud did not answer: " + "x" * 174

    server = Server(AssessmentRefused("x" * 500))
    assert count(within(tmp_path, server, scenario)) == {"refused": 1}


def test_nothing_is_told_of_what_an_mllm_answered_or_where_a_revision_stands(
    tmp_path: Path,
) -> None:
    server = Server(SEVERE)

    async def scenario(receiver: Receiver, mine: Finishing) -> None:
        await ask(receiver, "done", source="mllm", degraded=None)
        await ask(receiver)
        other = gate("e", revision=1, priority=0.6)
        await receiver.store.write(lambda c: alerts.record(c, [other]))
        for _ in range(2):
            await mine._round()
            await settled(mine)
        assert (await told(receiver, "done"))["revision"] == 0
        assert (await told(receiver))["priority"] == 0.6
        assert len(server.asked) == 1
        assert await receiver.store.read(lambda c: uploads.questions(c, 9)) == []

    assert count(within(tmp_path, server, scenario)) == {"refused": 1, "overtaken": 1}


def test_a_few_are_asked_at_once_and_each_node_has_its_turn(tmp_path: Path) -> None:
    class Hangs(Server):
        async def reply(self, body: Any) -> Any:
            await asyncio.Event().wait()

    async def scenario(receiver: Receiver, mine: Finishing) -> None:
        loud = [await ask(receiver, f"a{n}", "n1", priority=0.9 - n / 10) for n in range(5)]
        quiet = await ask(receiver, "b", "n2", priority=0.1)
        await mine._round()
        assert list(mine._running) == [loud[0], quiet, loud[1], loud[2]]
        assert [task.get_name() for task in mine._running.values()] == ["n1", "n2", "n1", "n1"]
        late = await ask(receiver, "c", "n3", priority=1.0)
        await mine._round()
        assert late not in mine._running
        task = mine._running[loud[1]]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(asyncio.CancelledError):
            await mine._round()
        await mine._round()
        assert list(mine._running) == [loud[0], quiet, loud[2], late]

    within(tmp_path, Hangs(), scenario)


def row(key: str, node: str = "n1", priority: float = 0.5, written_at: float = 5.0) -> Any:
    return SimpleNamespace(key=key, node=node, priority=priority, written_at=written_at)


def test_the_next_question_is_of_a_node_that_waits_and_one_that_never_failed(
    tmp_path: Path,
) -> None:
    async def scenario(receiver: Receiver, mine: Finishing) -> None:
        def order(*rows: Any) -> list[str]:
            left, found = list(rows), []
            while left:
                found.append(mine._next(left))
                left.remove(found[-1])
            return [row.key for row in found]

        assert mine._next([]) is None
        assert order(row("low", priority=0.1), row("top"), row("new", written_at=6.0)) == [
            "new",
            "top",
            "low",
        ]
        mine._failed["top"] = finishing._Failed(tries=2)
        mine._failed["new"] = finishing._Failed(tries=1)
        assert order(row("top", priority=0.9), row("new"), row("low", priority=0.1)) == [
            "low",
            "new",
            "top",
        ]
        never = asyncio.create_task(asyncio.Event().wait(), name="n1")
        mine._running["x"] = never  # type: ignore[assignment]
        found = mine._next([row("mine", priority=0.9), row("theirs", "n2", 0.1)])
        assert found is not None
        assert found.key == "theirs"
        assert mine._next([row("x")]) is None

    within(tmp_path, Server(SEVERE), scenario)


def test_a_server_that_fails_is_asked_ever_more_rarely_and_a_question_rests_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1_000.0]
    monkeypatch.setattr(finishing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(finishing.random, "uniform", lambda low, high: (low + high) / 2)

    async def scenario(receiver: Receiver, mine: Finishing) -> None:
        error = AssessmentError("away")
        assert mine._wait("a", error) == finishing._Failed(1, 1, 1_000 + 0.75 * 2)
        assert mine._not_before == 1_000.75
        assert mine._wait("b", error) == finishing._Failed(1, 0, 1_000 + 1.5)
        assert mine._not_before == 1_001.5
        assert mine._wait("a", error) == finishing._Failed(2, 1, 1_000 + 3 * 2)
        for _ in range(30):
            mine._wait("b", error)
        assert mine._not_before == 1_045
        assert mine._failed["b"] == finishing._Failed(31, 0, 1_045)
        mine._failures = 0
        assert mine._wait("b", AssessmentError("busy", 100.0)).rests_until == 1_100
        assert mine._not_before == 1_100
        mine._wait("b", AssessmentError("busy", 1e9))
        assert (mine._not_before, mine._failed["b"].rests_until) == (4_600, 4_600)
        mine._failed["c"] = finishing._Failed(alone=20)
        assert mine._wait("c", error).rests_until == 4_600
        assert (mine._failures, mine._failed["c"].tries) == (3, 1)

    with caplog.at_level(logging.WARNING, "dat_runtime.cloud"):
        within(tmp_path, Server(SEVERE), scenario)
    assert [record.message for record in caplog.records] == [
        "nothing is finished for weak nodes: away",
        "nothing is finished for weak nodes: busy",
    ]


def test_while_a_server_rests_nothing_is_asked_and_afterwards_all_of_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000.0]
    monkeypatch.setattr(finishing.time, "monotonic", lambda: now[0])
    server = Server(AssessmentError("away"), SEVERE)

    async def scenario(receiver: Receiver, mine: Finishing) -> None:
        key = await ask(receiver)
        await mine._round()
        await settled(mine)
        assert mine._failed[key].tries == 1
        new = await ask(receiver, "f")
        now[0] = mine._not_before - 0.01
        await mine._round()
        assert len(server.asked) == 1
        now[0] = mine._not_before
        await mine._round()
        assert list(mine._running) == [new]  # the other rests longer
        await settled(mine)
        assert mine._failures == 0
        now[0] = mine._failed[key].rests_until
        await mine._round()
        await settled(mine)
        assert (len(server.asked), mine._failed) == (3, {})

    assert count(within(tmp_path, server, scenario)) == {"answered": 2}


def test_new_questions_and_those_that_failed_have_places_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing, "LOOKED_AT", 2)
    later = time.monotonic() + 1e6

    async def scenario(receiver: Receiver, mine: Finishing) -> None:
        keys = [await ask(receiver, f"e{n}", priority=0.9 - n / 10) for n in range(8)]

        async def waiting() -> list[str]:
            return [row.key for row in await mine._waiting()]

        assert await waiting() == keys[:2]
        for key in keys[:3]:
            mine._failed[key] = finishing._Failed(1)
        mine._failed[keys[3]] = finishing._Failed(1, 0, later)
        assert await waiting() == [keys[4], keys[5], keys[0], keys[1]]
        mine._running[keys[0]] = mine._running[keys[4]] = asyncio.create_task(asyncio.sleep(9))
        assert await waiting() == [keys[5], keys[6], keys[1], keys[2]]
        # One that is gone is forgotten, but not while there may be more than were looked at.
        mine._failed["gone"] = finishing._Failed(1)
        await waiting()
        assert "gone" in mine._failed
        del mine._failed[keys[1]], mine._failed[keys[2]]
        assert await waiting() == [keys[1], keys[2]]
        assert set(mine._failed) == {keys[0], keys[3]}

    within(tmp_path, Server(SEVERE), scenario)


def test_a_question_that_fails_again_and_again_while_others_are_answered_is_given_up(
    tmp_path: Path,
) -> None:
    async def scenario(receiver: Receiver, mine: Finishing) -> None:
        key = await ask(receiver)
        (asked,) = await mine._waiting()
        for tries in range(1, 8):
            await mine._finish(asked)
            assert (mine._failed[key].tries, mine._failed[key].alone) == (tries, tries)
            mine._failures = 0  # another was answered
        await mine._finish(asked)
        assert (await told(receiver))["degraded"] == "the cloud did not answer: away"
        assert mine._failed == {}

    assert count(within(tmp_path, Server(AssessmentError("away")), scenario)) == {"refused": 1}


def test_a_store_that_keeps_nothing_is_asked_again_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def write(work: Any) -> str:
        if len(pauses) < 9:
            raise StoreError("full")
        return "kept"

    async def scenario(receiver: Receiver, mine: Finishing) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(finishing.asyncio, "sleep", sleep)
            patch.setattr(receiver.store, "write", write)
            assert await mine._written(lambda _: 0) == "kept"  # type: ignore[comparison-overlap]
        assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]

    within(tmp_path, Server(SEVERE), scenario)


def test_who_asks_ends_what_is_under_way(tmp_path: Path) -> None:
    class Hangs(Server):
        async def reply(self, body: Any) -> Any:
            before = len(self.asked)
            self.asked.append(body)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.05 * before)  # the second takes longer to end
                self.asked.append("cancelled")
                raise

    server = Hangs()

    async def scenario(receiver: Receiver, mine: Finishing) -> None:
        await ask(receiver)
        await ask(receiver, "f")
        task = asyncio.create_task(mine.run())
        for _ in range(2_000):
            if len(server.asked) == 2:
                break
            await asyncio.sleep(0.005)
        assert not await Lease(receiver.store, "finishing").held()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert server.asked[2:] == ["cancelled"] * 2

    within(tmp_path, server, scenario)


def test_a_server_is_named_by_its_address_and_its_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" secret\n")
    assert servers_of(Settings()) == {}
    servers = servers_of(Settings(finish="https://h/v1", finish_key=tmp_path / "key"))
    assert {kind: str(server._url) for kind, server in servers.items()} == {
        "code": "https://h/v1/codes/completions",
        "question": "https://h/v1/chat/completions",
    }
    with pytest.raises(ConfigError, match="none"):
        servers_of(Settings(finish="https://h/v1", finish_key=tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"^--finish: "):
        servers_of(Settings(finish="ftp://h/"))


def test_a_task_asks_where_a_server_is_named(tmp_path: Path) -> None:
    receiver = opened(f"sqlite:///{tmp_path}/r.db", tmp_path)
    finishing.router(receiver)
    assert receiver.tasks == []
    receiver.settings = Settings(finish="https://h/v1", finish_model="m")
    finishing.router(receiver)
    (run,) = receiver.tasks
    mine = run.__self__  # type: ignore[attr-defined]
    assert isinstance(mine, Finishing)
    assert (run.__name__, set(mine._servers), mine._model) == ("run", {"code", "question"}, "m")
    receiver.store.close()
