"""The bounds of a connection at their values, by a clock that a test sets; nothing listens."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

pytest.importorskip("uvicorn")

import uvicorn
from uvicorn.server import ServerState

from dat_runtime.cloud.protocol import BoundedProtocol


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time a test moves on."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class Transport:
    """What is written, and how the connection ends."""

    def __init__(self) -> None:
        self.written = b""
        self.ended: list[str] = []
        self.reads = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, content: bytes) -> None:
        self.written += content

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended.append("eof")

    def close(self) -> None:
        self.ended.append("close")

    def abort(self) -> None:
        self.ended.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.ended or "abort" in self.ended

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


async def whole(scope: Any, receive: Any, send: Any) -> None:
    """Reads a request's body, and tells how long it is."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await say(send, 200, b"%d" % size)


async def early(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once."""
    await say(send, 404, b"no")


async def never(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def say(send: Any, status: int, content: bytes) -> None:
    length = [(b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": length})
    await send({"type": "http.response.body", "body": content})


class Other:
    """The other end of a connection: what it sends, and how time goes by."""

    def __init__(self, application: Any, loop: Clock):
        config = uvicorn.Config(
            application, http=BoundedProtocol, ws="none", log_config=None, timeout_keep_alive=75
        )
        config.load()
        self.transport = Transport()
        self.state = ServerState()
        self.protocol = BoundedProtocol(config, self.state, {}, loop)
        self._loop = loop
        self.protocol.connection_made(self.transport)  # type: ignore[arg-type]

    async def send(self, content: bytes, seconds: float = 0.0) -> list[str]:
        """Let time go by, and send; how the connection ended so far."""
        self._loop.ahead += seconds
        await self.settle()
        if content:
            self.protocol.data_received(content)
            await self.settle()
        return self.transport.ended

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    @property
    def statuses(self) -> list[int]:
        parts = self.transport.written.split(b"HTTP/1.1 ")[1:]
        return [int(part[:3]) for part in parts]


def with_other(application: Any, scenario: Callable[[Other], Coroutine[Any, Any, None]]) -> None:
    loop = Clock()
    asyncio.set_event_loop(loop)

    async def run() -> None:
        other = Other(application, loop)
        try:
            await scenario(other)
        finally:
            for task in list(other.state.tasks):
                task.cancel()
            await other.settle()

    try:
        loop.run_until_complete(run())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


def filled(size: int) -> bytes:
    """The beginning of a head, of so many bytes."""
    return b"GET / HTTP/1.1\r\nX: ".ljust(size, b"x")


def test_a_head_has_so_many_bytes() -> None:
    async def scenario(other: Other) -> None:
        assert await other.send(filled(30_000)) == []
        assert await other.send(b"x" * 2_768) == []
        assert other.transport.written == b""
        assert await other.send(b"x") == ["eof"]
        assert other.transport.written == TOO_LARGE
        # What comes afterwards is thrown away for a moment.
        assert await other.send(b"x" * 40_000, 1.9) == ["eof"]
        assert await other.send(b"", 0.2) == ["eof", "abort"]
        assert other.transport.written == TOO_LARGE

    with_other(whole, scenario)


def test_a_head_that_was_read_is_counted_no_longer() -> None:
    async def scenario(other: Other) -> None:
        for _ in range(3):
            await other.send(filled(20_000))
            await other.send(b"\r\nHost: h\r\n\r\n")
        assert other.statuses == [200] * 3
        await other.send(POST % 100_000)
        for _ in range(3):
            await other.send(b"x" * 30_000)
        await other.send(b"x" * 10_000)
        assert other.statuses == [200] * 4
        await other.send(CHUNKED + b"5\r\n12345\r\n")
        await other.send(b"1;" + b"x" * 32_000)
        assert other.statuses == [200] * 4
        assert other.transport.ended == []
        await other.send(b"x" * 1_000)
        # The request before it is not answered: nothing can be said in its place.
        assert other.transport.ended == ["abort"]
        assert other.statuses == [200] * 4

    with_other(whole, scenario)


@pytest.mark.parametrize("chunk", [b"", b"5\r\n12345"])
def test_what_stands_between_parts_of_a_body_has_so_many_bytes_too(chunk: bytes) -> None:
    async def scenario(other: Other) -> None:
        await other.send(CHUNKED)
        await other.send(chunk)
        begins = b"\r\n1;" if chunk else b"1;"
        assert await other.send(begins.ljust(32_768, b"x")) == []
        assert await other.send(b"x") == ["abort"]

    with_other(whole, scenario)


def test_a_head_has_ten_seconds_from_its_first_byte() -> None:
    async def scenario(other: Other) -> None:
        await other.send(b"", 60)
        await other.send(b"GET / HT")
        assert await other.send(b"TP/1.1\r\n", 9.9) == []
        assert await other.send(b"", 0.2) == ["eof"]
        assert other.transport.written == TOO_SLOW

    with_other(whole, scenario)


def test_a_head_that_came_in_time_is_waited_for_no_longer() -> None:
    async def scenario(other: Other) -> None:
        await other.send(POST % 5)
        await other.send(b"", 60)
        await other.send(b"12345")
        assert other.statuses == [200]
        await other.send(b"G")
        await other.send(GET[1:], 9)
        await other.send(b"", 60)
        assert (other.statuses, other.transport.ended) == ([200, 200], [])

    with_other(whole, scenario)


def test_an_idle_connection_is_closed_after_its_time() -> None:
    async def scenario(other: Other) -> None:
        assert await other.send(b"", 74.9) == []
        await other.send(GET)
        assert await other.send(b"", 74.9) == []
        assert await other.send(b"", 0.2) == ["close"]
        assert other.statuses == [200]

    with_other(whole, scenario)


def test_a_connection_on_which_nothing_was_said_is_idle() -> None:
    async def scenario(other: Other) -> None:
        assert await other.send(b"", 74.9) == []
        assert await other.send(b"", 0.2) == ["close"]

    with_other(whole, scenario)


def test_who_takes_nothing_of_an_answer_has_thirty_seconds() -> None:
    async def scenario(other: Other) -> None:
        await other.send(GET)
        other.protocol.pause_writing()
        await other.send(b"", 29.9)
        other.protocol.resume_writing()
        assert other.protocol._stuck is None
        await other.send(b"", 5)
        other.protocol.pause_writing()
        assert await other.send(b"", 29.9) == []
        assert await other.send(b"", 0.2) == ["abort"]

    with_other(whole, scenario)


def test_requests_in_a_row_that_wait_are_bounded() -> None:
    async def scenario(other: Other) -> None:
        await other.send(GET * 17)  # one under way, sixteen wait
        assert other.transport.ended == []
        assert not other.transport.reads
        ended = list(await other.send(GET * 3))
        assert set(ended) == {"abort"}
        assert await other.send(GET) == ended  # what comes then is not read
        assert len(other.protocol.pipeline) == 16

    with_other(never, scenario)


def test_requests_in_a_row_are_answered() -> None:
    async def scenario(other: Other) -> None:
        await other.send(GET * 17)
        for _ in range(20):
            await other.settle()
        assert other.statuses == [200] * 17
        assert other.transport.reads

    with_other(whole, scenario)


def test_the_short_rest_of_a_body_is_thrown_away_and_the_connection_goes_on() -> None:
    async def scenario(other: Other) -> None:
        await other.send(POST % 100_000)
        assert other.statuses == [404]
        await other.send(b"x" * 60_000)
        await other.send(b"x" * 40_000, 1.9)
        await other.send(b"", 60)
        await other.send(GET)
        assert (other.statuses, other.transport.ended) == ([404, 404], [])
        assert other.protocol._thrown_away is None

    with_other(early, scenario)


def test_the_rest_of_a_body_that_comes_slowly_is_given_up() -> None:
    async def scenario(other: Other) -> None:
        await other.send(POST % 100)
        assert await other.send(b"x", 1.9) == []
        assert await other.send(b"x", 0.2) == ["eof"]
        assert other.statuses == [404]
        assert await other.send(b"x", 1.9) == ["eof"]
        assert await other.send(b"", 0.2) == ["eof", "abort"]

    with_other(early, scenario)


@pytest.mark.parametrize("lingers", [False, True])
def test_the_rest_of_a_body_that_has_no_end_is_cut_off(lingers: bool) -> None:
    async def scenario(other: Other) -> None:
        await other.send(POST % 30_000_000)
        if lingers:
            assert await other.send(b"", 2.1) == ["eof"]
        assert await other.send(b"x" * 5_000_000) == ["eof"] * lingers
        assert await other.send(b"x" * 3_000_000) == ["eof"] * lingers
        assert await other.send(b"x") == ["eof"] * lingers + ["abort"]
        assert other.statuses == [404]

    with_other(early, scenario)


def test_what_comes_behind_a_rest_that_was_cut_off_is_not_read() -> None:
    async def scenario(other: Other) -> None:
        await other.send(POST % 8_000_001)
        await other.send(b"x" * 8_000_000)
        assert await other.send(b"x" + GET) == ["abort"]
        assert other.statuses == [404]

    with_other(early, scenario)


def test_a_connection_that_was_lost_is_waited_for_no_longer() -> None:
    async def scenario(other: Other) -> None:
        await other.send(b"GET / ")
        other.protocol.pause_writing()
        other.protocol.connection_lost(ConnectionResetError())
        assert await other.send(b"", 100) == []
        assert other.transport.written == b""

    with_other(whole, scenario)


def test_a_transport_is_what_it_stands_for() -> None:
    async def scenario(other: Other) -> None:
        assert other.protocol.transport.reads  # type: ignore[attr-defined]
        assert not other.protocol.transport.is_closing()
        assert not other.protocol.is_mid_message
        await other.send(b"GE")
        assert other.protocol.is_mid_message
        other.protocol.transport.close()
        assert other.protocol.transport.is_closing()
        assert other.protocol.is_lingering
        assert other.transport.ended == ["eof"]

    with_other(whole, scenario)
