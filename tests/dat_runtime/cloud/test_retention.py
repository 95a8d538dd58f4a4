"""What is removed, in which order, and that nothing else is."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, update

from dat_runtime.cloud import retention
from dat_runtime.cloud.retention import Retention
from dat_runtime.cloud.settings import Settings
from dat_runtime.cloud.tables import events, revisions
from dat_runtime.cloud.uploads import uploads
from tests.dat_runtime.cloud.conftest import Running, alert
from tests.dat_runtime.cloud.test_visuals import JPEG, create, send, stored, uploaded

MODERATE, SEVERE = 0.2, 0.9


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No task of a receiver's own removes anything; tests call `tidy`."""

    async def rest(self: Retention) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Retention, "run", rest)
    monkeypatch.setattr(retention, "PAUSE", 0.0)
    return iter([None])


def tidy(receiver: Running, **settings: Any) -> Retention:
    """Remove once what the settings say; counters of their own."""
    from dat_runtime.cloud.metrics import Metrics

    inside = receiver.inside
    inside.settings = Settings(**settings)
    inside.metrics = Metrics()
    remover = Retention(inside)
    asyncio.run(remover.once())
    return remover


def removed(receiver: Running, kind: str, reason: str) -> float:
    registry = receiver.inside.metrics.registry
    labels = {"kind": kind, "reason": reason}
    return registry.get_sample_value("dat_receiver_removed_total", labels) or 0.0


def write(receiver: Running, statement: Any) -> None:
    asyncio.run(receiver.inside.store.write(lambda connection: connection.execute(statement)))


def read(receiver: Running, query: Any) -> list[Any]:
    return list(asyncio.run(receiver.inside.store.read(lambda c: c.execute(query).all())))


def ids(receiver: Running) -> list[str]:
    return sorted(row.id for row in read(receiver, select(events.c.id)))


def with_visual(receiver: Running) -> list[str]:
    return sorted(row.id for row in read(receiver, select(events.c.id).where(events.c.roi)))


def came(receiver: Running, id: str, priority: float, days_ago: float, verdict: str = "") -> None:
    """An event with its visual, as if it had come so long ago."""
    assert receiver.post(alert(id, priority=priority)).status_code == 201
    assert uploaded(receiver, event=id).status_code == 201
    at = time.time() - days_ago * 86_400
    row = update(events).where(events.c.id == id)
    write(receiver, row.values(received_at=at, verdict=verdict or None))


def test_what_is_older_goes_with_all_that_belongs_to_it(receiver: Running) -> None:
    came(receiver, "old", SEVERE, 31)
    came(receiver, "judged", SEVERE, 40, "confirmed")
    came(receiver, "new", MODERATE, 29)
    tidy(receiver, keep_days=30)
    assert ids(receiver) == with_visual(receiver) == ["new"]
    assert len(stored(receiver)) == 1
    assert len(read(receiver, select(revisions))) == len(read(receiver, select(uploads))) == 1
    assert removed(receiver, "visual", "age") == removed(receiver, "alert", "age") == 2
    assert receiver.client.get("/v1/events/old").status_code == 404
    assert receiver.client.get("/v1/events/old/visuals/roi").status_code == 404
    # A node that sends it again, as it may, finds a receiver that takes it again.
    assert receiver.post(alert("old")).status_code == 201


def test_visuals_go_before_alerts_and_what_is_severe_and_open_last(receiver: Running) -> None:
    came(receiver, "a-severe", SEVERE, 9)
    came(receiver, "b-judged", SEVERE, 8, "dismissed")
    came(receiver, "c-moderate", MODERATE, 7)
    came(receiver, "d-moderate", MODERATE, 1)
    came(receiver, "e-severe", SEVERE, 2)
    kept = asyncio.run(receiver.inside.store.read(retention.kept_bytes))
    order = []
    before = with_visual(receiver)
    while before:
        kept -= 1
        tidy(receiver, keep_bytes=kept)
        now = with_visual(receiver)
        (gone,) = set(before) - set(now)
        order.append(gone)
        before = now
        kept -= len(JPEG) - 1
        assert len(ids(receiver)) == 5
    assert order == ["c-moderate", "d-moderate", "b-judged", "a-severe", "e-severe"]
    order = []
    while len(ids(receiver)) > 1:
        before = ids(receiver)
        kept = asyncio.run(receiver.inside.store.read(retention.kept_bytes))
        tidy(receiver, keep_bytes=kept - 1)
        (gone,) = set(before) - set(ids(receiver))
        order.append(gone)
    assert order == ["c-moderate", "d-moderate", "b-judged", "a-severe"]


def test_bytes_are_counted_as_they_come_and_go(receiver: Running) -> None:
    def total() -> int:
        contents = read(receiver, select(revisions.c.content))
        files = sum(path.stat().st_size for path in stored(receiver))
        return sum(len(row.content) for row in contents) + files

    def counted() -> int:
        return asyncio.run(receiver.inside.store.read(retention.kept_bytes))

    assert counted() == total() == 0
    for n in range(20):
        came(receiver, f"e{n}", n / 20, n)
    receiver.post([alert(f"e{n}", revision=1) for n in range(0, 20, 2)])
    receiver.post([alert(f"e{n}") for n in range(20)])  # nothing new
    assert counted() == total() > 20 * len(JPEG)
    tidy(receiver, keep_bytes=10 * len(JPEG))
    assert counted() == total() <= 10 * len(JPEG)
    tidy(receiver, keep_bytes=3_000)
    assert counted() == total() <= 3_000
    assert removed(receiver, "alert", "size") > 0
    gauge = receiver.inside.metrics.registry.get_sample_value("dat_receiver_kept_bytes")
    assert gauge == counted()


def test_a_store_of_before_the_count_is_counted(receiver: Running) -> None:
    came(receiver, "a", SEVERE, 1)
    from dat_runtime.cloud.tables import store_state

    write(receiver, store_state.delete().where(store_state.c.name == "alert_bytes"))
    came(receiver, "b", SEVERE, 1)
    contents = read(receiver, select(revisions.c.content))
    kept = asyncio.run(receiver.inside.store.read(retention.kept_bytes))
    assert kept == sum(len(row.content) for row in contents) + 2 * len(JPEG)


def test_an_upload_that_rests_too_long_goes(receiver: Running) -> None:
    receiver.post([alert("a"), alert("b")])
    resting, fresh = create(receiver, event="a"), create(receiver, event="b")
    send(receiver, resting, 0, JPEG[:100])
    send(receiver, fresh, 0, JPEG[:100])
    key = resting.rpartition("/")[2]
    long_ago = time.time() - 90_000
    write(receiver, update(uploads).where(uploads.c.key == key).values(written_at=long_ago))
    tidy(receiver)
    assert removed(receiver, "visual", "unfinished") == 1
    assert receiver.client.head(resting, headers={"Tus-Resumable": "1.0.0"}).status_code == 404
    assert send(receiver, fresh, 100, JPEG[100:]).status_code == 204
    assert len(stored(receiver)) == 1
    assert ids(receiver) == ["a", "b"]


def test_files_that_belong_to_nothing_go_once_they_are_old(receiver: Running) -> None:
    came(receiver, "a", SEVERE, 1)
    (mine,) = stored(receiver)
    os.utime(mine, (1, 1))
    for name, age in (("f" * 40, 1), ("e" * 40, time.time())):
        stray = mine.parent.parent / name[:2] / name
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"x")
        os.utime(stray, (age, age))
    tidy(receiver)
    assert sorted(path.name for path in stored(receiver)) == sorted([mine.name, "e" * 40])
    assert removed(receiver, "file", "stray") == 1


def test_a_page_that_follows_changes_learns_that_a_visual_is_gone(receiver: Running) -> None:
    came(receiver, "a", SEVERE, 1)
    place = receiver.client.get("/v1/events?order=changed").json()["next"]
    kept = asyncio.run(receiver.inside.store.read(retention.kept_bytes))
    tidy(receiver, keep_bytes=kept - 1)
    (event,) = receiver.client.get(f"/v1/events?order=changed&after={place}").json()["events"]
    assert (event["id"], event["visuals"]) == ("a", [])


def test_alerts_come_in_while_thousands_go(receiver: Running) -> None:
    """Small steps: alerts are kept between them, not after all of them."""
    receiver.post([alert(f"old{n}") for n in range(1_000)])
    receiver.post([alert(f"old{n}") for n in range(1_000, 2_000)])
    write(receiver, update(events).values(received_at=1.0))
    thread = threading.Thread(target=tidy, args=(receiver,), kwargs={"keep_days": 1})
    thread.start()
    count = 0
    while thread.is_alive() and count < 10_000:
        assert receiver.post(alert(f"new{count}")).status_code == 201
        count += 1
    thread.join()
    assert removed(receiver, "alert", "age") == 2_000
    assert len(ids(receiver)) == count
    assert count > 5


def test_nothing_goes_while_nothing_is_said(receiver: Running) -> None:
    came(receiver, "a", SEVERE, 10_000)
    tidy(receiver)
    assert with_visual(receiver) == ["a"]
