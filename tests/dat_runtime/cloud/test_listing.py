"""Lists of events, asked of a store in memory."""

from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from sqlalchemy import Connection

from dat_runtime.cloud import alerts, listing, uploads
from dat_runtime.cloud.listing import Filter
from dat_runtime.cloud.tus import Wanted
from tests.dat_runtime.cloud.conftest import alert


def record(connection: Connection, id: str, node: str = "n1", at: float = 5.0, **data: Any) -> None:
    alerts.record(connection, [alerts.received(alert(id, node, **data), at)])


def listed(
    connection: Connection, order: Any = "commit", after: str = "", limit: int = 100, **only: Any
) -> tuple[list[str], int | str]:
    told, place = listing.page(connection, order, after, limit, Filter(**only))
    return [event["id"] for event in told], place


def test_an_order_goes_on_from_its_place(connection: Connection) -> None:
    for id in "abcd":
        record(connection, id)
    assert listed(connection) == (["a", "b", "c", "d"], 4)
    assert listed(connection, limit=2) == (["a", "b"], 2)
    assert listed(connection, after="2") == (["c", "d"], 4)
    assert listed(connection, after="4") == ([], 4)
    record(connection, "b", revision=1)
    alerts.touch(connection, 1, roi=True)
    assert listed(connection) == (["a", "c", "d", "b"], 5)
    assert listed(connection, "changed") == (["c", "d", "b", "a"], 6)
    assert listed(connection, "changed", "5") == (["a"], 6)
    assert listed(connection, after="9" * 18) == ([], 10**18 - 1)


def test_the_order_of_priority_goes_on_among_equals(connection: Connection) -> None:
    for id, priority, captured_at in (
        ("low", 0.1, 9.0),
        ("old", 0.9, 1.0),
        ("new", 0.9, 2.0),
        ("newest", 0.9, 2.0),
        ("top", 1.0, 0.0),
    ):
        record(connection, id, priority=priority, captured_at=captured_at)
    ids, place = listed(connection, "priority")
    assert ids == ["top", "newest", "new", "old", "low"]
    assert place == "0.1_9.0_1"
    assert listed(connection, "priority", str(place)) == ([], place)
    found, after = [], ""
    for _ in range(5):
        page, place = listed(connection, "priority", after, 1)
        found += page
        after = str(place)
    assert found == ids


@pytest.mark.parametrize(
    ("order", "after", "words"),
    [
        ("commit", "x", "after is 'x', expected the number that `next` was"),
        ("changed", "-1", "after is '-1', expected the number that `next` was"),
        ("commit", "1" * 19, f"after is '{'1' * 19}', expected the number that `next` was"),
        ("commit", "²", "after is '²', expected the number that `next` was"),
        ("commit", "x" * 99, f"after is '{'x' * 60}', expected the number that `next` was"),
        ("priority", "5", "after is '5', no place in the order of priority"),
        ("priority", "a_1_1", "after is 'a_1_1', no place in the order of priority"),
        ("priority", "1_1_b", "after is '1_1_b', no place in the order of priority"),
        ("priority", "x" * 99, f"after is '{'x' * 60}', no place in the order of priority"),
    ],
)
def test_a_place_that_is_none_is_named(
    connection: Connection, order: str, after: str, words: str
) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011
        listed(connection, order, after)
    assert str(told.value) == words


def test_a_list_holds_what_was_asked_for(connection: Connection) -> None:
    for id, node, camera, captured_at in (
        ("a", "n1", "north", 1.0),
        ("b", "n1", "south", 2.0),
        ("c", "n2", "north", 3.0),
    ):
        event = alert(id, node, captured_at=captured_at)
        event["source"] = f"/nodes/{node}/cameras/{camera}"
        alerts.record(connection, [alerts.received(event, 5.0)])
    alerts.touch(connection, 1, verdict="confirmed")
    alerts.touch(connection, 2, verdict="dismissed")
    for only, ids in (
        ({"node": "n1"}, ["a", "b"]),
        ({"camera": "north"}, ["a", "c"]),
        ({"node": "n1", "camera": "north"}, ["a"]),
        ({"since": 2.0}, ["b", "c"]),
        ({"since": 2.1}, ["c"]),
        ({"verdict": "open"}, ["c"]),
        ({"verdict": "confirmed"}, ["a"]),
        ({"verdict": "dismissed"}, ["b"]),
    ):
        assert listed(connection, **only)[0] == ids


def test_a_page_ends_early_at_so_many_bytes(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id in "abcd":
        record(connection, id)
    length = len(alerts.received(alert("a"), 5.0).content)
    monkeypatch.setattr(listing, "MAX_PAGE_BYTES", 2 * length)
    assert listed(connection) == (["a", "b"], 2)
    monkeypatch.setattr(listing, "MAX_PAGE_BYTES", 2 * length + 1)
    assert listed(connection, "priority")[0] == ["d", "c", "b"]
    monkeypatch.setattr(listing, "MAX_PAGE_BYTES", 1)
    assert listed(connection) == (["a"], 1)


def test_a_few_alerts_are_in_memory_at_a_time(connection: Connection) -> None:
    record(connection, "a")
    asked: list[Any] = []

    class Watched:
        def execute(self, query: Any, **more: Any) -> Any:
            asked.append(more)
            return connection.execute(query, **more)

    watched: Any = Watched()
    listing.page(watched, "commit", "", 100, Filter())
    assert asked[0] == {"execution_options": {"yield_per": 20}}


def waits(connection: Connection, id: str, kind: str) -> None:
    """Let a question about an event wait."""
    event = alerts.find(connection, id)
    assert event is not None
    row, _ = uploads.create(connection, event, Wanted(id, kind, None, None, 9, ""))
    uploads.complete(connection, row.key)


def test_an_event_is_told_with_what_the_receiver_knows(connection: Connection) -> None:
    record(connection, "a")
    alerts.touch(connection, 1, box=True, roi=True, verdict="confirmed")
    record(connection, "b", "n2", at=6.0)
    waits(connection, "b", "question")
    first, second = listing.page(connection, "commit", "", 100, Filter())[0]
    assert first == alert("a") | {
        "node": "n1",
        "camera": "north",
        "received_at": 5.0,
        "cursor": 1,
        "changed": 2,
        "visuals": ["roi", "box"],
        "verdict": "confirmed",
    }
    assert (second["node"], second["visuals"], second["verdict"]) == ("n2", [], None)
    assert second["questions"] == ["question"]
    alerts.touch(connection, 1, roi=False)
    told = listing.detail(connection, 1)
    assert (told["visuals"], told["changed"]) == (["box"], 4)
    assert listing.detail(connection, 3)["questions"] == ["question"]


def test_one_event_is_told_with_its_history(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(connection, "other")
    for revision in range(3):
        record(connection, "e", at=float(revision), revision=revision, priority=revision / 4)
    told = listing.detail(connection, 2)
    history = told.pop("history")
    assert told["data"] == alert("e", revision=2, priority=0.5)["data"]
    assert "questions" not in told
    assert history[0] == {"revision": 2, "received_at": 2.0, "data": told["data"]}
    assert [(one["revision"], one["received_at"], one["data"]["priority"]) for one in history] == [
        (2, 2.0, 0.5),
        (1, 1.0, 0.25),
        (0, 0.0, 0.0),
    ]
    monkeypatch.setattr(listing, "MAX_HISTORY", 2)
    assert [one["revision"] for one in listing.detail(connection, 2)["history"]] == [2, 1]
    monkeypatch.setattr(listing, "MAX_PAGE_BYTES", 1)
    assert [one["revision"] for one in listing.detail(connection, 2)["history"]] == [2]
