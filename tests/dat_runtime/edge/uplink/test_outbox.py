import asyncio
import threading
import time
from dataclasses import replace

import pytest

from dat_runtime.edge.counts import Counts
from dat_runtime.edge.question import Question
from dat_runtime.edge.spool import Waiting
from dat_runtime.edge.uplink import outbox as module
from dat_runtime.edge.uplink.outbox import DueAlert, Outbox, on_clock
from dat_runtime.edge.uplink.sender import OutgoingVisual
from dat_runtime.planning.path import Path
from dat_runtime.planning.pending import PendingEvent
from tests.dat_runtime.edge.uplink.events import fill


class MemorySpool:
    """What the outbox asks of a spool, without a disk."""

    def __init__(self):
        self.acknowledged, self.refused = [], []
        self.roi_bytes = 5_000

    def alert(self, id):
        return b"{}"

    def visual(self, id, kind):
        return fill(id, self.roi_bytes)

    def acknowledge(self, id, kind, revision=0):
        self.acknowledged.append((id, kind, revision))

    def refuse(self, id, kind, reason, revision=None):
        self.refused.append((id, kind, reason, revision))


def outbox():
    spool = MemorySpool()
    return Outbox(spool, Counts(), Path(1e5)), spool


def pending(id, priority=0.5, roi=5_000, at=0.0, json_sent=False):
    return PendingEvent(id, priority, 700, roi, None, at, json_sent)


def test_a_visual_is_queued_when_its_alert_is_acknowledged_and_not_before():
    box, spool = outbox()
    box.add(pending("a"), "c1", 0)
    assert box.queue.next_visual(0.0) is None
    due = box.take_alert()
    box.alert_taken(due)
    assert box.queue.next_visual(0.0).event_id == "a"
    assert spool.acknowledged == [("a", "json", 0)]
    assert (len(box.alerts), len(box.visuals)) == (0, 1)


def early_visual(box):
    """The visual of an alert that was written and is not answered, taken from the queue."""
    alert = box.take_alert()
    box.alert_written(alert)
    chunk = box.queue.next_visual(0.0)
    visual = box.due_visual(chunk)
    box.begin(visual)
    box.queue.sent(chunk)
    return alert, visual


def test_a_visual_follows_its_alert_when_that_was_written():
    box, _ = outbox()
    box.add(pending("a"), "c1", 0)
    alert, visual = early_visual(box)
    assert visual.early
    box.alert_taken(alert)
    assert box.queue.next_visual(0.0).offset > 0  # it goes on, and does not begin anew
    assert not box.due_visual(box.queue.next_visual(0.0)).early


def test_a_visual_that_may_not_wait_at_the_receiver_goes_after_its_alerts_answer():
    box, _ = outbox()
    box.add(pending("a"), "c1", 0)
    alert, visual = early_visual(box)
    box.visual_was_early(visual)
    box.continue_visual(visual, 0)
    box.alert_written(alert)  # a second copy
    assert box.queue.next_visual(0.0) is None
    box.alert_taken(alert)
    again = box.due_visual(box.queue.next_visual(0.0))
    assert (again.early, again.begun) == (False, False)


def test_a_visual_that_arrives_before_its_alerts_answer_leaves_the_alert_waiting():
    box, spool = outbox()
    box.add(pending("a"), "c1", 0)
    alert, visual = early_visual(box)
    box.visual_arrived(visual)
    assert (len(box.alerts), len(box.visuals)) == (1, 0)
    box.return_alert(alert)
    assert box.take_alert() == alert
    box.alert_written(alert)
    assert box.queue.next_visual(0.0) is None
    box.alert_taken(alert)
    assert len(box.alerts) == 0
    assert spool.acknowledged == [("a", "roi", 0), ("a", "json", 0)]


def test_a_visual_that_the_spool_dropped_early_leaves_its_alert_waiting():
    box, spool = outbox()
    box.add(pending("a"), "c1", 0)
    alert, visual = early_visual(box)
    spool.roi_bytes = 4_000
    assert asyncio.run(box.read_visual(visual)) is None
    box.continue_visual(visual, 0)
    box.return_alert(alert)
    assert box.take_alert() == alert


def test_an_alert_that_was_not_answered_waits_again():
    box, _ = outbox()
    box.add(pending("a"), "c1", 0)
    due = box.take_alert()
    assert box.take_alert() is None
    box.return_alert(due)
    assert box.take_alert() == due


def test_an_answer_to_an_older_revision_leaves_the_newer_one_waiting():
    box, spool = outbox()
    box.add(pending("a"), "c1", 0)
    old = box.take_alert()
    box.add(pending("a", priority=0.9), "c1", 1)
    box.alert_taken(old)
    assert box.queue.next_visual(0.0) is None
    assert box.take_alert().revision == 1
    assert spool.acknowledged == [("a", "json", 0)]


def test_an_older_revision_changes_nothing():
    box, _ = outbox()
    box.add(pending("a"), "c1", 3)
    box.add(pending("a"), "c1", 2)
    assert box.take_alert().revision == 3
    assert box.take_alert() is None


def test_a_refused_alert_takes_its_visual_with_it():
    box, spool = outbox()
    box.add(pending("a"), "c1", 0)
    box.alert_refused(box.take_alert(), "409: other content")
    assert (len(box.alerts), len(box.visuals)) == (0, 0)
    assert spool.refused == [("a", "json", "409: other content", 0)]


def test_a_visual_that_the_spool_has_replaced_is_not_sent():
    box, spool = outbox()
    box.add(pending("a", json_sent=True), "c1", 0)
    due = box.due_visual(box.queue.next_visual(0.0))
    spool.roi_bytes = 6_000
    assert asyncio.run(box.read_visual(due)) is None
    assert box.queue.next_visual(0.0) is None


def test_twenty_thousand_events_wait_without_trouble():
    box, _ = outbox()
    began = time.perf_counter()
    for i in range(20_000):
        box.add(pending(f"e{i}", priority=i / 20_000), "c1", 0)
    first = box.take_alert()
    taken = time.perf_counter() - began
    assert first.id == "e19999"
    assert len(box.alerts) == 20_000
    assert taken < 20  # 1 ms each


def test_a_clock_that_is_wrong_by_a_day_makes_no_event_young_or_from_the_future():
    wall, now, day = 1.8e9, 50.0, 86_400.0
    assert on_clock(pending("a", at=wall - 2), now, wall).captured_at == 48.0
    assert on_clock(pending("a", at=wall + day), now, wall).captured_at == now
    assert on_clock(pending("a", at=wall - day), now, wall).captured_at == now - day


def question(id, revision=0, size=64):
    return Question(id, "c1", revision, 0.5, 0.0, "code", "Image 28 x 28.", bytes(size))


def test_a_question_goes_after_its_alerts_answer_and_before_what_matters_no_more():
    box, spool = outbox()
    box.add(pending("a"), "c1", 0)
    box.ask(question("a"), 0.0)
    assert box.bytes_ahead == 764
    alert = box.take_alert()
    box.alert_written(alert)
    assert box.queue.next_visual(0.0).kind == "roi"  # the receiver may not have the alert yet
    box.alert_taken(alert)
    chunk = box.queue.next_visual(0.0)
    due = box.due_visual(chunk)
    assert (chunk.kind, due.size, due.early) == ("code", 64, False)
    assert due.told == {"event": "a", "kind": "code", "revision": "0", "prompt": "Image 28 x 28."}
    assert box.bytes_ahead == 64
    box.begin(due)
    box.continue_visual(due, 10)
    assert (box.queue.next_visual(0.0).offset, box.due_visual(chunk).begun) == (10, True)
    box.visual_arrived(due)
    assert box.queue.next_visual(0.0).kind == "roi"
    assert ("a", "code", 0) in spool.acknowledged
    assert (len(box.questions), len(box.visuals)) == (0, 1)


def test_a_question_after_all_else_was_answered_and_one_that_was_overtaken():
    box, _ = outbox()
    box.ask(question("a"), 0.0)
    chunk = box.queue.next_visual(0.0)
    assert chunk.kind == "code"
    box.visual_refused(box.due_visual(chunk), "400: no question")
    assert box.queue.next_visual(0.0) is None
    assert not box.questions
    box.add(pending("b"), "c1", 2)
    box.ask(question("b", revision=0), 0.0)
    assert not box.questions
    box.ask(question("b", revision=2), 0.0)
    box.add(pending("b", roi=6_000), "c1", 4)
    assert not box.questions
    box.alert_taken(box.take_alert())
    assert box.queue.next_visual(0.0).kind == "roi"


def test_an_alert_that_is_too_large_for_the_room_stays_in_its_place():
    box, _ = outbox()
    box.add(pending("a"), "c1", 4)
    assert box.take_alert(699) is None
    assert box.take_alert(0) is None
    assert box.take_alert(700) == DueAlert("a", 700, 4)
    assert box.take_alert() is None


def test_bytes_ahead_are_those_of_alerts_and_questions_until_they_are_answered():
    box, _ = outbox()
    box.add(pending("a"), "c1", 0)
    box.add(pending("b"), "c1", 0)
    box.add(pending("c", json_sent=True), "c1", 0)
    box.ask(question("c", size=50), 0.0)
    assert box.bytes_ahead == 1_450
    assert (box.alerts, box.visuals, box.questions) == ({"a", "b"}, {"a", "b", "c"}, {"c"})
    first = box.take_alert()
    assert box.bytes_ahead == 1_450  # under way
    box.alert_taken(first)
    assert box.bytes_ahead == 750


def test_who_sends_is_woken_when_there_is_more_to_send_and_not_else():
    box, _ = outbox()
    wake, other = asyncio.Event(), asyncio.Event()
    box.wake_on_change(wake)
    box.wake_on_change(other)
    box.forget_wake(other)

    def wakes(work, *args):
        wake.clear()
        work(*args)
        return wake.is_set()

    assert wakes(box.add, pending("a"), "c1", 1)
    assert not wakes(box.add, pending("a"), "c1", 1)  # an older revision
    assert not wakes(box.ask, question("a", revision=1), 0.0)  # its alert is not answered
    alert = box.take_alert()
    assert wakes(box.return_alert, alert)
    assert not wakes(box.return_alert, replace(alert, revision=0))
    assert box.take_alert() == alert
    assert wakes(box.alert_written, alert)
    assert not wakes(box.alert_written, alert)
    chunk = box.queue.next_visual(0.0)
    visual = box.due_visual(chunk)
    assert wakes(box.continue_visual, visual, 10)
    assert wakes(box.alert_taken, alert)
    assert wakes(box.ask, replace(question("a", revision=1), kind="features"), 0.0)
    assert wakes(box.continue_visual, box.due_visual(box.queue.next_visual(0.0)), 10)
    assert not other.is_set()


def test_what_a_receiver_took_is_counted_and_when(monkeypatch):
    monkeypatch.setattr(module.time, "time", lambda: 1.8e9)
    box, _ = outbox()
    counts = box._counts
    assert box.acknowledged_at is None
    box.add(pending("a"), "c1", 0)
    box.ask(replace(question("a"), kind="features"), 0.0)
    box.alert_taken(box.take_alert())
    assert box.acknowledged_at == 1.8e9
    for _ in range(2):
        box.acknowledged_at = None
        box.visual_arrived(box.due_visual(box.queue.next_visual(0.0)))
        assert box.acknowledged_at == 1.8e9
    assert counts.snapshot() == {
        ("alerts_acknowledged", ()): 1,
        ("questions_acknowledged", (("kind", "features"),)): 1,
        ("visuals_acknowledged", (("kind", "roi"),)): 1,
    }
    assert not box._events


@pytest.mark.parametrize(("passed", "follows"), [(59.9, False), (60.0, True)])
def test_after_a_visual_waited_in_vain_others_wait_for_their_alerts(monkeypatch, passed, follows):
    now = [500.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    box, _ = outbox()
    box.add(pending("a"), "c1", 0)
    _, visual = early_visual(box)
    box.visual_was_early(visual)
    now[0] += passed
    box.add(pending("b"), "c1", 0)
    alert = box.take_alert()
    assert alert.id == "b"
    box.alert_written(alert)
    assert (box.queue.next_visual(0.0) is not None) == follows


def test_an_early_visual_whose_alert_was_answered_meanwhile_goes_on():
    box, _ = outbox()
    box.add(pending("a"), "c1", 0)
    alert, visual = early_visual(box)
    box.alert_taken(alert)
    box.visual_was_early(visual)
    box.continue_visual(visual, 0)
    again = box.due_visual(box.queue.next_visual(0.0))
    assert (again.early, again.begun) == (False, False)


def test_an_early_visual_of_an_older_revision_changes_nothing():
    box, _ = outbox()
    box.add(pending("a"), "c1", 0)
    _, visual = early_visual(box)
    box.add(pending("a", json_sent=True), "c1", 1)
    box.visual_was_early(visual)
    box.continue_visual(visual, 7)
    box.begin(visual)
    box.visual_arrived(visual)
    chunk = box.queue.next_visual(0.0)
    assert (chunk.kind, chunk.offset) == ("roi", 0)
    assert box.due_visual(chunk) == OutgoingVisual("a", "roi", 5_000, True, 1, False)


def test_what_an_earlier_run_left_is_queued_with_its_age_and_may_have_begun():
    box, spool = outbox()
    wall, now = 1.8e9, 50.0
    coded = replace(pending("q", at=wall - 3, json_sent=True), code_bytes=64)
    left = [
        Waiting(pending("a", at=wall - 2, priority=0.9), "c1", 2),
        Waiting(pending("v", at=wall - 1, json_sent=True), "c2", 3),
        Waiting(coded, "c3", 4, ("code", "Image 28 x 28.")),
    ]
    spool.waiting = lambda: threads.append(threading.current_thread().name) or left
    threads = []
    asyncio.run(box.load(now, wall))
    assert threads == ["uplink-spool_0"]
    assert (box.alerts, box.visuals, box.questions) == ({"a"}, {"a", "v", "q"}, {"q"})
    assert [box._events[id].pending.captured_at for id in "avq"] == [48.0, 49.0, 47.0]
    assert [box._events[id].camera for id in "avq"] == ["c1", "c2", "c3"]
    assert box.take_alert() == DueAlert("a", 700, 2)
    asked = box.due_visual(box.queue.next_visual(now))
    question = ("code", "Image 28 x 28.")
    assert asked == OutgoingVisual("q", "code", 64, True, 4, question=question)
    box.visual_arrived(asked)
    dues = []
    while chunk := box.queue.next_visual(now):
        dues.append(box.due_visual(chunk))
        box.visual_refused(dues[-1], "413: too large")
    assert sorted(dues, key=lambda due: due.id) == [
        OutgoingVisual("q", "roi", 5_000, True, 4),
        OutgoingVisual("v", "roi", 5_000, True, 3),
    ]
    assert sorted(spool.refused) == [
        ("q", "roi", "413: too large", 4),
        ("v", "roi", "413: too large", 3),
    ]
    assert set(box._events) == {"a"}


def test_what_of_an_event_had_begun_is_asked_for_after_a_newer_revision_too():
    box, _ = outbox()
    box.add(pending("a"), "c1", 0)
    alert, visual = early_visual(box)
    assert not visual.begun
    box.add(pending("a"), "c1", 1)
    box.alert_taken(box.take_alert())
    assert box.due_visual(box.queue.next_visual(0.0)).begun
    assert not box.is_current(alert)
    assert not box.is_current(visual)
    box.add(pending("b"), "c1", 0)
    box.ask(question("b"), 0.0)
    box.alert_taken(box.take_alert())
    assert box.due_visual(box.queue.next_visual(0.0)).begun is False
    chunk = box.queue.next_visual(0.0)
    assert chunk.kind == "code"
    box.begin(box.due_visual(chunk))  # the question, and not the visual beside it
    assert box.due_visual(chunk).begun
    box.visual_arrived(box.due_visual(chunk))
    while (chunk := box.queue.next_visual(0.0)).event_id != "b":
        box.visual_arrived(box.due_visual(chunk))
    assert not box.due_visual(chunk).begun


def test_an_alert_that_the_spool_has_dropped_is_forgotten_and_a_newer_one_is_not():
    box, spool = outbox()
    spool.alert = lambda id: None
    box.add(pending("a"), "c1", 0)
    due = box.take_alert()
    assert asyncio.run(box.read_alert(due)) is None
    assert (box.alerts, box.visuals, box._events) == (set(), set(), {})
    box.add(pending("a"), "c1", 0)
    old = box.take_alert()
    box.add(pending("a"), "c1", 1)
    assert asyncio.run(box.read_alert(old)) is None
    assert box.take_alert().revision == 1


def test_what_is_there_is_read_and_old_visuals_go():
    box, spool = outbox()
    spool.expire = lambda: expired.append(1)
    expired = []
    box.add(pending("a"), "c1", 0)
    alert, visual = early_visual(box)

    async def go():
        await box.expire()
        return await box.read_alert(alert), await box.read_visual(visual)

    assert asyncio.run(go()) == (b"{}", fill("a", 5_000))
    assert expired == [1]
    box.close()
    with pytest.raises(RuntimeError, match="shutdown"):
        asyncio.run(box.expire())


def test_a_question_about_another_revision_is_passed_over():
    box, _ = outbox()
    box.add(pending("a"), "c1", 1)
    for revision in (0, 2):
        box.ask(question("a", revision=revision), 0.0)
    assert not box.questions
    box.ask(question("b", revision=3), 7.0)
    event = box._events["b"]
    assert (event.camera, event.revision, event.pending.captured_at) == ("c1", 3, 7.0)
    assert (event.pending.priority, event.pending.json_bytes) == (0.5, 0)
    assert event.pending.code_bytes == 64


def test_an_event_of_which_nothing_waits_is_forgotten_at_once():
    box, _ = outbox()
    box.add(pending("a", roi=None, json_sent=True), "c1", 0)
    assert not box._events
    box.add(pending("b", roi=None), "c1", 0)
    alert = box.take_alert()
    box.alert_written(alert)
    assert set(box._events) == {"b"}
    box.alert_taken(alert)
    assert not box._events


def test_an_alert_that_is_answered_goes_once_though_a_question_follows_it():
    box, _ = outbox()
    box.add(pending("a"), "c1", 0)
    box.ask(question("a"), 0.0)
    box.alert_taken(box.take_alert())
    assert box.take_alert() is None


def test_a_visual_goes_on_after_its_alerts_answer_from_where_the_receiver_stands():
    box, _ = outbox()
    box.add(pending("a"), "c1", 0)
    box.alert_taken(box.take_alert())
    chunk = box.queue.next_visual(0.0)
    due = box.due_visual(chunk)
    box.queue.sent(chunk)
    box.continue_visual(due, 10)
    assert box.queue.next_visual(0.0).offset == 10


def test_a_refused_alert_takes_a_visual_with_it_that_follows_it():
    box, _ = outbox()
    box.add(pending("a"), "c1", 0)
    alert = box.take_alert()
    box.alert_written(alert)
    assert box.queue.next_visual(0.0) is not None
    box.alert_refused(alert, "409: other content")
    assert box.queue.next_visual(0.0) is None


def test_a_visual_that_was_early_leaves_an_alert_that_waits_again():
    box, _ = outbox()
    box.add(pending("a"), "c1", 0)
    alert, visual = early_visual(box)
    box.return_alert(alert)
    box.visual_was_early(visual)
    assert box.take_alert() == alert
