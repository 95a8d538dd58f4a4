"""Downloads of adapters: the lowest class. They wait for alerts and visuals, under a cap."""

import asyncio
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from dat_runtime.edge.updates.served_file import (
    PATIENCE,
    PIECE,
    DownloadError,
    NoPartsError,
    Patience,
    ServedFile,
    WrongFileError,
    served_file,
    total_of,
)


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
    async with served_file(url, bytes_per_s, is_busy, patience) as source:
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
    async with served_file(url, bytes_per_s, is_busy, patience) as source:
        try:
            while True:
                response = await source.ask(len(content), PIECE, f"after {len(content):,} bytes")
                content += response.body
                total = total_of(response)
                if total is None:
                    raise DownloadError("the server does not say how long the file is")
                if total > most_bytes:
                    raise WrongFileError(f"{total:,} bytes, expected at most {most_bytes:,}", url)
                if len(content) >= total:
                    return bytes(content)
        except NoPartsError:
            whole = io.BytesIO()
            await source.whole(whole, most_bytes)
            return whole.getvalue()


async def _fill(part: Path, source: ServedFile, size: int) -> None:
    """Bring the pieces that are missing."""
    here = part.stat().st_size if part.is_file() else 0
    if here > size:
        part.unlink()
        here = 0
    with part.open("ab") as out:
        try:
            await _fill_pieces(out, here, source, size)
        except NoPartsError:
            await source.whole(out, size)
        if out.tell() < size:
            raise WrongFileError(f"ends after {out.tell():,} bytes, expected {size:,}")
        os.fsync(out.fileno())


async def _fill_pieces(out: IO[bytes], here: int, source: ServedFile, size: int) -> None:
    while here < size:
        where = f"after {here:,} of {size:,} bytes"
        wanted = min(PIECE, size - here)
        response = await source.ask(here, wanted, where)
        if len(response.body) < wanted:
            raise WrongFileError(f"ends after {total_of(response):,} bytes, expected {size:,}")
        out.write(response.body)
        out.flush()
        here += wanted


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
