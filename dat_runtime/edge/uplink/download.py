"""Downloads of adapters: the lowest class. They wait for alerts and visuals, under a cap.

One request asks for one piece, so that each is bounded in time and size, a break costs one piece,
and nothing of a download is under way while it waits.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from dat_runtime.edge.uplink.connection import Address, Connection, Response
from dat_runtime.edge.uplink.names import Names
from dat_runtime.edge.uplink.pool import Pool
from dat_runtime.edge.uplink.retry import pause
from dat_runtime.edge.uplink.sender import SendError
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.edge.uplink.trust import tls_context
from dat_runtime.errors import DatError

PIECE = 32_768
PIECE_SECONDS = 30.0
CONNECT_SECONDS = 5.0

MOST_FAILURES = 8
"""In a row, without a byte between them."""

LOOK_SECONDS = 0.05
"""Between two looks at whether alerts and visuals are through."""


class DownloadError(DatError):
    """The file did not come, or is not the one that was asked for."""


async def download(
    url: str,
    file: Path,
    *,
    sha256: str,
    size: int,
    bytes_per_s: float,
    is_busy: Callable[[], bool],
    authorities: Path | None = None,
) -> None:
    """Bring a file, going on where an earlier attempt ended; it is there when it is whole.

    Args:
        file: where it goes; what has come lies beside it, with `.part` at its name's end.
        sha256: of the content, hexadecimal.
        size: of the content, bytes.
        bytes_per_s: the cap.
        is_busy: whether something more important is under way.
        authorities: PEM file of the authorities to trust; `None` trusts the system's.

    Raises:
        DownloadError: it is not there, another one is there, or it stopped coming.
    """
    part = file.with_name(file.name + ".part")
    settings = UplinkSettings(url, None, bytes_per_s, authorities=authorities)
    tls = tls_context(settings) if url.startswith("https://") else None
    address = Address.of(url, tls)
    names = Names(address.host)
    pool = Pool(lambda: Connection.open(address, names, CONNECT_SECONDS))
    query = urlsplit(url).query
    try:
        await _fill(part, pool, f"?{query}" if query else "", size, bytes_per_s, is_busy)
    finally:
        await pool.close()
    if await asyncio.to_thread(_digest, part) != sha256:
        part.unlink()
        raise DownloadError("is another file than the one asked for: its sha256 differs", url)
    part.replace(file)


async def _fill(
    part: Path, pool: Pool, query: str, size: int, bytes_per_s: float, is_busy: Callable[[], bool]
) -> None:
    """Bring the pieces that are missing."""
    clock = asyncio.get_running_loop().time
    here = part.stat().st_size if part.is_file() else 0
    if here > size:
        part.unlink()
        here = 0
    failures = 0
    with part.open("ab") as out:
        while here < size:
            while is_busy():
                await asyncio.sleep(LOOK_SECONDS)
            began = clock()
            try:
                piece = await _piece(pool, query, here, min(PIECE, size - here))
            except SendError as error:
                failures += 1
                if failures >= MOST_FAILURES:
                    raise DownloadError(
                        f"stopped after {here:,} of {size:,} bytes: {error}"
                    ) from None
                await asyncio.sleep(pause(error, failures))
                continue
            out.write(piece)
            out.flush()
            here, failures = here + len(piece), 0
            await asyncio.sleep(max(0.0, began + len(piece) / bytes_per_s - clock()))
        os.fsync(out.fileno())


async def _piece(pool: Pool, query: str, first: int, size: int) -> bytes:
    headers = [("range", f"bytes={first}-{first + size - 1}"), ("accept-encoding", "identity")]
    async with pool.connection() as connection:
        response = await connection.request("GET", query, headers, b"", PIECE_SECONDS)
    if response.status in (403, 404, 410, 416):
        raise DownloadError(f"status {response.status}: {response.text}")
    if response.status == 200:
        raise DownloadError("the server does not serve parts of the file")
    if response.status != 206 or not _begins_at(response, first):
        raise SendError(f"status {response.status} to a request for a part of the file")
    if not 0 < len(response.body) <= size:
        raise SendError(f"{len(response.body):,} bytes came, expected {size:,}")
    return response.body


def _begins_at(response: Response, first: int) -> bool:
    return response.headers.get("content-range", "").startswith(f"bytes {first}-")


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
