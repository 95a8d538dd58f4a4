"""The steps between versions, and the state on the disk."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.edge.updates import switch
from dat_runtime.edge.updates.probation import Measured
from dat_runtime.edge.updates.refusals import UpdateError
from dat_runtime.edge.updates.switch import Looked, Signed, State, as_json, from_json
from dat_runtime.edge.updates.versions import Versions, VersionsError

A, B, C = ("a" * 16, "b" * 16, "c" * 16)
STEPS = {
    "switch a": lambda s: switch.switched(s, A, 1.0, Signed(3, "p")),
    "switch b": lambda s: switch.switched(s, B, 2.0),
    "switch c": lambda s: switch.switched(s, C, 3.0, Signed(4, "p")),
    "measure": lambda s: switch.measured(s, Measured(frames=3, look_s=0.5)),
    "start": switch.started,
    "end": switch.ended,
    "keep": switch.kept,
    "return": lambda s: switch.returned(s, "why") if s.previous else s,
    "serve": lambda s: switch.served(s, C),
    "look": lambda s: switch.looked(s, Looked(1.0, "p", True)),
}


@given(st.lists(st.sampled_from(sorted(STEPS))))
def test_whatever_happens_a_blocked_version_is_not_returned_to_and_the_state_survives_its_file(
    names: list[str],
) -> None:
    state = State()
    for name in names:
        before = state
        state = STEPS[name](state)
        assert state.current != state.previous or state.current is None
        if name == "return" and before.previous:
            assert state.current == before.previous
            assert state.blocked[before.current or ""] == "why"
            assert state.previous is None
        assert state.current is not None or before.current is None, "never back to nothing"
        assert set(state.signed) <= {A, B, C}
        assert len(state.signed) <= 2
        assert from_json(json.loads(json.dumps(as_json(state)))) == state


def test_a_version_that_is_at_work_is_not_put_on_probation_again() -> None:
    state = switch.kept(switch.switched(switch.adopted(State(), A, None), B, 1.0))
    assert switch.switched(state, B, 2.0) == state


def test_a_version_that_follows_one_on_probation_is_given_back_to_the_last_that_was_kept() -> None:
    proven = switch.adopted(State(), A, None)
    known = switch.measured(switch.switched(proven, B, 1.0), Measured(frames=7))
    state = switch.measured(switch.switched(known, C, 2.0), Measured(frames=9))
    assert (state.current, state.previous) == (C, A)
    assert state.probation is not None
    assert state.probation.baseline == Measured(frames=7), "of the one that was kept"
    assert switch.returned(state, "why").current == A
    again = switch.switched(switch.switched(proven, B, 1.0), A, 2.0)
    assert (again.current, again.previous) == (A, B)


def test_without_a_previous_version_there_is_nothing_to_return_to() -> None:
    with pytest.raises(ValueError, match="no previous version"):
        switch.returned(switch.adopted(State(), A, None), "why")


def test_the_oldest_blocked_version_is_forgotten_first() -> None:
    state = State()
    for number in range(switch.MOST_BLOCKED + 5):
        state = switch.blocked(state, f"{number:016x}", "why")
    assert len(state.blocked) == switch.MOST_BLOCKED
    assert f"{4:016x}" not in state.blocked
    from_json(as_json(state))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema is 2, expected 1"),
        ({"current": "../../etc"}, "current is"),
        ({"current": "A" * 16}, "current is"),
        ({"probation": {"since": 1}}, "probation: starts is missing"),
        ({"signed": {A: {"release": 0, "processor": "p"}}}, "release is 0"),
        ({"blocked": {"x": "y"}}, "blocked is"),
        ({"more": 1}, "unknown key"),
    ],
)
def test_a_state_that_is_damaged_is_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_json(as_json(State()) | change)


def test_a_damaged_state_says_what_to_do(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "bundle")
    versions.change(lambda state: switch.blocked(state, A, "why"))
    assert versions.state().blocked == {A: "why"}
    (versions.folder / "state.json").write_text('{"schema": 1, "schema": 1}')
    with pytest.raises(VersionsError, match="duplicate key"):
        versions.state()
    (versions.folder / "state.json").write_text('{"schema": 9}')
    with pytest.raises(VersionsError, match="move the folder away"):
        versions.state()


def test_only_one_installation_at_a_time_and_what_a_killed_one_left_is_removed(
    tmp_path: Path,
) -> None:
    versions, again = Versions(tmp_path / "bundle"), Versions(tmp_path / "bundle")
    with versions.installing():
        (versions.incoming / "half").mkdir()
        (versions.incoming / ".x.coming").mkdir()
        with pytest.raises(VersionsError, match="another installation"), again.installing():
            pass
    with again.installing():
        assert [path.name for path in again.incoming.iterdir()] == [".x.coming"]


def test_a_link_among_what_is_brought_stays_one_and_a_folder_that_is_too_large_is_not_copied(
    tmp_path: Path,
) -> None:
    versions = Versions(tmp_path / "bundle")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "link").symlink_to("/etc/passwd")
    with versions.installing():
        assert (versions.bring(tmp_path / "given") / "link").is_symlink()
    (tmp_path / "given" / "large").write_bytes(b"")
    os.truncate(tmp_path / "given" / "large", 9 << 30)
    with versions.installing(), pytest.raises(VersionsError, match="more than 8,589"):
        versions.bring(tmp_path / "given")


def test_a_pipe_or_a_device_among_what_is_brought_is_refused_and_not_read(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "bundle")
    (tmp_path / "given").mkdir()
    os.mkfifo(tmp_path / "given" / "endless")
    with versions.installing(), pytest.raises(VersionsError, match="endless: is not a plain file"):
        versions.bring(tmp_path / "given")


def test_a_folder_that_would_fill_the_disk_is_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = Versions(tmp_path / "bundle")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "gate.onnx").write_bytes(b"x" * 1000)
    left = SimpleNamespace(free=50_000_999)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: left)
    with versions.installing():
        with pytest.raises(UpdateError, match="the disk has 50,000,999 bytes left"):
            versions.bring(tmp_path / "given")
        assert not any(versions.incoming.iterdir())
