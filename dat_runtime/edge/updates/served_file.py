"""One file on a server, brought with patience: in pieces, or whole where it serves no parts of it.

One request asks for one piece, so that each is bounded in time and size, a break costs one piece,
and nothing of a download is under way while it waits. A server that knows no parts of files is read
as slowly, piece by piece within one response; a break costs all of it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import IO

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


class NoPartsError(Exception):
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


@dataclass(frozen=True)
class ServedFile:
    """One file on a server, of which pieces are asked for."""

    pool: Pool
    bytes_per_s: float
    is_busy: Callable[[], bool]
    patience: Patience

    async def ask(self, first: int, size: int, where: str) -> Response:
        """The answer to a request for a piece; it comes when nothing better is under way.

        Args:
            where: how far the download is, for a message.

        Raises:
            NoPartsError: the server gives the whole file only: `whole` takes it.
            WrongFileError, MissingError, DownloadError: the piece did not come.
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
                    raise NoPartsError from None
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
                "GET", "", headers, b"", self.patience.seconds, most_bytes=PIECE
            )
        _demand_there(response)
        if response.status == 416:
            raise WrongFileError(f"ends before byte {first:,}: status 416")
        if response.status == 200:
            raise NoPartsError
        if response.status != 206 or not _begins_at(response, first):
            raise SendError(f"status {response.status} to a request for a part of the file")
        total = total_of(response)
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
                    head = await connection.get("", [("accept-encoding", "identity")])
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
async def served_file(
    url: str,
    bytes_per_s: float,
    is_busy: Callable[[], bool],
    patience: Patience,
) -> AsyncIterator[ServedFile]:
    """The file at an address; the arguments are those of `download.download`."""
    settings = UplinkSettings(url, None, bytes_per_s)
    tls = tls_context(settings) if url.startswith("https://") else None
    address = Address.of(url, tls)
    names = Names(address.host)
    pool = Pool(lambda: Connection.open(address, names, CONNECT_SECONDS))
    try:
        yield ServedFile(pool, bytes_per_s, is_busy, patience)
    finally:
        await pool.close()


def _demand_there(response: Response) -> None:
    if response.status in (403, 404, 410):
        raise MissingError(f"status {response.status}: {response.text}")


def _begins_at(response: Response, first: int) -> bool:
    return response.headers.get("content-range", "").startswith(f"bytes {first}-")


def total_of(response: Response) -> int | None:
    """Bytes of the whole file; `None` where an answer with a part of it does not say."""
    said = response.headers.get("content-range", "").rpartition("/")[2]
    return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else None
