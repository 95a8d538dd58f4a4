"""Hostile clients on real sockets: each is cut off within bounds, and told why where it can be."""

import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from dat_runtime.cloud import protocol
from export.live.processes import Process, receiver
from tests.dat_runtime.cloud.conftest import Running, alert

HEAD = (
    b"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/cloudevents+json\r\n"
)
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MEGABYTE = b"100000\r\n" + b" " * 0x100000 + b"\r\n"


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def answer(connection: socket.socket) -> bytes:
    """All that the other end sends until it closes."""
    told = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            told += piece
    return told


def status(told: bytes) -> int:
    return int(told.split(b" ", 2)[1])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, sqlite_receiver: Running) -> Running:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.4)
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.4)
    return sqlite_receiver


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A receiver in a process of its own, whose memory is looked at."""
    folder = tmp_path_factory.mktemp("receiver")
    with receiver(f"sqlite:///{folder}/receiver.db") as process:
        yield process


def is_well(process: Process) -> bool:
    """Whether it still answers, and never took much memory."""
    with closing(connect(process.url)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return status(answer(connection)) == 200 and process.peak_bytes() < 200_000_000


def poured(connection: socket.socket, pieces: Iterator[bytes], most: int) -> int:
    """Send until the other end takes no more; how many bytes it took."""
    sent = 0
    with suppress(BrokenPipeError, ConnectionResetError):
        while sent < most:
            sent += connection.send(next(pieces))
    return sent


def test_a_body_without_end_is_cut_off_and_the_sender_is_told(process: Process) -> None:
    """30 GB, in chunks: what does not fit is thrown away for a moment only."""
    with closing(connect(process.url)) as connection:
        connection.sendall(CHUNKED)
        told: list[bytes] = []
        reader = threading.Thread(target=lambda: told.append(answer(connection)))
        reader.start()
        sent = poured(connection, iter(lambda: MEGABYTE, None), 30_000_000_000)
        reader.join(20)
    assert sent < 100_000_000
    assert status(told[0]) == 413
    assert b"connection: close" in told[0].lower()
    assert is_well(process)


def test_a_stated_length_is_refused_before_the_body_comes(process: Process) -> None:
    for length in (b"30000000000", b"16385", b"9" * 18):
        with closing(connect(process.url)) as connection:
            connection.sendall(HEAD + b"Content-Length: " + length + b"\r\n\r\n")
            assert status(answer(connection)) == 413
    assert is_well(process)


def test_a_body_is_packed_as_it_should_be_or_refused(process: Process) -> None:
    for encoding in (b"gzip", b"deflate, gzip", b"br", b"identity, gzip"):
        with closing(connect(process.url)) as connection:
            connection.sendall(
                HEAD + b"Content-Encoding: " + encoding + b"\r\nContent-Length: 9\r\n\r\n"
            )
            told = answer(connection)
            assert status(told) == 415
            assert b"accept-encoding: deflate" in told.lower()
    bomb = zlib.compress(bytes(15_000_000))  # within what a body may have, before it is unpacked
    with closing(connect(process.url)) as connection:
        length = b"Content-Length: %d\r\n\r\n" % len(bomb)
        connection.sendall(HEAD + b"Content-Encoding: deflate\r\n" + length + bomb)
        assert len(bomb) < 16_384
        told = answer(connection)
        assert status(told) == 413
        assert b"accept-encoding: deflate" in told.lower()  # with each answer, refusals too
    assert is_well(process)


@pytest.mark.parametrize(
    "endless",
    [
        [b"GET / HTTP/1.1\r\n", b"X-Filler: " + b"x" * 1000 + b"\r\n"],
        [b"GET / HTTP/1.1\r\nX: ", b"x" * 65_536],
        [b"GET /", b"a" * 65_536],
        [b"", b"\r\n" * 30_000],
        [CHUNKED, b"1;" + b"x" * 65_536],
        [CHUNKED + b"0\r\n", b"X: " + b"x" * 65_536 + b"\r\n"],
    ],
    ids=["headers", "header", "path", "blank lines", "chunk extension", "trailers"],
)
def test_what_brings_no_body_is_bounded(process: Process, endless: list[bytes]) -> None:
    with closing(connect(process.url)) as connection:
        connection.sendall(endless[0])
        sent = poured(connection, iter(lambda: endless[1], None), 3_000_000_000)
    assert sent < 60_000_000
    assert is_well(process)


def test_a_path_like_id_and_a_strange_request_line_are_refused(process: Process) -> None:
    for line in (
        b"GET /v1/events/../../etc/passwd HTTP/1.1",
        b"GET /v1/events/..%2f..%2fetc%2fpasswd HTTP/1.1",
        b"GET http://[::1 HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"CONNECT elsewhere:443 HTTP/1.1",
        b"GET / HTTP/9.9",
    ):
        with closing(connect(process.url)) as connection:
            connection.sendall(line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            told = answer(connection)
            assert not told or status(told) in range(400, 500)
    assert is_well(process)


def test_a_smuggled_request_is_refused(process: Process) -> None:
    """Two lengths in one request: a proxy and we could differ on where it ends."""
    both = HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with closing(connect(process.url)) as connection:
        connection.sendall(both)
        assert status(answer(connection)) == 400


def test_many_large_bodies_at_a_time_take_little_memory(process: Process) -> None:
    head = HEAD.replace(b"events+json", b"events-batch+json")
    connections = [connect(process.url) for _ in range(200)]
    for connection in connections:
        connection.sendall(head + b"Content-Length: 1000000\r\n\r\n")
        with suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
            connection.settimeout(0.05)
            connection.sendall(b" " * 900_000)
    assert is_well(process)
    for connection in connections:
        connection.close()


def test_a_head_that_comes_slowly_is_given_up(impatient: Running) -> None:
    with closing(connect(impatient.url)) as connection:
        begun = time.monotonic()
        told: list[bytes] = []
        reader = threading.Thread(target=lambda: told.append(answer(connection)))
        reader.start()
        with suppress(BrokenPipeError, ConnectionResetError):
            for byte in (b"GET / HTTP/1.1\r\nX: " + b"x" * 300) * 3:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
                if told:
                    break
        reader.join(10)
        assert status(told[0]) == 408
        assert time.monotonic() - begun < 10


def test_a_connection_that_says_nothing_is_closed_when_it_was_idle_long(impatient: Running) -> None:
    with closing(connect(impatient.url)) as connection:
        time.sleep(0.8)  # longer than a head may take
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status(connection.recv(65_536)) == 200
    with closing(connect(impatient.url)) as connection:
        assert answer(connection) == b""


def test_a_refused_body_that_is_short_leaves_the_connection_open(impatient: Running) -> None:
    body = json.dumps(alert()).encode()
    unknown = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
    with closing(connect(impatient.url)) as connection:
        connection.sendall(unknown)
        time.sleep(0.1)
        assert status(connection.recv(65_536)) == 404
        connection.sendall(b"12345")
        connection.sendall(
            HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
        )
        assert status(answer(connection)) == 201


def test_a_body_for_nobody_is_not_read_without_end(impatient: Running) -> None:
    with closing(connect(impatient.url)) as connection:
        connection.sendall(CHUNKED.replace(b"/v1/events", b"/nowhere"))
        sent = poured(connection, iter(lambda: MEGABYTE, None), 3_000_000_000)
    assert sent < 100_000_000


def test_requests_in_a_row_on_one_connection_are_answered_in_order(impatient: Running) -> None:
    bodies = [json.dumps(alert(f"e{n}")).encode() for n in range(15)]
    with closing(connect(impatient.url)) as connection:
        connection.sendall(
            b"".join(HEAD + b"Content-Length: %d\r\n\r\n" % len(b) + b for b in bodies)
            + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        told = answer(connection)
    assert told.count(b"HTTP/1.1 201") == 15
    places = [told.index(b'"id":"e%d"' % n) for n in range(15)]
    assert places == sorted(places)


def test_requests_in_a_row_without_end_are_cut_off(process: Process) -> None:
    """Without a token, 20 connections took 870 MB, and the receiver did not end when told to."""
    row = b"GET /page/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1_000
    connections = [connect(process.url) for _ in range(20)]
    for connection in connections:  # none of them reads
        poured(connection, iter(lambda: row, None), 3_000_000)
    assert is_well(process)
    for connection in connections:
        connection.close()


def test_who_does_not_read_an_answer_is_cut_off(
    sqlite_receiver: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.3)
    events = [alert(f"e{n}") | {"comment": "x" * 15_000} for n in range(60)]
    assert sqlite_receiver.post(events).status_code == 201
    host, port = sqlite_receiver.url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.settimeout(20)
        connection.connect((host, int(port)))
        request = b"GET /v1/events?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(request * 10)
        time.sleep(1.5)
        told = answer(connection)
    assert len(told) < 9_000_000
