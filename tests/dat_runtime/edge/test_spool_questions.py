"""Questions in the spool: across restarts, one an event, before visuals in giving way."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.spool_faults import make_event
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.question import Question
from dat_runtime.edge.spool import Spool
from dat_runtime.edge.spool_questions import LIFETIME

QUESTION = Question("e1", "north", 0, 0.5, 1.8e9, "code", "Image 28 x 28.", b"DATC" + bytes(60))


class Time:
    passed = 50.0


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Spool]:
    def open_spool(counts: Counts | None = None, most: int = 4_000_000) -> Spool:
        return Spool(
            tmp_path / "spool.sqlite",
            most,
            1_000_000,
            counts or Counts(),
            clock=lambda: 1.8e9,
            monotonic=lambda: Time.passed,
        )

    return open_spool


def test_a_question_survives_a_restart_without_its_event_and_goes_when_it_is_acknowledged(
    opened: Callable[..., Spool],
) -> None:
    spool = opened()
    assert spool.put_question(QUESTION)
    spool.close()
    spool = opened()
    (waiting,) = spool.waiting()
    assert (waiting.pending.code_bytes, waiting.pending.json_sent) == (64, True)
    assert (waiting.question, waiting.revision) == (("code", "Image 28 x 28."), 0)
    assert spool.visual("e1", "code") == QUESTION.content
    assert spool.usage.questions == 1
    spool.acknowledge("e1", "code", 0)
    assert spool.visual("e1", "code") is None  # at once, also before it is written
    spool.close()
    assert opened().waiting() == []


def test_it_waits_with_its_event_and_goes_with_a_later_revision_or_a_refused_alert(
    opened: Callable[..., Spool],
) -> None:
    counts = Counts()
    spool = opened(counts)
    event = make_event(1)
    mine = replace(QUESTION, id=event.id)
    spool.put(event, "north")
    spool.put_question(mine)
    (waiting,) = spool.waiting()
    assert (waiting.pending.json_bytes, waiting.pending.code_bytes) == (len(event.json), 64)
    later = replace(event, alert=replace(event.alert, revision=2), json=event.json + b" ")
    spool.put(later, "north")
    assert spool.visual(event.id, "code") is None
    assert not spool.put_question(replace(mine, revision=0))
    assert counts.of("questions_dropped", reason="overtaken") == 2
    spool.put_question(replace(mine, revision=2))
    spool.refuse(event.id, "json", "400: no", 2)
    spool.expire()
    assert spool.visual(event.id, "code") is None
    assert counts.of("questions_dropped", reason="its alert was refused") == 1
    spool.close()


def test_it_expires_and_is_counted(opened: Callable[..., Spool]) -> None:
    counts = Counts()
    spool = opened(counts)
    spool.put_question(QUESTION)
    Time.passed += LIFETIME - 1
    spool.expire()
    assert spool.visual("e1", "code")
    Time.passed += 1
    spool.expire()
    assert spool.visual("e1", "code") is None
    assert counts.of("questions_dropped", reason="expired") == 1
    spool.close()


def test_questions_give_way_to_visuals_and_alerts_and_never_the_other_way_round(
    opened: Callable[..., Spool],
) -> None:
    counts = Counts()
    spool = opened(counts, most=2_500_000)
    large = replace(QUESTION, content=bytes(200_000))
    for i in range(20):  # of equals the oldest goes
        assert spool.put_question(replace(large, id=f"q{i}", priority=0.9))
    assert 0 < spool.usage.questions < 10
    assert counts.of("questions_dropped", reason="the spool is full") > 10
    assert not spool.put_question(replace(large, id="low", priority=0.1))
    before = spool.usage.questions
    assert spool.put_question(replace(large, id="high", priority=0.95))
    assert spool.usage.questions == before
    event = replace(make_event(1), boxed=bytes(300_000), roi=None)
    spool.put(event, "north")
    assert spool.visual(event.id, "box") is not None
    assert spool.usage.questions < before
    spool.close()


def test_a_spool_of_an_earlier_release_is_given_its_table(
    opened: Callable[..., Spool], tmp_path: Path
) -> None:
    opened().close()
    with sqlite3.connect(tmp_path / "spool.sqlite") as old:
        old.execute("DROP TABLE questions")
    old.close()
    spool = opened()
    assert spool.put_question(QUESTION)
    spool.close()
