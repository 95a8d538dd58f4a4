"""What goes first and how it is counted, asked of a store in memory; and a round without a node."""

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from sqlalchemy import Connection, delete, select, update

from dat_runtime.cloud import alerts, retention, uploads
from dat_runtime.cloud.application import opened
from dat_runtime.cloud.lease import Lease
from dat_runtime.cloud.receiver import Receiver
from dat_runtime.cloud.retention import Retention
from dat_runtime.cloud.settings import Settings
from dat_runtime.cloud.tables import events, revisions, store_state
from dat_runtime.cloud.tus import Wanted
from tests.dat_runtime.cloud.conftest import alert

VISUALS = uploads.uploads


def came(
    connection: Connection,
    id: str,
    priority: float = 0.2,
    age: float = 0.0,
    verdict: str | None = None,
    kind: str = "roi",
    arrived: int = 10,
    complete: bool = True,
) -> str:
    """An event with a visual of ten bytes, as if it had come so long ago; the visual's key."""
    one = alerts.received(alert(id, priority=priority), time.time() - age)
    alerts.record(connection, [one], [retention.add_bytes])
    event = alerts.find(connection, id)
    assert event is not None
    connection.execute(update(events).where(events.c.id == id).values(verdict=verdict))
    row, _ = uploads.create(connection, event, Wanted(id, kind, None, None, 10, ""))
    uploads.arrived(connection, row.key, arrived)
    if complete:
        uploads.complete(connection, row.key)
    mine = update(VISUALS).where(VISUALS.c.key == row.key)
    connection.execute(mine.values(written_at=time.time() - age))
    return str(row.key)


def ids(connection: Connection) -> list[str]:
    return list(connection.execute(select(events.c.id).order_by(events.c.number)).scalars())


def names(connection: Connection, keys: list[str]) -> list[str]:
    """The events of visuals."""
    query = select(VISUALS.c.key, events.c.id).join(events, events.c.number == VISUALS.c.event)
    of = {row.key: row.id for row in connection.execute(query)}
    return [of[key] for key in keys]


def contents(connection: Connection) -> int:
    return sum(map(len, connection.execute(select(revisions.c.content)).scalars()))


@pytest.fixture
def several(connection: Connection) -> Connection:
    came(connection, "severe", 0.5, 90)  # the bound of level 1
    came(connection, "judged", 0.1, 80, "dismissed")
    came(connection, "young", 0.499, 10)
    came(connection, "old", 0.1, 70)
    came(connection, "seen", 0.9, 60, "confirmed")
    came(connection, "open", 0.9, 5)
    return connection


ORDER = ["old", "young", "judged", "seen", "severe", "open"]


def test_what_is_neither_judged_nor_severe_goes_first_and_the_oldest_of_each(
    several: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = events.c.number > 0
    assert names(several, retention.visuals_where(several, every)) == ORDER
    numbers = retention.alerts_where(several, every)
    of = {row.number: row.id for row in several.execute(select(events))}
    assert [of[number] for number in numbers] == ORDER
    some = events.c.id.in_(["open", "old"])
    assert names(several, retention.visuals_where(several, some)) == ["old", "open"]
    assert [of[number] for number in retention.alerts_where(several, some)] == ["old", "open"]


def test_so_many_go_that_the_rest_fits(several: Connection) -> None:
    kept = retention.kept_bytes(several)
    assert kept == contents(several) + 60
    for most, count in ((kept, 0), (kept + 5, 0), (kept - 1, 1), (kept - 10, 1), (kept - 11, 2)):
        assert names(several, retention.visuals_beyond(several, most)) == ORDER[:count]
    assert names(several, retention.visuals_beyond(several, 0)) == ORDER
    under_way = came(several, "half", 0.0, 99, arrived=7, complete=False)
    assert retention.kept_bytes(several) == contents(several) + 67
    assert under_way not in retention.visuals_beyond(several, 0)
    length = len(alerts.received(alert("old", priority=0.1), 0.0).content)
    half = len(alerts.received(alert("half", priority=0.0), 0.0).content)
    kept = retention.kept_bytes(several)
    numbers = {row.id: row.number for row in several.execute(select(events))}
    order = [numbers[id] for id in ("half", *ORDER)]
    for most, count in (
        (kept, 0),
        (kept - half, 1),
        (kept - half - length, 2),
        (kept - half - length - 1, 3),
    ):
        assert retention.alerts_beyond(several, most) == order[:count]


def test_bytes_are_counted_as_alerts_come_and_go(connection: Connection) -> None:
    assert retention.kept_bytes(connection) == 0
    keys = [came(connection, id) for id in "abc"]
    longer = alerts.received(alert("a", revision=1), 5.0)
    alerts.record(connection, [longer], [retention.add_bytes])
    connection.execute(update(VISUALS).where(VISUALS.c.key == keys[0]).values(arrived=4))
    assert retention.kept_bytes(connection) == contents(connection) + 24
    numbers = {row.id: row.number for row in connection.execute(select(events))}
    gone = retention.drop_alerts(connection, [numbers["a"], numbers["c"]])
    assert set(gone) == {keys[0], keys[2]}
    assert ids(connection) == ["b"]
    assert retention.kept_bytes(connection) == contents(connection) + 10
    # A store of before the count.
    connection.execute(delete(store_state).where(store_state.c.name == "alert_bytes"))
    came(connection, "d")
    came(connection, "e")
    assert retention.kept_bytes(connection) == contents(connection) + 30


def test_a_visual_that_went_is_shown_no_longer(connection: Connection) -> None:
    shown, question = came(connection, "a"), came(connection, "b", kind="code")
    half = came(connection, "c", complete=False)
    box = came(connection, "a", kind="box")
    connection.execute(update(events).where(events.c.id == "c").values(roi=True))
    before = {row.id: row.changed for row in connection.execute(select(events))}
    gone = [shown, question, half]
    assert retention.drop_visuals(connection, gone) == gone
    rows = {row.id: row for row in connection.execute(select(events))}
    assert (rows["a"].roi, rows["a"].box) == (False, True)
    assert rows["c"].roi  # an older one is shown still
    changed = {id: row.changed for id, row in rows.items() if row.changed != before[id]}
    assert changed == {"a": max(before.values()) + 1}
    assert retention.known(connection, [shown, box, "x"]) == {box}


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(retention, "PAUSE", 0.0)
    receiver = opened(f"sqlite:///{tmp_path}/r.db", tmp_path / "data")
    yield receiver
    receiver.store.close()


def write(receiver: Receiver, work: Any, *given: Any, **more: Any) -> Any:
    return asyncio.run(receiver.store.write(lambda connection: work(connection, *given, **more)))


def lie(receiver: Receiver, key: str, age: float = 0.0) -> Path:
    """A file for a visual, as if it had been written so long ago."""
    path = retention.Files(receiver.folder / "visuals").path(key)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"0123456789")
    os.utime(path, (time.time() - age,) * 2)
    return path


def tidy(receiver: Receiver, **settings: Any) -> dict[tuple[str, str], float]:
    """Remove once what the settings say; how much of each kind went for which reason."""
    receiver.settings = Settings(**settings)
    receiver.metrics = type(receiver.metrics)()
    remover = Retention(receiver)
    assert asyncio.run(remover.once()) == 30.0
    metrics = {metric.name: metric for metric in receiver.metrics.registry.collect()}
    (kept,) = metrics["dat_receiver_kept_bytes"].samples
    assert kept.value == asyncio.run(receiver.store.read(retention.kept_bytes))
    return {
        (sample.labels["kind"], sample.labels["reason"]): sample.value
        for sample in metrics["dat_receiver_removed"].samples
        if sample.name.endswith("_total")
    }


DAY = 86_400


def test_what_is_older_goes_with_its_files(inside: Receiver) -> None:
    files = [
        lie(inside, write(inside, came, id, 0.9, age))
        for id, age in (("old", 2.5 * DAY + 60), ("new", 2.5 * DAY - 60), ("now", 0.0))
    ]
    assert tidy(inside, keep_days=2.5) == {("visual", "age"): 1, ("alert", "age"): 1}
    assert write(inside, ids) == ["new", "now"]
    assert [path.exists() for path in files] == [False, True, True]
    assert tidy(inside) == {}


def test_uploads_that_rest_and_questions_that_nobody_answered_go(inside: Receiver) -> None:
    for id, age, kind, complete in (
        ("rests", DAY + 60, "roi", False),
        ("goes on", DAY - 60, "roi", False),
        ("unanswered", DAY + 60, "code", True),
        ("waits", DAY - 60, "question", True),
        ("shown", 9 * DAY, "roi", True),
    ):
        lie(inside, write(inside, came, id.replace(" ", "-"), 0.9, age, None, kind, 5, complete))
    assert tidy(inside) == {("visual", "unfinished"): 1, ("visual", "unanswered"): 1}
    kept = write(inside, lambda c: names(c, list(c.execute(select(VISUALS.c.key)).scalars())))
    assert sorted(kept) == ["goes-on", "shown", "waits"]
    assert len(retention.Files(inside.folder / "visuals").keys()) == 3


def test_visuals_go_before_alerts_in_steps(
    inside: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dat_runtime.cloud")
    monkeypatch.setattr(retention, "STEP", 2)
    monkeypatch.setattr(retention, "MAX_FOUND", 3)
    monkeypatch.setattr(retention, "_VISUALS", retention._VISUALS.limit(3))
    steps: list[int] = []

    def drop(connection: Connection, which: Any) -> Any:
        steps.append(len(which))
        return retention.__dict__["original"](connection, which)

    monkeypatch.setitem(retention.__dict__, "original", retention.drop_visuals)
    monkeypatch.setattr(retention, "drop_visuals", drop)
    for n in range(7):
        lie(inside, write(inside, came, f"e{n}", 0.2, 100 - n))
    kept = asyncio.run(inside.store.read(retention.kept_bytes))
    assert tidy(inside, keep_bytes=kept - 41) == {("visual", "size"): 5}
    assert steps == [2, 1, 2]
    assert [record.message for record in caplog.records] == [
        "removed 3 of kind visual for their size",
        "removed 2 of kind visual for their size",
    ]
    assert len(write(inside, ids)) == 7
    assert len(retention.Files(inside.folder / "visuals").keys()) == 2
    length = len(alerts.received(alert("e0", priority=0.2), 0.0).content)
    gone = tidy(inside, keep_bytes=5 * length)
    assert gone == {("visual", "size"): 2, ("alert", "size"): 2}
    assert write(inside, ids) == [f"e{n}" for n in range(2, 7)]


def test_files_that_belong_to_nothing_go_once_an_hour_when_they_are_old(
    inside: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.5]
    monkeypatch.setattr(retention.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(retention, "STEP", 2)
    mine = lie(inside, write(inside, came, "a"), 10_000)
    young = lie(inside, "e" * 40, 540)
    strays = [lie(inside, letter * 40, 660) for letter in "bcd"]
    remover = Retention(inside)

    def left() -> list[bool]:
        asyncio.run(remover.once())
        return [path.exists() for path in (mine, young, *strays)]

    assert left() == [True, True, False, False, False]
    name, labels = "dat_receiver_removed_total", {"kind": "file", "reason": "stray"}
    assert inside.metrics.registry.get_sample_value(name, labels) == 3
    lie(inside, "b" * 40, 660)
    now[0] += 3_599
    assert left() == [True, True, True, False, False]
    now[0] += 2
    assert left() == [True, True, False, False, False]


def test_one_worker_removes_again_and_again(inside: Receiver) -> None:
    async def scenario() -> None:
        mine = Retention(inside)
        rounds: list[int] = []

        async def once() -> float:
            rounds.append(1)
            return 0.001

        mine.once = once  # type: ignore[method-assign]
        task = asyncio.create_task(mine.run())
        for _ in range(2_000):
            if len(rounds) > 2:
                break
            await asyncio.sleep(0.005)
        assert len(rounds) > 2
        assert not await Lease(inside.store, "retention").held()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())


def test_what_is_counted_is_said(inside: Receiver) -> None:
    Retention(inside)
    said = {metric.name: metric.documentation for metric in inside.metrics.registry.collect()}
    assert said["dat_receiver_removed"] == "What was removed, by kind and reason."
    assert said["dat_receiver_kept_bytes"] == "Bytes of visuals and alerts."


def test_a_receiver_counts_what_it_keeps_and_lets_a_task_remove(inside: Receiver) -> None:
    retention.router(inside)
    assert inside.recorded == [retention.add_bytes]
    assert len(inside.tasks) == 1
    some = [alerts.received(alert(id), 5.0) for id in "ab"]
    asyncio.run(inside.store.write(partial(alerts.record, alerts=some, told=inside.recorded)))
    kept = asyncio.run(inside.store.read(retention.kept_bytes))
    assert kept == sum(len(one.content) for one in some)
