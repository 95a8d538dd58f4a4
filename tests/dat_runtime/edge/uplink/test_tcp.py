import contextlib
import socket
import struct
import sys
import time

import pytest

from dat_runtime.edge.uplink import tcp

_MAX_PACING_RATE = 47  # SO_MAX_PACING_RATE, which Python's socket module does not name

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


def congestion(connection):
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


def pacing_rate(connection):
    """How fast the kernel means to send, bytes per second: `tcpi_pacing_rate`."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 112)
    return struct.unpack_from("=Q", info, 104)[0]


@linux
def test_what_the_kernel_believes_of_the_rate_is_forgotten(pair):
    here, _ = pair
    tcp.prepare(here)
    if congestion(here) != b"bbr":
        pytest.skip("this kernel has no BBR for us")
    slow, without = 50_000, (1 << 64) - 1
    for most in (slow, without):  # it believes the slow rate until something arrives
        here.setsockopt(socket.SOL_SOCKET, _MAX_PACING_RATE, struct.pack("=Q", most))
    assert pacing_rate(here) == slow
    tcp.forget_rate(here)
    assert congestion(here) == b"bbr"
    assert pacing_rate(here) > 100 * slow


@linux
def test_another_congestion_control_is_left_as_it_is(pair):
    here, there = pair
    for name in (b"reno", b"cubic"):
        with contextlib.suppress(OSError):  # not every kernel allows both
            here.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
        chosen = congestion(here)
        tcp.forget_rate(here)
        assert congestion(here) == chosen != b"bbr"
    there.close()
    tcp.forget_rate(there)  # a closed one too


@linux
@pytest.mark.parametrize("quick", [True, False])
def test_a_kernel_is_asked_for_all_of_it_also_where_it_knows_none(quick):
    class Old:
        def setsockopt(self, *asked):
            options.append(asked)
            raise OSError("no such option")

    options = []
    tcp.prepare(Old(), quick=quick)
    repair = [(6, 45, 40_000)] if quick else []  # TCP_RTO_MIN_US
    assert options == [
        (6, 1, 1),  # TCP_NODELAY
        (6, 25, 16_384),  # TCP_NOTSENT_LOWAT
        (6, 13, b"bbr"),  # TCP_CONGESTION
        (6, 44, 1_000),  # TCP_RTO_MAX_MS
        (6, 18, 10_000),  # TCP_USER_TIMEOUT
        *repair,
    ]


class Told:
    """A socket of which the kernel says so: `tcp_info` with numbers at their places."""

    def __init__(self, here, numbers, size=240, acknowledged=0):
        self.fileno, self.size, self.asked = here.fileno, size, 0
        self.content = bytearray(240)
        for at, number in numbers.items():
            struct.pack_into("=I", self.content, at, number)
        struct.pack_into("=Q", self.content, 120, acknowledged)

    def getsockopt(self, level, name, most):
        assert (level, name, most) == (6, 11, 220)
        self.asked += 1
        return bytes(self.content[: self.size])


NUMBERS = {24: 8, 28: 2, 68: 30_000, 100: 7, 144: 400, 148: 20_000, 156: 90, 216: 3}


@linux
@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (NUMBERS, (400, 1_000, 0.02, 90, 4)),
        # Before the first sample the shortest round trip is the largest number.
        (NUMBERS | {148: 2**32 - 1}, (400, 1_000, 0.03, 90, 4)),
        # More that was not needed than was repeated, and nothing that is not acknowledged.
        (NUMBERS | {216: 9, 24: 0, 28: 1}, (400, 4_000, 0.02, 90, 0)),
        # A long night: counts beyond 2 ** 31.
        (
            NUMBERS | {100: 3_000_000_007, 156: 4_000_000_000, 216: 2_999_999_999},
            (400, 1_000, 0.02, 4_000_000_000, 8),
        ),
    ],
    ids=["all", "no-sample", "none", "large"],
)
def test_each_number_is_read_where_the_kernel_puts_it(monkeypatch, pair, numbers, expected):
    monkeypatch.setattr(tcp, "_queued", lambda connection: 4_400)
    told = Told(pair[0], numbers, acknowledged=2**33 + 5)
    assert tcp.progress(told) == (2**33 + 5, 4_400, *expected)
    assert told.asked == 2  # nothing arrived in between


@linux
@pytest.mark.parametrize(("size", "says"), [(159, False), (160, True), (219, True), (220, True)])
def test_an_old_kernel_says_less_and_a_very_old_one_nothing(pair, size, says):
    now = tcp.progress(Told(pair[0], NUMBERS, size))
    assert (now is not None) == says
    assert now is None or now.resent == (4 if size >= 220 else 7)


def test_a_socket_that_the_kernel_refuses_to_speak_of_says_nothing(monkeypatch, pair):
    def refused(connection):
        raise OSError("not a TCP socket")

    monkeypatch.setattr(tcp, "_info", refused)
    assert tcp.progress(pair[0]) is None


@linux
def test_any_open_file_may_be_a_socket(monkeypatch, pair):
    monkeypatch.setattr(tcp, "_queued", lambda connection: 4_400)
    told = Told(pair[0], NUMBERS)
    told.fileno = lambda: 0
    assert tcp.progress(told) is not None


@linux
@pytest.mark.parametrize(
    ("control", "asked"),
    [
        (b"bbr\0\0\0", [(6, 13, b"reno"), (6, 13, b"bbr")]),
        (b"bbr", [(6, 13, b"reno"), (6, 13, b"bbr")]),
        (b"cubic\0", []),
        (b"bbr2\0", []),
        (OSError("no such option"), []),
    ],
)
def test_a_rate_is_forgotten_where_the_kernel_would_go_on_with_it(control, asked):
    class Used:
        def getsockopt(self, *about):
            assert about == (6, 13, 16)
            if isinstance(control, OSError):
                raise control
            return control

        def setsockopt(self, *about):
            options.append(about)

    options = []
    tcp.forget_rate(Used())
    assert options == asked


def test_on_another_system_no_rate_is_asked_for(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    tcp.forget_rate(None)
    assert tcp.progress(None) is None
