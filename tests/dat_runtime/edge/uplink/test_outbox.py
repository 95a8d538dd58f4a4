import asyncio
import time

from dat_runtime.edge.counts import Counts
from dat_runtime.edge.question import Question
from dat_runtime.edge.uplink.outbox import Outbox, on_clock
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
