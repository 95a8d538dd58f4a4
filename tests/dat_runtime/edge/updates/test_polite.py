"""An installation waits while the node beside it has something to send."""

import socket
import time
from typing import Any

import pytest

from dat_runtime.edge.counts import Counts
from dat_runtime.edge.metrics import MetricsServer
from dat_runtime.edge.updates import polite
from dat_runtime.edge.updates.polite import PoliteFetcher


def status(connected: bool, alerts: int, visuals: int) -> dict[str, Any]:
    waiting = {"alerts": alerts, "visuals": visuals}
    return {"problems": [], "uplink": {"connected": connected}, "waiting": waiting}


@pytest.mark.parametrize(
    ("told", "busy"),
    [
        (status(True, 1, 0), True),
        (status(True, 0, 2), True),
        (status(True, 0, 0), False),
        (status(False, 5, 5), False),
        ({"problems": []}, False),
    ],
)
def test_a_node_with_something_to_send_is_let_pass(told: dict[str, Any], busy: bool) -> None:
    server = MetricsServer(("127.0.0.1", 0), Counts(), lambda: told)
    server.start()
    try:
        port = int(server.address.rpartition(":")[2])
        fetcher = PoliteFetcher(1e6, ("127.0.0.1", port))
        assert fetcher.is_busy() is busy
    finally:
        server.stop()


def test_it_is_asked_again_after_a_moment_and_not_with_every_piece() -> None:
    asked = []

    def told() -> dict[str, Any]:
        asked.append(time.monotonic())
        return status(True, len(asked) % 2, 0)

    server = MetricsServer(("127.0.0.1", 0), Counts(), told)
    server.start()
    try:
        fetcher = PoliteFetcher(1e6, ("127.0.0.1", int(server.address.rpartition(":")[2])))
        assert [fetcher.is_busy() for _ in range(3)] == [True] * 3
        assert len(asked) == 1
        time.sleep(polite.LOOK_SECONDS)
        assert fetcher.is_busy() is False
    finally:
        server.stop()


def test_where_no_node_answers_or_can_be_asked_nothing_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert PoliteFetcher(1e6, ("127.0.0.1", port)).is_busy() is False
    assert PoliteFetcher(1e6, None).is_busy() is False
