"""Downloads of adapters: the lowest class. They wait for alerts and visuals, under a cap.

One request asks for one piece, so that each is bounded in time and size, a break costs one piece,
and nothing of a download is under way while it waits. A server that knows no parts of files is read
as slowly, piece by piece within one response; a break costs all of it.
"""

import asyncio
import contextlib
import hashlib
import io
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from dat_runtime.edge.uplink.connection import Address, Connection, Response, TooLongError
from dat_runtime.edge.uplink.names import Names
from dat_runtime.edge.uplink.pool import Pool
from dat_runtime.edge.uplink.retry import pause
from dat_runtime.edge.uplink.sender import SendError
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.edge.uplink.trust import tls_context
from dat_runtime.errors import DatError

PIECE = 32_768
CONNECT_SECONDS = 5.0

LOOK_SECONDS = 0.05
"""Between two looks at whether alerts and visuals are through."""


class DownloadError(DatError):
    """The file did not come, or is not the one that was asked for."""


class MissingError(DownloadError):
    """The server has no such file, or gives it to nobody here."""


class WrongFileError(DownloadError):
    """Another file came than the one asked for, or a longer one."""


class _NoPartsError(Exception):
    """The server gives whole files only."""


@dataclass(frozen=True)
class Patience:
    """How long a download goes on without success.

    Attributes:
        seconds: for a piece and its answer: 32 kB in 30 s is 1.1 kB/s at least.
        failures: in a row, without a byte between them.
    """

    seconds: float = 30.0
    failures: int = 8


PATIENCE = Patience()


async def download(
    url: str,
    file: Path,
    *,
    sha256: str,
    size: int,
    bytes_per_s: float,
    is_busy: Callable[[], bool],
    patience: Patience = PATIENCE,
) -> None:
    """Bring a file, going on where an earlier attempt ended; it is there when it is whole.

    Args:
        file: where it goes; what has come lies beside it, with `.part` at its name's end.
        sha256: of the content, hexadecimal.
        size: of the content, bytes.
        bytes_per_s: the cap.
        is_busy: whether something more important is under way.

    Raises:
        WrongFileError: another one is there.
        DownloadError: it is not there, or it stopped coming.
    """
    part = file.with_name(file.name + ".part")
    async with _source(url, bytes_per_s, is_busy, patience) as source:
        await _fill(part, source, size)
    if await asyncio.to_thread(_digest, part) != sha256:
        part.unlink()
        raise WrongFileError("is another file than the one asked for: its sha256 differs", url)
    part.replace(file)


async def fetch(
    url: str,
    *,
    most_bytes: int,
    bytes_per_s: float,
    is_busy: Callable[[], bool],
    patience: Patience = PATIENCE,
) -> bytes:
    """A file whose size and digest nobody knows yet, of `most_bytes` at most.

    The arguments are those of `download`.

    Raises:
        MissingError: it is not there.
        WrongFileError: it is larger.
        DownloadError: it stopped coming.
    """
    content = bytearray()
    async with _source(url, bytes_per_s, is_busy, patience) as source:
        try:
            while True:
                response = await source.ask(len(content), PIECE, f"after {len(content):,} bytes")
                content += response.body
                total = _total(response)
                if total is None:
                    raise DownloadError("the server does not say how long the file is")
                if total > most_bytes:
                    raise WrongFileError(f"{total:,} bytes, expected at most {most_bytes:,}", url)
                if len(content) >= total:
                    return bytes(content)
        except _NoPartsError:
            whole = io.BytesIO()
            await source.whole(whole, most_bytes)
            return whole.getvalue()


@dataclass(frozen=True)
class _Source:
    """One file on a server, of which pieces are asked for."""

    pool: Pool
    query: str
    bytes_per_s: float
    is_busy: Callable[[], bool]
    patience: Patience

    async def ask(self, first: int, size: int, where: str) -> Response:
        """The answer to a request for a piece; it comes when nothing better is under way.

        Args:
            where: how far the download is, for a message.
        """
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            await self._idle()
            began = clock()
            try:
                response = await self._answer(first, size)
            except TooLongError as error:
                if error.status == 200:
                    raise _NoPartsError from None
                raise WrongFileError(f"{error} to a request for {size:,}: it has no end") from None
            except SendError as error:
                failures += 1
                if failures >= self.patience.failures:
                    raise DownloadError(f"stopped {where}: {error}") from None
                await asyncio.sleep(pause(error, failures))
                continue
            await asyncio.sleep(max(0.0, began + len(response.body) / self.bytes_per_s - clock()))
            return response

    async def _answer(self, first: int, size: int) -> Response:
        headers = [("range", f"bytes={first}-{first + size - 1}"), ("accept-encoding", "identity")]
        async with self.pool.connection() as connection:
            response = await connection.request(
                "GET", self.query, headers, b"", self.patience.seconds, most_bytes=PIECE
            )
        _demand_there(response)
        if response.status == 416:
            raise WrongFileError(f"ends before byte {first:,}: status 416")
        if response.status == 200:
            raise _NoPartsError
        if response.status != 206 or not _begins_at(response, first):
            raise SendError(f"status {response.status} to a request for a part of the file")
        total = _total(response)
        # Whole pieces only: a byte at a time would take for ever, and each be in time.
        expected = size if total is None else min(size, total - first)
        if len(response.body) != expected:
            raise SendError(f"{len(response.body):,} bytes came, expected {expected:,}")
        return response

    async def whole(self, out: IO[bytes], most_bytes: int) -> None:
        """Write the file to `out` from its beginning, where the server knows no parts of it.

        Raises:
            WrongFileError: it is longer than `most_bytes`.
            DownloadError: it did not come.
        """
        failures = 0
        while True:
            out.seek(0)
            out.truncate()
            try:
                await self._stream(out, most_bytes)
                return
            except SendError as error:
                failures += 1
                if failures >= self.patience.failures:
                    raise DownloadError(f"stopped after {out.tell():,} bytes: {error}") from None
                await asyncio.sleep(pause(error, failures))

    async def _stream(self, out: IO[bytes], most_bytes: int) -> None:
        seconds = self.patience.seconds
        try:
            async with self.pool.connection() as connection:
                async with asyncio.timeout(seconds) as deadline:
                    head = await connection.get(self.query, [("accept-encoding", "identity")])
                    _demand_there(head)
                    if head.status != 200:
                        raise SendError(f"status {head.status} to a request for the file")
                    async with contextlib.aclosing(connection.pieces()) as pieces:
                        await self._slowly(pieces, out, most_bytes, deadline)
        except TimeoutError:
            raise SendError(f"less than {PIECE:,} bytes came in {seconds:g} s") from None

    async def _slowly(
        self,
        pieces: AsyncIterator[bytes],
        out: IO[bytes],
        most_bytes: int,
        deadline: asyncio.Timeout,
    ) -> None:
        """Write what comes, waiting after each `PIECE` as between two requests for one."""
        clock = asyncio.get_running_loop().time
        began, paid = clock(), 0
        async for content in pieces:
            out.write(content)
            here = out.tell()
            if here > most_bytes:
                raise WrongFileError(f"more than {most_bytes:,} bytes, or without an end")
            if here - paid < PIECE:
                continue
            deadline.reschedule(None)
            await asyncio.sleep(max(0.0, began + (here - paid) / self.bytes_per_s - clock()))
            await self._idle()
            began, paid = clock(), here
            deadline.reschedule(began + self.patience.seconds)

    async def _idle(self) -> None:
        while self.is_busy():
            await asyncio.sleep(LOOK_SECONDS)


@contextlib.asynccontextmanager
async def _source(
    url: str,
    bytes_per_s: float,
    is_busy: Callable[[], bool],
    patience: Patience,
) -> AsyncIterator[_Source]:
    settings = UplinkSettings(url, None, bytes_per_s)
    tls = tls_context(settings) if url.startswith("https://") else None
    address = Address.of(url, tls)
    names = Names(address.host)
    pool = Pool(lambda: Connection.open(address, names, CONNECT_SECONDS))
    query = urlsplit(url).query
    try:
        yield _Source(pool, f"?{query}" if query else "", bytes_per_s, is_busy, patience)
    finally:
        await pool.close()


async def _fill(part: Path, source: _Source, size: int) -> None:
    """Bring the pieces that are missing."""
    here = part.stat().st_size if part.is_file() else 0
    if here > size:
        part.unlink()
        here = 0
    with part.open("ab") as out:
        try:
            await _fill_pieces(out, here, source, size)
        except _NoPartsError:
            await source.whole(out, size)
        if out.tell() < size:
            raise WrongFileError(f"ends after {out.tell():,} bytes, expected {size:,}")
        os.fsync(out.fileno())


async def _fill_pieces(out: IO[bytes], here: int, source: _Source, size: int) -> None:
    while here < size:
        where = f"after {here:,} of {size:,} bytes"
        wanted = min(PIECE, size - here)
        response = await source.ask(here, wanted, where)
        if len(response.body) < wanted:
            raise WrongFileError(f"ends after {_total(response):,} bytes, expected {size:,}")
        out.write(response.body)
        out.flush()
        here += wanted


def _demand_there(response: Response) -> None:
    if response.status in (403, 404, 410):
        raise MissingError(f"status {response.status}: {response.text}")


def _begins_at(response: Response, first: int) -> bool:
    return response.headers.get("content-range", "").startswith(f"bytes {first}-")


def _total(response: Response) -> int | None:
    """Bytes of the whole file; `None` where an answer with a part of it does not say."""
    said = response.headers.get("content-range", "").rpartition("/")[2]
    return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else None


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
