"""How files of an update repository come: from a folder, or over HTTP.

Every way is bounded in size and time, whatever the other end does: metadata by its most bytes, a
file by its signed length and digest. Paths and `file://` addresses are folders: a disk, a USB
stick, a share. All calls wait; make them from a thread, not from an event loop.
"""

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import unquote, urlsplit

from dat_runtime.edge.updates.download import download, fetch
from dat_runtime.edge.updates.served_file import (
    PATIENCE,
    DownloadError,
    MissingError,
    Patience,
    WrongFileError,
)
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.edge.uplink.trust import require_safe
from dat_runtime.errors import ConfigError

CHUNK = 1 << 20


class Fetch(Protocol):
    """One way to a repository.

    Raises:
        MissingError: there is no such file.
        WrongFileError: it is longer than it may be, or not the one asked for.
        DownloadError: it did not come.
    """

    def metadata(self, url: str, most_bytes: int) -> bytes:
        """A small file of unknown content."""
        ...

    def file(self, url: str, file: Path, *, sha256: str, size: int) -> None:
        """Bring a file; what had come of it before is beside it, under the name with `.part`."""
        ...


def base_of(url: str) -> str:
    """The address as a fetcher takes it, without a slash at its end.

    Raises:
        ConfigError: it is of another kind than http://, https://, file:// and a path, or holds a
            password, which would be shown.
    """
    if "://" not in url:
        return str(Path(url).expanduser().absolute())
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"the repository's address cannot be read: {error}") from None
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return str(Path(unquote(parts.path)).absolute())
    if parts.scheme not in ("http", "https"):
        raise ConfigError(
            f"{url!r} is no repository, expected a folder, file://, http:// or https://"
        )
    require_safe(UplinkSettings(url, None, float("inf")))
    return url.rstrip("/")


class HttpFetcher:
    """Over HTTP.

    Args:
        bytes_per_s: the cap.
        is_busy: whether something more important is under way.
        patience: with a server that does not serve.
    """

    def __init__(
        self,
        bytes_per_s: float = float("inf"),
        is_busy: Callable[[], bool] | None = None,
        patience: Patience = PATIENCE,
    ):
        self._bytes_per_s = bytes_per_s
        self._is_busy = _never if is_busy is None else is_busy
        self._patience = patience

    def metadata(self, url: str, most_bytes: int) -> bytes:
        coming = fetch(
            url,
            most_bytes=most_bytes,
            bytes_per_s=self._bytes_per_s,
            is_busy=self._is_busy,
            patience=self._patience,
        )
        return asyncio.run(coming)

    def file(self, url: str, file: Path, *, sha256: str, size: int) -> None:
        coming = download(
            url,
            file,
            sha256=sha256,
            size=size,
            bytes_per_s=self._bytes_per_s,
            is_busy=self._is_busy,
            patience=self._patience,
        )
        asyncio.run(coming)


def _never() -> bool:
    return False


class FolderFetcher:
    """From a folder; only plain files are read, of what a stick may hold."""

    def metadata(self, url: str, most_bytes: int) -> bytes:
        with _opened(url) as source:
            content = source.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise WrongFileError(f"more than {most_bytes:,} bytes", url)
        return content

    def file(self, url: str, file: Path, *, sha256: str, size: int) -> None:
        part = file.with_name(file.name + ".part")
        with _opened(url) as source:
            there = os.fstat(source.fileno()).st_size
            if there != size:
                raise WrongFileError(f"has {there:,} bytes, {size:,} were signed", url)
            with part.open("wb") as out:
                digest = copy(source, out.write, size)
                os.fsync(out.fileno())
        if digest != sha256:
            part.unlink()
            raise WrongFileError("is another file than the one signed: its sha256 differs", url)
        part.replace(file)


def _opened(path: str) -> IO[bytes]:
    """Raises:
    MissingError: there is none.
    DownloadError: it cannot be read.
    """
    try:
        # What is no file must not keep us waiting: a pipe would.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MissingError("is missing", path) from None
    except OSError as error:
        raise DownloadError(f"cannot be read ({error.strerror})", path) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise WrongFileError("is no plain file", path)
    return os.fdopen(descriptor, "rb")


def copy(source: IO[bytes], write: Callable[[bytes], object], size: int) -> str:
    """Copy at most `size` bytes; the sha256 of those that were there.

    Raises:
        DownloadError: they cannot be read, or not be written.
    """
    digest = hashlib.sha256()
    left = size
    try:
        while left and (chunk := source.read(min(CHUNK, left))):
            digest.update(chunk)
            write(chunk)
            left -= len(chunk)
    except OSError as error:
        raise DownloadError(f"the copy broke off ({error.strerror})", source.name) from None
    return digest.hexdigest()
