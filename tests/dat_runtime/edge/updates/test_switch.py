"""The steps between versions, and the state on the disk."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.edge.updates import switch
from dat_runtime.edge.updates.probation import Measured
from dat_runtime.edge.updates.refusals import UpdateError
from dat_runtime.edge.updates.switch import (
    Looked,
    Probation,
    Signed,
    State,
    as_json,
    from_json,
)
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
    for state in (State(), State(previous=A), switch.adopted(State(), A, None)):
        with pytest.raises(ValueError, match=r"^there is no previous version to return to$"):
            switch.returned(state, "why")


def test_each_step_changes_its_own_part() -> None:
    first, second = Signed(3, "p"), Signed(4, "q")
    adopted = State(current=A, served=C, blocked={C: "old"}, looked=Looked(1.0))
    assert switch.adopted(replace(adopted, current=None, served=None), A, C) == adopted
    moved = switch.switched(adopted, B, 5.0, first)
    assert moved == replace(
        adopted, current=B, previous=A, probation=Probation(5.0), signed={B: first}
    )
    begun = switch.started(switch.started(moved))
    assert begun == replace(moved, probation=Probation(5.0, 2))
    assert switch.ended(begun) == replace(moved, probation=Probation(5.0, 1))
    assert switch.ended(switch.ended(switch.ended(begun))) == moved
    known = switch.measured(begun, Measured(frames=7))
    assert known == replace(moved, probation=Probation(5.0, 2, Measured(frames=7)))
    assert switch.measured(known, Measured(frames=8)) == known
    kept = switch.kept(known)
    assert kept == replace(moved, probation=None)
    for step in (switch.started, switch.ended, lambda s: switch.measured(s, Measured())):
        assert step(kept) == kept
    again = switch.switched(kept, C, 6.0, second)
    assert again.signed == {B: first, C: second}
    assert switch.switched(again, A, 7.0).signed == {B: first}
    back = switch.returned(again, "why")
    assert back == replace(
        kept, previous=None, signed=again.signed, blocked={C: "why"}, looked=Looked(1.0)
    )
    assert switch.unblocked(back, C) == replace(back, blocked={})
    assert switch.served(back, None) == replace(back, served=None)
    seen = Looked(9.0, "away", True)
    assert switch.looked(back, seen) == replace(back, looked=seen)


def test_what_is_not_blocked_cannot_be_unblocked() -> None:
    with pytest.raises(ValueError, match=rf"^{A} is not blocked \(blocked: none\)$"):
        switch.unblocked(State(), A)
    state = switch.blocked(switch.blocked(switch.blocked(State(), B, "1"), C, "2"), B, "3")
    assert list(state.blocked.items()) == [(C, "2"), (B, "3")]
    with pytest.raises(ValueError, match=rf"^{A} is not blocked \(blocked: {C}, {B}\)$"):
        switch.unblocked(state, A)


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
        ({"current": "../../etc"}, "current is '../../etc', expected a version of 16 digits, or"),
        ({"current": "A" * 16}, "current is"),
        ({"previous": "a" * 17}, "previous is"),
        ({"served": 7}, "served is 7"),
        ({"probation": {"since": 1}}, "probation: starts is missing"),
        ({"probation": {"since": 1, "starts": -1, "baseline": None}}, "probation: starts is -1"),
        ({"probation": {"since": 1, "starts": 0, "baseline": {}}}, "baseline: frames is missing"),
        ({"probation": []}, r"probation is \[\], expected an object"),
        ({"signed": {A: {"release": 0, "processor": "p"}}}, f"{A}: release is 0"),
        ({"signed": {A: {"release": 1, "processor": 2}}}, f"{A}: processor is 2"),
        ({"signed": {"x": {}}}, "signed is {'x': {}}, expected an object of at most two versions"),
        ({"signed": {key: {"release": 1, "processor": "p"} for key in (A, B, C)}}, "signed is"),
        ({"blocked": {"x": "y"}}, "blocked is {'x': 'y'}, expected an object of versions and"),
        ({"blocked": {A: 1}}, "blocked is"),
        ({"blocked": {f"{i:016x}": "" for i in range(1001)}}, "blocked is"),
        ({"looked": {"at": "now", "problem": None, "stale": False}}, "looked: at is 'now'"),
        ({"looked": {"at": 1, "problem": None, "stale": 0}}, "looked: stale is 0"),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_a_state_that_is_damaged_is_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        from_json(as_json(State()) | change)


def test_a_state_is_written_with_all_that_it_says() -> None:
    measured = Measured(1, 0, 0.5, 1, 1, 1, 2.0)
    state = State(
        current=A,
        previous=B,
        probation=Probation(1.5, 2, measured),
        blocked={C: "why"},
        signed={A: Signed(3, "p")},
        served=B,
        looked=Looked(2.5, "away", True),
    )
    assert as_json(state) == {
        "schema": 1,
        "current": A,
        "previous": B,
        "probation": {"since": 1.5, "starts": 2, "baseline": measured.as_json()},
        "blocked": {C: "why"},
        "signed": {A: {"release": 3, "processor": "p"}},
        "served": B,
        "looked": {"at": 2.5, "problem": "away", "stale": True},
    }
    assert from_json(as_json(state)) == state


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
