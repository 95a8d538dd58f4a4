"""A connection byte by byte: what goes out, what comes in, and how both are counted."""

import asyncio
import socket
from types import SimpleNamespace

import h11
import pytest

from dat_runtime.edge.uplink import connection as module
from dat_runtime.edge.uplink.connection import (
    Address,
    ClosedError,
    Connection,
    Response,
    TooLongError,
)
from dat_runtime.edge.uplink.sender import Progress, SendError
from dat_runtime.edge.uplink.tcp import TcpProgress

ADDRESS = Address("h.example", 81, "/dat", None)
OK = b"HTTP/1.1 200 OK\r\nX-Name: V\r\ncontent-length: 2\r\n\r\nhi"


class Writer:
    """In the place of a stream: keeps what is written."""

    def __init__(self):
        self.sent, self.aborted, self.closing, self.waiting = b"", 0, False, 0
        self.transport = self
        self.socket = SimpleNamespace(setsockopt=lambda *about: self.options.append(about))
        self.options = []
        self.limits = []

    def get_extra_info(self, name):
        return {"socket": self.socket}[name]

    def write(self, content):
        self.sent += content

    async def drain(self):
        await asyncio.sleep(0)

    def is_closing(self):
        return self.closing

    def get_write_buffer_size(self):
        return self.waiting

    def set_write_buffer_limits(self, high):
        self.limits.append(high)

    def abort(self):
        self.aborted += 1


@pytest.fixture(autouse=True)
def kernel(monkeypatch):
    """What the kernel says, and that it was asked to forget a rate."""
    told = SimpleNamespace(progress=None, forgot=[], asked=[])
    monkeypatch.setattr(
        module.tcp, "progress", lambda socket: told.asked.append(socket) or told.progress
    )
    monkeypatch.setattr(module.tcp, "forget_rate", lambda socket: told.forgot.append(socket))
    return told


async def opened(*said, eof=True):
    reader = asyncio.StreamReader()
    for part in said:
        reader.feed_data(part)
    if eof:
        reader.feed_eof()
    return Connection(ADDRESS, reader, Writer())


def run(work, *said, eof=True):
    """What work with a connection gives, on which this was said."""

    async def go():
        connection = await opened(*said, eof=eof)
        return await work(connection)

    return asyncio.run(go())


def asks(method="PUT", target="/v1/x", headers=(), body=b"{}", timeout=5.0, **more):
    async def work(connection):
        try:
            found = await connection.request(method, target, headers, body, timeout, **more)
        except SendError as error:
            found = error
        return found, connection._writer.sent, connection

    return work


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("PUT", b"{}", b"content-length: 2\r\n"),
        ("POST", b"", b"content-length: 0\r\n"),
        ("GET", b"", b""),
        ("HEAD", b"", b""),
        ("GET", b"x", b"content-length: 1\r\n"),
    ],
)
def test_a_request_goes_out_as_http_has_it(method, body, length):
    answer = OK if method != "HEAD" else b"HTTP/1.1 200 OK\r\n\r\n"
    written = []
    work = asks(method, headers=[("a", "b")], body=body, written=lambda: written.append(1))
    response, sent, connection = run(work, answer)
    head = method.encode() + b" /dat/v1/x HTTP/1.1\r\nhost: h.example:81\r\na: b\r\n"
    assert sent == head + length + b"\r\n" + body
    if method != "HEAD":
        assert response == Response(200, {"x-name": "V", "content-length": "2"}, b"hi")
    assert written == [1]
    assert connection.requests == 1


async def pieces(*parts):
    for part in parts:
        yield part


def test_a_body_in_pieces_goes_out_in_chunks():
    async def work(connection):
        async def answer():
            await asyncio.sleep(0.02)
            connection._reader.feed_data(OK)

        later = asyncio.ensure_future(answer())
        response = await connection.request("POST", "/v1/x", [], pieces(b"abc", b"d"), 5.0)
        await later
        return response.status, connection._writer.sent

    status, sent = run(work, eof=False)
    assert status == 200
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.endswith(b"transfer-encoding: chunked")
    assert body == b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"


def test_after_an_answer_no_more_of_a_body_goes_out():
    async def work(connection):
        async def body():
            yield b"abc"
            connection._reader.feed_data(OK)
            await asyncio.sleep(0.02)
            yield b"never"

        await connection.request("POST", "/v1/x", [], body(), 5.0)
        return connection._writer.sent, connection.reusable

    sent, reusable = run(work, eof=False)
    assert sent.endswith(b"3\r\nabc\r\n")
    assert not reusable


def test_requests_follow_each_other_and_the_kernel_measures_anew(kernel):
    async def work(connection):
        states = [connection.reusable]
        for _ in range(2):
            connection._reader.feed_data(OK)
            await connection.request("PUT", "/v1/x", [], b"{}", 5.0)
            states.append(connection.reusable)
        connection._writer.closing = True
        states.append(connection.reusable)
        connection._writer.closing = False
        connection._reader.feed_eof()
        states.append(connection.reusable)
        return states, connection

    states, connection = run(work, eof=False)
    assert states == [True, True, True, False, False]
    assert kernel.forgot == [connection._socket]  # before the second
    assert connection.requests == 2


def test_a_connection_that_is_to_be_closed_serves_no_other_request():
    closing = OK.replace(b"X-Name: V", b"connection: close")
    _, _, connection = run(asks(), closing, eof=False)
    assert not connection.reusable


@pytest.mark.parametrize(("number", "fits"), [(10, True), (11, False)])
def test_so_many_provisional_answers_are_waited_through(number, fits):
    early = b"HTTP/1.1 103 early\r\n\r\n" * number
    response, _, _ = run(asks(), early + OK)
    if fits:
        assert response.body == b"hi"
    else:
        assert type(response) is SendError
        assert str(response) == "more than 10 responses of 1xx"


@pytest.mark.parametrize(("most", "fits"), [(2, True), (1, False)])
def test_a_body_is_bounded(most, fits):
    response, _, _ = run(asks(most_bytes=most), OK)
    if fits:
        assert response.body == b"hi"
    else:
        assert type(response) is TooLongError
        assert (str(response), response.status) == ("a response of more than 1 bytes", 200)


def test_a_body_is_bounded_where_nobody_says():
    large = b"HTTP/1.1 200 OK\r\ncontent-length: 262145\r\n\r\n" + b"x" * 262_145
    response, _, _ = run(asks(), large)
    assert str(response) == "a response of more than 262,144 bytes"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (b"", ClosedError, "the receiver closed the connection before it answered"),
        (b"HTTP/1.1 200", ClosedError, "the receiver closed the connection before it answered"),
        (OK[:-1], SendError, "the response is not HTTP (peer closed connection without sending"),
        (b"220 mail ESMTP\r\n\r\n", SendError, "the response is not HTTP (illegal status line"),
    ],
)
def test_what_is_no_answer_is_told(said, kind, words):
    error, _, _ = run(asks(), said)
    assert type(error) is kind
    assert str(error).startswith(words)


def test_an_answer_that_does_not_come_is_given_up_and_the_broken_link_told():
    error, _, _ = run(asks(timeout=0.02), eof=False)
    assert (type(error), str(error)) == (SendError, "no whole response in 0.02 s")

    async def broken(connection):
        connection._reader.set_exception(ConnectionResetError("reset by peer"))
        return await asks()(connection)

    error, _, _ = run(broken, eof=False)
    assert type(error) is ClosedError
    assert str(error) == "the connection broke (reset by peer)"


def test_what_is_not_read_waits_at_the_other_end():
    async def work(connection):
        head = await connection.get("/v1/x", [("a", "b")])
        found = [piece async for piece in connection.pieces()]
        with pytest.raises(ClosedError, match=r"^the receiver closed the connection$"):
            await anext(connection.pieces())
        return head, found, connection

    head, found, connection = run(work, OK)
    assert head == Response(200, {"x-name": "V", "content-length": "2"}, b"")
    assert found == [b"hi"]
    assert connection.requests == 1
    assert connection._writer.options == [(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)]
    sent = connection._writer.sent
    assert sent == b"GET /dat/v1/x HTTP/1.1\r\nhost: h.example:81\r\na: b\r\n\r\n"

    async def cut(connection):
        await connection.get("/v1/x", [])
        with pytest.raises(SendError, match="not HTTP"):
            async for _ in connection.pieces():
                pass

    run(cut, OK[:-1])


def kernel_says(acknowledged, round_trip=0.25):
    return TcpProgress(acknowledged, 20, 3, 4, round_trip, 50, 6)


def test_bytes_are_counted_from_the_handshake_on_by_the_kernel(kernel):
    kernel.progress = kernel_says(7)

    async def work(connection):
        kernel.progress = kernel_says(107)
        connection._writer.waiting = 1_000
        looks = [connection.progress()]
        kernel.progress = kernel_says(207, 0.0)  # no sample yet
        looks.append(connection.progress())
        kernel.progress = None
        connection._writer.closing = True
        looks.append(connection.progress())
        looks.append(connection.close())
        assert set(map(id, kernel.asked)) == {id(connection._socket)}
        return looks, connection._writer.aborted

    looks, aborted = run(work)
    assert looks == [
        Progress(100, 1_020, 0.25, 1_003, 4, 50, 6),
        Progress(200, 1_020, None, 1_003, 4, 50, 6),
        Progress(200, 0, None, 1_003, 4, 50, 6),
        200,
    ]
    assert aborted == 1


def test_where_the_kernel_says_nothing_an_answer_acknowledges_a_request():
    async def work(connection):
        looks = [connection.progress()]
        connection._writer.waiting = 9
        looks.append(connection.progress())
        await connection.request("PUT", "/v1/x", [], b"{}", 5.0)
        connection._writer.waiting = 0
        looks.append(connection.progress())
        connection._reader.feed_data(OK)
        await connection.request("PUT", "/v1/x", [], b"{}", 5.0)
        looks.append(connection.progress())
        return looks, len(connection._writer.sent)

    looks, sent = run(work, OK, eof=False)
    assert looks == [
        Progress(0, 0, None),
        Progress(0, 9, None),
        Progress(sent // 2, 0, None),
        Progress(sent, 0, None),
    ]


def test_a_kernel_that_speaks_late_and_one_that_never_did(kernel):
    async def late(connection):
        kernel.progress = kernel_says(107)
        return connection.progress().acknowledged

    assert run(late) == 107
    kernel.progress = None

    async def never(connection):
        connection._writer.closing = True
        return connection.progress()

    assert run(never) == Progress(0, 0, None)


class Names:
    def __init__(self, answer="192.0.2.7"):
        self.answer, self.bad = answer, []

    async def address(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def failed(self, address):
        self.bad.append(address)


@pytest.mark.parametrize("tls", [None, "a context"])
def test_a_connection_is_opened_to_the_address_by_its_name(monkeypatch, tls):
    asked, prepared, writer = [], [], Writer()

    async def connect(at, port, **how):
        asked.append((at, port, how))
        return asyncio.StreamReader(), writer

    async def go():
        return await Connection.open(Address("h.example", 81, "", tls), Names(), 5.0)

    monkeypatch.setattr(module.asyncio, "open_connection", connect)
    monkeypatch.setattr(module.tcp, "prepare", lambda *given, **how: prepared.append((given, how)))
    connection = asyncio.run(go())
    name = "h.example" if tls else None
    how = {"ssl": tls, "server_hostname": name, "limit": 65_536}
    assert asked == [("192.0.2.7", 81, how)]
    assert prepared == [((writer.socket,), {"quick": True})]
    assert writer.limits == [0]  # every byte is in the kernel before the next
    assert connection.requests == 0
    assert connection._address.host == "h.example"


@pytest.mark.parametrize(
    ("error", "words", "bad"),
    [
        (OSError("refused"), "cannot connect (refused)", ["192.0.2.7"]),
        (None, "no connection in 0.02 s", ["192.0.2.7"]),
    ],
)
def test_an_address_that_does_not_serve_is_told_and_left(monkeypatch, error, words, bad):
    async def connect(*_, **__):
        if error is not None:
            raise error
        await asyncio.sleep(20)

    monkeypatch.setattr(module.asyncio, "open_connection", connect)
    names = Names()
    with pytest.raises(SendError) as caught:
        asyncio.run(Connection.open(ADDRESS, names, 0.02))
    assert (str(caught.value), names.bad) == (words, bad)
    names = Names(SendError("no address of h.example"))
    with pytest.raises(SendError, match=r"^no address of h\.example$"):
        asyncio.run(Connection.open(ADDRESS, names, 5.0))
    assert names.bad == []


@pytest.mark.parametrize(
    ("url", "tls", "address", "header"),
    [
        ("http://h", None, Address("h", 80, "", None), "h"),
        ("https://h", "tls", Address("h", 443, "", "tls"), "h"),
        ("http://h:443", None, Address("h", 443, "", None), "h:443"),
        ("https://h:80/a/b//", "tls", Address("h", 80, "/a/b", "tls"), "h:80"),
        ("http://[::1]:81/", None, Address("::1", 81, "", None), "[::1]:81"),
    ],
)
def test_an_address_and_how_it_is_named_to_the_receiver(url, tls, address, header):
    assert Address.of(url, tls) == address
    assert address.host_header == header


def test_a_responses_words_are_cut_and_whatever_bytes_they_are():
    assert Response(200, {}, b" words\n").text == "words"
    assert Response(200, {}, b"x" * 301).text == "x" * 300
    assert Response(200, {}, b"\xff").text == "\ufffd"


def test_an_error_of_ours_in_the_protocol_is_named_too():
    with pytest.raises(SendError, match=r"^the response is not HTTP \(we\)$"), module._named():
        raise h11.LocalProtocolError("we")
    with pytest.raises(TimeoutError), module._named():
        raise TimeoutError
