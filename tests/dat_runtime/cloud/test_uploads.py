"""What the store knows of visuals, asked of a store in memory."""

import time
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from sqlalchemy import Connection, Row, select, update

from dat_runtime.cloud import alerts, uploads
from dat_runtime.cloud.tables import events
from dat_runtime.cloud.tus import Wanted
from dat_runtime.cloud.uploads import Answered, UploadError
from tests.dat_runtime.cloud.conftest import alert


def record(connection: Connection, id: str = "e", node: str = "n1", **data: Any) -> Row[Any]:
    """Keep an alert; the row of its event."""
    alerts.record(connection, [alerts.received(alert(id, node, **data), 5.0)])
    row = alerts.find(connection, id, node)
    assert row is not None
    return row


def wanted(kind: str = "roi", length: int = 10, revision: int | None = None) -> Wanted:
    return Wanted("e", kind, None, revision, length, "stated")


def made(connection: Connection, event: Row[Any], *given: Any) -> Row[Any]:
    row, is_new = uploads.create(connection, event, wanted(*given))
    assert is_new
    return row


def refused(connection: Connection, event: Row[Any], *given: Any) -> tuple[int, str]:
    with pytest.raises(UploadError) as refusal:
        uploads.create(connection, event, wanted(*given))
    return refusal.value.status, str(refusal.value)


def keys(connection: Connection) -> set[str]:
    return set(connection.execute(select(uploads.uploads.c.key)).scalars())


def rests(connection: Connection, key: str, seconds: float) -> None:
    """Let an upload have rested for so long."""
    one = update(uploads.uploads).where(uploads.uploads.c.key == key)
    connection.execute(one.values(written_at=time.time() - seconds))


def test_a_visual_is_made_once_and_told_again(connection: Connection) -> None:
    event = record(connection, revision=2)
    began = time.time()
    row = made(connection, event)
    assert began <= row.written_at <= time.time()
    assert {**row._mapping, "written_at": 0} == {
        "key": uploads.key_of(1, "roi", 2),
        "event": 1,
        "node": "n1",
        "kind": "roi",
        "revision": 2,
        "length": 10,
        "arrived": 0,
        "complete": False,
        "written_at": 0,
        "metadata": "stated",
    }
    assert uploads.create(connection, event, wanted()) == (row, False)
    assert uploads.create(connection, event, wanted(revision=2)) == (row, False)
    assert refused(connection, event, "roi", 1_000) == (
        409,
        "this visual was said to have 10 bytes",
    )
    assert made(connection, event, "box").key != row.key
    assert uploads.find(connection, row.key) == row
    assert uploads.find(connection, "f" * 40) is None


def test_a_key_says_nothing_of_whose_it_is() -> None:
    assert uploads.key_of(1, "roi", 0) == "e69b3bb0b6ab5d7cb583e6976434c3d10be8bf40"
    assert uploads.KEY.fullmatch(uploads.key_of(1, "roi", 0))


def test_a_visual_is_of_a_revision_that_is_here_and_of_none_that_is_older_than_what_is_shown(
    connection: Connection,
) -> None:
    record(connection)
    event = record(connection, revision=3)
    assert refused(connection, event, "roi", 10, 2) == (409, "no revision 2 of the event is here")
    newest = made(connection, event)
    assert made(connection, event, "roi", 10, 0).revision == 0  # nothing is shown yet
    uploads.complete(connection, newest.key)
    told = (409, "the visual of revision 3 is there already")
    assert refused(connection, event, "roi", 10, 0) == told
    assert made(connection, event, "box", 10, 0).revision == 0


def test_a_question_that_was_answered_is_needed_no_more(connection: Connection) -> None:
    record(connection)
    event = record(connection, revision=2)
    assert made(connection, event, "code", 10, 0).kind == "code"  # the number after it is free
    event = record(connection, "f")
    record(connection, "f", revision=1)
    with pytest.raises(Answered, match=r"^revision 1 is here: the question is answered$") as told:
        uploads.create(connection, event, wanted("question", 10, 0))
    assert told.value.status == 409
    assert made(connection, event, "roi", 10, 0).kind == "roi"


def test_an_alert_that_a_visual_is_of_is_expected(connection: Connection) -> None:
    def is_here(event: str, revision: int | None = None, node: str | None = None) -> bool:
        asked = Wanted(event, "roi", None, revision, 1, "")
        return uploads.is_expected(connection, asked, node)

    record(connection, revision=1)
    assert is_here("e")
    assert is_here("e", 1)
    assert is_here("e", 1, "n1")
    assert not is_here("e", 0)
    assert not is_here("e", None, "n2")
    assert not is_here("f")
    record(connection, node="n2")
    assert is_here("e", 7)  # whose it is has to be said first


def test_a_node_has_so_many_visuals_under_way(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_OPEN", 3)
    events = [record(connection, f"e{n}") for n in range(6)]
    theirs = record(connection, "other", "n2")
    first, second, third = (made(connection, event) for event in events[:3])
    assert refused(connection, events[3]) == (429, "n1 has 3 visuals under way")
    assert made(connection, theirs)
    for row, seconds in ((first, 61.0), (second, 90.0), (third, 40.0)):
        rests(connection, row.key, seconds)
    made(connection, events[3])  # in place of the one that rested longest
    assert second.key not in keys(connection)
    assert first.key in keys(connection)
    uploads.complete(connection, first.key)
    made(connection, events[4])  # one that ended takes no place
    assert refused(connection, events[5])[0] == 429
    assert len(keys(connection)) == 5


def test_a_nodes_visuals_under_way_have_so_many_bytes(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_OPEN_BYTES", 100)
    events = [record(connection, f"e{n}") for n in range(5)]
    first = made(connection, events[0], "roi", 30)
    second = made(connection, events[1], "roi", 30)
    third = made(connection, events[2], "roi", 40)  # all of the room
    assert refused(connection, events[3], "roi", 1) == (429, "n1 has 3 visuals under way")
    for row, seconds in ((first, 90.0), (second, 80.0), (third, 70.0)):
        rests(connection, row.key, seconds)
    made(connection, events[3], "roi", 60)  # two of them make room enough
    assert keys(connection) == {third.key, uploads.key_of(4, "roi", 0)}
    # What would not be room enough takes nobody's place.
    assert refused(connection, events[4], "roi", 41)[0] == 429
    assert third.key in keys(connection)


def test_bytes_that_came_are_noted(connection: Connection) -> None:
    row = made(connection, record(connection))
    rests(connection, row.key, 1_000)
    began = time.time()
    assert uploads.arrived(connection, row.key, 7)
    now = uploads.find(connection, row.key)
    assert now is not None
    assert (now.arrived, now.complete) == (7, False)
    assert now.written_at >= began
    assert not uploads.arrived(connection, "f" * 40, 7)


def shown(connection: Connection, *given: Any) -> int | None:
    row = uploads.shown(connection, 1, *given)
    return None if row is None else row.revision


def test_a_whole_visual_replaces_older_ones_and_is_shown(connection: Connection) -> None:
    rows = {}
    for revision in range(4):
        event = record(connection, revision=revision)
        rows[revision] = made(connection, event, "roi", 10, revision)
    box = made(connection, event, "box", 10, 0)
    other = made(connection, record(connection, "f"))
    assert shown(connection, "roi") is None
    rests(connection, rows[1].key, 1_000)
    began = time.time()
    assert set(uploads.complete(connection, rows[1].key)) == {rows[0].key}
    row = uploads.shown(connection, 1, "roi")
    assert row is not None
    assert (row.revision, row.arrived, row.complete) == (1, 10, True)
    assert row.written_at >= began
    changed = connection.execute(select(events).where(events.c.number == 1)).one()
    assert (changed.roi, changed.box) == (True, False)
    assert changed.changed == max(connection.execute(select(events.c.changed)).scalars())
    assert uploads.complete(connection, rows[3].key)
    assert (shown(connection, "roi"), shown(connection, "roi", 3)) == (3, 3)
    assert shown(connection, "roi", 1) is None
    assert shown(connection, "box") is None
    # Of those under way older ones went too; the rest stays.
    assert keys(connection) == {rows[3].key, box.key, other.key}
    assert uploads.complete(connection, rows[2].key) == [rows[2].key]  # it was removed


def test_a_visual_that_ends_after_a_later_one_goes(connection: Connection) -> None:
    event = record(connection)
    older = made(connection, event)
    record(connection, revision=1)
    newer = made(connection, event, "roi", 10, 1)
    one = update(uploads.uploads).where(uploads.uploads.c.key == newer.key)
    connection.execute(one.values(complete=True))
    connection.execute(update(uploads.uploads).values(complete=True))
    assert shown(connection, "roi") == 1  # not the one that was made first
    assert uploads.complete(connection, older.key) == [older.key]
    assert keys(connection) == {newer.key}
    assert uploads.complete(connection, newer.key) == []


def test_a_question_that_is_whole_is_shown_to_nobody(connection: Connection) -> None:
    row = made(connection, record(connection), "code")
    assert uploads.questions_of(connection, [1]) == {}
    assert uploads.complete(connection, row.key) == []
    assert uploads.questions_of(connection, [1, 2]) == {1: ["code"]}
    event = connection.execute(select(events)).one()
    assert (event.roi, event.box, event.changed) == (False, False, 1)
    uploads.remove(connection, row.key)
    assert keys(connection) == set()


def asked(connection: Connection, id: str, node: str, priority: float, at: float, **d: Any) -> str:
    """A question that waits; its key."""
    event = record(connection, id, node, priority=priority, **d)
    row = made(connection, event, "code")
    uploads.complete(connection, row.key)
    one = update(uploads.uploads).where(uploads.uploads.c.key == row.key)
    connection.execute(one.values(written_at=at))
    return str(row.key)


def test_of_each_node_the_best_question_comes_first(connection: Connection) -> None:
    loud = [asked(connection, f"a{n}", "n1", 0.9 - n / 10, 5.0) for n in range(3)]
    newest = asked(connection, "a9", "n1", 0.9, 6.0)
    quiet = asked(connection, "b", "n2", 0.1, 1.0)
    made(connection, record(connection, "c", "n3"), "code")  # not whole
    uploads.complete(connection, made(connection, record(connection, "d"), "roi").key)

    def keys(*given: Any) -> list[str]:
        return [row.key for row in uploads.questions(connection, *given)]

    assert keys(10) == [newest, quiet, loud[0], loud[1], loud[2]]
    assert keys(2) == [newest, quiet]
    assert keys(10, [newest, loud[1]]) == [loud[0], quiet, loud[2]]
    assert keys(10, (), [loud[2], quiet]) == [loud[2], quiet]
    assert keys(10, (), []) == []
    record(connection, "b", "n2", revision=2, priority=1.0)
    (first, *_) = uploads.questions(connection, 10)
    assert len(keys(10)) == 5
    assert (first.key, first.priority, first.node) == (quiet, 1.0, "n2")
    assert '"priority":0.1' in first.content  # of the revision that it is about


def test_questions_are_told_by_event_in_an_order(connection: Connection) -> None:
    event = record(connection)
    for kind in ("question", "code"):
        uploads.complete(connection, made(connection, event, kind).key)
    asked(connection, "f", "n1", 0.5, 1.0)
    uploads.complete(connection, made(connection, event, "roi").key)
    assert uploads.questions_of(connection, [2, 1]) == {1: ["code", "question"], 2: ["code"]}
    assert uploads.questions_of(connection, [2]) == {2: ["code"]}
