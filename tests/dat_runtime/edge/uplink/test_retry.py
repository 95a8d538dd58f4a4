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
