"""The thread that writes the spool: groups, failures, a full disk, its log and its reserve."""

import sqlite3
import threading
import time

import pytest

from dat_runtime.edge import spool_writer as module
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.spool_database import PAGE, Broken
from dat_runtime.edge.spool_files import SpoolError
from dat_runtime.edge.spool_writer import OVERHEAD, Writer

MB = 1_000_000
KIB = 1024


@pytest.fixture
def path(memory):
    return memory / "spool.sqlite"


@pytest.fixture
def opened(path):
    """Opens writers of the spool, and closes them at the end."""
    writers = []

    def open_writer(max_bytes=2 * MB, reserve=0, counts=None):
        writers.append(Writer(path, max_bytes, reserve, counts or Counts()))
        return writers[-1]

    yield open_writer
    for writer in writers:
        writer.close(lambda tables: None)


def nothing(tables):
    return None


def error_of(code):
    error = sqlite3.OperationalError("told so")
    error.sqlite_errorcode = code
    return error


def failing(error, times, tried=None):
    """A work that fails so often, and then writes a row; it notes the room that it saw."""
    left = [times]

    def work(tables):
        if tried is not None:
            tried.append((tables.room.growing, tables.room.reserve_left))
        if left[0]:
            left[0] -= 1
            raise error
        tables.database.execute("INSERT INTO visuals VALUES (?, ?)", None, b"x")
        return "written"

    return work


@pytest.mark.parametrize(
    ("max_bytes", "log"),
    [(MB, 128 * KIB), (32 * MB, 2 * MB), (10**9, 4 * KIB * KIB)],
)
def test_log_and_room_are_parts_of_what_a_spool_may_take(opened, max_bytes, log):
    writer = opened(max_bytes, 100_000)
    room = writer.tables.room
    assert writer._log_bytes == log
    assert room._pages == (max_bytes - 2 * log) // PAGE
    assert room._visual_pages == (max_bytes - 2 * log - 100_000) // PAGE
    (limit,) = writer._database.execute("PRAGMA journal_size_limit").fetchone()
    assert limit == log


def test_the_reserve_is_on_the_disk_as_long_as_the_database_has_not_that_room(opened, path):
    reserve = path.with_name("spool.sqlite.reserve")
    writer = opened(MB, 300_000)
    assert reserve.stat().st_size == 300_000

    def write(tables):
        tables.database.execute("INSERT INTO visuals VALUES (1, ?)", bytes(500_000))

    writer.ask(write, 500_000)
    size = writer.ask(lambda tables: tables.database.size())  # the house was kept after the first
    assert reserve.stat().st_size == MB - 2 * 128 * KIB - size < 300_000


def test_a_disk_that_cannot_even_be_read_ends_no_writer(opened):
    writer = opened(2 * MB, 300_000)
    error = error_of(sqlite3.SQLITE_IOERR)

    def fail():
        raise error

    writer._database.size = fail
    assert writer.ask(nothing) is None
    assert writer.ask(nothing) is None  # it was kept house between the two
    assert writer.problem == "told so"


def test_a_machine_short_of_memory_ends_no_writer(opened):
    """SQLite's "out of memory" is a MemoryError in Python, and no error of SQLite's."""
    writer = opened(2 * MB, 300_000)
    writer._written = MB  # the log is to be moved
    Checkpoints(writer, MemoryError())
    assert writer.ask(nothing) is None
    assert writer.ask(nothing) is None  # it was kept house between the two
    assert writer.problem == "MemoryError()"
    writer.problem = None
    with pytest.raises(SpoolError, match=r"keeps nothing now \(MemoryError\(\)\)$"):
        writer.ask(failing(MemoryError(), 1))
    assert writer.problem == "MemoryError()"
    assert writer.ask(failing(MemoryError(), 0)) == "written"
    assert writer.problem is None


def test_works_of_one_moment_share_a_commit_of_bounded_size_in_their_order(opened):
    writer = opened(MB)
    database = writer._database
    commits, done, begun, go = [], [], threading.Event(), threading.Event()
    commit = database.commit
    database.commit = lambda: (commits.append(len(done)), commit())[1]
    blocked = threading.Thread(target=writer.ask, args=(lambda t: (begun.set(), go.wait(20)),))
    blocked.start()
    assert begun.wait(20)
    # 8 KiB each: nine of them reach over half of the log's 128 KiB.
    for n in range(20):
        writer.later(lambda tables, n=n: done.append(n), lambda: None)
    go.set()
    blocked.join()
    writer.ask(nothing)
    assert done == list(range(20))
    assert commits == [0, 9, 18, 20]
    assert OVERHEAD == 8 * KIB


def test_a_work_of_its_own_size_fills_a_group(opened):
    writer = opened(MB)
    commits, begun, go = [], threading.Event(), threading.Event()
    commit = writer._database.commit
    writer._database.commit = lambda: (commits.append(1), commit())[1]
    threads = [threading.Thread(target=writer.ask, args=(lambda t: (begun.set(), go.wait(20)),))]
    threads[0].start()
    assert begun.wait(20)
    for _ in range(2):
        threads.append(threading.Thread(target=writer.ask, args=(nothing, 64 * KIB)))
        threads[-1].start()
        while len(writer._queue) < len(threads) - 1:
            time.sleep(0.001)
    go.set()
    for thread in threads:
        thread.join()
    assert len(commits) == 3


def test_an_acknowledgment_waits_a_little_for_company_and_who_asks_does_not(opened):
    writer = opened()
    written = threading.Event()
    began = time.monotonic()
    writer.later(nothing, written.set)
    assert written.wait(20)
    assert time.monotonic() - began >= 0.09
    assert not writer._is_urgent()
    began = time.monotonic()
    assert [writer.ask(lambda tables, n=n: n) for n in range(20)] == list(range(20))
    assert time.monotonic() - began < 1.9  # 2 s, had each waited


def test_who_asks_hears_why_and_what_nobody_waits_for_is_tried_again(opened, monkeypatch, path):
    monkeypatch.setattr(module, "RETRY", 0.02)
    writer = opened()
    done = []
    writer.later(failing(ValueError("a defect"), 2), lambda: done.append(1))
    with pytest.raises(SpoolError, match=rf"^{path}: keeps nothing now \(a defect\)$"):
        writer.ask(nothing)
    assert writer.problem == "a defect"
    for _ in range(500):
        if done:
            break
        time.sleep(0.01)
    assert done == [1]
    assert writer.problem is None
    assert writer.ask(lambda tables: tables.database.execute("SELECT count(*) FROM visuals")
                      .fetchone()) == (1,)  # fmt: skip


def test_to_read_is_no_proof_that_the_disk_can_be_written(opened):
    writer = opened()
    with pytest.raises(SpoolError):
        writer.ask(failing(sqlite3.OperationalError("disk I/O error"), 1))
    writer.ask(nothing)
    assert writer.problem == "disk I/O error"
    assert writer.ask(failing(None, 0)) == "written"
    assert writer.problem is None


def test_what_a_failed_group_had_written_is_taken_back(opened):
    writer = opened()

    def half(tables):
        tables.database.execute("INSERT INTO visuals VALUES (1, x'00')")
        tables.database.count("visuals_dropped", "full")
        tables.room._holes.append((1, 1))
        raise ValueError("a defect")

    with pytest.raises(SpoolError):
        writer.ask(half)
    counted = writer.ask(lambda t: t.database.execute("SELECT count(*) FROM visuals").fetchone())
    assert counted == (0,)
    assert writer.tables.room._holes == []
    assert writer._counts.snapshot() == {}


def test_losses_are_counted_once_they_are_on_the_disk_with_a_reason_or_without(opened):
    counts = Counts()
    writer = opened(counts=counts)

    def lose(tables):
        tables.database.count("visuals_dropped", "full")
        tables.database.count("visuals_dropped", "full")
        tables.database.count("alerts_superseded")
        assert counts.snapshot() == {}

    writer.ask(lose)
    assert counts.of("visuals_dropped", reason="full") == 2
    assert counts.of("alerts_superseded") == 1
    writer.close(nothing)
    again = Counts()
    opened(counts=again)
    assert again.snapshot() == counts.snapshot()


def test_on_a_full_disk_a_slice_of_the_reserve_is_given_and_the_work_tried_again(opened):
    writer = opened(2 * MB, 300_000)
    given = []
    give = writer._reserve.give
    writer._reserve.give = lambda: (given.append(writer._reserve.size), give())[1]
    tried = []
    assert writer.ask(failing(error_of(sqlite3.SQLITE_FULL), 2, tried)) == "written"
    assert tried == [(True, True), (False, True), (False, True)]
    assert given == [300_000, 300_000 - 256 * KIB]
    assert writer.problem is None


def test_without_a_reserve_a_full_disk_is_tried_once_more_and_then_told(opened):
    writer = opened()
    tried = []
    with pytest.raises(SpoolError, match=r"keeps nothing now \(told so\)"):
        writer.ask(failing(error_of(sqlite3.SQLITE_FULL), 9, tried))
    assert tried == [(True, True), (False, False)]


def test_another_failure_of_the_disk_is_not_tried_again(opened):
    writer = opened(2 * MB, 300_000)
    tried = []
    with pytest.raises(SpoolError):
        writer.ask(failing(error_of(sqlite3.SQLITE_IOERR), 9, tried))
    assert tried == [(True, True)]
    assert writer._reserve.size == 300_000


@pytest.mark.parametrize(
    ("error", "ends"),
    [(error_of(sqlite3.SQLITE_CORRUPT), True), (error_of(sqlite3.SQLITE_IOERR), False)],
)
def test_a_damaged_file_is_written_no_more(opened, error, ends):
    writer = opened()
    writer.saw(error)
    assert writer.problem == "told so"
    if ends:
        with pytest.raises(SpoolError, match="told so"):
            writer.ask(failing(None, 0))
        writer.saw(ValueError("another"))  # it stays so
        with pytest.raises(SpoolError, match="another"):
            writer.ask(failing(None, 0))
    else:
        assert writer.ask(failing(None, 0)) == "written"


def test_the_end_writes_what_was_asked_for_and_the_last_word_once(opened, path):
    writer = opened()
    done = []
    writer.later(lambda tables: done.append("asked"), lambda: done.append("told"))
    writer.close(lambda tables: done.append("last"))
    writer.close(lambda tables: done.append("twice"))
    assert done == ["asked", "last", "told"]
    writer.later(lambda tables: done.append("after"), lambda: None)
    with pytest.raises(SpoolError, match=rf"^{path}: is closed$"):
        writer.ask(nothing)
    assert done == ["asked", "last", "told"]
    assert not writer._thread.is_alive()


def test_the_thread_has_a_name_and_holds_no_process(opened):
    writer = opened()
    assert (writer._thread.name, writer._thread.daemon) == ("spool", True)


class Checkpoints:
    """Notes how the log is moved, and says what the test wants."""

    def __init__(self, writer, *answers):
        self.modes, self.answers = [], list(answers)
        writer._database.checkpoint = self

    def __call__(self, mode):
        self.modes.append(mode)
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_the_log_is_moved_when_half_of_its_share_was_written(opened):
    writer = opened(MB)  # its log is 128 KiB
    checkpoints = Checkpoints(writer)
    writer._written = 0
    writer.ask(nothing, 64 * KIB - OVERHEAD - OVERHEAD - 1)
    writer.ask(nothing, 0)  # one byte less than half
    assert checkpoints.modes == []
    writer.ask(nothing, 1 - OVERHEAD)
    writer.ask(nothing, -OVERHEAD)
    assert checkpoints.modes == ["PASSIVE", "RESTART"]
    assert writer._written == 0


def test_a_log_that_somebody_reads_is_left_for_a_second(opened):
    writer = opened(MB)
    checkpoints = Checkpoints(writer, True, False)
    writer._written = 64 * KIB
    began = time.monotonic()
    writer._keep_log()
    assert began + 0.5 < writer._move_again <= time.monotonic() + module.RETRY
    writer._written = 64 * KIB
    writer._keep_log()
    assert checkpoints.modes == ["PASSIVE", "RESTART"]
    writer._move_again = 0.0
    writer._keep_log()
    assert len(checkpoints.modes) == 4
    assert writer._move_again == 0.0  # it began anew


@pytest.mark.parametrize(("more", "moves"), [(0, 0), (1, 2)])
def test_a_log_that_is_larger_than_its_share_is_moved(opened, path, more, moves):
    writer = opened(MB)
    checkpoints = Checkpoints(writer)
    log = path.with_name("spool.sqlite-wal")
    with log.open("ab") as file:
        file.truncate(128 * KIB + more)
    writer._written = 0
    writer._keep_log()
    assert len(checkpoints.modes) == moves


def test_a_log_that_finds_no_room_takes_the_reserve(opened):
    writer = opened(2 * MB, 300_000)
    full = error_of(sqlite3.SQLITE_FULL)
    checkpoints = Checkpoints(writer, full, full)
    writer._written = MB
    writer._keep_log()
    assert not writer.tables.room.growing
    assert checkpoints.modes == ["PASSIVE", "PASSIVE", "PASSIVE", "RESTART"]
    assert writer._reserve.size == 0
    assert writer.problem is None
    # On a full disk it is kept small, however little it has.
    writer._keep_log()
    assert len(checkpoints.modes) == 6


def test_a_log_that_cannot_be_moved_now_leaves_the_reserve_and_is_tried_after_a_second(opened):
    writer = opened(2 * MB, 300_000)
    writer._written = MB
    began = time.monotonic()
    reading = writer._database.execute("SELECT * FROM clock UNION SELECT 1, 1")  # not to its end
    writer._keep_log()
    reading.close()
    assert writer.problem == "database table is locked"
    assert (writer._reserve.size, writer.tables.room.growing) == (300_000, True)
    assert writer._written == MB
    assert began + 0.5 < writer._move_again <= time.monotonic() + module.RETRY
    writer._move_again = 0.0
    writer._keep_log()
    assert writer._written == 0


def test_a_log_that_cannot_be_moved_is_a_problem(opened):
    writer = opened(2 * MB, 0)
    Checkpoints(writer, error_of(sqlite3.SQLITE_IOERR))
    assert writer._checkpoint()  # there is room
    assert writer.problem == "told so"
    writer.problem, writer._move_again = None, 0.0
    writer._path.with_name("spool.sqlite-wal").unlink()
    writer._keep_house()
    assert "No such file" in writer.problem


def test_the_reserve_grows_again_where_there_is_room_and_it_is_looked_for_once_a_second(
    opened, monkeypatch
):
    writer = opened(2 * MB, 300_000)
    room, free = writer.tables.room, [10**9]
    asked = []
    monkeypatch.setattr(module, "free_bytes", lambda path: free[0])
    grow = writer._reserve.grow
    writer._reserve.grow = lambda size: (asked.append(size), grow(size))[1]
    writer._keep_reserve()  # looked a moment ago
    assert asked == []
    room.growing = room.reserve_left = False
    free[0] = 2 * writer._log_bytes - 1
    writer._keep_reserve()
    assert (asked, room.growing, room.reserve_left) == ([], False, False)
    free[0] += 1
    began = time.monotonic()
    writer._keep_reserve()
    assert (asked, room.growing, room.reserve_left) == ([300_000], True, True)
    assert began + 0.5 < writer._look_again <= time.monotonic() + module.RETRY
    writer._look_again = 0.0
    writer._reserve.grow = lambda size: False
    writer._keep_reserve()
    assert (room.growing, room.reserve_left) == (False, True)


class Opening:
    """In place of `Database`: raises so often what the test wants, then opens."""

    def __init__(self, monkeypatch, error, times):
        self.left, self.error, self.tried = times, error, 0
        self.real = module.Database
        monkeypatch.setattr(module, "Database", self)

    def __call__(self, path, log_bytes):
        self.tried += 1
        if self.left:
            self.left -= 1
            raise self.error
        return self.real(path, log_bytes)


def test_a_spool_whose_new_file_is_damaged_too_is_refused(opened, monkeypatch, path):
    opened().close(nothing)
    Opening(monkeypatch, Broken("malformed"), 2)
    with pytest.raises(SpoolError, match=rf"^{path}: a new one is damaged too \(malformed\)$"):
        opened()
    assert path.with_name("spool.sqlite.broken-1").exists()


def test_a_damaged_file_is_set_aside_once_and_counted(opened, monkeypatch, path):
    opened().close(nothing)
    counts = Counts()
    Opening(monkeypatch, Broken("malformed"), 1)
    writer = opened(counts=counts)
    assert counts.snapshot() == {("spools_set_aside", (("reason", "damaged"),)): 1}
    assert writer._database.counts() == {("spools_set_aside", "damaged"): 1}
    assert path.with_name("spool.sqlite.broken-1").exists()


def test_on_a_full_disk_a_spool_opens_with_a_slice_of_its_reserve(opened, monkeypatch):
    opened(2 * MB, 300_000).close(nothing)
    full = Opening(monkeypatch, error_of(sqlite3.SQLITE_FULL), 2)
    opened(2 * MB, 300_000)
    assert full.tried == 3
    for error in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        failed = Opening(monkeypatch, error_of(error), 9)
        with pytest.raises(sqlite3.OperationalError, match="told so"):
            opened(2 * MB, 300_000)
        assert failed.tried == (3 if error == sqlite3.SQLITE_FULL else 1)
