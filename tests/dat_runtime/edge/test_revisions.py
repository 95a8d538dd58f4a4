"""The numbers of an event's revisions, and the priority that later frames do not lower."""

from dat_runtime.edge import revisions as module
from dat_runtime.edge.revisions import Revisions


def test_a_late_answer_about_an_older_frame_than_was_told_is_dropped() -> None:
    revisions = Revisions()
    assert revisions.next("e", taken=1.0) == 0
    assert revisions.next("e", taken=5.0) == 1
    assert revisions.next("e", taken=1.0, late=True) is None
    assert revisions.next("e", taken=5.0, late=True) == 2


def test_a_late_answer_that_overtakes_the_gates_word_on_its_frame_is_not_replaced_by_it() -> None:
    revisions = Revisions()
    assert revisions.next("e", taken=1.0, late=True) == 0
    assert revisions.next("e", taken=1.0) is None
    assert revisions.next("e", taken=2.0) == 1


def test_a_later_frame_does_not_lower_the_priority_and_a_later_answer_about_a_frame_may() -> None:
    revisions = Revisions()

    def tell(taken: float, own: float, late: bool = False) -> float:
        assert revisions.next("e", taken, late) is not None
        priority = max(own, revisions.least_priority("e", taken))
        revisions.told("e", taken, priority)
        return priority

    assert tell(1.0, 0.75) == 0.75
    assert tell(1.0, 0.25, late=True) == 0.25
    assert tell(2.0, 0.125) == 0.25
    assert tell(3.0, 0.875) == 0.875
    assert tell(3.0, 0.5, late=True) == 0.5
    assert tell(4.0, 0.0) == 0.5
    assert revisions.least_priority("another", 5.0) == 0.0


def test_what_is_told_of_an_event_that_is_forgotten_changes_nothing(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "REMEMBERED", 1)
    revisions = Revisions()
    revisions.next("e", 1.0)
    revisions.next("f", 1.0)
    revisions.told("e", 1.0, 0.75)
    assert revisions.least_priority("e", 2.0) == 0.0
