"""What operators say of events, asked of a store in memory."""

import time
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from sqlalchemy import Connection, Row, select

from dat_runtime.cloud import alerts, verdicts
from dat_runtime.cloud.tables import events
from dat_runtime.cloud.verdicts import Outdated, Review
from tests.dat_runtime.cloud.conftest import alert


def record(connection: Connection, id: str = "e", node: str = "n1", **data: Any) -> Row[Any]:
    """Keep an alert, as a receiver does; the row of its event."""
    came = [alerts.received(alert(id, node, **data), 5.0)]
    alerts.record(connection, came, [verdicts.reopen_worse])
    row = alerts.find(connection, id, node)
    assert row is not None
    return row


def said(verdict: Any, note: str = "", by: str = "ada", revision: int | None = None) -> Review:
    return Review(verdict, note, by, revision)


def judge(connection: Connection, row: Row[Any], *given: Any, at: float = 9.0) -> bool:
    return verdicts.record(connection, row, said(*given), at)


def verdict(connection: Connection, id: str = "e") -> tuple[str | None, int]:
    query = select(events.c.verdict, events.c.changed).where(events.c.id == id)
    return tuple(connection.execute(query).one())  # type: ignore[return-value]


def test_a_review_is_kept_and_its_verdict_shows(connection: Connection) -> None:
    row = record(connection)
    assert judge(connection, row, "confirmed", "a car")
    assert verdict(connection) == ("confirmed", 3)  # numbers: the alert, the review, the change
    first = {"verdict": "confirmed", "note": "a car", "by": "ada", "at": 9.0, "revision": 0}
    assert verdicts.history(connection, 1) == [first | {"cursor": 2}]
    assert not judge(connection, row, "confirmed", "a car", at=10.0)
    for other in (("confirmed", "a bus"), ("confirmed", "a bus", "bob")):
        assert judge(connection, row, *other, at=10.0)
    assert judge(connection, row, "open", "a bus", "bob", at=11.0)
    assert verdict(connection)[0] is None
    assert [one["verdict"] for one in verdicts.history(connection, 1)] == ["open"] + 3 * [
        "confirmed"
    ]
    (latest,) = connection.execute(select(verdicts.reviews).where(verdicts.reviews.c.current)).all()
    assert (latest.verdict, latest.by, latest.priority, latest.at) == ("open", "bob", 0.9, 11.0)


def test_nothing_is_opened_that_nobody_judged(connection: Connection) -> None:
    row = record(connection)
    assert not judge(connection, row, "open")
    assert verdicts.history(connection, 1) == []
    assert judge(connection, row, "dismissed")


def test_a_review_is_of_the_revision_that_was_seen(connection: Connection) -> None:
    record(connection, "other", priority=0.75)
    record(connection, priority=0.25)
    row = record(connection, revision=1, priority=0.125)
    assert judge(connection, row, "dismissed", "", "ada", 0)
    (kept,) = connection.execute(select(verdicts.reviews)).all()
    assert (kept.revision, kept.priority) == (0, 0.25)
    assert judge(connection, row, "dismissed", "", "ada", None)
    assert verdicts.history(connection, row.number)[0]["revision"] == 1
    with pytest.raises(ValueError, match=r"^revision is 2, the event has no such revision$"):
        judge(connection, row, "confirmed", "", "ada", 2)


def test_what_became_worse_is_not_dismissed_unseen(connection: Connection) -> None:
    record(connection, priority=0.25)
    row = record(connection, revision=2, priority=0.5)
    with pytest.raises(
        Outdated, match=r"^revision 2 is worse than 0, which is dismissed: look again$"
    ):
        judge(connection, row, "dismissed", "", "ada", 0)
    assert judge(connection, row, "confirmed", "", "ada", 0)
    record(connection, "same", priority=0.25)
    row = record(connection, "same", revision=1, priority=0.25)
    assert judge(connection, row, "dismissed", "", "ada", 0)


def test_what_was_dismissed_and_becomes_worse_is_opened_again(connection: Connection) -> None:
    for id, given in (("e", "dismissed"), ("f", "confirmed"), ("g", "dismissed"), ("h", None)):
        row = record(connection, id, priority=0.25)
        if given:
            judge(connection, row, given)
    began = time.time()
    record(connection, "e", revision=1, priority=0.5)
    record(connection, "f", revision=1, priority=0.5)
    record(connection, "g", revision=1, priority=0.25)
    record(connection, "h", revision=1, priority=0.5)
    now = {id: verdict(connection, id)[0] for id in "efgh"}
    assert now == {"e": None, "f": "confirmed", "g": "dismissed", "h": None}
    told = verdicts.history(connection, 1)[0]
    assert began <= told.pop("at") <= time.time()
    assert told.pop("cursor") > 8
    assert told == {
        "verdict": "open",
        "note": "priority rose from 0.25 to 0.50 after it was dismissed",
        "by": "receiver",
        "revision": 1,
    }
    # Dismissed again as it is now: that stays.
    judge(connection, record(connection, "e", revision=1, priority=0.5), "dismissed")
    record(connection, "e", revision=2, priority=0.4)
    assert verdict(connection)[0] == "dismissed"


def test_all_events_of_a_large_batch_are_looked_at_and_an_older_revision_opens_nothing(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "MAX_KEYS", 2)
    ids = [f"e{n}" for n in range(5)]
    for id in ids:
        judge(connection, record(connection, id, revision=1, priority=0.25), "dismissed")
    older = [alerts.received(alert(id, revision=0, priority=0.9), 5.0) for id in ids]
    alerts.record(connection, older, [verdicts.reopen_worse])
    assert {verdict(connection, id)[0] for id in ids} == {"dismissed"}
    worse = [alerts.received(alert(id, revision=2, priority=0.5), 5.0) for id in ids]
    alerts.record(connection, worse, [verdicts.reopen_worse])
    assert {verdict(connection, id)[0] for id in ids} == {None}


@pytest.fixture
def judged(connection: Connection) -> Connection:
    """Four events of two nodes, the first judged twice, the third opened again."""
    rows = [record(connection, id, node) for id, node in (("a", "n1"), ("b", "n2"), ("c", "n1"))]
    record(connection, "d")
    for row in rows:
        assert judge(connection, row, "confirmed")
    assert judge(connection, rows[0], "dismissed")
    assert judge(connection, rows[2], "open")
    return connection


def ids(told: list[dict[str, Any]]) -> list[str]:
    return [one["id"] if "id" in one else one["event"]["id"] for one in told]


def test_reviews_are_listed_in_the_order_of_commit(judged: Connection) -> None:
    told = verdicts.page(judged, 0, 100, None)
    assert ids(told) == ["a", "b", "c", "a", "c"]
    assert [one["node"] for one in told] == ["n1", "n2", "n1", "n1", "n1"]
    assert [one["verdict"] for one in told] == ["confirmed"] * 3 + ["dismissed", "open"]
    cursors = [one["cursor"] for one in told]
    assert cursors == sorted(cursors)
    assert verdicts.page(judged, cursors[1], 2, None) == told[2:4]
    assert verdicts.page(judged, 0, 100, "n2") == [told[1]]
    assert verdicts.page(judged, cursors[-1], 100, None) == []


def test_verdicts_that_count_are_listed_with_their_events_the_newest_first(
    judged: Connection,
) -> None:
    told = verdicts.current(judged, 0, 100, None)
    assert [(one["event"]["id"], one["verdict"]) for one in told] == [
        ("a", "dismissed"),
        ("b", "confirmed"),
    ]
    assert told[0]["event"]["data"]["priority"] == 0.9
    assert verdicts.current(judged, 0, 1, None) == told[:1]
    assert verdicts.current(judged, told[0]["cursor"], 100, None) == told[1:]
    assert verdicts.current(judged, 0, 100, "n2") == told[1:]
    record(judged, "a", revision=1, priority=0.5)
    assert verdicts.current(judged, 0, 100, None)[0]["event"]["data"]["priority"] == 0.5


def test_a_summary_counts_what_is_open_too(judged: Connection) -> None:
    began = time.time()
    told = verdicts.summary(judged, None)
    assert began <= told.pop("now") <= time.time()
    changed = max(judged.execute(select(events.c.changed)).scalars())
    assert told == {"open": 2, "confirmed": 1, "dismissed": 1, "changed": changed}
    told = verdicts.summary(judged, "n2")
    assert (told["open"], told["confirmed"], told["dismissed"]) == (0, 1, 0)
    assert told["changed"] == changed


def test_a_summary_of_nothing(connection: Connection) -> None:
    told = verdicts.summary(connection, None)
    assert (told["open"], told["confirmed"], told["dismissed"], told["changed"]) == (0, 0, 0, 0)


def test_the_newest_of_a_long_history_are_told(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "MAX_HISTORY", 2)
    row = record(connection)
    for note in "abc":
        judge(connection, row, "confirmed", note)
    assert [one["note"] for one in verdicts.history(connection, 1)] == ["c", "b"]
