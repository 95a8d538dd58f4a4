import sqlite3
from pathlib import Path

import pytest

from dat_runtime.edge import spool_database as module
from dat_runtime.edge.spool_database import (
    MOST_REASONS,
    PAGE,
    SCHEMA,
    Broken,
    Database,
    connect,
    is_damage,
    is_full,
)
from dat_runtime.edge.spool_files import SpoolError

LOG = 200_000


@pytest.fixture
def path(memory):
    return memory / "spool.sqlite"


@pytest.fixture
def database(path):
    opened = Database(path, LOG)
    yield opened
    opened.close()


def asked(connection, *pragmas):
    return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]


SETTINGS = ("synchronous", "wal_autocheckpoint", "secure_delete", "cache_size", "query_only")


def test_a_connection_flushes_each_commit_and_moves_no_log_by_itself(path):
    connection = connect(path)
    assert asked(connection, *SETTINGS) == [2, 0, 2, -2_000, 0]
    assert path.stat().st_mode & 0o777 == 0o600
    connection.execute("CREATE TABLE t (x)")
    connection.execute("INSERT INTO t VALUES (1)")
    assert not connection.in_transaction  # none is begun that nobody asked for
    assert asked(connection, "busy_timeout") == [200]
    connection.close()


def test_a_connection_that_reads_makes_no_file_and_writes_none(path):
    Database(path, LOG).close()
    reading = connect(path, reading=True)
    assert asked(reading, *SETTINGS) == [2, 0, 2, -2_000, 1]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reading.execute("INSERT INTO visuals VALUES (1, x'00')")
    reading.close()


def test_a_file_that_cannot_be_made_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        connect(tmp_path / "no" / "spool.sqlite")


def coded(code):
    error = sqlite3.OperationalError("told so")
    if code is not None:
        error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "damage", "full"),
    [
        (sqlite3.SQLITE_CORRUPT, True, False),
        (sqlite3.SQLITE_CORRUPT_INDEX, True, False),
        (sqlite3.SQLITE_NOTADB, True, False),
        (sqlite3.SQLITE_FULL, False, True),
        (sqlite3.SQLITE_IOERR_SHMSIZE, False, True),
        (sqlite3.SQLITE_IOERR_SHMOPEN, False, True),
        (sqlite3.SQLITE_IOERR_WRITE, False, False),
        (sqlite3.SQLITE_BUSY, False, False),
        (None, False, False),
    ],
)
def test_damage_and_a_full_disk_are_told_by_their_codes(code, damage, full):
    assert (is_damage(coded(code)), is_full(coded(code))) == (damage, full)


def test_a_new_file_has_its_pages_its_log_and_its_tables(database, path):
    with sqlite3.connect(path) as beside:
        names = ("page_size", "journal_mode", "user_version")
        assert asked(beside, *names) == [PAGE, "wal", SCHEMA]
        tables = {row[0] for row in beside.execute("SELECT name FROM sqlite_master")}
        assert tables >= {"events", "visuals", "refused", "counts", "clock", "questions"}
        assert beside.execute("SELECT * FROM clock").fetchall() == [(0, 0)]
    beside.close()
    assert asked(database, "journal_size_limit") == [LOG]


def test_what_is_no_spool_is_told_in_words(path):
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={SCHEMA + 1}")
    connection.close()
    newer = rf"^{path}: was written by a newer release \(schema 2, this one knows 1\)$"
    with pytest.raises(SpoolError, match=newer):
        Database(path, LOG)
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(SpoolError, match=rf"^{path}: is a database, but not a spool$"):
        Database(path, LOG)


def test_a_damaged_file_is_told_as_such_and_let_go(path, monkeypatch):
    path.write_bytes(b"no database at all" * 1_000)
    with pytest.raises(Broken, match="not a database"):
        Database(path, LOG)
    path.unlink()
    Database(path, LOG).close()
    monkeypatch.setattr(Database, "_one", lambda self, question: 1)
    with pytest.raises(Broken, match=r"^1$"):  # what the check finds is no "ok"
        Database(path, LOG)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN])
def test_a_connection_that_fails_is_damage_only_where_sqlite_says_so(monkeypatch, path, code):
    def fail(path):
        raise coded(code)

    monkeypatch.setattr(module, "connect", fail)
    kind = Broken if code == sqlite3.SQLITE_NOTADB else sqlite3.OperationalError
    with pytest.raises(kind, match=r"^told so$"):
        Database(path, LOG)


def test_counts_are_committed_with_what_was_lost_and_add_up(database, path):
    database.begin()
    for name, reason in [("a", ""), ("a", "full"), ("a", "full"), ("b", "x" * 81)]:
        database.count(name, reason)
    counted = {("a", ""): 1, ("a", "full"): 2, ("b", "x" * 80): 1}
    assert database.counts() == {}
    assert database.commit() == counted
    assert database.counts() == counted
    database.begin()
    database.count("a", "full")
    assert database.commit() == {("a", "full"): 1}
    database.begin()
    assert database.commit() == {}
    assert database.counts() == counted | {("a", "full"): 3}


def test_what_is_rolled_back_is_not_counted(database):
    database.rollback()  # nothing has begun
    database.begin()
    database.execute("INSERT INTO visuals VALUES (?, ?)", 1, b"x")
    database.count("a", "full")
    database.rollback()
    database.begin()
    assert database.execute("SELECT count(*) FROM visuals").fetchone() == (0,)
    assert database.commit() == {}
    assert database.counts() == {}


def test_reasons_are_bounded_for_each_name_of_its_own(database):
    database.begin()
    for n in range(MOST_REASONS - 1):
        database.count("refused", f"reason {n}")
    database.count("other", "alone")
    database.commit()
    database.begin()
    for reason in ("the last one", "one too many", "reason 0", "the last one"):
        database.count("refused", reason)
    assert database.commit() == {
        ("refused", "the last one"): 2,
        ("refused", "other"): 1,
        ("refused", "reason 0"): 1,
    }


def test_changes_are_rows_that_were_written(database):
    before = database.changes
    database.begin()
    database.execute("SELECT count(*) FROM events").fetchone()
    database.commit()
    assert database.changes == before
    database.begin()
    database.execute("INSERT INTO visuals VALUES (?, ?), (?, ?)", 1, b"x", 2, b"y")
    database.commit()
    assert database.changes == before + 2


def test_pages_with_content_are_used_and_free_ones_are_of_the_files_size(database):
    used, size = database.used(), database.size()
    assert size == used * PAGE
    database.begin()
    database.execute("INSERT INTO visuals VALUES (?, ?)", 1, bytes(10 * PAGE))
    database.commit()
    large = database.used()
    assert used + 10 <= large <= used + 12
    assert database.size() == large * PAGE
    database.begin()
    database.execute("DELETE FROM visuals")
    database.commit()
    assert database.used() == used
    assert database.size() == large * PAGE


def test_the_log_begins_anew_only_while_nobody_reads_it(database, path):
    database.begin()
    database.execute("INSERT INTO visuals VALUES (?, ?)", 1, b"x")
    database.commit()
    beside = connect(path, reading=True)
    beside.execute("BEGIN")
    beside.execute("SELECT * FROM visuals").fetchall()
    database.begin()
    database.execute("INSERT INTO visuals VALUES (?, ?)", 2, b"y")
    database.commit()
    assert not database.checkpoint("RESTART")
    beside.close()
    assert database.checkpoint("PASSIVE")
    assert database.checkpoint("RESTART")


def test_a_closed_database_answers_nothing(path: Path):
    database = Database(path, LOG)
    database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        database.used()
