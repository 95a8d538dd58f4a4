"""Alerts are recorded once each, and found again; asked of a store in memory."""

import hashlib
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from sqlalchemy import Connection, select
from sqlalchemy.event import listen

from dat_runtime.cloud import alerts
from dat_runtime.cloud.alerts import CONFLICT, CREATED, UNCHANGED, Received
from dat_runtime.cloud.store import Store
from dat_runtime.cloud.tables import events, revisions
from tests.dat_runtime.cloud.conftest import alert


def came(id: str = "e", node: str = "n1", at: float = 5.0, **data: Any) -> Received:
    return alerts.received(alert(id, node, **data), at)


def row(connection: Connection, id: str = "e") -> dict[str, Any]:
    return dict(connection.execute(select(events).where(events.c.id == id)).one()._mapping)


def test_an_alert_is_kept_as_sorted_json_with_its_digest() -> None:
    one = alerts.received({"z": 1} | alert("e") | {"comment": "é\ud800"}, 7.5)
    assert one.content.startswith(
        '{"comment":"\\u00e9\\ud800","data":{"answer":{"accidents":[{"bbox":'
    )
    assert one.digest == hashlib.sha256(one.content.encode()).hexdigest()
    assert (one.key, one.received_at, one.alert.id) == ("n1/e", 7.5, "e")
    with pytest.raises(ValueError, match="priority"):
        came(priority=2)


def test_an_alert_is_kept_once_with_all_that_is_known_of_it(connection: Connection) -> None:
    assert alerts.record(connection, [came(priority=0.25, revision=3)]) == [CREATED]
    assert row(connection) == {
        "number": 1,
        "key": "n1/e",
        "node": "n1",
        "id": "e",
        "camera": "north",
        "revision": 3,
        "priority": 0.25,
        "captured_at": 1_769_860_800.0,
        "received_at": 5.0,
        "cursor": 1,
        "changed": 1,
        "roi": False,
        "box": False,
        "verdict": None,
    }
    again = came(priority=0.25, revision=3, at=9.0)
    assert alerts.record(connection, [again, again]) == [UNCHANGED, UNCHANGED]
    assert alerts.record(connection, [came(priority=0.5, revision=3)]) == [CONFLICT]
    (kept,) = connection.execute(select(revisions)).all()
    assert kept._mapping == {
        "event": 1,
        "revision": 3,
        "received_at": 5.0,
        "digest": again.digest,
        "content": again.content,
    }
    assert row(connection)["received_at"] == 5.0


def test_the_newest_revision_shows_in_whichever_order_they_come(connection: Connection) -> None:
    alerts.record(connection, [came(revision=1, priority=0.1)])
    alerts.record(connection, [came("f")])
    assert alerts.record(connection, [came(revision=0, priority=0.2)]) == [CREATED]
    assert (row(connection)["revision"], row(connection)["cursor"]) == (1, 1)
    later = {"revision": 2, "priority": 0.3, "captured_at": 8.0}
    assert alerts.record(connection, [came(**later, at=6.0)]) == [CREATED]
    now = row(connection)
    assert (now["number"], now["revision"], now["priority"], now["captured_at"]) == (1, 2, 0.3, 8.0)
    assert (now["cursor"], now["changed"], now["received_at"]) == (4, 4, 6.0)
    # All of one event at once: new, and its newest one shows.
    many = [came("g", revision=n, priority=n / 10, at=n) for n in (1, 4, 2)]
    assert alerts.record(connection, many) == [CREATED] * 3
    now = row(connection, "g")
    assert (now["number"], now["revision"], now["priority"], now["cursor"]) == (5, 4, 0.4, 6)
    # Several of one event that is there: the newest of them.
    assert alerts.record(connection, [came(revision=n) for n in (3, 5, 4)]) == [CREATED] * 3
    assert (row(connection)["revision"], row(connection)["cursor"]) == (5, 9)
    query = (
        select(revisions.c.revision).where(revisions.c.event == 1).order_by(revisions.c.revision)
    )
    assert list(connection.execute(query).scalars()) == [0, 1, 2, 3, 4, 5]
    assert Store.take_numbers(connection, 1) == 11


def test_a_batch_says_of_each_what_became_of_it_and_tells_what_was_kept(
    connection: Connection,
) -> None:
    told: list[tuple[str, int]] = []

    def tell(connection: Connection, kept: Any) -> None:
        assert connection.execute(select(events.c.id)).first()
        told.extend((one.key, one.alert.revision) for one in kept)

    first = [came("a"), came("b"), came("a"), came("a", priority=0.5), came("a", "n2")]
    statuses = alerts.record(connection, first, [tell, tell])
    assert statuses == [CREATED, CREATED, UNCHANGED, CONFLICT, CREATED]
    assert told == [("n1/a", 0), ("n1/b", 0), ("n2/a", 0)] * 2
    assert alerts.record(connection, [came("b")], [tell]) == [UNCHANGED]
    assert len(told) == 6


def test_more_events_than_one_query_looks_up_are_all_known(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "MAX_KEYS", 2)
    asked: list[str] = []
    listen(connection, "before_cursor_execute", lambda *told: asked.append(told[2]))
    many = [came(f"e{n}") for n in range(5)]
    assert alerts.record(connection, many) == [CREATED] * 5
    asked.clear()
    assert alerts.record(connection, many) == [UNCHANGED] * 5
    assert len(asked) == 3  # of two events, two and one
    assert alerts.record(connection, [came(f"e{n}", revision=1) for n in range(5)]) == [CREATED] * 5
    assert [row(connection, f"e{n}")["revision"] for n in range(5)] == [1] * 5


def test_an_event_is_found_by_its_id_and_by_its_node(connection: Connection) -> None:
    alerts.record(connection, [came("a"), came("both"), came("both", "n2")])
    found = alerts.find(connection, "a")
    assert found is not None
    assert found.key == "n1/a"
    assert alerts.find(connection, "a", "n2") is None
    assert alerts.find(connection, "b") is None
    found = alerts.find(connection, "both", "n2")
    assert found is not None
    assert found.key == "n2/both"
    with pytest.raises(alerts.Ambiguous, match=r"^both$"):
        alerts.find(connection, "both")


def test_a_change_of_an_event_is_the_last_one(connection: Connection) -> None:
    alerts.record(connection, [came("a"), came("b")])
    alerts.touch(connection, 1, roi=True, verdict="confirmed")
    assert (row(connection, "a")["changed"], row(connection, "a")["cursor"]) == (3, 1)
    assert (row(connection, "a")["roi"], row(connection, "a")["verdict"]) == (True, "confirmed")
    assert (row(connection, "b")["changed"], row(connection, "b")["roi"]) == (2, False)
