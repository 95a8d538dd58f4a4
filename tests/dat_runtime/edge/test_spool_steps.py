"""The spool's own decisions, over a writer and a reader that the test breaks."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.spool_faults import make_event
from dat_runtime.edge import spool as module
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.question import Question
from dat_runtime.edge.spool import LEAST_BYTES, MOST_DOWNTIME, Spool, SpoolError, Usage
from dat_runtime.edge.spool_database import PAGE

QUESTION = Question("e", "north", 0, 0.5, 1.8e9, "code", "Image.", bytes(64))


@pytest.fixture
def opened(memory: Path) -> Iterator[Callable[..., Spool]]:
    spools: list[Spool] = []

    def make(most: int = 4 * LEAST_BYTES, reserve: int = 0, **how: Any) -> Spool:
        clocks = {"clock": lambda: 1.8e9, "monotonic": lambda: 50.0} | how
        spools.append(Spool(memory / "spool.sqlite", most, reserve, Counts(), **clocks))
        return spools[-1]

    yield make
    for spool in spools:
        spool.close()


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("most", "reserve", "words"),
    [
        (LEAST_BYTES - 1, 0, "max_bytes is 999,999, expected at least 1,000,000"),
        (
            LEAST_BYTES + 1,
            LEAST_BYTES // 2 + 1,
            "alert_reserve_bytes is 500,001, at most half of max_bytes will do",
        ),
        (LEAST_BYTES, -1, "alert_reserve_bytes is -1, at most half of max_bytes will do"),
    ],
)
def test_sizes_that_leave_no_room_are_told(
    opened: Callable[..., Spool], most: int, reserve: int, words: str
) -> None:
    with pytest.raises(ValueError, match="bytes is") as caught:
        opened(most, reserve)
    assert str(caught.value) == words
    opened(LEAST_BYTES + 1, LEAST_BYTES // 2)


def test_what_the_disk_does_not_take_is_counted(opened: Callable[..., Spool]) -> None:
    spool = opened()
    spool._writer.ask = failing(SpoolError("the disk fails"))  # type: ignore[method-assign]
    with pytest.raises(SpoolError, match="the disk fails"):
        spool.put(make_event("e"), "north")
    with pytest.raises(SpoolError, match="the disk fails"):
        spool.put_question(QUESTION)
    assert spool._counts.snapshot() == {
        ("alerts_dropped", (("reason", "the disk fails"),)): 1,
        ("questions_dropped", (("reason", "the disk fails"),)): 1,
    }
    spool.expire()  # does not raise


def test_a_writer_is_told_how_much_it_writes(
    opened: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened()
    sizes: list[Any] = []
    ask = spool._writer.ask
    monkeypatch.setattr(
        spool._writer, "ask", lambda work, size=None: sizes.append(size) or ask(work, size or 0)
    )
    event = make_event("e")
    assert event.roi is not None
    spool.put(event, "north")
    assert spool.put_question(QUESTION)
    spool.waiting()
    assert sizes == [len(event.json) + len(event.roi), 64, None]


def test_a_reader_that_fails_is_a_problem_and_names_the_file(
    opened: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened()
    spool.put(make_event("e"), "north")
    spool._reader.close()
    with pytest.raises(SpoolError) as caught:
        spool.alert("e")
    words = "Cannot operate on a closed database."
    assert str(caught.value) == f"{spool._path}: cannot be read ({words})"
    assert (spool.problem, spool.healthy) == (words, False)
    assert spool.usage == Usage(0, 0, 0)


def damaged() -> sqlite3.Error:
    error = sqlite3.DatabaseError("malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def test_what_is_damaged_is_counted_by_what_it_was(opened: Callable[..., Spool]) -> None:
    spool = opened()
    spool._reader.close()

    class Reader:
        execute = staticmethod(failing(damaged()))

        def close(self) -> None:
            """It is closed."""

    spool._reader = Reader()  # type: ignore[assignment]
    assert spool.alert("e") is None
    for kind in ("roi", "box", "code"):
        assert spool.visual("e", kind) is None  # type: ignore[arg-type]
    reason = (("reason", "damaged on the disk"),)
    assert spool._counts.snapshot() == {
        ("alerts_dropped", reason): 1,
        ("visuals_dropped", reason): 2,
        ("questions_dropped", reason): 1,
    }
    assert spool.usage == Usage(0, 0, 0)
    assert not spool.healthy


def test_what_is_kept_is_told_in_numbers(opened: Callable[..., Spool]) -> None:
    spool = opened()
    empty = spool.usage
    assert empty == Usage(empty.bytes, 0, 0, 0)
    assert 0 < empty.bytes < 40 * PAGE
    for id in "abc":
        spool.put(make_event(id, visual_bytes=40_000), "north")
    spool.put_question(replace(QUESTION, id="q"))
    spool.acknowledge("a", "json", 0)
    spool.acknowledge("b", "roi", 0)
    spool.acknowledge("c", "roi", 0)
    spool.waiting()
    used = spool.usage
    assert (used.alerts, used.visuals, used.questions) == (2, 1, 1)
    assert used.bytes % PAGE == 0
    roi = len(make_event("a", visual_bytes=40_000).roi or b"")
    assert roi - PAGE < used.bytes - empty.bytes < roi + 10 * PAGE


def test_of_a_unit_without_a_revision_the_first_is_acknowledged(
    opened: Callable[..., Spool],
) -> None:
    spool = opened()
    spool.put(make_event("e", revision=1), "north")
    spool.acknowledge("e", "json")
    assert spool.alert("e") is not None
    spool.acknowledge("e", "json", 1)
    assert spool.alert("e") is None


def test_a_refusal_without_a_revision_is_of_whichever_waits(opened: Callable[..., Spool]) -> None:
    spool = opened()
    spool.put(make_event("e", revision=9), "north")
    spool.refuse("e", "json", "never", 8)
    assert spool.alert("e") is not None
    spool.refuse("e", "json", "never")
    assert spool.alert("e") is None


def test_what_is_settled_is_remembered_until_it_is_written(
    opened: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened()
    spool.put(make_event("e", revision=2), "north")
    spool.waiting()
    later: list[Any] = []
    monkeypatch.setattr(spool._writer, "later", lambda work, done: later.append(done))
    spool.acknowledge("e", "json", 1)
    assert spool.alert("e") is not None  # a later revision waits
    spool.acknowledge("e", "json", 2)
    spool.acknowledge("e", "json", 0)  # an answer to an earlier one takes nothing back
    assert spool.alert("e") is None
    assert spool.visual("e", "roi") is not None
    assert spool._settled == {("e", "json"): 2}
    later[0]()
    assert spool._settled == {("e", "json"): 2}
    later[1]()
    assert spool._settled == {}
    later[1]()
    assert spool.alert("e") is not None  # nothing was written here
    spool.acknowledge("e", "code", 0)
    assert spool._settled == {("e", "code"): 0}


def test_who_reads_cannot_write(opened: Callable[..., Spool]) -> None:
    assert opened()._reader.execute("PRAGMA query_only").fetchone() == (1,)


def test_visuals_go_as_long_as_there_are_more(opened: Callable[..., Spool]) -> None:
    spool = opened()
    left, saved = [True, True, False], []

    class Tables:
        def save_clock(self, *about: float) -> None:
            saved.append(about)

        def expire(self, now: float) -> bool:
            assert now == spool._now()
            return left.pop(0)

    spool._writer.ask = lambda work, size=0: work(Tables())  # type: ignore[method-assign]
    spool.expire()
    assert left == []
    assert saved == [(spool._now(), 1.8e9)] * 3


@pytest.mark.parametrize(
    ("later", "aged"),
    [(0.0, 0.0), (10.0, 10.0), (-10.0, 0.0), (MOST_DOWNTIME, MOST_DOWNTIME), (1e6, MOST_DOWNTIME)],
)
def test_a_restart_goes_on_with_its_clock(
    opened: Callable[..., Spool], later: float, aged: float
) -> None:
    passed = [50.0]
    first = opened(monotonic=lambda: passed[0])
    assert first._now() == 0.0
    passed[0] = 150.0
    assert first._now() == 100.0
    first.close()
    again = opened(clock=lambda: 1.8e9 + later, monotonic=lambda: 7.0)
    assert again._now() == pytest.approx(100.0 + aged)


def test_a_folder_that_cannot_be_made_and_a_disk_that_cannot_be_used(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spool(memory / "a" / "b" / "spool.sqlite", LEAST_BYTES, 0, Counts()).close()
    (memory / "file").touch()
    inside = memory / "file" / "a" / "spool.sqlite"
    with pytest.raises(SpoolError) as caught:
        Spool(inside, LEAST_BYTES, 0, Counts())
    assert str(caught.value) == f"{inside.parent}: cannot be made (Not a directory)"
    path = memory / "spool.sqlite"
    for error in (sqlite3.OperationalError("disk I/O error"), OSError("no disk")):
        monkeypatch.setattr(module, "connect", failing(error))
        with pytest.raises(SpoolError) as caught:
            Spool(path, LEAST_BYTES, 0, Counts())
        assert str(caught.value) == f"{path}: cannot be used ({error})"
    monkeypatch.undo()
    Spool(path, LEAST_BYTES, 0, Counts()).close()  # its lock was let go
