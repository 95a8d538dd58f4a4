import socket
import struct
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


@linux
@pytest.mark.parametrize(("size", "resent"), [(220, 2), (216, 3), (232, 2)])
def test_a_repetition_that_the_other_end_did_not_need_is_no_loss(monkeypatch, pair, size, resent):
    info = bytearray(size)
    struct.pack_into("=I", info, 100, 3)
    if size >= 220:
        struct.pack_into("=I", info, 216, 1)
    monkeypatch.setattr(tcp, "_info", lambda connection: bytes(info))
    assert tcp.progress(pair[0]).resent == resent


@linux
def test_bytes_that_arrive_while_the_kernel_is_asked_are_counted_once():
    """A socket on which 100 bytes arrive after each of the first questions."""

    class Arriving:
        acknowledged, queued, arrivals = 1_000, 1_000, 3

        def fileno(self):
            return there.fileno()

        def getsockopt(self, *_):
            info = bytearray(168)
            struct.pack_into("=Q", info, 120, self.acknowledged)
            return bytes(info)

    def queued(connection):
        told = connection.queued
        if connection.arrivals:
            connection.arrivals -= 1
            connection.acknowledged += 100
            connection.queued -= 100
        return told

    here, there = socket.socketpair()
    with here, there, pytest.MonkeyPatch.context() as patched:
        patched.setattr(tcp, "_queued", queued)
        now = tcp.progress(Arriving())
    assert now.acknowledged + now.in_flight == 2_000


@linux
def test_a_connection_that_nobody_acknowledges_ends_of_itself(pair):
    here, _ = pair
    tcp.prepare(here)
    assert here.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000


def test_a_closed_socket_says_nothing(pair):
    here, _ = pair
    here.close()
    assert tcp.progress(here) is None
