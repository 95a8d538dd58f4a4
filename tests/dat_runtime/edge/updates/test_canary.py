"""What speaks against a version, with trials and a server that are none."""

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime.edge.node_settings import MllmSettings
from dat_runtime.edge.updates import canary
from dat_runtime.edge.updates.adapters import AdapterRefused, ServerAway
from dat_runtime.edge.updates.canary import Canary
from dat_runtime.edge.updates.probation import Measured
from dat_runtime.edge.updates.switch import State
from dat_runtime.edge.updates.trial import TrialError, Tried
from dat_runtime.errors import ManifestError

OLD, NEW = "a" * 16, "b" * 16
FRAMES = (Path("1.jpg"), Path("2.jpg"))
GOOD = Tried(Measured(2), 2)


class Server:
    """Keeps what it was asked to do."""

    def __init__(self, mllm: MllmSettings):
        assert mllm.url == "http://h/v1"
        self.calls: list[tuple[object, ...]] = []
        self.error: Exception | None = None

    def load(self, name: str, adapter: Path) -> None:
        self.calls.append(("load", name, adapter))
        if self.error is not None:
            raise self.error

    def unload(self, name: str) -> None:
        self.calls.append(("unload", name))


class World:
    """Versions whose adapters are named by themselves, and what trials of them come to."""

    def __init__(self, patched: pytest.MonkeyPatch, mllm: MllmSettings | None, state: State):
        self.found: dict[str, Tried | Exception] = {OLD: GOOD, NEW: GOOD}
        self.tried: list[tuple[str, str | None]] = []
        self.adapters = {OLD: "x", NEW: "y"}
        self.settings: Any = SimpleNamespace(mllm=mllm)
        versions: Any = SimpleNamespace(
            state=lambda: state, folder_of=lambda version: Path("/v") / version
        )

        def try_version(bundle: Path, frames: object, settings: object, model: str | None) -> Tried:
            assert (frames, settings) == (FRAMES, self.settings)
            self.tried.append((bundle.name, model))
            found = self.found[bundle.name]
            if isinstance(found, Exception):
                raise found
            return found

        def read(folder: Path) -> str:
            return folder.name

        patched.setattr(canary, "canary_frames", lambda settings: FRAMES)
        patched.setattr(canary, "try_version", try_version)
        patched.setattr(canary, "Server", Server)
        patched.setattr(canary.manifest, "read", read)
        patched.setattr(canary, "adapter_of", lambda name: self.adapters[name])
        self.canary = Canary(self.settings, versions)
        self.server = self.canary._server

    def objection(self) -> str | None:
        return self.canary.objection(NEW, "y")


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    def world(mllm: MllmSettings | None = None, **state: Any) -> World:
        return World(monkeypatch, mllm, State(**({"current": OLD} | state)))

    return world


ASKED = MllmSettings("http://h/v1", "dat")
LOAD_OLD = ("load", "dat-x", Path("/v") / OLD / "adapter")
LOAD_NEW = ("load", "dat-y", Path("/v") / NEW / "adapter")


def test_both_versions_are_tried_and_nothing_speaks_against_the_new_one(
    make: Callable[..., World], capsys: pytest.CaptureFixture[str]
) -> None:
    world = make()
    assert world.objection() is None
    assert world.tried == [(OLD, None), (NEW, None)]
    assert capsys.readouterr().out == f"trying    {NEW} on 2 canary frames\n"


class Stream(io.StringIO):
    """Knows how much of it was flushed."""

    flushed = 0

    def flush(self) -> None:
        self.flushed = len(self.getvalue())


def test_what_takes_its_time_is_said_before_it_begins(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, out = make(), Stream()
    seen: list[int] = []
    tries = canary.try_version

    def try_version(*given: Any) -> Tried:
        assert out.flushed == len(out.getvalue())
        seen.append(out.flushed)
        return tries(*given)

    world.found[OLD] = TrialError("too slow")
    monkeypatch.setattr(canary, "try_version", try_version)
    monkeypatch.setattr("sys.stdout", out)
    assert world.objection() is None
    assert seen[0] < seen[1]


def test_the_first_version_is_tried_alone(make: Callable[..., World]) -> None:
    world = make(current=None)
    assert world.objection() is None
    assert world.tried == [(NEW, None)]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Tried(Measured(2, 1), 2), "the gate failed on 1 of 2 canary frames"),
        (Tried(Measured(2), 0), "the gate sees something on 0 canary frames, 2 before"),
        (TrialError("gate.onnx: broken"), "gate.onnx: broken"),
    ],
)
def test_what_a_trial_finds_is_the_objection(
    make: Callable[..., World], found: Tried | Exception, words: str
) -> None:
    world = make()
    world.found[NEW] = found
    assert world.objection() == words


@pytest.mark.parametrize("error", [TrialError("too slow\x1b"), ManifestError("changed\x1b")])
def test_a_version_at_work_that_cannot_be_tried_is_noted_and_does_not_count(
    make: Callable[..., World], error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    world = make()
    world.found[OLD] = error
    world.found[NEW] = Tried(Measured(2), 0)  # fewer than nothing there are not
    assert world.objection() is None
    assert capsys.readouterr().out.splitlines()[0] == (
        rf"note      {OLD} cannot be tried beside it: {str(error)[:-1]}\x1b"
    )


def test_each_version_is_asked_under_its_own_name_which_stays_loaded(
    make: Callable[..., World],
) -> None:
    world = make(ASKED)
    assert world.objection() is None
    assert world.tried == [(OLD, "dat-x"), (NEW, "dat-y")]
    assert world.server is not None
    assert world.server.calls == [LOAD_OLD, LOAD_NEW]  # type: ignore[attr-defined]


def test_what_the_server_began_with_needs_no_loading(make: Callable[..., World]) -> None:
    world = make(ASKED, served="x")
    assert world.objection() is None
    assert world.tried == [(OLD, "dat"), (NEW, "dat-y")]
    assert world.server.calls == [LOAD_NEW]  # type: ignore[union-attr]


def test_an_adapter_that_is_not_taken_is_unloaded_but_not_the_plain_one(
    make: Callable[..., World],
) -> None:
    world = make(ASKED)
    world.found[NEW] = Tried(Measured(2, 1), 2)
    assert world.objection() is not None
    assert world.server.calls == [LOAD_OLD, LOAD_NEW, ("unload", "dat-y")]  # type: ignore[union-attr]
    plain = make(ASKED, served="y")
    plain.found[NEW] = Tried(Measured(2, 1), 2)
    assert plain.objection() is not None
    assert plain.tried == [(OLD, "dat-x"), (NEW, "dat")]
    assert plain.server.calls == [LOAD_OLD]  # type: ignore[union-attr]


def test_an_adapter_that_the_server_refuses_is_not_tried(make: Callable[..., World]) -> None:
    world = make(ASKED, served="x")
    assert world.server is not None
    world.server.error = AdapterRefused("rank 64")  # type: ignore[attr-defined]
    assert world.objection() == "rank 64"
    assert world.tried == [(OLD, "dat")]


def test_a_server_that_is_away_speaks_against_no_version(make: Callable[..., World]) -> None:
    world = make(ASKED, served="x")
    world.server.error = ServerAway("away")  # type: ignore[union-attr]
    with pytest.raises(ServerAway):
        world.objection()


def test_where_only_a_restart_brings_the_adapter_the_gate_is_tried_alone(
    make: Callable[..., World],
) -> None:
    restarted = MllmSettings("http://h/v1", "dat", restart=("x",))
    world = make(restarted, served="x")
    assert world.objection() is None
    assert world.tried == [(OLD, None), (NEW, None)]
    same = make(restarted, served="y")
    assert same.objection() is None
    assert same.tried == [(OLD, "dat"), (NEW, "dat")]


def test_a_recorded_answer_is_asked_of_nobody(make: Callable[..., World]) -> None:
    world = make(MllmSettings(recorded=Path("answer.json")))
    assert world.objection() is None
    assert world.tried == [(OLD, None), (NEW, None)]
