"""Who gives way when room is short, page by page: the database is real, its size is made up."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.spool_faults import make_event
from dat_runtime.edge.question import Question
from dat_runtime.edge.spool_database import PAGE, Database
from dat_runtime.edge.spool_questions import Questions
from dat_runtime.edge.spool_room import LOOKED_AT, MOST_HOLES, PER_PAGE, SPARE_PAGES, Room
from dat_runtime.edge.spool_tables import Entry, Tables

ALERT, VISUAL, QUESTION = 1, 10, 100
"""Pages that each of them takes here."""


class Sized(Database):
    """So many pages as its rows take by the numbers above, and a file of `pages` pages."""

    pages = 1_000

    def used(self) -> int:
        counted = "SELECT (SELECT count(*) FROM events WHERE json IS NOT NULL) * ?"
        counted += " + (SELECT count(*) FROM visuals) * ? + (SELECT count(*) FROM questions) * ?"
        return int(self.execute(counted, ALERT, VISUAL, QUESTION).fetchone()[0])

    def size(self) -> int:
        return self.pages * PAGE


@pytest.fixture
def database(memory: Path) -> Iterator[Sized]:
    sized = Sized(memory / "spool.sqlite", 100_000)
    sized.begin()  # nothing is committed
    yield sized
    sized.rollback()
    sized.close()


@pytest.fixture
def made(database: Sized) -> Callable[..., Room]:
    """A room of so many pages in which events and questions wait: (id, priority, bytes)."""

    def make(
        pages: int,
        visual_pages: int,
        visuals: tuple[tuple[str, float, int], ...] = (),
        questions: tuple[tuple[str, float, int], ...] = (),
        alerts: tuple[tuple[str, float, int], ...] = (),
    ) -> Room:
        free = Room(database, 10**6, 10**6)
        tables = Tables(database, free)
        for id, priority, size in alerts:
            alert = make_event(id, priority, json_bytes=size, visual_bytes=0)
            assert tables.put(Entry.of(alert, "c"), 0.0) is None
        for id, priority, size in visuals:
            event = make_event(id, priority, visual_bytes=size)
            assert tables.put(Entry.of(event, "c"), 0.0) is None
            tables.acknowledge(id, "json", 0)
        for id, priority, size in questions:
            about = Question(id, "c", 0, priority, 1.8e9, "code", "Image.", bytes(size))
            assert Questions(database, free).put(about, 0.0)
        return Room(database, pages, visual_pages)

    return make


def visuals_left(database: Database) -> list[str]:
    rows = database.execute("SELECT id FROM events WHERE kind IS NOT NULL ORDER BY arrived")
    return [id for (id,) in rows]


def questions_left(database: Database) -> list[str]:
    return [id for (id,) in database.execute("SELECT id FROM questions ORDER BY rowid")]


def alerts_left(database: Database) -> list[str]:
    rows = database.execute("SELECT id FROM events WHERE json IS NOT NULL ORDER BY arrived")
    return [id for (id,) in rows]


@pytest.mark.parametrize(
    ("size", "need"), [(0, 3), (PER_PAGE - 1, 3), (PER_PAGE, 4), (10 * PER_PAGE, 13)]
)
def test_a_visual_takes_the_last_page_that_is_free_and_none_more(made, database, size, need):
    assert made(99, need).for_visual(size, 0.5)
    assert not made(99, need - 1).for_visual(size, 0.5)
    assert made(99, need).for_question(size, 0.5)
    assert not made(99, need - 1).for_question(size, 0.5)


TWO = (("a", 0.5, 20 * PAGE), ("b", 0.5, 20 * PAGE))


def test_of_visuals_of_no_more_priority_the_oldest_goes_and_is_counted(made, database):
    assert made(99, 2 * VISUAL + 2, TWO).for_visual(0, 0.5)
    assert visuals_left(database) == ["b"]
    assert database.commit() == {("visuals_dropped", "the spool is full"): 1}
    database.begin()


def test_a_visual_before_which_none_would_go_lets_none_go(made, database):
    room = made(99, 2 * VISUAL + 2, TWO)
    assert not room.for_visual(0, 0.49)
    assert visuals_left(database) == ["a", "b"]


@pytest.mark.parametrize(("pages", "left"), [(0, []), (-1, ["a", "b"])])
def test_the_bytes_of_those_that_would_go_must_make_up_for_what_lacks(made, database, pages, left):
    """20 pages are used and the new one needs 20: what would go has the bytes of 40."""
    room = made(99, pages, TWO)
    assert not room.for_visual(17 * PER_PAGE, 0.5)  # only after both went is it seen
    assert visuals_left(database) == left


VISUALS = (("v1", 0.9), ("v2", 0.2), ("v3", 0.2))


def test_questions_go_before_visuals_and_the_least_of_each_first(made, database):
    visuals = tuple((id, priority, 10 * PAGE) for id, priority in VISUALS)
    questions = (("q1", 0.8, 100 * PAGE), ("q2", 0.1, 100 * PAGE))
    room = made(999, 30 + 200, visuals, questions)
    assert room.for_visual(0, 0.3)
    assert (visuals_left(database), questions_left(database)) == (["v1", "v2", "v3"], ["q1"])
    room = Room(database, 999, 20 + 3)
    assert room.for_visual(0, 0.3)
    assert (visuals_left(database), questions_left(database)) == (["v1", "v3"], [])


def test_a_question_pushes_out_questions_of_no_more_priority_and_nothing_else(made, database):
    visuals = (("v", 0.0, 9),)
    questions = (("q1", 0.5, 9), ("q2", 0.4, 9), ("q3", 0.4, 9))
    room = made(999, 310 - 97, visuals, questions)
    assert not room.for_question(0, 0.3)
    assert questions_left(database) == ["q1", "q2", "q3"]
    assert room.for_question(0, 0.4)
    assert questions_left(database) == ["q1", "q3"]
    assert not Room(database, 999, 2).for_question(0, 1.0)
    assert (visuals_left(database), questions_left(database)) == (["v"], [])
    assert database.commit() == {("questions_dropped", "the spool is full"): 3}
    database.begin()


def test_while_others_fill_the_disk_no_visual_and_no_question_is_taken(made):
    room = made(999, 999)
    assert room.reason == "the spool is full"
    room.growing = False
    assert room.reason == "the disk is full"
    assert not room.for_visual(0, 1.0)
    assert not room.for_question(0, 1.0)


@pytest.mark.parametrize(("size", "need"), [(0, 4), (PER_PAGE - 1, 4), (PER_PAGE, 5)])
def test_for_an_alert_what_waits_goes_only_when_its_last_page_is_used(made, database, size, need):
    visuals, questions = (("v1", 0.9, 9), ("v2", 0.8, 9)), (("q", 0.9, 9),)
    assert made(120 + need, 0, visuals, questions).for_alert(size, 0.0)
    assert questions_left(database) == ["q"]
    assert Room(database, 119 + need, 0).for_alert(size, 0.0)
    assert (visuals_left(database), questions_left(database)) == (["v1", "v2"], [])
    assert Room(database, 19 + need, 0).for_alert(size, 0.0)
    assert visuals_left(database) == ["v1"]


ALERTS = tuple((f"a{i}", priority, 700) for i, priority in enumerate([0.5, 0.2, 0.2, 0.9]))


def test_alerts_give_way_byte_for_byte_those_of_least_priority_first(made, database):
    room = made(2, 0, alerts=ALERTS)
    assert room.for_alert(700, 0.3)
    assert alerts_left(database) == ["a0", "a2", "a3"]
    room.forget_places()
    assert room.for_alert(701, 0.9)  # 700 bytes are one too few
    assert alerts_left(database) == ["a3"]
    room.forget_places()
    assert not room.for_alert(1, 0.89)
    assert database.commit() == {("alerts_dropped", "the spool is full"): 3}
    database.begin()


def test_half_empty_pages_are_borne_up_to_a_bound(made, database):
    alerts = tuple((f"a{i}", 0.5, 10) for i in range(SPARE_PAGES + 6))
    room = made(4, 0, alerts=alerts)
    assert room.for_alert(1, 0.5)
    assert len(alerts_left(database)) == SPARE_PAGES + 4


def test_an_alert_takes_the_place_of_one_that_went_before_any_other_goes(made, database):
    room = made(2, 0, alerts=ALERTS)
    room._drop_least_alert(1.0)
    assert alerts_left(database) == ["a0", "a2", "a3"]
    assert room.for_alert(700, 0.0)
    assert not room.for_alert(701, 0.0)
    assert alerts_left(database) == ["a0", "a2", "a3"]


@pytest.mark.parametrize(("pages", "goes"), [(14 + 4, False), (14 + 3, True)])
def test_on_a_full_disk_the_file_itself_is_the_room(made, database, pages, goes):
    """Four alerts and a visual are there; beyond the file's own pages there is the reserve."""
    room = made(99, 99, visuals=(("v", 0.9, 9),), alerts=ALERTS)
    room.growing, database.pages = False, pages
    assert room.for_alert(0, 0.0)
    assert (visuals_left(database) == []) == goes
    assert database._uncounted == ({("visuals_dropped", "the disk is full"): 1} if goes else {})


def test_when_the_reserve_is_used_up_too_alerts_go_on_a_full_disk(made, database):
    room = made(99, 99, alerts=ALERTS)
    room.growing, database.pages = False, 7
    assert room.for_alert(700, 0.1)  # the reserve
    assert alerts_left(database) == ["a0", "a1", "a2", "a3"]
    room.reserve_left = False
    assert not room.for_alert(700, 0.1)
    assert room.for_alert(700, 0.2)
    assert alerts_left(database) == ["a0", "a2", "a3"]
    database.pages = 99
    assert room.for_alert(700, 0.0)


def test_a_large_file_does_not_make_more_room_than_there_is(made, database):
    room = made(14 + 3, 99, visuals=(("v", 0.9, 9),), alerts=ALERTS)
    room.growing, database.pages = False, 500
    assert room.for_alert(0, 0.0)
    assert visuals_left(database) == []


def test_places_of_rows_that_went_are_given_out_the_last_first_where_they_are_large_enough(
    made, database
):
    room = made(99, 99, alerts=ALERTS)
    assert room.place(1) == 5  # after the last row
    for number in (2, 3):
        database.execute("UPDATE events SET json = NULL, json_bytes = ? WHERE number = ?",
                         100 * number, number)  # fmt: skip
        room.tidy(number)
    room.tidy(1)  # its alert waits: it is no place
    assert [room.place(size) for size in (301, 200, 200, 200)] == [6, 3, 2, 7]
    database.execute("UPDATE events SET json = NULL WHERE number = 4")
    room.tidy(4)
    room.forget_places()
    assert room.place(1) == 8


def test_an_event_of_which_a_visual_waits_keeps_its_row(made, database):
    room = made(99, 99, visuals=(("v", 0.9, 9),))
    room.tidy(1)
    assert visuals_left(database) == ["v"]
    room.drop_visual(1, "expired")
    assert database.execute("SELECT count(*) FROM events").fetchone() == (0,)
    assert database.execute("SELECT count(*) FROM visuals").fetchone() == (0,)
    assert database._uncounted == {("visuals_dropped", "expired"): 1}
    assert room.place(600) == 1


def test_so_many_places_are_remembered_and_the_newest_of_them_looked_at(made, database):
    room = made(99, 99)
    for number in range(1, MOST_HOLES + 3):
        database.execute(
            "INSERT INTO events (number, arrived, id, camera, revision, priority, captured_at,"
            " digest, json_bytes, known) VALUES (?, ?, ?, 'c', 0, 0.5, 0, x'00', ?, 0)",
            number,
            number,
            f"e{number}",
            900 if number == MOST_HOLES + 2 - LOOKED_AT else 10,
        )
        room.tidy(number)
    assert len(room._holes) == MOST_HOLES
    assert room._holes[0] == (10, 3)
    assert not made(2, 0).for_alert(900, 0.0)
    assert room.place(900) == 1  # the large one is just out of sight
    assert room.place(10) == MOST_HOLES + 2
    assert room.place(900) == MOST_HOLES + 2 - LOOKED_AT  # and now in it


def test_in_a_file_of_an_earlier_run_new_rows_come_after_its_last(made):
    assert made(99, 99).place(1) == 1
    assert made(99, 99, alerts=ALERTS).place(1) == 5
