"""Reading a request's body within bounds: of size, of time, and of what all bodies take together.

Nothing is read that cannot be kept, and a packed body is unpacked to no more than it may be: none
can be a bomb.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from fastapi import HTTPException, Request

from dat_runtime import files

MAX_SECONDS = 20.0
"""In which a whole body has to come."""

MAX_TOGETHER = 12_000_000
"""Bytes of all bodies that are being read, or wait for their commit, at one time: what one says
takes several times its length."""

ACCEPTED = {"Accept-Encoding": "deflate"}
"""How a body may be packed (RFC 9110: zlib). With an answer it tells the sender so (RFC 7694)."""

CLOSE = {"Connection": "close"}
"""With an answer that comes before the body's end: the rest is not waited for."""


class Bodies:
    """Reads bodies; knows how much of them is in memory.

    Args:
        most: bytes of all of them together.
        seconds: in which each has to come.
    """

    def __init__(self, most: int = MAX_TOGETHER, seconds: float = MAX_SECONDS):
        self._room = most
        self._seconds = seconds

    @asynccontextmanager
    async def held(self, request: Request, most: int) -> AsyncIterator[bytes]:
        """The whole body, which counts as in memory until the context ends.

        Raises:
            HTTPException: 413, more than `most` bytes, also when unpacked; 415, packed in another
                way than `ACCEPTED`; 408, too slow; 400, the other end left, or a packed body is
                broken; 503, too much is being read already.
        """
        coding = request.headers.get("content-encoding", "identity").lower()
        if coding not in ("identity", "deflate"):
            raise HTTPException(
                415, "content-encoding: expected deflate, or none", ACCEPTED | CLOSE
            )
        _require_size(request, most)
        parts: list[bytes] = []
        try:
            await self._read(request, most, parts)
            body = b"".join(parts)
            if coding == "deflate":
                body = _unpacked(body, most)
                self._keep(parts, body)
            yield body
        finally:
            self._room += sum(map(len, parts))

    def _keep(self, parts: list[bytes], part: bytes) -> None:
        parts.append(part)
        self._room -= len(part)
        if self._room < 0:
            raise HTTPException(503, "too many bodies at a time", {"Retry-After": "1"} | CLOSE)

    async def _read(self, request: Request, most: int, parts: list[bytes]) -> None:
        more = True
        held = 0
        try:
            async with asyncio.timeout(self._seconds):
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise HTTPException(400, "the body ended early")
                    part = message.get("body", b"")
                    more = message.get("more_body", False)
                    held += len(part)
                    self._keep(parts, part)
                    if held > most:
                        raise _too_large(most)
        except TimeoutError:
            raise HTTPException(
                408, f"the body did not come within {self._seconds:g} s", CLOSE
            ) from None

    async def read_json(self, request: Request, most: int) -> Any:
        """The body as one JSON value, read strictly.

        Raises:
            HTTPException: as `held`; 400, it is not one.
        """
        async with self.held(request, most) as body:
            return parsed(body)


def parsed(body: bytes) -> Any:
    """The one JSON value that a body is, read strictly.

    Raises:
        HTTPException: 400, it is not one.
    """
    try:
        return files.parse(body.decode("utf-8"))
    except ValueError as error:  # UnicodeDecodeError is one
        raise HTTPException(400, f"the body is not JSON: {str(error)[:200]}") from None


def require_type(request: Request, *allowed: str) -> str:
    """The content type of a request, without parameters.

    Raises:
        HTTPException: 415, it is none of those allowed.
    """
    kind = content_type(request)
    if kind not in allowed:
        raise HTTPException(415, f"content-type: expected {_listed(allowed)}", CLOSE)
    return kind


def content_type(request: Request) -> str:
    """In lower case, without parameters; "" when it is missing."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _listed(allowed: Collection[str]) -> str:
    return " or ".join(allowed)


def _require_size(request: Request, most: int) -> None:
    stated = request.headers.get("content-length", "0")
    if len(stated) > 15 or int(stated) > most:  # digits, or the parser had refused it
        raise _too_large(most)


def _unpacked(packed: bytes, most: int) -> bytes:
    """Raises:
    HTTPException: 413, it would be more than `most` bytes; 400, it is broken or goes on.
    """
    unpacking = zlib.decompressobj()
    try:
        body = unpacking.decompress(packed, most + 1)
    except zlib.error as error:
        raise HTTPException(400, f"the packed body is broken: {error}") from None
    if len(body) > most:
        raise _too_large(most)
    if not unpacking.eof or unpacking.unused_data:
        raise HTTPException(400, "the packed body has no end, or more after it")
    return body


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"the body is larger than {most:,} bytes", CLOSE)
