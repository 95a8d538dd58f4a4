"""What requests for lists, events and reviews ask for, read without a network."""

import asyncio
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi")

import httpx
from fastapi import HTTPException, Request
from sqlalchemy import Connection
from sqlalchemy.event import listen

from dat_runtime.cloud import alerts, events, review, verdicts
from dat_runtime.cloud.access import ANYONE, Who
from dat_runtime.cloud.application import app, opened
from dat_runtime.cloud.events import _Asked, event_row
from dat_runtime.cloud.listing import Filter
from dat_runtime.cloud.receiver import Receiver
from dat_runtime.cloud.verdicts import Review
from tests.dat_runtime.cloud.conftest import alert

NODE = Who("n1", "n1", reviews=False, sends=True)
ADA = Who("operator:ada", None, reviews=True, sends=False)


def request(query: str) -> Request:
    return Request({"type": "http", "query_string": query.encode(), "headers": []})


def refused(work: Any, *given: Any) -> tuple[int, str]:
    with pytest.raises(HTTPException) as refusal:
        work(*given)
    return refusal.value.status_code, refusal.value.detail


def test_a_list_that_asks_for_nothing_is_of_all_events_in_the_order_of_commit() -> None:
    asked = _Asked(request(""), ANYONE)
    assert (asked.order, asked.after, asked.limit, asked.wait) == ("commit", "", 100, 0)
    assert asked.only == Filter()


def test_a_list_is_of_what_was_asked_for() -> None:
    query = "order=priority&after=1_2_3&limit=1000&wait=20&verdict=open&since=1e12&node=n2&camera=c"
    asked = _Asked(request(query), ANYONE)
    assert (asked.order, asked.after, asked.limit, asked.wait) == ("priority", "1_2_3", 1_000, 20)
    assert asked.only == Filter("n2", "c", 1e12, "open")
    assert _Asked(request("limit=1&since=0"), ADA).only == Filter(since=0)
    assert _Asked(request("limit=1&since=0"), ADA).limit == 1
    for verdict in ("confirmed", "dismissed"):
        assert _Asked(request(f"verdict={verdict}"), ADA).only == Filter(verdict=verdict)
    for query in ("", "node=n1"):
        assert _Asked(request(query), NODE).only == Filter("n1")


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("order=x", 400, "order is 'x', expected commit, changed, priority"),
        ("limit=0", 400, "limit is '0', expected a number from 1 to 1000"),
        ("limit=1001", 400, "limit is '1001', expected a number from 1 to 1000"),
        ("limit=x", 400, "limit is 'x', expected a number from 1 to 1000"),
        ("limit=nan", 400, "limit is 'nan', expected a number from 1 to 1000"),
        ("wait=-1", 400, "wait is '-1', expected a number from 0 to 20"),
        ("wait=x", 400, "wait is 'x', expected a number from 0 to 20"),
        ("wait=20.1", 400, "wait is '20.1', expected a number from 0 to 20"),
        ("since=1.1e12", 400, "since is '1.1e12', expected a number from 0 to 1e+12"),
        ("since=-1", 400, "since is '-1', expected a number from 0 to 1e+12"),
        ("since=", 400, "since is '', expected a number from 0 to 1e+12"),
        ("verdict=x", 400, "verdict is one of open, confirmed, dismissed"),
        ("node=a/b", 400, "node is 'a/b', expected a name of up to 64 letters"),
        ("camera=a/b", 400, "camera is 'a/b', expected a name of up to 64 letters"),
        ("node=n2", 403, "this token is of node n1, not of n2"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(query: str, status: int, words: str) -> None:
    code, detail = refused(_Asked, request(query), NODE)
    assert (code, detail[: len(words)]) == (status, words)


def test_a_page_is_of_its_place(connection: Connection) -> None:
    for id in "abc":
        alerts.record(connection, [alerts.received(alert(id), 5.0)])
    told, place = _Asked(request("after=1&limit=1"), ANYONE).page(connection)
    assert ([event["id"] for event in told], place) == (["b"], 2)
    asked = _Asked(request("after=x"), ANYONE)
    words = "after is 'x', expected the number that `next` was"
    assert refused(asked.page, connection) == (400, words)


def test_an_event_is_found_or_it_is_said_why_not(connection: Connection) -> None:
    for id, node in (("a", "n1"), ("both", "n1"), ("both", "n2")):
        alerts.record(connection, [alerts.received(alert(id, node), 5.0)])
    assert event_row(connection, "a", None).key == "n1/a"
    assert event_row(connection, "both", "n2").key == "n2/both"
    told = (409, "several nodes have an event both: add ?node=NODE")
    assert refused(event_row, connection, "both", None) == told
    for id, node in (("a", "n2"), ("b", None)):
        assert refused(event_row, connection, id, node) == (404, f"no event {id!r}")
    # PostgreSQL takes no null: what cannot be a name is not asked for.
    asked: list[str] = []
    listen(connection, "before_cursor_execute", lambda *told: asked.append(told[2]))
    for id, node in (("a", "n\0"), ("a\0", None), ("a/b", "n1"), ("a", "n/1")):
        assert refused(event_row, connection, id, node) == (404, f"no event {id!r}")
    assert asked == []


def asked_at(path: str) -> Request:
    return Request({"type": "http", "path": path, "query_string": b"", "headers": []})


class Inside:
    """A receiver that knows who asks, and counts how often nodes did."""

    def __init__(self, who: Who):
        self.asked: list[str] = []
        self._who = who
        self.access = self.reads = self

    def who(self, request: Request) -> Who:
        assert request.url.path == "/"
        return self._who

    def take(self, node: str) -> None:
        self.asked.append(node)


def test_a_node_asks_as_often_as_its_rate_allows_and_others_as_they_like() -> None:
    for who, asked in ((NODE, ["n1"]), (ADA, []), (ANYONE, [])):
        inside: Any = Inside(who)
        assert events._reader(inside, asked_at("/")) == who
        assert inside.asked == asked


def test_a_review_is_read_with_who_says_it() -> None:
    value = {"verdict": "confirmed", "note": " a car\n", "revision": 1_000_000}
    assert review._read(value, ADA) == Review("confirmed", "a car", "operator:ada", 1_000_000)
    assert review._read({"verdict": "open", "note": None}, ANYONE) == Review(
        "open", "", "anyone", None
    )
    long = {"verdict": "dismissed", "note": "x" * 1_000}
    assert review._read(long, ADA).note == "x" * 1_000


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "verdict is missing"),
        ({"verdict": "maybe"}, "verdict is 'maybe', expected one of confirmed, dismissed, open"),
        ({"verdict": "open", "note": "x" * 1_001}, "note is 'xxx"),
        ({"verdict": "open", "note": 1}, "note is 1, expected a text of at most 1,000 characters "),
        ({"verdict": "open", "revision": -1}, "revision is -1, expected a whole number from 0"),
        ({"verdict": "open", "revision": 1_000_001}, "revision is 1000001, expected a whole"),
        ({"verdict": "open", "more": 1}, "unknown key 'more'"),
    ],
)
def test_a_review_that_is_wrong_is_named(value: Any, words: str) -> None:
    status, detail = refused(review._read, value, ADA)
    assert (status, detail[: len(words)]) == (400, words)


def test_a_note_that_no_store_takes_is_none() -> None:
    for letter in (0, 0x1F, 0xD, 0xD800, 0xDC00, 0xDFFF):
        assert not review._is_note("a" + chr(letter))


def test_a_note_may_have_lines_and_any_letters() -> None:
    for note in ("", "a\n\tb", "\ud7ff\ue000 \U0001f697", " "):
        assert review._is_note(note)


@pytest.fixture
def reviewed(tmp_path: Path) -> Iterator[Receiver]:
    """A receiver of two nodes, an event of each confirmed."""
    (tmp_path / "tokens").write_text("n1\tone\nn2\ttwo\n")
    receiver = opened(f"sqlite:///{tmp_path}/r.db", tmp_path, tmp_path / "tokens")

    def work(connection: Connection) -> None:
        for node in ("n1", "n2"):
            alerts.record(connection, [alerts.received(alert(f"of-{node}", node), 5.0)])
            row = event_row(connection, f"of-{node}", None)
            review._record(connection, row, Review("confirmed", "so", node, None))

    asyncio.run(receiver.store.write(work))
    yield receiver
    receiver.store.close()


def test_reviews_belong_to_an_event_and_a_node_exports_its_own(reviewed: Receiver) -> None:
    application = app(reviewed)
    assert verdicts.reopen_worse in reviewed.recorded

    async def ask(path: str) -> httpx.Response:
        transport = httpx.ASGITransport(application)
        headers = {"authorization": "Bearer two"}
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path, headers=headers)

    told = asyncio.run(ask("/v1/events/of-n2")).json()
    assert [(one["by"], one["note"]) for one in told["reviews"]] == [("n2", "so")]
    told = asyncio.run(ask("/v1/reviews/export"))
    assert told.headers["content-type"] == "application/zip"
    lines = zipfile.ZipFile(io.BytesIO(told.content)).read("reviews.jsonl").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["of-n2"]


def test_a_whole_number_of_a_request_has_bounds() -> None:
    def whole(query: str) -> int:
        return review._whole(request(query), "n", 1, 10**18 - 1, 7)

    assert [whole(query) for query in ("", "n=", "n=1", "n=" + "9" * 18)] == [7, 7, 1, 10**18 - 1]
    assert review._whole(request(""), "n", 0, 5) == 0
    for text in ("0", "10", "x", "-1", "1.0", "\xb2", "0" * 18 + "1"):
        told = refused(review._whole, request(f"n={quote(text)}"), "n", 1, 9)
        assert told == (400, f"n is {text!r}, expected 1 to 9")


def test_a_verdict_that_cannot_be_kept_says_why(connection: Connection) -> None:
    for revision, priority in ((0, 0.25), (1, 0.5)):
        one = alert("e", revision=revision, priority=priority)
        alerts.record(connection, [alerts.received(one, 5.0)])
    row = event_row(connection, "e", None)
    assert review._record(connection, row, Review("confirmed", "", "ada", None))
    assert not review._record(connection, row, Review("confirmed", "", "ada", None))
    worse = Review("dismissed", "", "ada", 0)
    told = (409, "revision 1 is worse than 0, which is dismissed: look again")
    assert refused(review._record, connection, row, worse) == told
    none = Review("confirmed", "", "ada", 5)
    told = (400, "revision is 5, the event has no such revision")
    assert refused(review._record, connection, row, none) == told
