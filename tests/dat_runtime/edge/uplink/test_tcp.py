import socket
import sys
import time

import pytest

from dat_runtime.edge.uplink import tcp

linux = pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not say")


@pytest.fixture
def pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
        with here, there:
            yield here, there


@linux
def test_bytes_that_nobody_has_read_are_in_flight_once_the_other_kernel_is_full(pair):
    here, _ = pair
    tcp.prepare(here)
    here.setblocking(False)
    before = tcp.progress(here)
    sent = 0
    for _ in range(10_000):
        try:
            sent += here.send(b"x" * 4_096)
        except BlockingIOError:
            time.sleep(0.001)
            if tcp.progress(here).unsent >= tcp.UNSENT_LOWAT:
                break
    now = tcp.progress(here)
    assert now.acknowledged - before.acknowledged + now.in_flight == sent
    assert tcp.UNSENT_LOWAT <= now.unsent <= 4 * tcp.UNSENT_LOWAT  # the kernel's buffer is short


@linux
def test_bytes_that_arrived_are_not_in_flight(pair):
    here, there = pair
    before = tcp.progress(here)
    here.sendall(b"x" * 1_000)
    assert len(there.recv(2_000)) == 1_000
    for _ in range(1_000):
        now = tcp.progress(here)
        if not now.in_flight:
            break
        time.sleep(0.001)
    assert now.acknowledged - before.acknowledged == 1_000
    assert 0 < now.round_trip < 1


def test_a_closed_socket_says_nothing(pair):
    here, _ = pair
    here.close()
    assert tcp.progress(here) is None
