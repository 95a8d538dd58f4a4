import statistics
import subprocess
import sys
import textwrap

import pytest

from eval.uplink.emulated_link import RECEIVER, EmulatedLink, LinkSettings, not_permitted
from eval.uplink.router import Bottleneck

needs_namespaces = pytest.mark.skipif(
    not_permitted() is not None, reason=f"no namespaces: {not_permitted()}"
)


def python(code, *arguments):
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]


ECHO = """
    import socket, sys
    listener = socket.create_server((sys.argv[1], 9000))
    print("listening", flush=True)
    connection, _ = listener.accept()
    while data := connection.recv(65536):
        connection.sendall(data[-1:])
"""

ROUND_TRIPS = """
    import socket, sys, time
    connection = socket.create_connection((sys.argv[1], 9000))
    for _ in range(int(sys.argv[2])):
        began = time.monotonic()
        connection.sendall(bytes(int(sys.argv[3])))
        got = connection.recv(1)
        print(time.monotonic() - began)
"""


def round_trips(link, count, size):
    """Seconds from a write of `size` bytes to the answer to its last byte, over the real kernel."""
    server = subprocess.Popen(
        link.at_receiver(*python(ECHO, RECEIVER)), stdout=subprocess.PIPE, text=True
    )
    server.stdout.readline()
    client = subprocess.run(
        link.at_node(*python(ROUND_TRIPS, RECEIVER, count, size)),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    server.communicate(timeout=20)
    return [float(line) for line in client.stdout.split()]


@needs_namespaces
def test_the_kernels_tcp_sees_the_round_trip_and_the_rate():
    with EmulatedLink([20e3], round_trip=0.1) as link:
        # 948 bytes and 52 of headers take 50 ms at 20 kB/s.
        measured = statistics.median(round_trips(link, 9, 948))
    assert 0.149 < measured < 0.2


def bottleneck(rates, **settings):
    return Bottleneck(LinkSettings(rates, **settings))


def test_packets_leave_one_after_the_other_at_the_rate():
    link = bottleneck([1_000.0], round_trip=0.2)
    assert [link.arrival(0.0, 100) for _ in range(3)] == pytest.approx([0.2, 0.3, 0.4])


def test_a_full_buffer_drops_and_one_just_full_does_not():
    link = bottleneck([1_000.0], buffer=200)
    assert [link.arrival(0.0, 100) is None for _ in range(3)] == [False, False, True]
    assert link.arrival(0.1, 100) is not None  # the first has left


def test_a_lost_packet_has_used_the_link():
    link = bottleneck([1_000.0], loss=1.0)
    assert link.arrival(0.0, 100) is None
    assert bottleneck([1_000.0]).arrival(0.0, 100) == pytest.approx(0.1)
    assert link._free_at == pytest.approx(0.1)


def test_losses_are_as_many_as_stated_and_the_same_again():
    def lost(seed):
        link = bottleneck([1e9], buffer=10**9, loss=0.02, seed=seed)
        return [link.arrival(float(i), 100) is None for i in range(10_000)]

    assert 150 < sum(lost(1)) < 250
    assert lost(1) == lost(1) != lost(2)
