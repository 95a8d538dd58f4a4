"""Which way an uplink uses and when it leaves it; senders and lanes are made up."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from dat_runtime.edge.counts import Counts
from dat_runtime.edge.question import Question
from dat_runtime.edge.spool import SpoolError
from dat_runtime.edge.uplink import uplink as module
from dat_runtime.edge.uplink.http import HttpSender
from dat_runtime.edge.uplink.sender import SendError
from dat_runtime.edge.uplink.settings import UplinkSettings, UplinkState
from dat_runtime.edge.uplink.uplink import Uplink, sender_of
from dat_runtime.errors import ConfigError
from tests.dat_runtime.edge.uplink.events import event
from tests.dat_runtime.edge.uplink.test_outbox import MemorySpool

WAYS = (
    UplinkSettings("http://a.example", None, 5e4, metered=True),
    UplinkSettings("http://b.example", None, 7e4),
    UplinkSettings("http://c.example", None, 9e4),
)


class Sender:
    """Notes what is asked of it."""

    def __init__(self, world: "World", way: UplinkSettings):
        self.world, self.name = world, way.url[7]
        self.closed = 0

    async def send_status(self, status: bytes) -> None:
        self.world.statuses.append((self.name, status))
        if self.name in self.world.dead:
            raise SendError(f"{self.name} is dead")

    def progress(self) -> Any:
        from dat_runtime.edge.uplink.sender import Progress

        return Progress(0, 0, None)

    async def close(self) -> None:
        self.closed += 1


class World:
    """What the uplink stands in, instead of a network."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.senders: list[Sender] = []
        self.statuses: list[tuple[str, bytes]] = []
        self.dead: set[str] = set()
        self.refused: set[str] = set()
        self.slept: list[float] = []
        self.passed = 0.0
        monkeypatch.setattr(module, "sender_of", self.sender_of)

    def sender_of(self, way: UplinkSettings, node: str) -> Sender:
        assert node == "n1"
        if way.url[7] in self.refused:
            raise ConfigError(f"{way.url[7]} has no token")
        self.senders.append(Sender(self, way))
        return self.senders[-1]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


_made: list[Uplink] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _made:
        uplink = _made.pop()
        uplink._outbox.close()
        uplink._loop.close()


def uplink_of(*ways: UplinkSettings, **how: Any) -> Uplink:
    _made.append(Uplink(ways or WAYS, MemorySpool(), Counts(), "n1", **how))  # type: ignore[arg-type]
    return _made[-1]


def run(uplink: Uplink, work: Any) -> Any:
    """What this comes to in the uplink's own loop."""
    try:
        return uplink._loop.run_until_complete(work)
    finally:
        # As `asyncio.run` does: one that is dropped later logs that, in the midst of another test.
        if left := asyncio.all_tasks(uplink._loop):
            for task in left:
                task.cancel()
            uplink._loop.run_until_complete(asyncio.wait(left))
        uplink._outbox.close()
        uplink._loop.close()


def test_each_way_is_tried_at_once_and_has_its_path_and_health(world: World) -> None:
    uplink = uplink_of()
    assert [sender.name for sender in world.senders] == ["a", "b", "c"]
    assert [path.rate for path in uplink._paths] == [5e4, 7e4, 9e4]
    assert uplink._outbox.queue.bandwidth is uplink._paths[0]
    assert len({id(health) for health in uplink._healths}) == 3
    assert (uplink._thread.name, uplink._thread.daemon) == ("uplink", True)
    with pytest.raises(ConfigError, match=r"^an uplink needs a way to a receiver$"):
        Uplink([], MemorySpool(), Counts(), "n1")  # type: ignore[arg-type]
    world.refused = {"c"}
    with pytest.raises(ConfigError, match="c has no token"):
        uplink_of()
    uplink.stop(1.0)  # it was never started
    assert uplink._loop.is_closed()


def test_its_state_is_that_of_the_way_in_use(world: World) -> None:
    uplink = uplink_of()
    uplink._outbox.alerts, uplink._outbox.visuals = {"a"}, {"a", "b"}
    uplink._outbox.questions, uplink._outbox.acknowledged_at = {"a", "b", "c"}, 1.7e9
    uplink._healths[1].connected, uplink._healths[1].problem = True, "slow"
    first = UplinkState("http://a.example", False, 5e4, None, 1, 2, 1.7e9, "", 3, True)
    assert uplink.state == first
    uplink._used = 1
    uplink._paths[1].acknowledged(0.0, 0, 0.25)
    second = UplinkState("http://b.example", True, 7e4, 0.25, 1, 2, 1.7e9, "slow", 3, False)
    assert uplink.state == second
    uplink._loop.close()


def test_a_status_is_the_nodes_own_or_what_the_uplink_knows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.time, "time", lambda: 1.8e9)
    told: list[dict[str, Any]] = [{"schema": 1, "camera": "ü"}]
    uplink = uplink_of(status=lambda: told[0])
    assert uplink._told() == '{"schema":1,"camera":"ü"}'.encode()
    room = module.MAX_STATUS_BYTES - len(b'{"a":""}')
    told[0] = {"a": "x" * room}
    assert len(uplink._told()) == 16_384
    told[0] = {"a": "x" * (room + 1)}
    own = {
        "schema": 1,
        "time": 1.8e9,
        "cameras": {},
        "uplink": {"bytes_per_s": 5e4, "round_trip_s": None},
        "waiting": {"alerts": 0, "visuals": 0},
        "dropped": {},
    }
    assert json.loads(uplink._told()) == own
    assert b" " not in uplink._told()
    assert uplink._counts.of("statuses_cut") == 2
    assert json.loads(uplink_of()._told()) == own


def test_what_is_offered_counts_from_when_it_was_captured(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    uplink = uplink_of()
    added: list[Any] = []
    monkeypatch.setattr(uplink._outbox, "add", lambda *about: added.append(about))
    monkeypatch.setattr(uplink._outbox, "ask", lambda *about: added.append(about))
    monkeypatch.setattr(module.time, "time", lambda: 1.8e9)

    async def go() -> None:
        now = uplink._loop.time()
        uplink.offer(event("a", at=1.8e9 - 5, revision=3), "north")
        uplink.offer(event("b", at=1.8e9 + 5), "north")
        question = Question("a", "north", 3, 0.5, 1.8e9 - 7, "code", "Image.", b"x")
        uplink.ask(question)
        uplink.ask(Question("a", "north", 3, 0.5, 1.8e9 + 7, "code", "Image.", b"x"))
        await asyncio.sleep(0.01)
        (first, camera, revision), (future, _, _), (asked, at), (_, later) = added
        assert (camera, revision, asked) == ("north", 3, question)
        assert 0 <= first.captured_at - (now - 5) < 5
        assert 0 <= future.captured_at - now < 5
        assert 0 <= at - (now - 7) < 5
        assert 0 <= later - now < 5

    run(uplink, go())
    uplink.offer(event("c"), "north")  # the loop has ended: it waits in the spool
    assert len(added) == 4


def test_a_call_that_fails_while_the_uplink_lives_is_a_defect(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    uplink = uplink_of()
    uplink._loop.close()
    monkeypatch.setattr(uplink._thread, "is_alive", lambda: True)
    with pytest.raises(RuntimeError, match="closed"):
        uplink._call(lambda: None)


async def lanes(*outcomes: Any) -> list["asyncio.Task[None]"]:
    async def lane(outcome: Any) -> None:
        await asyncio.sleep(outcome if isinstance(outcome, float) else 0)
        if isinstance(outcome, Exception):
            raise outcome

    return [asyncio.ensure_future(lane(outcome)) for outcome in outcomes]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "LEAVE_SECONDS", 0.1)
    monkeypatch.setattr(module, "RETURN_SECONDS", 0.1)


@pytest.mark.parametrize(("index", "other"), [(0, 1), (1, 2), (2, 0)])
def test_a_way_that_has_failed_for_long_is_left_for_the_next(
    world: World, quick: None, index: int, other: int
) -> None:
    world.dead = set("abc")
    uplink = uplink_of()

    async def go() -> tuple[int, float]:
        began = uplink._loop.time()
        uplink._healths[index].failed(began, "no route")
        found = await uplink._until_left(index, await lanes(20.0))
        return found, uplink._loop.time() - began

    found, took = run(uplink, go())
    assert found == other
    assert 0.1 < took < 5


def test_the_only_way_is_never_left_and_a_defect_of_a_lane_ends_it(
    world: World, quick: None
) -> None:
    uplink = uplink_of(WAYS[0])

    async def go() -> None:
        uplink._healths[0].failed(uplink._loop.time() - 99, "no route")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await uplink._until_left(0, await lanes(20.0))
        with pytest.raises(KeyError):
            await uplink._until_left(0, await lanes(20.0, KeyError("a defect")))

    run(uplink, go())


def test_the_best_way_that_works_again_is_returned_to(world: World, quick: None) -> None:
    uplink = uplink_of(status=lambda: {"schema": 1})
    world.dead = {"a", "b"}

    async def go() -> tuple[int, float]:
        began = uplink._loop.time()
        asyncio.get_running_loop().call_later(0.15, world.dead.discard, "b")
        found = await uplink._until_left(2, await lanes(20.0))
        return found, uplink._loop.time() - began

    found, took = run(uplink, go())
    assert found == 1
    assert 0.2 <= took < 5
    assert [name for name, _ in world.statuses] == ["a", "b"] * 2
    assert uplink._healths[0].problem == "a is dead"
    assert {status for _, status in world.statuses} == {b'{"schema":1}'}
    assert [sender.closed for sender in world.senders[3:]] == [1] * 4
    assert uplink._senders == set()


def test_a_way_without_a_token_does_not_work(world: World) -> None:
    uplink = uplink_of()
    world.refused = {"a"}
    assert run(uplink, uplink._works(0)) is False
    assert world.statuses == []


class Lane:
    """In the place of a lane: runs until it is cancelled, or fails."""

    made: ClassVar[list[Any]] = []
    error: Exception | None = None

    def __init__(self, way: Any, status: Any = None):
        self.made.append((way, status))

    async def run(self) -> None:
        if self.error is not None:
            raise self.error
        await asyncio.sleep(20)


@pytest.fixture
def lane(monkeypatch: pytest.MonkeyPatch) -> type[Lane]:
    class Own(Lane):
        """Of this test."""

        made: ClassVar[list[Any]] = []

    monkeypatch.setattr(module, "AlertLane", Own)
    monkeypatch.setattr(module, "VisualLane", Own)
    return Own


def test_a_way_in_use_has_its_sender_path_and_lanes(
    world: World, lane: type[Lane], quick: None
) -> None:
    uplink = uplink_of()

    async def go() -> int:
        uplink._healths[1].failed(uplink._loop.time() - 99, "long ago")
        asyncio.get_running_loop().call_later(
            0.05, lambda: uplink._healths[1].failed(uplink._loop.time() - 1, "no route")
        )
        world.dead = {"a"}
        return await uplink._use(1)

    assert run(uplink, go()) == 2
    (way, status), (same, none) = lane.made
    assert way is same
    assert (way.sender.name, way.path, way.metered) == ("b", uplink._paths[1], False)
    assert (way.outbox, way.health) == (uplink._outbox, uplink._healths[1])
    assert (status, none) == (uplink._told, None)
    assert uplink._outbox.queue.bandwidth is uplink._paths[1]
    assert way.sender.closed == 1


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Of the uplink itself, each of which is over at once."""
    found: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        found.append(seconds)
        await sleep(0)

    monkeypatch.setattr(module.asyncio, "sleep", pause)
    return found


def test_a_token_that_was_taken_away_is_told_and_the_next_way_used(
    world: World, lane: type[Lane], pauses: list[float]
) -> None:
    uplink = uplink_of()
    world.refused = {"c"}
    assert run(uplink, uplink._use(2)) == 0
    assert pauses == [5.0]
    assert uplink._healths[2].problem == "c has no token"
    assert uplink._healths[2].failing_since is not None
    assert lane.made == []


def test_a_defect_is_logged_counted_and_the_way_tried_anew(
    world: World, lane: type[Lane], pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    uplink = uplink_of()
    lane.error = KeyError("a defect")
    with caplog.at_level(logging.ERROR):
        assert run(uplink, uplink._use(1)) == 1
    assert pauses == [1.0]
    assert uplink._counts.of("uplink_faults", reason="KeyError") == 1
    assert uplink._healths[1].problem == "KeyError('a defect')"
    assert caplog.messages == ["the uplink starts anew"]
    assert uplink._healths[1].failing_since is not None
    assert [sender.closed for sender in world.senders[3:]] == [1]


def test_a_spool_that_cannot_be_read_is_tried_again(
    world: World, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    uplink = uplink_of()
    left: list[Any] = [SpoolError("cannot be read"), SpoolError("cannot be read"), None]
    asked: list[Any] = []

    async def load(now: float, wall: float) -> None:
        asked.append((now, wall))
        if (error := left.pop(0)) is not None:
            raise error

    monkeypatch.setattr(uplink._outbox, "load", load)
    now, wall = uplink._loop.time(), time.time()
    run(uplink, uplink._load())
    assert pauses == [2.0, 2.0]
    assert uplink._healths[0].problem == "cannot be read"
    assert len(asked) == 3
    assert all(0 <= a - now < 5 and 0 <= b - wall < 5 for a, b in asked)


def test_old_visuals_are_looked_for_every_minute(
    world: World, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    uplink = uplink_of()
    expired: list[float] = []

    async def expire() -> None:
        expired.append(len(pauses))
        if len(expired) == 2:
            raise KeyError("enough")

    monkeypatch.setattr(uplink._outbox, "expire", expire)
    with pytest.raises(KeyError):
        run(uplink, uplink._expire())
    assert pauses == [60.0, 60.0]
    assert expired == [1, 2]  # not before the first minute is over


def test_one_way_after_the_other_is_used_from_the_first_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    uplink = uplink_of()
    used: list[int] = []

    async def use(index: int) -> int:
        used.append(index)
        if len(used) == 4:
            raise KeyError("enough")
        return [1, 2, 0][index]

    async def load() -> None:
        used.append(-1)

    monkeypatch.setattr(uplink, "_use", use)
    monkeypatch.setattr(uplink, "_load", load)
    with pytest.raises(KeyError):
        run(uplink, uplink._always())
    assert used == [-1, 0, 1, 2]
    assert uplink._used == 2


def test_the_end_leaves_no_task_and_no_sender(
    world: World, lane: type[Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    uplink = uplink_of()
    uplink._spool.waiting = list  # type: ignore[method-assign]
    uplink.start()
    for _ in range(500):
        if len(lane.made) == 2:
            break
        time.sleep(0.01)
    extra = Sender(world, WAYS[0])
    uplink._senders.add(extra)
    uplink.stop(20.0)
    assert not uplink._thread.is_alive()
    assert uplink._loop.is_closed()
    assert extra.closed == 1
    assert world.senders[3].closed == 1
    assert threading.current_thread() is not uplink._thread
    uplink.stop(1.0)


def test_the_scheme_chooses_the_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    mqtt = SimpleNamespace(MqttSender=lambda *about: about)
    monkeypatch.setitem(sys.modules, "dat_runtime.edge.uplink.mqtt", mqtt)  # type: ignore[arg-type]
    for url in ("mqtt://h", "mqtts://h"):
        way = UplinkSettings(url, None, 1e5)
        assert sender_of(way, "n1") == (way, "n1")
    sender = sender_of(WAYS[0], "n1")
    assert isinstance(sender, HttpSender)
    assert sender._node == "n1"
    monkeypatch.setitem(sys.modules, "dat_runtime.edge.uplink.mqtt", None)
    with pytest.raises(ConfigError) as caught:
        sender_of(UplinkSettings("mqtt://h", None, 1e5), "n1")
    assert str(caught.value) == "MQTT needs a package: pip install 'dat-runtime[mqtt]'"
