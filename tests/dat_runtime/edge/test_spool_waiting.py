"""What waits in the spool, put together from its rows."""

from dat_runtime.edge.spool_waiting import Waiting, together
from dat_runtime.planning.pending import PendingEvent


def test_each_event_has_what_waits_of_it_and_questions_alone_come_last() -> None:
    events = [
        ("a", "north", 2, 0.75, 10.5, 300, 0, "roi", 4_000),
        ("b", "south", 0, 0.5, 11.5, 200, 1, "box", 5_000),
        ("c", "south", 1, 0.25, 12.5, 100, 0, None, 0),
    ]
    questions = [
        ("d", "east", 3, 0.9, 9.5, "code", "Image 1 x 1.", 70),
        ("b", "south", 7, 0.1, 1.5, "question", "Image 2 x 2.", 80),
    ]
    assert together(events, questions) == [
        Waiting(PendingEvent("a", 0.75, 300, 4_000, None, 10.5), "north", 2),
        Waiting(
            PendingEvent("b", 0.5, 200, None, 5_000, 11.5, json_sent=True, code_bytes=80),
            "south",
            7,
            ("question", "Image 2 x 2."),
        ),
        Waiting(PendingEvent("c", 0.25, 100, None, None, 12.5), "south", 1),
        Waiting(
            PendingEvent("d", 0.9, 0, None, None, 9.5, json_sent=True, code_bytes=70),
            "east",
            3,
            ("code", "Image 1 x 1."),
        ),
    ]
    (waiting, *_) = together(events, [])
    assert waiting.pending.json_sent is False
    assert together([], []) == []
