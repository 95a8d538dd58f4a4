"""Each step of following a version, with a node, a server and a disk that are none."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime.edge.node_settings import MllmSettings
from dat_runtime.edge.updates import serving, switch
from dat_runtime.edge.updates.adapters import AdapterRefused, NoRuntimeLoading, ServerAway
from dat_runtime.edge.updates.at_work import AtWork
from dat_runtime.edge.updates.probation import Measured, Tally
from dat_runtime.edge.updates.serving import Follower
from dat_runtime.edge.updates.switch import Looked, State
from dat_runtime.edge.updates.versions import VersionsError
from dat_runtime.errors import ModelError

OLD, NEW = "a" * 16, "b" * 16
URL = "http://h/v1"


class Disk:
    """In the place of `Versions`: the state in memory; `error` is raised by the next write."""

    def __init__(self, folder: Path, state: State):
        self.folder = folder
        self.now = state
        self.error: VersionsError | None = None

    def state(self) -> State:
        if self.error is not None:
            raise self.error
        return self.now

    def change(self, step: Callable[[State], State]) -> State:
        if self.error is not None:
            raise self.error
        self.now = step(self.now)
        return self.now

    def folder_of(self, version: str) -> Path:
        return self.folder / version


class Node:
    """Takes what it is given at once, or never; keeps what it was given."""

    def __init__(self) -> None:
        self.taken: list[tuple[object, object]] = []
        self.takes = True

    def take(self, gate: object, assessor: object) -> threading.Event:
        self.taken.append((gate, assessor))
        event = threading.Event()
        if self.takes:
            event.set()
        return event


class Server:
    """Keeps what it was asked to do; `errors` name the calls that fail."""

    def __init__(self, mllm: MllmSettings):
        self.mllm = mllm
        self.calls: list[tuple[object, ...]] = []
        self.errors: dict[str, Exception] = {}

    def _do(self, *call: object) -> None:
        self.calls.append(call)
        if call[0] in self.errors:
            raise self.errors[str(call[0])]

    def load(self, name: str, adapter: Path) -> None:
        self._do("load", name, adapter)

    def unload(self, name: str) -> None:
        self._do("unload", name)

    def restart(self) -> None:
        self._do("restart")


class Asking:
    """Is free, or not."""

    def __init__(self) -> None:
        self.free = True
        self.waits: list[tuple[object, float]] = []

    def wait_until_free(self, assessor: object, seconds: float) -> bool:
        self.waits.append((assessor, seconds))
        return self.free


def at_work(version: str, adapter: str = "x", model: str | None = "dat") -> AtWork:
    gate: Any = SimpleNamespace(tally=Tally(), version=version)
    return AtWork(version, adapter, gate, model, f"asks for {version}")  # type: ignore[arg-type]


class World:
    """A follower with all that it follows."""

    def __init__(self, folder: Path, patched: pytest.MonkeyPatch, mllm: MllmSettings | None):
        self.disk = Disk(folder, State(current=OLD))
        self.node, self.asking = Node(), Asking()
        self.old = at_work(OLD)
        self.coming: dict[str, AtWork | Exception] = {OLD: self.old, NEW: at_work(NEW)}
        self.opened: list[Path] = []
        self.clock = 1000.0

        def open_version(folder: Path, settings: object, state: State) -> AtWork:
            assert settings is self.settings
            assert state == self.disk.now
            self.opened.append(folder)
            found = self.coming[folder.name]
            if isinstance(found, Exception):
                raise found
            return found

        patched.setattr(serving, "open_version", open_version)
        patched.setattr(serving, "Server", Server)
        patched.setattr(serving, "time", SimpleNamespace(monotonic=lambda: self.clock))
        self.settings: Any = SimpleNamespace(mllm=mllm, updates=None)
        given: Any = (self.settings, self.disk, self.node, self.asking, self.old)
        self.follower = Follower(*given)

    @property
    def server(self) -> Server:
        server = self.follower._server
        assert isinstance(server, Server)
        return server

    def switch(self) -> None:
        self.disk.now = switch.switched(self.disk.now, NEW, 5.0)

    def look(self) -> Mapping[str, Any]:
        self.follower.look()
        return self.follower.status()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    def world(mllm: MllmSettings | None = None) -> World:
        return World(tmp_path, monkeypatch, mllm)

    return world


LOADS = MllmSettings(URL, "dat", timeout=7.0)
RESTARTS = MllmSettings(URL, "dat", timeout=7.0, restart=("x",))


def test_a_status_says_all_of_the_version_and_the_last_look(make: Callable[..., World]) -> None:
    world = make()
    told = {
        "version": OLD,
        "not_fit": None,
        "model": "dat",
        "previous": None,
        "probation": False,
        "blocked": 0,
        "checked_at": None,
        "stale": False,
        "problem": None,
    }
    assert world.follower.status() == told
    state = switch.switched(State(current=NEW), OLD, 5.0)
    world.disk.now = replace(state, blocked={"c" * 16: "why"}, looked=Looked(9.5, "away", True))
    told |= {"previous": NEW, "probation": True, "blocked": 1}
    told |= {"checked_at": 9.5, "stale": True, "problem": "away"}
    assert world.follower.status() == told
    world.follower._tell("worse")
    assert world.follower.status() == told | {"problem": "worse"}
    world.disk.error = VersionsError("damaged")
    assert world.follower.status()["problem"] == "damaged"
    assert world.follower.status()["previous"] is None


def test_a_node_without_versions_follows_none(make: Callable[..., World]) -> None:
    world = make(LOADS)
    world.disk.now = State()
    world.look()
    assert (world.opened, world.node.taken, world.server.calls) == ([], [], [])


def test_a_version_is_taken_with_its_gate_and_its_mllm_at_once(
    make: Callable[..., World], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = make(LOADS)
    new = at_work(NEW, "y", "dat-y")
    world.coming[NEW] = new
    world.old.gate.tally.looked(0.5)
    world.switch()
    assert world.look()["version"] == NEW
    assert world.opened == [tmp_path / NEW]
    assert world.node.taken == [(new.gate, new.assessor)]
    assert world.server.calls[0] == ("load", "dat-y", tmp_path / NEW / "adapter")
    assert ("unload", "dat") not in world.server.calls  # the server was started with it
    probation = world.disk.now.probation
    assert probation is not None
    assert probation.baseline == Measured(1, 0, 0.5)
    assert f"version {NEW} is at work, after {OLD}" in caplog.messages


def test_what_nobody_asks_any_more_is_unloaded(
    make: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make(LOADS)
    world.old = at_work(OLD, "y", "dat-y")
    world.follower._at_work = world.old
    world.follower._mend_at = 2000.0
    world.coming[NEW] = at_work(NEW, "z", "dat-z")
    world.switch()
    world.server.errors["unload"] = ServerAway("gone")
    world.look()
    assert world.server.calls[1:] == [("unload", "dat-y")]
    assert world.asking.waits == [(world.old.assessor, 9.0)]
    assert caplog.messages[-1] == "adapter dat-y stays loaded: gone"


@pytest.mark.parametrize("why", ["busy", "same", "nobody", "no asking", "no assessor"])
def test_what_may_still_be_asked_stays_loaded(make: Callable[..., World], why: str) -> None:
    world = make(LOADS)
    before = at_work(OLD, "y", None if why == "nobody" else "dat-y")
    if why == "no assessor":
        before = replace(before, assessor=None)
    world.follower._at_work = before
    world.follower._mend_at = 2000.0
    world.coming[NEW] = at_work(NEW, "z", "dat-y" if why == "same" else "dat-z")
    world.asking.free = why != "busy"
    if why == "no asking":
        world.follower._asking = None
    world.switch()
    world.look()
    unloaded = [call for call in world.server.calls if call[0] == "unload"]
    assert unloaded == ([("unload", "dat-y")] if why in ("no asking", "no assessor") else [])
    assert world.follower.status()["version"] == NEW


def test_where_the_adapter_stays_the_same_its_connections_stay_too(
    make: Callable[..., World],
) -> None:
    world = make(LOADS)
    new = at_work(NEW)  # another gate only
    world.coming[NEW] = new
    world.switch()
    world.follower._mend_at = 2000.0
    world.look()
    assert world.node.taken == [(new.gate, world.old.assessor)]
    assert world.server.calls == []


@pytest.mark.parametrize("changes", [{"adapter": "y"}, {"model": "dat-y"}])
def test_another_adapter_or_name_is_asked_anew(
    make: Callable[..., World], changes: dict[str, str]
) -> None:
    world = make(LOADS)
    world.coming[NEW] = at_work(NEW, **changes)
    world.switch()
    world.look()
    assert world.node.taken[0][1] == f"asks for {NEW}"


def test_a_server_that_is_away_gets_the_adapter_later(
    make: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make(LOADS)
    world.coming[NEW] = at_work(NEW, "y", "dat-y")
    world.server.errors["load"] = ServerAway("nobody there")
    world.follower._mend_at = 2000.0
    world.switch()
    told = world.look()
    assert (told["version"], told["problem"]) == (NEW, "nobody there")
    assert world.follower._mend_at == 1001.0
    world.look()
    assert len(world.server.calls) == 1  # not yet
    world.clock = 1001.0
    world.look()
    assert len(world.server.calls) == 2
    assert world.follower._mend_at == 1011.0
    assert caplog.messages.count("nobody there") == 1  # once for each problem
    world.clock = 1011.0
    del world.server.errors["load"]
    assert world.look()["problem"] is None
    assert world.server.calls[-1] == ("load", "dat-y", world.disk.folder / NEW / "adapter")


@pytest.mark.parametrize("error", [AdapterRefused("rank 64"), ModelError("broken", "gate.onnx")])
def test_a_version_that_cannot_be_used_is_given_back_and_blocked(
    make: Callable[..., World], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    world = make(LOADS)
    if isinstance(error, ModelError):
        world.coming[NEW] = error
    else:
        world.coming[NEW] = at_work(NEW, "y", "dat-y")
        world.server.errors["load"] = error
    world.switch()
    assert world.look()["version"] == OLD
    assert world.node.taken == []
    assert (world.disk.now.current, world.disk.now.blocked) == (OLD, {NEW: str(error)})
    assert f"version {NEW} is given back: {error}" in caplog.messages


def test_a_first_version_that_cannot_be_used_is_tried_once(
    make: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make()
    world.coming[NEW] = ModelError("broken")
    world.disk.now = State(current=NEW)
    for _ in range(3):
        world.look()
    assert len(world.opened) == 1
    assert world.disk.now == State(current=NEW)
    assert f"version {NEW} is not taken, there is none before it" in caplog.messages


def test_another_that_became_the_current_one_meanwhile_is_not_given_back(
    make: Callable[..., World],
) -> None:
    world = make()
    world.switch()
    before = world.disk.now
    world.follower._give_back(OLD, "why")
    assert world.disk.now == before


def test_a_node_that_ends_takes_nothing_more(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "LOOK_SECONDS", 0.01)
    world = make()
    world.node.takes = False
    world.switch()
    world.follower._stop.set()
    assert world.look()["version"] == OLD
    probation = world.disk.now.probation
    assert probation is not None
    assert probation.baseline is None


def test_a_server_that_takes_no_adapters_is_started_again_while_the_gate_tells_alone(
    make: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = make(RESTARTS)
    new = at_work(NEW, "y")
    world.coming[NEW] = new
    world.disk.now = replace(world.disk.now, served="x")
    world.follower._mend_at = 2000.0
    world.switch()
    world.look()
    assert world.node.taken == [(world.old.gate, None), (new.gate, new.assessor)]
    assert world.server.calls == [("restart",)]
    assert world.asking.waits[0] == (world.old.assessor, 9.0)
    assert world.disk.now.served == "y"
    assert "the MLLM's server is started again, for adapter y" in caplog.messages
    # One that does not come again: what it serves is not known.
    world.server.errors["restart"] = ServerAway("does not come")
    world.disk.now = switch.switched(world.disk.now, OLD, 6.0)
    world.look()
    assert world.disk.now.served is None
    assert world.disk.now.blocked == {OLD: "does not come"}


def test_the_server_is_mended_now_and_then(make: Callable[..., World]) -> None:
    world = make(LOADS)
    world.old = at_work(OLD, "y", "dat-y")
    world.follower._at_work = world.old
    loaded = ("load", "dat-y", world.disk.folder / OLD / "adapter")
    for clock, calls in ((1000.0, 1), (1009.9, 1), (1010.0, 2), (1020.0, 3)):
        world.clock = clock
        world.look()
        assert world.server.calls == [loaded] * calls
    world.follower._at_work = replace(world.old, model=None)
    world.clock = 1030.0
    world.look()
    world.follower._at_work = replace(world.old, model="dat")  # its plain name is always there
    world.clock = 1040.0
    world.look()
    world.follower._at_work = world.old
    world.follower._given_up = NEW
    world.disk.now = State(current=NEW)  # which is not at work: its adapter is not its own
    world.clock = 1050.0
    world.look()
    assert len(world.server.calls) == 3


@pytest.mark.parametrize(
    "error", [ServerAway("away"), AdapterRefused("no"), NoRuntimeLoading("off")]
)
def test_what_cannot_be_mended_is_told_and_tried_again(
    make: Callable[..., World], error: Exception
) -> None:
    world = make(LOADS)
    world.follower._at_work = at_work(OLD, "y", "dat-y")
    world.server.errors["load"] = error
    assert world.look()["problem"] == str(error)
    assert world.follower._mend_at == 1010.0
    again = make(RESTARTS)
    again.server.errors["restart"] = ServerAway("away")
    again.disk.now = replace(again.disk.now, served="other")
    assert again.look()["problem"] == "away"
    assert again.follower._mend_at == 1060.0
    del again.server.errors["restart"]
    again.clock = 1060.0
    assert again.look()["problem"] is None
    assert again.disk.now.served == "x"
    assert again.node.taken[-2:] == [(again.old.gate, None), (again.old.gate, again.old.assessor)]
    calls = list(again.server.calls)
    again.clock = 1070.0
    again.look()
    assert again.server.calls == calls  # it has the adapter


def on_probation(world: World, frames: int = 0, failures: int = 0) -> None:
    world.disk.now = switch.switched(State(current=NEW), OLD, 5.0)
    for number in range(frames):
        world.old.gate.tally.looked(0.1, failed=number < failures)


def test_a_version_is_kept_after_its_time_and_its_frames(
    make: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = make()
    world.settings.updates = SimpleNamespace(probation_minutes=2, probation_frames=60)
    on_probation(world, 59)
    world.clock = 1000.0 + 121
    world.look()
    assert world.disk.now.probation is not None
    world.old.gate.tally.looked(0.1)
    world.clock = 1000.0 + 119.9
    world.look()
    assert world.disk.now.probation is not None
    world.clock = 1000.0 + 120
    assert world.look()["probation"] is False
    assert f"version {OLD} is kept" in caplog.messages
    assert world.disk.now == State(current=OLD, previous=NEW)


def test_without_settings_of_updates_the_usual_time_and_frames_count(
    make: Callable[..., World],
) -> None:
    world = make()
    on_probation(world, serving.PROBATION_FRAMES)
    world.clock = 1000.0 + 60 * serving.PROBATION_MINUTES - 0.1
    world.look()
    assert world.disk.now.probation is not None
    world.clock += 0.2
    world.look()
    assert world.disk.now.probation is None


def test_a_version_at_work_that_does_worse_is_given_back(make: Callable[..., World]) -> None:
    world = make()
    on_probation(world, 100, 6)
    world.look()
    assert world.disk.now.blocked == {OLD: "the gate failed on 6 of 100 frames"}
    assert world.disk.now.current == NEW
    assert world.look()["version"] == NEW


def test_the_time_on_probation_begins_when_the_node_takes_the_version(
    make: Callable[..., World],
) -> None:
    world = make()
    world.clock = 5000.0
    world.switch()
    world.look()
    assert world.follower._since == 5000.0


def test_a_thread_looks_until_the_node_ends_as_asked(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serving, "LOOK_SECONDS", 0.001)
    world = make()
    world.disk.now = switch.started(switch.switched(State(current=OLD), NEW, 5.0))
    faults: list[Exception] = [VersionsError("damaged"), KeyError("a defect")]
    looked: list[str] = []

    def look() -> None:
        looked.append("x")
        if faults:
            raise faults.pop(0)

    monkeypatch.setattr(world.follower, "look", look)
    world.follower.start()
    deadline = time.monotonic() + 30
    while len(looked) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert world.follower._thread.daemon
    assert world.follower._thread.name == "versions"
    world.follower.stop(30)
    assert not world.follower._thread.is_alive()
    assert caplog.messages == ["damaged", "the versions could not be followed"]
    assert world.follower.status()["problem"] == "damaged"
    probation = world.disk.now.probation
    assert probation is not None
    assert probation.starts == 0


def test_a_node_that_never_started_following_ends_quietly(
    make: Callable[..., World], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    world = make()
    world.disk.error = VersionsError("no room")
    world.follower.stop()
    assert caplog.messages == ["no room"]
    world.disk.folder = tmp_path / "none"
    world.follower.stop()
    assert caplog.messages == ["no room"]
