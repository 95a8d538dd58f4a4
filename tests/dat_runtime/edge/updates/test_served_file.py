"""How one file is asked for, with a server, a clock and sleeps that are none."""

import asyncio
import contextlib
import io
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime.edge.updates import served_file
from dat_runtime.edge.updates.served_file import (
    CONNECT_SECONDS,
    LOOK_SECONDS,
    PIECE,
    DownloadError,
    MissingError,
    NoPartsError,
    Patience,
    ServedFile,
    WrongFileError,
    total_of,
)
from dat_runtime.edge.uplink.connection import Response, TooLongError
from dat_runtime.edge.uplink.sender import SendError

Said = Response | BaseException


def part(first: int, body: bytes, total: object = 100_000, status: int = 206) -> Response:
    last = first + len(body) - 1
    return Response(status, {"content-range": f"bytes {first}-{last}/{total}"}, body)


def pause(error: SendError, failures: int) -> float:
    assert isinstance(error, SendError)
    return 1000.0 + failures


class World:
    """Time that passes by sleeping only, and a pool whose one connection gives what is scripted."""

    def __init__(self, patched: pytest.MonkeyPatch):
        self.now = 50.0
        self.slept: list[float] = []
        self.asked: list[tuple[object, ...]] = []
        self.scripted: list[Said] = []
        self.takes = 0.0
        self.streamed: list[bytes | BaseException | float] = []
        self.deadlines: list[float | None] = []
        self.busy = 0
        self.closed = 0

        async def sleep(seconds: float) -> None:
            self.slept.append(round(seconds, 6))
            self.now += seconds

        @contextlib.asynccontextmanager
        async def timeout(seconds: float) -> AsyncIterator[Any]:
            self.deadlines.append(seconds)
            yield SimpleNamespace(reschedule=self.deadlines.append)

        loop = SimpleNamespace(time=lambda: self.now)
        fake = SimpleNamespace(sleep=sleep, timeout=timeout, get_running_loop=lambda: loop)
        patched.setattr(served_file, "asyncio", fake)
        patched.setattr(served_file, "pause", pause)

    def is_busy(self) -> bool:
        self.busy -= 1
        return self.busy >= 0

    def file(self, rate: float = 1000.0, failures: int = 3) -> ServedFile:
        pool: Any = SimpleNamespace(connection=self.connection)
        return ServedFile(pool, rate, self.is_busy, Patience(7.0, failures))

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator["World"]:
        yield self

    async def request(self, *given: object, **named: object) -> Response:
        self.asked.append((*given, named))
        return self._next()

    async def get(self, *given: object) -> Response:
        self.asked.append(given)
        return self._next()

    def _next(self) -> Response:
        self.now += self.takes
        said = self.scripted.pop(0)
        if isinstance(said, BaseException):
            raise said
        return said

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self.streamed:
            if isinstance(piece, BaseException):
                raise piece
            if isinstance(piece, float):
                self.now += piece
            else:
                yield piece


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def run(coming: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coming)


def test_a_piece_is_asked_for_by_its_bytes_and_uncompressed(world: World) -> None:
    answer = part(500, b"x" * 200)
    world.scripted = [answer]
    assert run(world.file().ask(500, 200, "here")) is answer
    headers = [("range", "bytes=500-699"), ("accept-encoding", "identity")]
    assert world.asked == [("GET", "", headers, b"", 7.0, {"most_bytes": PIECE})]


@pytest.mark.parametrize(("takes", "waits"), [(0.0, 0.2), (0.05, 0.15), (0.2, 0.0), (0.3, 0.0)])
def test_a_piece_takes_the_time_that_the_cap_gives_it(
    world: World, takes: float, waits: float
) -> None:
    world.scripted, world.takes = [part(0, b"x" * 200)], takes
    run(world.file(rate=1000.0).ask(0, 200, "here"))
    assert world.slept == [waits]


def test_what_is_better_goes_first_and_its_time_is_not_the_piece_s(world: World) -> None:
    world.scripted, world.busy = [part(0, b"x" * 200)], 3
    run(world.file().ask(0, 200, "here"))
    assert world.slept == [LOOK_SECONDS] * 3 + [0.2]


def test_a_break_is_tried_again_after_a_pause_and_not_for_ever(world: World) -> None:
    world.scripted = [SendError("broke off"), SendError("broke off"), part(0, b"x")]
    run(world.file().ask(0, 1, "after 5 bytes"))
    assert world.slept[:2] == [1001.0, 1002.0]
    world.slept.clear()
    world.scripted = [SendError(f"{i}") for i in range(5)]
    with pytest.raises(DownloadError, match=r"^stopped after 5 bytes: 2$"):
        run(world.file().ask(0, 1, "after 5 bytes"))
    assert world.slept == [1001.0, 1002.0]


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (part(0, b"", status=416), WrongFileError, "ends before byte 5,000: status 416"),
        (Response(403, {}, b" no "), MissingError, "status 403: no"),
        (Response(404, {}, b""), MissingError, "status 404: "),
        (Response(410, {}, b"gone"), MissingError, "status 410: gone"),
        (Response(200, {}, b"x"), NoPartsError, ""),
        (TooLongError(PIECE, 200), NoPartsError, ""),
        (
            TooLongError(PIECE, 206),
            WrongFileError,
            "a response of more than 32,768 bytes to a request for 1,500: it has no end",
        ),
    ],
)
def test_what_no_patience_mends_ends_it_at_once(
    world: World, said: Said, kind: type[Exception], words: str
) -> None:
    world.scripted = [said]
    with pytest.raises(kind, match=f"^{re.escape(words)}$") as raised:
        run(world.file().ask(5000, 1500, "here"))
    assert type(raised.value) is kind
    assert world.slept == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Response(500, {}, b"x"), "status 500 to a request for a part of the file"),
        (Response(206, {}, b"x" * 10), "status 206 to a request for a part of the file"),
        (part(4, b"x" * 10), "status 206 to a request for a part of the file"),
        (part(50, b"x" * 10), "status 206 to a request for a part of the file"),
        (part(5, b"x" * 9), "9 bytes came, expected 10"),
        (part(5, b"x" * 11), "11 bytes came, expected 10"),
        (part(5, b"x" * 10, total=14), "10 bytes came, expected 9"),
        (part(5, b"x" * 9, total="*"), "9 bytes came, expected 10"),
        (part(5, b"x" * 1234, total=9999), "1,234 bytes came, expected 10"),
    ],
)
def test_what_is_not_the_part_that_was_asked_for_counts_as_a_break(
    world: World, said: Response, words: str
) -> None:
    world.scripted = [said]
    with pytest.raises(DownloadError, match=f"^stopped here: {re.escape(words)}$"):
        run(world.file(failures=1).ask(5, 10, "here"))


@pytest.mark.parametrize("total", [15, 100, "*"])
def test_a_whole_piece_is_one_that_ends_where_it_or_the_file_does(
    world: World, total: object
) -> None:
    world.scripted = [part(5, b"x" * 10, total), part(5, b"x" * 9, 14)]
    assert len(run(world.file().ask(5, 10, "here")).body) == 10
    assert len(run(world.file().ask(5, 10, "here")).body) == 9


@pytest.mark.parametrize(
    ("said", "total"),
    [
        ("bytes 0-9/100", 100),
        ("bytes 0-9/*", None),
        ("bytes 0-9/", None),
        ("", None),
        (f"bytes 0-9/{'9' * 19}", int("9" * 19)),
        (f"bytes 0-9/{'9' * 20}", None),
        ("bytes 0-9/-1", None),
        ("bytes 0-9/٣", None),
        ("bytes 0-9/1/2", 2),
    ],
)
def test_how_long_a_file_is_stands_behind_the_slash(said: str, total: int | None) -> None:
    headers = {"content-range": said} if said else {}
    assert total_of(Response(206, headers, b"")) == total


# Whole files


def whole(world: World, most: int = 100_000, **given: Any) -> io.BytesIO:
    out = io.BytesIO(b"left from before")
    out.seek(5)
    run(world.file(**given).whole(out, most))
    return out


def test_a_whole_file_is_written_from_its_beginning(world: World) -> None:
    world.scripted, world.streamed = [Response(200, {}, b"")], [b"ab", b"cd"]
    assert whole(world, most=4).getvalue() == b"abcd"
    assert world.asked == [("", [("accept-encoding", "identity")])]
    assert world.deadlines == [7.0]


def test_a_whole_file_is_read_at_the_cap_and_gives_way_after_each_piece(world: World) -> None:
    world.scripted = [Response(200, {}, b"")]
    first, second = b"x" * (PIECE - 1), b"x" * (PIECE + 1)
    world.streamed = [first, 1.0, b"x", b"x" * 5, 0.5, second, b"end"]
    world.busy = 1
    assert whole(world, rate=PIECE / 4.0).getvalue() == b"x" * (2 * PIECE + 6) + b"end"
    # The first piece came in 1 s of its 4, then one look; the second in 0.5 s of its 4.00073 s.
    assert world.slept[:2] == [3.0, LOOK_SECONDS]
    assert world.slept[2] == pytest.approx(4.0 * (PIECE + 6) / PIECE - 0.5, abs=1e-5)
    assert len(world.slept) == 3
    start, cap = 50.0, 4.0 * (PIECE + 6) / PIECE
    deadlines = [7.0, None, start + 4.0 + LOOK_SECONDS + 7.0, None]
    assert world.deadlines[:4] == deadlines
    assert world.deadlines[4] == pytest.approx(start + 4.0 + LOOK_SECONDS + cap + 7.0, abs=1e-5)


def test_a_whole_file_may_have_its_most_bytes_and_no_more(world: World) -> None:
    world.scripted, world.streamed = [Response(200, {}, b"")] * 2, [b"ab", b"cd"]
    with pytest.raises(WrongFileError, match=r"^more than 3 bytes, or without an end$"):
        whole(world, most=3)
    world.streamed = [b"x" * 2000]
    with pytest.raises(WrongFileError, match=r"^more than 1,999 bytes, or without an end$"):
        whole(world, most=1999)


@pytest.mark.parametrize(
    ("said", "streamed", "words"),
    [
        (Response(500, {}, b""), [], "stopped after 0 bytes: status 500 to a request for the file"),
        (Response(206, {}, b""), [], "stopped after 0 bytes: status 206 to a request for the file"),
        (SendError("closed"), [], "stopped after 0 bytes: closed"),
        (
            Response(200, {}, b""),
            [b"x" * 1500, SendError("closed")],
            "stopped after 1,500 bytes: closed",
        ),
        (
            Response(200, {}, b""),
            [b"ab", TimeoutError()],
            "stopped after 2 bytes: less than 32,768 bytes came in 7 s",
        ),
    ],
)
def test_a_whole_file_that_breaks_off_begins_again(
    world: World, said: Said, streamed: list[Any], words: str
) -> None:
    world.scripted, world.streamed = [said] * 3, streamed
    with pytest.raises(DownloadError, match=f"^{re.escape(words)}$"):
        whole(world)
    assert world.slept == [1001.0, 1002.0]
    assert len(world.asked) == 3


def test_a_whole_file_that_is_not_there_is_not_asked_for_again(world: World) -> None:
    world.scripted = [Response(404, {}, b"none")]
    with pytest.raises(MissingError, match=r"^status 404: none$"):
        whole(world)


def test_a_break_costs_all_that_had_come(world: World) -> None:
    out = io.BytesIO()
    world.scripted = [Response(200, {}, b"")] * 2

    async def pieces() -> AsyncIterator[bytes]:
        yield b"long, and wrong" if len(world.scripted) else b"right"
        if world.scripted:
            raise SendError("closed")

    world.pieces = pieces  # type: ignore[method-assign]
    run(world.file().whole(out, 100))
    assert out.getvalue() == b"right"


@pytest.mark.parametrize(("url", "has_tls"), [("http://h:7/a", False), ("https://h/a", True)])
def test_a_served_file_has_connections_of_its_own_that_end_with_it(
    url: str, has_tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    class Pool:
        def __init__(self, open_one: Callable[[], object]):
            made.append(open_one)

        async def close(self) -> None:
            made.append("closed")

    def open_connection(*given: object) -> object:
        return given

    monkeypatch.setattr(served_file, "Pool", Pool)
    monkeypatch.setattr(served_file.Connection, "open", open_connection)

    async def scenario() -> ServedFile:
        async with served_file.served_file(url, 5.0, bool, Patience(1.0, 2)) as file:
            assert len(made) == 1
        return file

    file = run(scenario())
    assert (file.bytes_per_s, file.is_busy, file.patience) == (5.0, bool, Patience(1.0, 2))
    assert made[1] == "closed"
    address, names, seconds = made[0]()
    assert (address.host, seconds) == ("h", CONNECT_SECONDS)
    assert (address.tls is not None) is has_tls
    assert names._host == "h"
