"""What the kernel knows of a TCP connection, and what it is asked to do (Linux; elsewhere less).

`sendall` and a full write buffer only say that the kernel has the bytes. How many of them the other
end has is in `tcp_info` (linux/tcp.h), which also knows the round trip.
"""

import contextlib
import socket
import struct
import sys
from typing import NamedTuple, Protocol

UNSENT_LOWAT = 16_384
"""Bytes not sent yet above which the kernel takes no more."""

# Constants of linux/tcp.h that Python's socket module does not name.
_NOTSENT_LOWAT = 25
_RTO_MAX_MS = 44
_RTO_MIN_US = 45

_QUICK_RTO_US = 40_000
"""Of quick repair: the kernel's own 200 ms are ten times a packet's time on the wire. On a link
that falls to a tenth of its rate it sends again what is only late."""

_MOST_RTO_MS = 1_000
"""The kernel's own two minutes would keep an alert from a link that came back long ago."""

_SILENCE_MS = 10_000
"""After which a connection whose bytes nobody acknowledges has ended: behind a router that forgot
it, it would hold what is in flight against the others."""

_BBR, _OTHER = b"bbr", b"reno"
"""Congestion control that does not take 2 % of lost packets for a full path; and one that every
kernel has."""

_MOST_READINGS = 5
"""Of a connection on which bytes arrive all the time."""

_INFO_BYTES = 220
_UNACKED_AT = 24
_SACKED_AT = 28
_RTT_AT = 68
_TOTAL_RETRANS_AT = 100
_BYTES_ACKED_AT = 120
_UNSENT_AT = 144
_MIN_RTT_AT = 148
_DATA_SEGS_OUT_AT = 156
_NEEDLESS_AT = 216
"""`tcpi_dsack_dups`; kernels before 4.20 do not have it."""


class TcpSocket(Protocol):
    """The part of a socket that is used here; asyncio's transports show no more."""

    def fileno(self) -> int: ...

    def getsockopt(self, level: int, name: int, size: int, /) -> bytes: ...

    def setsockopt(self, level: int, name: int, value: int | bytes, /) -> None: ...


class TcpProgress(NamedTuple):
    """Attributes:
    acknowledged: bytes that the other end's kernel has.
    in_flight: bytes in the kernel's send queue, sent or not, that are not acknowledged.
    unsent: those of them that the kernel holds back: its congestion window is full.
    beyond: those of them that have arrived after a lost packet, about.
    packets, resent: packets with data that were sent, and how many of those were repetitions that
        the other end had not got yet: where a link slows down, packets are late and not lost.
    round_trip: the shortest lately, seconds; 0.0 before the first.
    """

    acknowledged: int
    in_flight: int
    unsent: int
    beyond: int
    round_trip: float
    packets: int
    resent: int


def prepare(connection: TcpSocket, *, quick: bool = True) -> None:
    """Short buffers, no waiting for more bytes, and with `quick` quick repair of losses.

    What a kernel does not know is left as it is: the options make an uplink quicker, not right.
    """
    wishes: list[tuple[int, int | bytes]] = [(socket.TCP_NODELAY, 1)]
    if sys.platform == "linux":
        wishes += [
            (_NOTSENT_LOWAT, UNSENT_LOWAT),
            (socket.TCP_CONGESTION, _BBR),
            (_RTO_MAX_MS, _MOST_RTO_MS),
            (socket.TCP_USER_TIMEOUT, _SILENCE_MS),
        ]
        if quick:
            wishes.append((_RTO_MIN_US, _QUICK_RTO_US))
    for name, value in wishes:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, name, value)


def forget_rate(connection: TcpSocket) -> None:
    """Let the kernel measure the path anew: before a request on a connection that was used.

    BBR sends no faster than it has seen a connection send. A visual is too short to show a path's
    rate, the more where a packet was lost, and each one after it goes slower: 15 kB took a second
    on a path that carries them in 60 ms. What the path carries is the uplink's own to know.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        name = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
        if name.rstrip(b"\0") == _BBR:
            # Chosen anew it would go on; chosen after another it begins.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _OTHER)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _BBR)


def progress(connection: TcpSocket) -> TcpProgress | None:
    """How far the bytes came; `None` where the kernel does not say, or the socket is closed."""
    if sys.platform != "linux" or connection.fileno() < 0:
        return None
    try:
        info = _info(connection)
        if len(info) < _DATA_SEGS_OUT_AT + 4:
            return None
        # Bytes that arrive between two questions would seem lost: until nothing does, ask again.
        for _ in range(_MOST_READINGS):
            (acknowledged,) = struct.unpack_from("=Q", info, _BYTES_ACKED_AT)
            in_flight = _queued(connection)
            info = _info(connection)
            if acknowledged == struct.unpack_from("=Q", info, _BYTES_ACKED_AT)[0]:
                break
    except OSError:
        return None
    (smoothed,) = struct.unpack_from("=I", info, _RTT_AT)
    (shortest,) = struct.unpack_from("=I", info, _MIN_RTT_AT)
    (unacked,) = struct.unpack_from("=I", info, _UNACKED_AT)
    (sacked,) = struct.unpack_from("=I", info, _SACKED_AT)
    (unsent,) = struct.unpack_from("=I", info, _UNSENT_AT)
    (resent,) = struct.unpack_from("=I", info, _TOTAL_RETRANS_AT)
    (packets,) = struct.unpack_from("=I", info, _DATA_SEGS_OUT_AT)
    if len(info) >= _NEEDLESS_AT + 4:
        (needless,) = struct.unpack_from("=I", info, _NEEDLESS_AT)
        resent = max(0, resent - needless)
    # Before its first sample the kernel states the largest number as the shortest round trip.
    round_trip = min(shortest, smoothed) / 1e6
    # By the share of packets: on a slow link they are smaller than the largest that may be.
    beyond = (in_flight - unsent) * sacked // max(1, unacked)
    return TcpProgress(acknowledged, in_flight, unsent, beyond, round_trip, packets, resent)


def _info(connection: TcpSocket) -> bytes:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)


def _queued(connection: TcpSocket) -> int:
    """Bytes in the kernel's send queue (SIOCOUTQ)."""
    import fcntl
    import termios

    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    (queued,) = struct.unpack("=i", answer)
    return int(queued)
