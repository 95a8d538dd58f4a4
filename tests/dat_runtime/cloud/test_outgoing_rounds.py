"""What waits for a target, and a round of deliveries, without a network."""

import asyncio
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")

from sqlalchemy import Connection, Row, select, update

from dat_runtime.cloud import alerts, outgoing
from dat_runtime.cloud.application import opened
from dat_runtime.cloud.lease import Lease
from dat_runtime.cloud.outgoing import Delivery, outbox
from dat_runtime.cloud.receiver import Receiver
from dat_runtime.cloud.settings import Settings
from dat_runtime.cloud.tables import events
from dat_runtime.cloud.targets import DELIVERED, Outcome
from tests.dat_runtime.cloud.conftest import alert

REFUSED, FAILED = Outcome("refused", "not this one"), Outcome("failed", "away")


def came(id: str, priority: float = 0.5, revision: int = 0) -> alerts.Received:
    return alerts.received(alert(id, priority=priority, revision=revision), 5.0)


def wait(connection: Connection, *some: alerts.Received, target: str = "a") -> None:
    alerts.record(connection, some)
    outgoing.note(connection, some, [target])


def waiting(connection: Connection, target: str = "a", count: int = 100) -> list[str]:
    return [row.event for row in outgoing.due(connection, target, count)]


def test_what_is_to_go_on_is_noted_for_each_target(connection: Connection) -> None:
    some = [came("e", 0.25, 3), came("f")]
    alerts.record(connection, some)
    outgoing.note(connection, some, ["a", "b"])
    rows = connection.execute(select(outbox).order_by(outbox.c.number)).all()
    assert [(row.target, row.event) for row in rows] == [
        ("a", "n1/e"),
        ("a", "n1/f"),
        ("b", "n1/e"),
        ("b", "n1/f"),
    ]
    first = {"number": 1, "target": "a", "event": "n1/e", "revision": 3, "priority": 0.25}
    assert rows[0]._mapping == first | {"refusals": 0, "not_before": 0.0}


def test_the_gravest_is_due_first_and_of_an_event_one_revision(connection: Connection) -> None:
    wait(connection, came("low", 0.1), came("e", 0.5), came("f", 0.5), came("top", 0.9))
    wait(connection, came("other"), target="b")
    assert waiting(connection) == ["n1/top", "n1/e", "n1/f", "n1/low"]
    assert waiting(connection, count=2) == ["n1/top", "n1/e"]
    assert waiting(connection, "b") == ["n1/other"]
    wait(connection, came("low", 0.7, 1))
    rows = outgoing.due(connection, "a", 100)
    assert [row.event for row in rows] == ["n1/top", "n1/low", "n1/e", "n1/f"]
    assert rows[1].revision == 1
    assert rows[1].content == came("low", 0.7, 1).content
    connection.execute(update(outbox).where(outbox.c.event == "n1/top").values(not_before=4e9))
    assert waiting(connection)[0] == "n1/low"
    connection.execute(events.delete().where(events.c.id == "e"))
    assert {row.event: row.content for row in outgoing.due(connection, "a", 9)}["n1/e"] is None


def settled(connection: Connection, **outcomes: Outcome) -> list[str]:
    rows = [(row, outcomes[row.event[3:]]) for row in outgoing.due(connection, "a", 100)]
    return outgoing.settle(connection, rows)


def test_what_was_refused_rests_longer_each_time_and_is_dropped_at_the_third(
    connection: Connection,
) -> None:
    wait(connection, came("e", 0.9), came("f"), came("g", 0.1))
    began = time.time()
    assert settled(connection, e=REFUSED, f=DELIVERED, g=FAILED) == ["delivered"]
    assert waiting(connection) == ["n1/g"]
    for refusals in (1, 2):
        row = connection.execute(select(outbox).where(outbox.c.event == "n1/e")).one()
        assert row.refusals == refusals
        assert row.not_before == pytest.approx(began + 60 * refusals, abs=10)
        connection.execute(update(outbox).values(not_before=0))
        told = settled(connection, e=REFUSED, g=Outcome("gone") if refusals == 2 else FAILED)
    assert told == ["refused", "gone"]
    assert connection.execute(select(outbox)).all() == []


def test_what_waits_is_bounded(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MAX_WAITING", 3)
    wait(connection, *(came(f"e{n}", 0.5) for n in range(3)))
    wait(connection, *(came(f"o{n}") for n in range(5)), target="b")
    assert outgoing.trim(connection, "a") == (3, 0)
    wait(connection, came("low", 0.1), came("top", 0.9))
    assert outgoing.trim(connection, "a") == (3, 2)
    assert waiting(connection) == ["n1/top", "n1/e1", "n1/e2"]
    assert len(waiting(connection, "b")) == 5


class Target:
    """One that says what it is told to say, and keeps what it was given."""

    name = "a"
    shown = "the target"

    def __init__(self, *outcomes: Outcome):
        self.outcomes = list(outcomes)
        self.got: list[str] = []
        self.closed = False

    async def deliver(self, row: Row[Any]) -> Outcome:
        self.got.append(row.event)
        return self.outcomes.pop(0)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Receiver]:
    receiver = opened(f"sqlite:///{tmp_path}/r.db", tmp_path)
    yield receiver
    receiver.store.close()


def count(receiver: Receiver, name: str, **labels: str) -> float | None:
    labels = {"target": "a"} | labels
    return receiver.metrics.registry.get_sample_value(f"dat_receiver_outgoing_{name}", labels)


def delivery(receiver: Receiver, target: Target) -> Delivery:
    return Delivery(receiver, target, outgoing._Counts(receiver))


def test_a_round_delivers_the_gravest_few_and_counts_them(inside: Receiver) -> None:
    target = Target(*[DELIVERED] * 7, REFUSED, *[DELIVERED] * 3)
    mine = delivery(inside, target)
    some = [came(f"e{n}", n / 20) for n in range(10)]

    async def scenario() -> None:
        await inside.store.write(lambda c: wait(c, *some))
        assert await mine._round() == 0.0
        assert target.got == [f"n1/e{n}" for n in range(9, 1, -1)]
        assert count(inside, "waiting") == 10
        assert count(inside, "total", outcome="delivered") == 7
        assert count(inside, "total", outcome="refused") is None
        await inside.store.write(lambda c: c.execute(events.delete().where(events.c.id == "e1")))
        assert await mine._round() == 0.0
        assert target.got[8:] == ["n1/e0"]
        assert count(inside, "total", outcome="gone") == 1
        assert await mine._round() == outgoing.LOOK_EVERY == 0.25  # one rests
        assert count(inside, "waiting") == 10  # not looked at again yet

    asyncio.run(scenario())


def test_what_was_removed_is_told_and_what_is_counted_is_said(inside: Receiver) -> None:
    mine = delivery(inside, Target())
    row: Any = SimpleNamespace(content=None)
    gone = Outcome("gone", "it was removed before it was delivered")
    assert asyncio.run(mine._deliver(row)) == gone
    said = {metric.name: metric.documentation for metric in inside.metrics.registry.collect()}
    words = {
        "": "Alerts that were to go on, by target and what became of them.",
        "_failures": "Deliveries that failed and are tried again.",
        "_waiting": "Alerts that wait for a target.",
    }
    assert {name: said[f"dat_receiver_outgoing{name}"] for name in words} == words


def test_a_target_that_takes_nothing_is_asked_ever_more_rarely(
    inside: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    mine = delivery(inside, Target())

    def pause(*outcomes: Outcome) -> float:
        return mine._pause_after(outcomes)

    with caplog.at_level(logging.WARNING, "dat_runtime.cloud"):
        for failures in range(1, 30):
            most = min(300.0, 2.0 ** (failures - 1))
            assert most / 2 <= pause(FAILED, Outcome("failed", "other"), DELIVERED) <= most
        assert pause(Outcome("failed", "x", 1_000.0), FAILED) == 1_000
        assert pause(Outcome("failed", "x", math.inf)) == 3_600
        assert pause(DELIVERED, REFUSED) == 0
        assert pause() == 0
        assert 0.5 <= pause(FAILED) <= 1
        assert len({pause(FAILED) for _ in range(5)}) == 5
    assert [record.message for record in caplog.records] == [
        "the target takes no alerts: away",
        "the target refused an alert: not this one",
        "the target takes alerts again",
        "the target takes no alerts: away",
    ]
    assert count(inside, "failures_total") == 29 * 2 + 2 + 1 + 1 + 5


def test_what_is_dropped_is_counted_and_told(
    inside: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.5]
    monkeypatch.setattr(outgoing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(outgoing, "MAX_WAITING", 1)
    target = Target(*[DELIVERED] * 5)
    mine = delivery(inside, target)

    async def scenario() -> None:
        await inside.store.write(lambda c: wait(c, *(came(f"e{n}", n / 9) for n in range(3))))
        await mine._round()
        assert target.got == ["n1/e2"]
        assert (count(inside, "waiting"), count(inside, "total", outcome="dropped")) == (1, 2)
        await inside.store.write(lambda c: wait(c, *(came(f"f{n}") for n in range(2))))
        now[0] += 4.9
        await mine._round()
        assert target.got[1:] == ["n1/f0", "n1/f1"]
        now[0] += 0.2
        await mine._round()
        assert count(inside, "waiting") == 0

    asyncio.run(scenario())
    assert [record.message for record in caplog.records] == ["2 alerts for the a were dropped"]


def test_a_delivery_runs_until_it_is_cancelled_and_closes_its_target(inside: Receiver) -> None:
    target = Target(DELIVERED)

    async def scenario() -> None:
        await inside.store.write(lambda c: wait(c, came("e")))
        task = asyncio.create_task(delivery(inside, target).run())
        for _ in range(1_000):
            if target.got:
                break
            await asyncio.sleep(0.005)
        assert not await Lease(inside.store, "outgoing-a").held()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert (target.got, target.closed) == (["n1/e"], True)


def test_alerts_go_on_where_the_settings_say(inside: Receiver) -> None:
    outgoing.router(inside)
    assert (inside.recorded, inside.tasks) == ([], [])
    inside.metrics = type(inside.metrics)()
    inside.settings = Settings(webhook="http://h/", mqtt="mqtt://127.0.0.1")
    outgoing.router(inside)
    assert len(inside.tasks) == 2
    one = came("e")

    async def scenario() -> list[tuple[str, str]]:
        await inside.store.write(lambda c: alerts.record(c, [one], inside.recorded))
        rows = await inside.store.read(lambda c: c.execute(select(outbox)).all())
        return [(row.target, row.event) for row in rows]

    assert asyncio.run(scenario()) == [("webhook", "n1/e"), ("mqtt", "n1/e")]
