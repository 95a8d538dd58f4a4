"""Alerts over the wire, on both stores: kept once, revised, found again by place."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dat_runtime.cloud.body import Bodies
from tests.dat_runtime.cloud.conftest import Running, alert


def listed(receiver: Running, **asked: Any) -> Iterator[dict[str, Any]]:
    """All events of a list, page by page."""
    for _ in range(1000):
        answer = receiver.client.get("/v1/events", params=asked)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        if not page["events"]:
            return
        yield from page["events"]
        asked["after"] = page["next"]
    raise AssertionError("the list does not end")


def ids(receiver: Running, **asked: Any) -> list[str]:
    return [event["id"] for event in listed(receiver, **asked)]


def test_an_alert_is_kept_once_however_often_it_comes(receiver: Running) -> None:
    answers = [receiver.post(alert()) for _ in range(3)]
    assert [a.status_code for a in answers] == [201, 200, 200]
    assert answers[0].json() == {"id": "n1-000001", "status": 201}
    assert ids(receiver) == ["n1-000001"]


def test_fields_in_another_order_say_the_same(receiver: Running) -> None:
    sent = alert()
    turned = dict(reversed(sent.items())) | {"data": dict(reversed(sent["data"].items()))}
    assert receiver.post(sent).status_code == 201
    assert receiver.post(turned).status_code == 200


def test_other_content_under_the_same_id_is_a_conflict_and_changes_nothing(
    receiver: Running,
) -> None:
    receiver.post(alert(priority=0.9))
    answer = receiver.post(alert(priority=0.2))
    assert answer.status_code == 409
    assert "other content" in answer.json()["detail"]
    assert receiver.client.get("/v1/events/n1-000001").json()["data"]["priority"] == 0.9


def test_a_later_revision_is_shown_and_the_earlier_ones_stay_in_the_history(
    receiver: Running,
) -> None:
    for revision, priority in ((0, 0.5), (3, 0.9), (1, 0.6)):  # the last one is late
        answer = receiver.post(alert(priority=priority, revision=revision))
        assert answer.status_code == 201
    event = receiver.client.get("/v1/events/n1-000001").json()
    assert (event["data"]["revision"], event["data"]["priority"]) == (3, 0.9)
    assert [(h["revision"], h["data"]["priority"]) for h in event["history"]] == [
        (3, 0.9),
        (1, 0.6),
        (0, 0.5),
    ]
    assert receiver.post(alert(priority=0.6, revision=1)).status_code == 200
    assert receiver.post(alert(priority=0.7, revision=1)).status_code == 409


def test_a_batch_is_answered_alert_by_alert(receiver: Running) -> None:
    receiver.post(alert("a"))
    answer = receiver.post([alert("a"), alert("b"), alert("b"), alert("a", priority=0.1)])
    assert answer.status_code == 409
    told = [(one["id"], one["status"]) for one in answer.json()["events"]]
    assert told == [("a", 200), ("b", 201), ("b", 200), ("a", 409)]
    assert receiver.post([alert("a"), alert("c")]).status_code == 201
    assert receiver.post([alert("a"), alert("c")]).status_code == 200
    assert receiver.post([]).json() == {"events": []}


def test_of_a_batch_with_a_wrong_alert_nothing_is_kept(receiver: Running) -> None:
    answer = receiver.post([alert("a"), alert("b", priority=2)])
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("[1] data: priority is 2")
    assert ids(receiver) == []


def test_a_batch_is_bounded(receiver: Running) -> None:
    long = alert("long") | {"comment": "x" * 17_000}
    assert receiver.post([alert(f"e{n}") for n in range(1001)]).status_code == 413
    assert receiver.post([long]).status_code == 413
    assert receiver.post(long).status_code == 413
    assert ids(receiver) == []


def test_two_nodes_may_use_the_same_id(receiver: Running) -> None:
    assert receiver.post(alert("e1", "n1")).status_code == 201
    assert receiver.post(alert("e1", "n2", priority=0.1)).status_code == 201
    answer = receiver.client.get("/v1/events/e1")
    assert answer.status_code == 409
    assert "?node=" in answer.json()["detail"]
    event = receiver.client.get("/v1/events/e1?node=n2").json()
    assert (event["node"], event["data"]["priority"]) == ("n2", 0.1)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'"\xff"', "not JSON"),
        (b"[" * 16_000, "nested too deeply"),
        (b'{"id": NaN}', "NaN"),
        (b'{"id": 1e999}', "out of range"),
        (b'{"id": "a", "id": "b"}', "duplicate key"),
        (b"9" * 10_000, "not JSON"),
        (b"[]", "not an object"),
        (json.dumps(alert(priority=1.5)).encode(), "priority"),
        (json.dumps(alert(id="../../etc/passwd")).encode(), "id"),
        (json.dumps(alert(node="../x")).encode(), "source"),
        (json.dumps(alert() | {"type": "other"}).encode(), "type"),
        (json.dumps(alert(roi=[0, 0, 9999, 9999])).encode(), "roi"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_what_is_wrong_is_named(refusing: Running, body: bytes, named: str) -> None:
    head = {"content-type": "application/cloudevents+json"}
    answer = refusing.client.post("/v1/events", content=body, headers=head)
    assert answer.status_code == 400
    assert named in answer.json()["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json"}, 415),
        ({"content-type": "application/cloudevents+json", "content-encoding": "gzip"}, 415),
        ({"content-type": "Application/CloudEvents+JSON; charset=utf-8"}, 201),
    ],
)
def test_only_alerts_in_plain_json_are_taken(
    sqlite_receiver: Running, headers: dict[str, str], status: int
) -> None:
    body = json.dumps(alert()).encode()
    answer = sqlite_receiver.client.post("/v1/events", content=body, headers=headers)
    assert answer.status_code == status


def test_html_half_characters_and_nulls_in_a_summary_stay_data(receiver: Running) -> None:
    summary = '<script>alert("x")</script>\ud800\0\u2028é'
    answer = {"count": 0, "severity": "none", "level": 0, "score": 0.1, "accidents": []}
    body = json.dumps(alert(answer=answer | {"summary": summary})).encode()
    head = {"content-type": "application/cloudevents+json"}
    assert receiver.client.post("/v1/events", content=body, headers=head).status_code == 201
    told = receiver.client.get("/v1/events/n1-000001")
    assert told.headers["content-type"] == "application/json"
    assert told.headers["x-content-type-options"] == "nosniff"
    assert told.json()["data"]["answer"]["summary"] == summary


def test_events_are_listed_in_the_order_of_commit_and_a_revision_comes_last(
    receiver: Running,
) -> None:
    for n in range(7):
        receiver.post(alert(f"e{n}"))
    assert ids(receiver, limit=3) == [f"e{n}" for n in range(7)]
    place = receiver.client.get("/v1/events").json()["next"]
    receiver.post(alert("e2", priority=1, revision=1))
    assert ids(receiver, after=place) == ["e2"]
    assert ids(receiver, limit=2) == ["e0", "e1", "e3", "e4", "e5", "e6", "e2"]


def test_who_follows_the_list_sees_every_event_once_while_many_write(receiver: Running) -> None:
    def write(node: int) -> None:
        with httpx.Client(base_url=receiver.url, timeout=20) as client:
            for n in range(25):
                head = {"content-type": "application/cloudevents+json"}
                client.post("/v1/events", json=alert(f"{node}-{n}", f"n{node}"), headers=head)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for writer in writers:
        writer.start()
    seen: list[str] = []
    place = 0
    deadline = time.monotonic() + 30
    while len(seen) < 150 and time.monotonic() < deadline:
        asked = {"after": place, "limit": 7, "wait": 0.2}
        page = receiver.client.get("/v1/events", params=asked).json()
        seen += [event["id"] for event in page["events"]]
        place = page["next"]
    for writer in writers:
        writer.join()
    assert sorted(seen) == sorted(f"{node}-{n}" for node in range(6) for n in range(25))
    assert ids(receiver) == seen


def test_a_page_of_large_alerts_ends_early_and_the_next_one_goes_on(receiver: Running) -> None:
    """Twelve readers of a thousand such alerts took 655 MB."""
    sent = [alert(f"e{n}", revision=n) | {"comment": "é" * 5_000} for n in range(60)]
    assert receiver.post(sent).status_code == 201
    for order in ("commit", "changed", "priority"):
        page = receiver.client.get("/v1/events", params={"order": order, "limit": 1000})
        assert 1 <= len(page.json()["events"]) < 60
        assert len(page.content) < 1_100_000
        assert sorted(ids(receiver, order=order, limit=1000)) == sorted(one["id"] for one in sent)
    history = [alert("e", revision=n) | {"comment": "é" * 5_000} for n in range(60)]
    assert receiver.post(history).status_code == 201
    told = receiver.client.get("/v1/events/e").json()["history"]
    assert [one["revision"] for one in told] == list(range(59, 59 - len(told), -1))
    assert len(told) < 60


def test_the_order_of_priority_begins_with_the_highest_and_the_newest_of_equals(
    receiver: Running,
) -> None:
    chosen = random.Random(1)
    sent = []
    for n in range(40):
        priority, at = chosen.choice([0.1, 0.5, 0.123456789, 1.0]), chosen.randrange(1000)
        sent.append((-priority, -at, -n, f"e{n}"))
        receiver.post(alert(f"e{n}", priority=priority, captured_at=float(at)))
    assert ids(receiver, order="priority", limit=7) == [id for *_, id in sorted(sent)]


def test_lists_can_be_narrowed(receiver: Running) -> None:
    receiver.post(alert("a", "n1", captured_at=100.0))
    receiver.post(alert("b", "n2", captured_at=200.0))
    receiver.post(alert("c", "n2") | {"source": "/nodes/n2/cameras/south"})
    assert ids(receiver, node="n2") == ["b", "c"]
    assert ids(receiver, camera="south") == ["c"]
    assert ids(receiver, since=200) == ["b", "c"]
    assert ids(receiver, node="n2", order="priority", limit=1) == ["c", "b"]
    assert ids(receiver, verdict="open", order="changed") == ["a", "b", "c"]
    assert ids(receiver, verdict="confirmed") == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "after=-1", "after=x", "order=id", "wait=21", "wait=nan",
     "since=-1", "node=..%2F", "camera=%00", "order=priority&after=1", "verdict=perhaps",
     "order=priority&after=nan_1_1x", "after=99999999999999999999"],
)  # fmt: skip
def test_a_parameter_that_is_wrong_is_named(refusing: Running, query: str) -> None:
    answer = refusing.client.get(f"/v1/events?{query}")
    assert answer.status_code == 400
    assert query.split("&")[-1].partition("=")[0] in answer.json()["detail"]


@pytest.mark.parametrize("id", ["nope", "..%2F..%2Fetc%2Fpasswd", "%00", "a" * 5000, "%ff", "-"])
def test_an_unknown_event_is_not_found_whatever_its_name(refusing: Running, id: str) -> None:
    assert refusing.client.get(f"/v1/events/{id}").status_code == 404


def test_a_reader_may_wait_for_what_comes_next(receiver: Running) -> None:
    timer = threading.Timer(0.4, receiver.post, [alert()])
    timer.start()
    page = receiver.client.get("/v1/events", params={"wait": 15}).json()
    timer.join()
    assert [event["id"] for event in page["events"]] == ["n1-000001"]
    nothing = receiver.client.get("/v1/events", params={"after": page["next"], "wait": 0.3}).json()
    assert nothing == {"events": [], "next": page["next"]}


def test_a_change_that_is_no_revision_is_seen_in_the_order_of_changes(receiver: Running) -> None:
    from dat_runtime.cloud import alerts

    for id in ("a", "b"):
        receiver.post(alert(id))
    place = receiver.client.get("/v1/events?order=changed").json()["next"]
    number = receiver.client.get("/v1/events/a").json()["cursor"]
    work = receiver.inside.store.write(
        lambda connection: alerts.touch(connection, number, roi=True, verdict="confirmed")
    )
    asyncio.run(_awaited(work))
    (event,) = listed(receiver, order="changed", after=place)
    assert (event["id"], event["visuals"], event["verdict"]) == ("a", ["roi"], "confirmed")
    assert ids(receiver) == ["a", "b"]


async def _awaited(work: Any) -> Any:
    return await work


SENT = st.lists(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.sampled_from([0.2, 0.8]))),
    max_size=8,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(SENT)
def test_duplicates_other_orders_and_replays_leave_one_alert_each(
    receiver: Running, batches: list[list[tuple[str, int, float]]]
) -> None:
    """Against a model: the first content of a revision stands, the highest revision is shown."""
    node = f"n{time.monotonic_ns()}"  # the store is the same for all examples
    known: dict[str, dict[int, float]] = {}
    for batch in batches:
        expected = []
        for id, revision, priority in batch:
            revisions = known.setdefault(id, {})
            first = revisions.setdefault(revision, priority)
            expected.append((id, revision, priority, first))
        told = receiver.post(
            [alert(id, node, revision=rev, priority=pri) for id, rev, pri, _ in expected]
        ).json()["events"]
        for (_, _, priority, first), one in zip(expected, told, strict=True):
            assert one["status"] == 409 if priority != first else one["status"] in (200, 201)
    shown = {event["id"]: event["data"] for event in listed(receiver, node=node)}
    assert shown.keys() == known.keys()
    for id, revisions in known.items():
        newest = max(revisions)
        assert (shown[id]["revision"], shown[id]["priority"]) == (newest, revisions[newest])


def test_a_slow_body_is_given_up(make_receiver: Callable[..., Running]) -> None:
    receiver = make_receiver()
    receiver.inside.bodies = Bodies(seconds=0.3)

    def slowly() -> Iterator[bytes]:
        for byte in json.dumps(alert()).encode():
            yield bytes([byte])
            time.sleep(0.05)

    head = {"content-type": "application/cloudevents+json"}
    answer = receiver.client.post("/v1/events", content=slowly(), headers=head)
    assert answer.status_code == 408
    assert ids(receiver) == []


def test_bodies_take_a_bounded_amount_of_memory_together(
    make_receiver: Callable[..., Running],
) -> None:
    receiver = make_receiver()
    receiver.inside.bodies = Bodies(most=1_000)
    receiver.inside.bodies._room = 100
    answer = receiver.post(alert())
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    receiver.inside.bodies._room = 1_000
    assert receiver.post(alert()).status_code == 201
    assert receiver.inside.bodies._room == 1_000


def test_a_body_counts_as_in_memory_until_its_alert_is_committed(sqlite_receiver: Running) -> None:
    """While the store hangs, what waits for it is bounded in bytes, not only in number."""
    sqlite_receiver.inside.bodies = Bodies(most=1_000)  # one alert, not two
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(_: Any) -> None:
        hangs.set()
        goes_on.wait(20)

    store = sqlite_receiver.inside.store
    statuses: list[int] = []

    def send() -> None:
        statuses.append(httpx.post(f"{url}/v1/events", json=alert(), headers=head).status_code)

    url, head = sqlite_receiver.url, {"content-type": "application/cloudevents+json"}
    blocker = threading.Thread(target=lambda: asyncio.run(_awaited(store.write(hang))))
    first = threading.Thread(target=send)
    blocker.start()
    assert hangs.wait(20)
    first.start()
    deadline = time.monotonic() + 20
    while not store.waiting and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sqlite_receiver.post(alert("e2")).status_code == 503
    goes_on.set()
    blocker.join()
    first.join()
    assert statuses == [201]
    assert sqlite_receiver.post(alert("e2")).status_code == 201
