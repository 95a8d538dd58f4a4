import pytest

from dat_runtime.edge.uplink.sender import (
    AccessError,
    BusyError,
    OutgoingVisual,
    Progress,
    SendError,
    together,
)


def test_what_several_connections_carry_is_summed_and_the_shortest_round_trip_counts():
    parts = [
        Progress(1, 20, 0.3, 400, 5_000, 60_000, 700_000),
        Progress(2, 30, None, 500, 6_000, 70_000, 800_000),
        Progress(4, 40, 0.2, 600, 7_000, 80_000, 900_000),
    ]
    assert together(parts) == Progress(7, 90, 0.2, 1_500, 18_000, 210_000, 2_400_000)


def test_no_connection_carries_nothing():
    assert together([]) == Progress(0, 0, None, 0, 0, 0, 0)


@pytest.mark.parametrize("kind", [SendError, BusyError, AccessError])
def test_an_error_says_what_it_says_and_when_to_come_back(kind):
    assert (str(kind("busy", 3.0)), kind("busy", 3.0).retry_after) == ("busy", 3.0)
    assert kind("busy").retry_after is None


def test_a_visual_is_told_by_the_names_of_the_wire_and_a_question_by_its_own_kind():
    visual = OutgoingVisual("e", "box", 9, revision=4)
    assert visual.told == {"event": "e", "kind": "box", "revision": "4"}
    question = OutgoingVisual("e", "code", 9, question=("features", "Image."))
    assert question.told == {
        "event": "e",
        "kind": "features",
        "revision": "0",
        "prompt": "Image.",
    }
