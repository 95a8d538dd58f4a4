"""What the spool keeps of events, row by row."""

import hashlib
from dataclasses import replace

import pytest

from benchmarks.spool_faults import make_event
from dat_runtime.edge.question import Question
from dat_runtime.edge.spool_database import Database
from dat_runtime.edge.spool_questions import LIFETIME
from dat_runtime.edge.spool_room import Room
from dat_runtime.edge.spool_tables import (
    MOST_EXPIRED,
    MOST_REFUSED,
    VISUAL_LIFETIME,
    Entry,
    Tables,
)


@pytest.fixture
def database(memory):
    opened = Database(memory / "spool.sqlite", 100_000)
    opened.begin()  # nothing is committed
    yield opened
    opened.rollback()
    opened.close()


@pytest.fixture
def tables(database):
    return Tables(database, Room(database, 10**6, 10**6))


def put(tables, id, priority=0.5, *, now=10.0, **about):
    assert tables.put(Entry.of(make_event(id, priority, **about), "north"), now) is None


def rows(tables, question):
    return tables.database.execute(question).fetchall()


def digest(content):
    return hashlib.blake2b(content, digest_size=16).digest()


QUESTION = Question("e", "south", 2, 0.7, 1.8e9, "features", "Image.", bytes(64))


def test_an_entry_holds_an_alert_and_the_visual_that_is_sent():
    event = make_event("e", 0.7, revision=3)
    entry = Entry.of(event, "north")
    about = ("e", "north", 3, 0.7, event.captured_at, event.json, digest(event.json))
    assert entry == Entry(*about, "roi", event.roi, digest(event.roi))
    assert entry.size == len(event.json) + len(event.roi)
    columns = ("north", 3, 0.7, event.captured_at, digest(event.json), len(event.json), event.json)
    assert entry.alert_columns == columns
    boxed = Entry.of(replace(event, roi=None), "north")
    assert (boxed.kind, boxed.visual) == ("box", event.boxed)
    assert boxed.visual_digest == digest(event.boxed)
    alone = Entry.of(replace(event, roi=None, boxed=b""), "north")
    assert (alone.kind, alone.visual, alone.visual_digest) == (None, None, None)
    assert alone.size == len(event.json)


def test_a_camera_whose_name_is_no_text_is_refused_before_it_is_written():
    with pytest.raises(UnicodeEncodeError):
        Entry.of(make_event("e"), "north\udcff")


def test_a_row_of_a_new_event_and_of_its_later_revision(tables):
    event, later = make_event("e", 0.25), make_event("e", 0.75, revision=2)
    what = (
        "SELECT number, arrived, id, camera, revision, priority, captured_at, digest, json_bytes,"
        " json, known, kind, visual_bytes, visual_revision, visual_digest, expires_at FROM events"
    )
    assert tables.put(Entry.of(event, "north"), 10.0) is None

    def row(event, camera, revision, priority):
        alert = (event.captured_at, digest(event.json), len(event.json), event.json, 0)
        visual = ("roi", len(event.roi), revision, digest(event.roi))
        return (1, 1, "e", camera, revision, priority, *alert, *visual)

    assert rows(tables, what) == [(*row(event, "north", 0, 0.25), 10.0 + VISUAL_LIFETIME)]
    assert rows(tables, "SELECT * FROM visuals") == [(1, event.roi)]
    assert tables.put(Entry.of(later, "south"), 20.0) is None
    assert rows(tables, what) == [(*row(later, "south", 2, 0.75), 20.0 + VISUAL_LIFETIME)]
    assert rows(tables, "SELECT * FROM visuals") == [(1, later.roi)]
    counted = {("alerts_superseded", ""): 1, ("visuals_superseded", ""): 1}
    assert tables.database.commit() == counted
    tables.database.begin()


def test_numbers_and_arrivals_go_on_where_an_earlier_run_stopped(tables, database):
    for id in "ab":
        put(tables, id)
    again = Tables(database, Room(database, 10**6, 10**6))
    put(again, "c")
    assert rows(again, "SELECT number, arrived, id FROM events") == [
        (1, 1, "a"),
        (2, 2, "b"),
        (3, 3, "c"),
    ]


def test_what_finds_no_room_is_told_and_counted(database):
    tables = Tables(database, Room(database, 0, 0))
    error = tables.put(Entry.of(make_event("e"), "north"), 10.0)
    assert str(error) == "no room for event e: all that waits has a higher priority"
    tables = Tables(database, Room(database, 10**6, 0))
    assert tables.put(Entry.of(make_event("e"), "north"), 10.0) is None
    assert rows(tables, "SELECT kind FROM events") == [(None,)]
    assert not tables.questions.put(QUESTION, 10.0)
    full = "the spool is full"
    assert database.commit() == {
        ("alerts_dropped", full): 1,
        ("visuals_dropped", full): 1,
        ("questions_dropped", full): 1,
    }
    database.begin()


def test_a_taken_id_is_told_and_an_earlier_revision_is_superseded(tables):
    put(tables, "e", revision=1)
    error = tables.put(Entry.of(make_event("e", revision=1, json=b"{}"), "north"), 10.0)
    assert str(error) == "event e is there already, with other content"
    put(tables, "e", revision=0)
    put(tables, "e", revision=1)  # a replay
    counted = {("alerts_dropped", "its id is taken"): 1, ("alerts_superseded", ""): 1}
    assert tables.database.commit() == counted
    tables.database.begin()


@pytest.mark.parametrize(("revision", "left"), [(1, 1), (2, 0), (3, 0)])
def test_what_is_acknowledged_up_to_its_revision_goes(tables, revision, left):
    def waits():
        return rows(tables, "SELECT count(json), count(kind) FROM events")[0]

    put(tables, "e", revision=2)
    tables.questions.put(QUESTION, 10.0)
    tables.acknowledge("e", "box", revision)
    assert waits() == (1, 1)
    tables.acknowledge("e", "json", revision)
    assert waits() == (left, 1)
    assert rows(tables, "SELECT known FROM events") == [(1,)]
    tables.acknowledge("e", "roi", revision)
    assert waits() == (left, left)
    tables.acknowledge("e", "code", revision)
    assert len(rows(tables, "SELECT * FROM questions")) == left
    assert len(rows(tables, "SELECT * FROM events")) == left
    assert len(rows(tables, "SELECT * FROM visuals")) == left
    assert tables.database.commit() == {}
    tables.database.begin()


@pytest.mark.parametrize(("revision", "goes"), [(1, False), (2, True)])
def test_what_is_refused_up_to_its_revision_goes_and_is_counted(tables, revision, goes):
    for id in ("json", "roi", "code"):
        put(tables, id, revision=2)
        tables.questions.put(replace(QUESTION, id=id), 10.0)
        tables.refuse(id, id, f"no {id}", revision)
    alerts = "SELECT id, json IS NOT NULL, kind FROM events ORDER BY arrived"
    whole = [(id, 1, "roi") for id in ("json", "roi", "code")]
    questions = [id for (id,) in rows(tables, "SELECT id FROM questions ORDER BY rowid")]
    aside = "SELECT id, revision, reason, json FROM refused"
    if not goes:
        assert rows(tables, alerts) == whole
        assert questions == ["json", "roi", "code"]
        assert rows(tables, aside) == []
        assert tables.database.commit() == {}
    else:
        assert rows(tables, alerts) == [("roi", 1, None), ("code", 1, "roi")]
        assert questions == ["roi"]
        event = make_event("json", 0.5, revision=2)
        assert rows(tables, aside) == [("json", 2, "no json", event.json)]
        assert tables.database.commit() == {
            ("alerts_refused", "no json"): 1,
            ("visuals_dropped", "its alert was refused"): 1,
            ("questions_dropped", "its alert was refused"): 1,
            ("visuals_refused", "no roi"): 1,
            ("questions_refused", "no code"): 1,
        }
    tables.database.begin()


def test_the_newest_refused_alerts_are_kept_with_the_beginning_of_their_reasons(tables):
    for n in range(MOST_REFUSED + 2):
        put(tables, f"e{n}", visual_bytes=0)
        tables.refuse(f"e{n}", "json", "x" * 1_001, 0)
    kept = rows(tables, "SELECT id, length(reason) FROM refused ORDER BY number")
    assert kept == [(f"e{n}", 1_000) for n in range(2, MOST_REFUSED + 2)]


def test_a_visual_of_an_event_that_the_receiver_knows_outlives_a_refused_revision(tables):
    put(tables, "e")
    tables.acknowledge("e", "json", 0)
    put(tables, "e", revision=1)
    tables.refuse("e", "json", "conflict", 1)
    assert rows(tables, "SELECT json, kind, known FROM events") == [(None, "roi", 1)]
    tables.acknowledge("e", "roi", 1)
    assert rows(tables, "SELECT * FROM events") == []


@pytest.mark.parametrize(("more", "may_be_more"), [(-1, False), (0, True), (1, True)])
def test_visuals_expire_so_many_at_a_time_and_questions_in_their_own(tables, more, may_be_more):
    for n in range(MOST_EXPIRED + more):
        put(tables, f"e{n}", visual_bytes=10)
    put(tables, "late", now=10.5, visual_bytes=10)
    tables.questions.put(QUESTION, VISUAL_LIFETIME - LIFETIME + 10.0)
    tables.questions.put(replace(QUESTION, id="q"), VISUAL_LIFETIME - LIFETIME + 10.5)
    assert not tables.expire(9.9 + VISUAL_LIFETIME)
    assert tables.expire(10.0 + VISUAL_LIFETIME) == may_be_more
    left = [id for (id,) in rows(tables, "SELECT id FROM events WHERE kind IS NOT NULL")]
    assert left == ([f"e{MOST_EXPIRED}"] if more == 1 else []) + ["late"]
    assert [id for (id,) in rows(tables, "SELECT id FROM questions")] == ["q"]
    assert tables.database.commit() == {
        ("visuals_dropped", "expired"): MOST_EXPIRED + min(0, more),
        ("questions_dropped", "expired"): 1,
    }
    tables.database.begin()


def test_the_spools_clock_is_never_before_the_last_visual_was_put(tables):
    assert tables.clock() == (0.0, 0.0)
    tables.save_clock(100.0, 1.8e9)
    assert tables.clock() == (100.0, 1.8e9)
    put(tables, "e", now=99.0)
    assert tables.clock() == (100.0, 1.8e9)
    put(tables, "f", now=130.0)
    assert tables.clock() == (130.0, 1.8e9)
    tables.acknowledge("f", "roi", 0)  # only of those that wait
    assert tables.clock() == (100.0, 1.8e9)


def test_what_waits_is_told_in_order_of_arrival_with_its_question(tables):
    put(tables, "b", 0.9)
    put(tables, "e", 0.25, revision=2)
    tables.questions.put(QUESTION, 10.0)
    tables.questions.put(replace(QUESTION, id="alone"), 10.0)
    tables.acknowledge("b", "json", 0)
    b, e, alone = tables.waiting()
    assert [w.pending.id for w in (b, e, alone)] == ["b", "e", "alone"]
    visual = make_event("b", 0.9)
    assert (b.pending.json_sent, b.pending.priority) == (True, 0.9)
    assert (b.pending.roi_bytes, b.pending.box_bytes) == (len(visual.roi), None)
    event = make_event("e", 0.25, revision=2)
    assert (e.pending.json_bytes, e.pending.roi_bytes) == (len(event.json), len(event.roi))
    assert (e.camera, e.revision, e.question) == ("south", 2, ("features", "Image."))
    assert (alone.camera, alone.pending.priority, alone.pending.captured_at) == (
        "south",
        0.7,
        1.8e9,
    )
    assert alone.pending.code_bytes == 64
    assert tables.questions.waiting() == [
        (id, "south", 2, 0.7, 1.8e9, "features", "Image.", 64) for id in ("e", "alone")
    ]


def test_a_question_goes_with_its_events_newest_revision_and_no_other(tables):
    questions = tables.questions
    put(tables, "e", revision=2)
    assert not questions.put(replace(QUESTION, revision=1), 10.0)
    assert questions.put(QUESTION, 10.0)
    assert questions.put(replace(QUESTION, revision=3, content=b"newer"), 20.0)
    what = "SELECT id, revision, bytes, content, expires_at FROM questions"
    assert rows(tables, what) == [("e", 3, 5, b"newer", 20.0 + LIFETIME)]
    questions.overtaken("e", 3)
    questions.overtaken("other", 9)
    questions.acknowledge("e", 2)
    questions.refuse("e", 2, "no")
    assert len(rows(tables, what)) == 1
    questions.overtaken("e", 4)
    assert rows(tables, what) == []
    questions.refuse("e", 9, "no")  # it is gone: nothing to count
    assert tables.database.commit() == {("questions_dropped", "overtaken"): 2}
    tables.database.begin()
