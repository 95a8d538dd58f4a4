import pytest

from dat_runtime.edge.uplink.retry import MOST_BUSY, MOST_REFUSED, MOST_UNREACHABLE, pause
from dat_runtime.edge.uplink.sender import AccessError, BusyError, SendError


def pauses(error, failures):
    return [pause(error, failures) for _ in range(200)]


def test_waits_grow_with_failures_up_to_a_bound():
    means = [sum(pauses(BusyError(""), n)) / 200 for n in range(1, 8)]
    assert means == sorted(means)
    assert max(pauses(BusyError(""), 1_000_000)) <= MOST_BUSY
    assert max(pauses(SendError(""), 1_000_000)) <= MOST_UNREACHABLE


def test_waits_differ_so_that_nodes_do_not_come_back_together():
    waits = pauses(SendError(""), 4)
    assert max(waits) / min(waits) > 1.5


def test_a_receiver_that_says_when_is_asked_no_sooner():
    assert min(pauses(BusyError("", retry_after=7.0), 1)) >= 7.0
    assert max(pauses(BusyError("", retry_after=7.0), 1)) <= 8.0


def test_a_node_that_is_not_known_asks_slowly_from_the_first_time_on():
    assert min(pauses(AccessError(""), 1)) >= MOST_REFUSED / 2


@pytest.mark.parametrize(
    ("error", "failures", "low", "high"),
    [
        (SendError(""), 1, 0.05, 0.1),
        (SendError(""), 2, 0.1, 0.2),
        (SendError(""), 5, 0.8, 1.6),
        (SendError(""), 6, 1.0, 2.0),
        (BusyError(""), 1, 0.05, 0.1),
        (BusyError(""), 9, 12.8, 25.6),
        (BusyError(""), 10, 15.0, 30.0),
        (BusyError(""), 1_000_000, 15.0, 30.0),
        (AccessError(""), 1, 30.0, 60.0),
        (AccessError(""), 9, 30.0, 60.0),
        (BusyError("", retry_after=70.0), 1, 70.0, 77.0),
        (BusyError("", retry_after=0.0), 2, 0.1, 0.2),
    ],
)
def test_a_wait_lies_between_half_of_what_is_due_and_all_of_it(error, failures, low, high):
    waits = pauses(error, failures)
    room = (high - low) / 8
    assert low <= min(waits) < low + room
    assert high - room < max(waits) <= high
