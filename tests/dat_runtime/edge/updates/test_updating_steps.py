"""Each step of an installation and of a rollback, with bundles and canary frames that are none."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime.edge.updates import compatibility, switch, updating
from dat_runtime.edge.updates.coming import Coming
from dat_runtime.edge.updates.switch import Probation, Signed, State
from dat_runtime.edge.updates.updating import install, rollback
from dat_runtime.edge.updates.versions import Versions
from dat_runtime.errors import ConfigError, ManifestError, ModelError
from tests.export.repository.small_repository import terms

OWN, NEW, ADAPTER = "0" * 16, "b" * 16, "c" * 16
TAKEN = "a running node takes it within seconds"


class World:
    """A node whose bundles are empty folders, each named as its version."""

    def __init__(self, root: Path, patched: pytest.MonkeyPatch):
        self.own = root / OWN
        self.own.mkdir()
        self.settings: Any = SimpleNamespace(bundle=self.own)
        self.versions = Versions(self.own)
        self.found: dict[str, Any] = {}
        self.coming: Coming | None = None
        self.asked: list[tuple[object, ...]] = []
        self.canary: str | None = None
        self.here = compatibility.Here("1")

        def read_node(node: Path) -> Any:
            assert node == Path("node.yaml")
            return self.settings

        def open_bundle(folder: Path) -> Any:
            found = self.found.get(self.version_of(folder), bundle())
            if isinstance(found, Exception):
                raise found
            return found

        def fetched(*given: object) -> Coming | None:
            self.asked.append(("fetched", *given[2:]))
            assert given[0] is self.settings
            if self.coming is not None:  # an installation begins by clearing what is coming
                self.coming.folder.mkdir()
            return self.coming

        def add(versions: Versions, coming: Path) -> str:
            version = self.version_of(coming)
            place = versions.folder_of(version)
            place.parent.mkdir(parents=True, exist_ok=True)
            coming.rename(place)
            return version

        class Canary:
            def __init__(canary, settings: object, versions: object):
                assert settings is self.settings

            def objection(canary, version: str, adapter: str) -> str | None:
                assert (self.versions.folder_of(version)).is_dir()
                self.asked.append(("canary", version, adapter))
                return self.canary

        patched.setattr(updating, "read_node", read_node)
        patched.setattr(updating, "open_bundle", open_bundle)
        patched.setattr(updating, "version_of", self.version_of)
        patched.setattr(updating, "fetched", fetched)
        patched.setattr(updating, "Canary", Canary)
        patched.setattr(updating, "adapter_of", lambda told: 16 * told)
        patched.setattr(updating, "here", lambda versions, state: self.here)
        patched.setattr(updating, "time", SimpleNamespace(time=lambda: 99.5))
        patched.setattr(Versions, "add", add)

    def version_of(self, folder: Path) -> str:
        return OWN if folder.name == "bundle" else folder.name

    def install(self, source: str | None = None, **options: Any) -> int:
        return install(Path("node.yaml"), source, **options)


def bundle(**changes: Any) -> Any:
    adapter = {"base": "base", "revision": "0" * 40, "rank": 8} | changes
    return SimpleNamespace(
        adapter=SimpleNamespace(**adapter), manifest="c", not_fit=changes.get("not_fit")
    )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def comes(world: World, offer: Any = None) -> None:
    world.coming = Coming(world.versions.incoming / NEW, offer)


def test_a_version_is_kept_tried_and_switched_to(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    comes(world)
    assert world.install("there", unsigned=True) == 0
    assert world.asked == [("fetched", "there", True), ("canary", NEW, ADAPTER)]
    assert world.versions.state() == State(
        current=NEW, previous=OWN, probation=Probation(99.5), served=ADAPTER
    )
    bundles = world.versions.folder / "bundles"
    assert sorted(path.name for path in bundles.iterdir()) == [OWN, NEW]
    assert not world.versions.incoming.exists()
    assert capsys.readouterr().out.splitlines() == [
        f"kept      {world.own} as {OWN}",
        f"current   {NEW}: {TAKEN}, on probation",
    ]


def test_where_nothing_comes_nothing_changes(world: World) -> None:
    assert world.install() == 0
    assert world.asked == [("fetched", None, False)]
    assert world.versions.state() == State(current=OWN, served=ADAPTER)


def test_a_signed_version_is_remembered_with_its_release(world: World) -> None:
    comes(world, SimpleNamespace(release=7, terms=terms(processor="9" * 64)))
    assert world.install() == 0
    assert world.versions.state().signed == {NEW: Signed(7, "9" * 64)}


def test_what_was_kept_once_is_not_kept_again(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.versions.change(lambda _: State(current=NEW))
    assert world.install() == 0
    assert world.versions.state() == State(current=NEW)
    world.versions.change(lambda _: State())
    world.own.rmdir()
    assert world.install() == 0
    assert world.versions.state() == State()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [ManifestError("changed"), ModelError("broken")])
def test_a_first_bundle_that_is_broken_is_noted(
    world: World, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    world.found[OWN] = error
    comes(world)
    assert world.install() == 0
    assert (world.versions.state().current, world.versions.state().previous) == (NEW, None)
    assert f"note      {world.own} is not kept: {error}\n" in capsys.readouterr().out


def test_the_version_at_work_is_not_tried_again(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    state = world.versions.change(lambda _: State(current=NEW))
    comes(world)
    assert world.install() == 0
    assert world.versions.state() == state
    assert world.asked == [("fetched", None, False)]
    assert capsys.readouterr().out == f"current   {NEW}: it is at work already\n"


def refused(world: World, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said where an installation is refused; the version at work stays."""
    assert world.install() == 3
    assert world.versions.state().current == OWN
    assert not world.versions.incoming.exists()
    (line,) = [text for text in capsys.readouterr().out.splitlines() if "refused" in text]
    return line


def test_a_blocked_version_is_refused_until_it_is_unblocked(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.versions.change(lambda _: State(current=OWN, blocked={NEW: "NaN"}))
    comes(world)
    words = f"refused   {NEW} is blocked (NaN): --unblock {NEW}"
    assert refused(world, capsys) == words
    assert world.install(unblock=NEW) == 0
    assert world.versions.state().current == NEW
    assert world.versions.state().blocked == {}
    with pytest.raises(ConfigError, match=rf"^{NEW} is not blocked \(blocked: none\)$"):
        world.install(unblock=NEW)


@pytest.mark.parametrize(
    ("found", "offer", "canary", "words"),
    [
        (ModelError("gate.onnx: broken"), None, None, "gate.onnx: broken"),
        (ManifestError("a changed"), None, None, "a changed"),
        (bundle(), None, "the gate sees nothing", "the gate sees nothing"),
        (bundle(rank=9), terms(), None, "its terms state rank 8, its adapter has 9"),
    ],
)
def test_what_speaks_against_a_version_blocks_it(
    world: World,
    capsys: pytest.CaptureFixture[str],
    found: Any,
    offer: Any,
    canary: str | None,
    words: str,
) -> None:
    world.found[NEW], world.canary = found, canary
    comes(world, offer and SimpleNamespace(release=7, terms=offer))
    said = refused(world, capsys)
    assert said == f"refused   {NEW} {words}; it stays blocked until --unblock {NEW}"
    assert world.versions.state().blocked == {NEW: words}


def test_a_bundle_of_another_base_is_refused_and_not_blocked(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.here = compatibility.Here("1", "mine", "main")
    comes(world)
    words = f"refused   {NEW} is for base, revision {'0' * 40}, this node has mine, revision main: "
    assert refused(world, capsys).startswith(words)
    assert world.versions.state().blocked == {}


def test_a_bundle_that_is_not_fit_for_use_is_taken_with_a_warning(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.found[NEW] = bundle(not_fit="made for tests")
    comes(world)
    assert world.install() == 0
    assert f"warning   {NEW} is NOT FIT FOR USE: made for tests\n" in capsys.readouterr().out


def test_a_rollback_blocks_the_current_version(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"{world.versions.folder}: there is no previous version to return to"
    for state in (State(), State(current=NEW), State(previous=NEW)):
        world.versions.change(lambda _, state=state: state)
        with pytest.raises(ConfigError, match=f"^{re.escape(words)}$"):
            rollback(Path("node.yaml"))
    world.versions.change(lambda _: State(current=NEW, previous=OWN))
    world.found[OWN] = bundle(not_fit="made for tests")
    assert rollback(Path("node.yaml")) == 0
    assert world.versions.state() == State(current=OWN, blocked={NEW: "rolled back by hand"})
    assert capsys.readouterr().out.splitlines() == [
        f"warning   {OWN} is NOT FIT FOR USE: made for tests",
        f"current   {OWN}: {TAKEN}",
    ]


def test_a_rollback_that_a_running_node_was_quicker_with_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.versions.change(lambda _: State(current=NEW, previous=OWN))
    change = Versions.change

    def late(versions: Versions, step: Callable[[State], State]) -> State:
        change(versions, lambda state: switch.returned(state, "complaint"))
        return change(versions, step)

    monkeypatch.setattr(Versions, "change", late)
    words = f"{world.versions.folder}: there is no previous version to return to"
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}$"):
        rollback(Path("node.yaml"))


def test_a_previous_version_that_is_broken_is_not_returned_to(world: World) -> None:
    state = world.versions.change(lambda _: State(current=NEW, previous=OWN))
    world.found[OWN] = ModelError("broken")
    with pytest.raises(ModelError, match=r"^broken$"):
        rollback(Path("node.yaml"))
    assert world.versions.state() == state
