import statistics
import subprocess
import sys
import textwrap

import pytest

from eval.uplink.emulated_link import RECEIVER, EmulatedLink, not_permitted

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
