"""The versions on a node's disk: what is written, in which order, and what is refused."""

import errno
import fcntl
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.bundle_variants import tiny_bundle, variant
from dat_runtime import manifest
from dat_runtime.edge.updates import switch, versions
from dat_runtime.edge.updates.switch import State
from dat_runtime.edge.updates.versions import Versions, VersionsError, version_of
from dat_runtime.errors import ManifestError

A, B, C = ("a" * 16, "b" * 16, "c" * 16)


@pytest.fixture
def beside(tmp_path: Path) -> Versions:
    return Versions(tmp_path / "bundle")


def current(state: State, version: str) -> State:
    return replace(state, current=version)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_made_before_something_is_installed(tmp_path: Path, beside: Versions) -> None:
    assert beside.folder == tmp_path / "bundle.versions"
    assert beside.folder_of(A) == tmp_path / "bundle.versions" / "bundles" / A
    assert beside.incoming == tmp_path / "bundle.versions" / "incoming"
    assert beside.state() == State()
    beside.prune()
    assert names(tmp_path) == []


def test_a_step_is_written_and_the_link_follows_it(beside: Versions) -> None:
    state = beside.change(lambda state: current(state, A))
    assert state == beside.state() == State(current=A)
    assert names(beside.folder) == ["current", "state.json", "state.lock"]
    text = (beside.folder / "state.json").read_text()
    assert text.startswith('{\n "schema": 1,\n')
    assert text.endswith("\n}\n")
    assert os.readlink(beside.folder / "current") == f"bundles/{A}"
    beside.change(lambda state: current(state, B))
    assert os.readlink(beside.folder / "current") == f"bundles/{B}"
    (beside.folder / "current").unlink()
    (beside.folder / ".current.new").symlink_to("left by a kill")
    beside.change(lambda state: state)
    assert os.readlink(beside.folder / "current") == f"bundles/{B}"
    assert names(beside.folder) == ["current", "state.json", "state.lock"]


def test_a_step_that_changes_nothing_writes_nothing(beside: Versions) -> None:
    beside.change(lambda state: state)
    assert names(beside.folder) == ["state.lock"]
    beside.change(lambda state: current(state, A))
    before = [os.stat(beside.folder / n, follow_symlinks=False) for n in ("state.json", "current")]
    beside.change(lambda state: state)
    after = [os.stat(beside.folder / n, follow_symlinks=False) for n in ("state.json", "current")]
    assert [one.st_ino for one in after] == [one.st_ino for one in before]


def test_a_step_that_fails_leaves_the_state_and_the_lock_is_given_back(beside: Versions) -> None:
    beside.change(lambda state: current(state, A))
    with pytest.raises(ValueError, match="no previous version"):
        beside.change(lambda state: switch.returned(state, "why"))
    assert beside.change(lambda state: state) == State(current=A)


def test_a_state_is_not_larger_than_a_megabyte(
    beside: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside.change(lambda state: current(state, A))
    file = beside.folder / "state.json"
    size = file.stat().st_size
    monkeypatch.setattr(versions, "MAX_STATE_BYTES", size)
    assert beside.state().current == A
    monkeypatch.setattr(versions, "MAX_STATE_BYTES", size - 1)
    with pytest.raises(VersionsError, match=rf"^{file}: larger than {size - 1} bytes$"):
        beside.state()


def test_a_state_that_cannot_even_be_looked_for_is_told(
    beside: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as an OSError: the node's status asks for it every second."""

    def fails(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(versions.os, "stat", fails)
        with pytest.raises(
            VersionsError, match=r"state\.json: cannot be read \(Input/output error"
        ):
            beside.state()
    assert beside.state() == State()


def test_a_state_that_makes_no_sense_says_what_to_do(beside: Versions) -> None:
    beside.change(lambda state: current(state, A))
    file = beside.folder / "state.json"
    file.write_text(file.read_text().replace(A, "x"))
    words = (
        f"{file}: current is 'x', expected a version of 16 digits, or null: move the folder away,"
        " and the node uses its first bundle"
    )
    with pytest.raises(VersionsError, match=f"^{re.escape(words)}$"):
        beside.state()


def test_a_disk_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    beside = Versions(tmp_path / "bundle")
    coming = beside.folder / "incoming" / "new"
    (coming / "deep").mkdir(parents=True)
    (coming / manifest.NAME).write_text("{}")
    words = r"cannot be written \(No space left on device\)"
    with monkeypatch.context() as patched:
        patched.setattr(versions, "write_atomically", full)
        with pytest.raises(VersionsError, match=rf"^{beside.folder}/state\.json: {words}$"):
            beside.change(lambda state: current(state, A))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        place = beside.folder_of(version_of(coming))
        with pytest.raises(VersionsError, match=rf"^{place}: {words}$"):
            beside.add(coming)
    (tmp_path / "file").touch()
    nowhere = Versions(tmp_path / "file" / "bundle")
    words = rf"^{nowhere.folder}: cannot be written \(Not a directory\)$"
    with pytest.raises(VersionsError, match=words):
        nowhere.change(lambda state: state)


def test_a_link_that_cannot_be_made_keeps_no_step_from_its_end(beside: Versions) -> None:
    (beside.folder / "current").mkdir(parents=True)
    assert beside.change(lambda state: current(state, A)) == State(current=A)
    assert beside.state() == State(current=A)


def test_a_step_waits_for_another_and_an_installation_does_not(
    beside: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(fcntl, "flock", lambda _, mode: taken.append(mode))
    beside.change(lambda state: state)
    with beside.installing():
        assert taken == [fcntl.LOCK_EX, fcntl.LOCK_EX | fcntl.LOCK_NB]
    assert {"state.lock", "install.lock"} <= set(names(beside.folder))


def test_two_installations_exclude_each_other_until_the_first_one_ends(beside: Versions) -> None:
    with beside.installing():
        beside.change(lambda state: current(state, A))  # which an installation does not hinder
        words = f"^{beside.folder}: another installation is under way$"
        with pytest.raises(VersionsError, match=words), beside.installing():
            pass
    with beside.installing():
        pass


def test_a_version_is_named_by_its_manifest(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    assert version_of(bundle) == manifest.digest(bundle / manifest.NAME)[:16]
    with pytest.raises(ManifestError, match=r"/none/manifest\.json: no such file or folder"):
        version_of(tmp_path / "none")


def test_what_comes_is_moved_to_its_name_unless_it_is_there_whole(
    tmp_path: Path, beside: Versions
) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    version = version_of(bundle)
    place = beside.folder_of(version)
    with beside.installing():
        coming = beside.bring(bundle)
        assert coming == beside.incoming / "bundle"
        assert beside.add(coming) == version
        assert (beside.is_whole(place), coming.exists()) == (True, False)
        assert beside.add(place) == version  # it is there itself
        again = beside.bring(bundle)
        assert beside.add(again) == version
        assert again.exists()
    (place / "README.md").write_text("changed")
    assert not beside.is_whole(place)
    with beside.installing():
        assert names(beside.incoming) == []  # what was not taken is gone
        assert beside.add(beside.bring(bundle)) == version
    assert beside.is_whole(place)
    assert not beside.is_whole(tmp_path / "none")


def test_every_file_and_folder_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, beside: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    done: list[tuple[str, str]] = []
    fsync, rename = os.fsync, Path.rename

    def synced(file: int) -> None:
        done.append(("fsync", os.readlink(f"/proc/self/fd/{file}")))
        fsync(file)

    def renamed(path: Path, target: Path) -> Path:
        done.append(("rename", str(target)))
        return rename(path, target)

    with beside.installing():
        coming = beside.bring(bundle)
        inside = {str(path) for path in (coming, *coming.rglob("*"))}
        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(Path, "rename", renamed)
        version = beside.add(coming)
    named = done.index(("rename", str(beside.folder_of(version))))
    assert {path for _, path in done[:named]} == inside
    assert [path for _, path in done[named + 1 :]] == [
        str(beside.folder / "bundles"),
        str(beside.folder),
    ]


def test_only_the_current_and_the_previous_version_stay(tmp_path: Path, beside: Versions) -> None:
    first = tiny_bundle(tmp_path / "bundle")
    bundles = [first, *(variant(first, tmp_path / f"{i}", i) for i in (1, 2))]
    with beside.installing():
        old, middle, new = (beside.add(beside.bring(bundle)) for bundle in bundles)
    beside.change(lambda state: replace(state, current=new, previous=middle))
    with beside.installing():
        beside.prune()
    assert names(beside.folder / "bundles") == sorted((middle, new))
    assert not beside.incoming.exists()
    assert old not in names(beside.folder / "bundles")


def test_a_bundle_of_the_most_bytes_is_brought_and_no_larger_one(
    tmp_path: Path, beside: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given"
    (given / "deep").mkdir(parents=True)
    (given / "deep" / "a").write_bytes(b"x" * 700)
    (given / "b").write_bytes(b"x" * 300)
    size = 1000 + (given / "deep").lstat().st_size
    asked: list[tuple[Path, int]] = []
    monkeypatch.setattr(versions, "demand_space", lambda *told: asked.append(told))
    monkeypatch.setattr(versions, "MOST_BYTES", size)
    with beside.installing():
        brought = beside.bring(given)
        assert (brought / "deep" / "a").read_bytes() == b"x" * 700
        assert asked == [(beside.incoming, size)]
        with pytest.raises(VersionsError, match=rf"^{given}: cannot be copied \(.*exists"):
            beside.bring(given)
    monkeypatch.setattr(versions, "MOST_BYTES", size - 1)
    words = f"^{given}: more than {size - 1:,} bytes, no bundle has so many$"
    with beside.installing(), pytest.raises(VersionsError, match=words):
        beside.bring(given)
    os.mkfifo(given / "pipe")
    with beside.installing(), pytest.raises(VersionsError, match=f"^{given}/pipe: is not a plain"):
        beside.bring(given)
