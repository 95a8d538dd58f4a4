"""The files beside the spool's database."""

import fcntl
import os
import shutil
import stat
from pathlib import Path

import pytest

from dat_runtime.edge.spool_files import (
    Lock,
    Reserve,
    SpoolError,
    free_bytes,
    require_own,
    set_aside,
)

KIB = 1024


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "spool.sqlite"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_lock_says_who_has_it_until_it_is_closed(database: Path) -> None:
    file = database.with_name("spool.sqlite.lock")
    lock = Lock(database)
    assert (file.read_text(), mode_of(file)) == (f"{os.getpid():<19}\n", 0o600)
    with pytest.raises(SpoolError, match=rf"spool\.sqlite: is in use by process {os.getpid()}$"):
        Lock(database)
    lock.close()
    lock.close()
    os.fstat(1)  # the second call has closed nothing of others
    again = Lock(database)
    again.close()


def test_a_lock_that_says_nothing_is_of_an_unknown_process(database: Path) -> None:
    with database.with_name("spool.sqlite.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SpoolError, match=r"spool\.sqlite: is in use by process unknown$"):
            Lock(database)
        file.write(b"\xff7".ljust(30))
        file.flush()
        with pytest.raises(SpoolError, match=r"process \ufffd7$"):
            Lock(database)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match=r"none/s\.lock: cannot be used \(No such file"):
        Lock(tmp_path / "none" / "s")


@pytest.mark.parametrize(
    ("content", "own"),
    [
        (b"", True),
        (bytes(100), True),
        (b"SQLite format 3\0" + b"anything", True),
        (b"SQLite format 3", False),
        (b"SQLite format 4\0", False),
        (b"model: dat\n", False),
        (bytes(15) + b"x", False),
        (bytes(16) + b"x", True),
    ],
)
def test_a_file_that_no_spool_made_is_refused_unless_a_spool_was_there(
    database: Path, content: bytes, own: bool
) -> None:
    database.write_bytes(content)
    if own:
        require_own(database)
    else:
        words = r"spool\.sqlite: is no spool but another file: name a new one$"
        with pytest.raises(SpoolError, match=words):
            require_own(database)
    database.with_name("spool.sqlite.lock").touch()
    require_own(database)


def test_no_file_is_one_that_may_be_made(database: Path, tmp_path: Path) -> None:
    require_own(database)
    require_own(tmp_path)


def test_a_reserve_is_given_up_in_slices(database: Path) -> None:
    reserve = Reserve(database)
    file = database.with_name("spool.sqlite.reserve")
    assert (reserve.size, reserve.give()) == (0, False)
    assert reserve.grow(600 * KIB)
    assert (reserve.size, file.stat().st_size, mode_of(file)) == (600 * KIB, 600 * KIB, 0o600)
    sizes = []
    while reserve.give():
        sizes.append(reserve.size // KIB)
    assert sizes == [344, 88, 0]


def test_a_reserve_grows_and_shrinks_to_what_is_asked(database: Path) -> None:
    reserve = Reserve(database)
    reserve.shrink(10)
    assert not database.with_name("spool.sqlite.reserve").exists()
    assert reserve.grow(100)
    assert reserve.grow(100)
    assert reserve.grow(50)
    reserve.shrink(200)
    assert reserve.size == 100
    reserve.shrink(30)
    assert reserve.size == 30
    assert reserve.grow(60)
    assert reserve.size == 60


def test_a_reserve_is_not_itself_what_fills_the_disk(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Reserve(database)
    assert reserve.grow(100)
    monkeypatch.setattr("dat_runtime.edge.spool_files.free_bytes", lambda _: 1_000)
    assert not reserve.grow(601)
    assert reserve.size == 100
    assert reserve.grow(600)
    assert reserve.size == 600


def test_a_reserve_without_a_folder_cannot_grow(tmp_path: Path) -> None:
    assert not Reserve(tmp_path / "none" / "s").grow(1)


def test_what_is_free_is_what_others_than_root_may_use(database: Path) -> None:
    told, usage = free_bytes(database), shutil.disk_usage(database.parent)
    assert abs(told - usage.free) <= 0.01 * usage.total


def test_a_broken_database_keeps_its_log_under_a_name_of_its_own(database: Path) -> None:
    for number in (1, 2):
        database.write_text(f"database {number}")
        database.with_name("spool.sqlite-wal").write_text(f"log {number}")
        database.with_name("spool.sqlite-shm").write_text(f"index {number}")
        aside = set_aside(database)
        assert aside == database.with_name(f"spool.sqlite.broken-{number}")
        assert aside.read_text() == f"database {number}"
        assert aside.with_name(f"{aside.name}-wal").read_text() == f"log {number}"
        assert aside.with_name(f"{aside.name}-shm").read_text() == f"index {number}"
    assert sorted(file.name for file in database.parent.iterdir()) == [
        "spool.sqlite.broken-1",
        "spool.sqlite.broken-1-shm",
        "spool.sqlite.broken-1-wal",
        "spool.sqlite.broken-2",
        "spool.sqlite.broken-2-shm",
        "spool.sqlite.broken-2-wal",
    ]
