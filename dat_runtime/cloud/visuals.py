"""`/v1/visuals`: pictures come in, resumable (tus 1.0.0); `pictures` shows them.

What came of a request is kept however it ended, so that a link that breaks every few seconds gets
a picture through. `docs/wire.md` is the contract.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter, HTTPException, Request, Response
from sqlalchemy import Connection, Row
from starlette.requests import ClientDisconnect

from dat_runtime.cloud import tus, uploads
from dat_runtime.cloud.access import Who
from dat_runtime.cloud.body import CLOSE, content_type
from dat_runtime.cloud.events import event_row
from dat_runtime.cloud.upload_files import Uploads, Writing
from dat_runtime.cloud.uploads import KEPT_SECONDS, UploadError

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver

T = TypeVar("T")

SILENCE = 10.0
"""Seconds without a byte after which a request ends; what came is kept."""

PIECE = 65_536
"""Bytes that are written at a time."""

SYNC_EVERY = 1_000_000
"""Bytes after which what came is acknowledged to the store, within one request."""

MAX_WAITING = 64
"""Creations of one worker that wait for their alerts; further ones are answered at once."""

LOOK_EVERY = 0.02
"""Seconds between two looks for an alert."""

MAX_AT_ONCE = 256
"""Requests that bring bytes, of one worker."""


def router(receiver: "Receiver") -> APIRouter:
    """The routes of this module."""
    visuals = Visuals(receiver)
    routes = APIRouter(route_class=tus.TusRoute)
    add = routes.add_api_route
    add("/v1/visuals", visuals.options, methods=["OPTIONS"])
    add("/v1/visuals", visuals.create, methods=["POST"])
    add("/v1/visuals/{key}", visuals.options, methods=["OPTIONS"])
    add("/v1/visuals/{key}", visuals.head, methods=["HEAD"])
    add("/v1/visuals/{key}", visuals.patch, methods=["PATCH"])
    add("/v1/visuals/{key}", visuals.patch_by_post, methods=["POST"])
    return routes


class Visuals:
    """The visuals of one worker; several workers may share the folder."""

    def __init__(self, receiver: "Receiver"):
        self._receiver = receiver
        self._uploads = Uploads(receiver)
        self._under_way = 0
        self._waiting = 0

    async def options(self) -> Response:
        return tus.options()

    async def create(self, request: Request) -> Response:
        """Creation, with upload where there is a body. One that is there already is told again."""
        who = self._receiver.access.who(request)
        wanted = tus.wanted(request)
        brings = _brings_bytes(request)

        def work(connection: Connection) -> tuple[Row[Any], bool]:
            event = event_row(connection, wanted.event, who.node or wanted.node)
            who.require_node(event.node)
            return uploads.create(connection, event, wanted)

        await self._wait_for_alert(request, who, wanted)
        try:
            row, is_new = await self._refusing(self._receiver.store.write(work))
        except uploads.Answered:  # all of it was here, and is not needed again
            headers = {"Location": "/v1/visuals/answered", **tus.state(wanted.length, None)}
            return Response(None, 200, headers | CLOSE)
        at, unread = row.arrived, {}
        if brings and at == 0:
            at = await self._take(request, row.key, 0)
        elif brings:  # it goes on elsewhere: the body begins at 0
            unread = CLOSE
        headers = {"Location": f"/v1/visuals/{row.key}", **self._state(row, at), **unread}
        return Response(None, 201 if is_new else 200, headers)

    async def _wait_for_alert(self, request: Request, who: Who, wanted: tus.Wanted) -> None:
        """Until the alert is here that the visual is of, if the request asks to wait, and may.

        Alert and visual come on two connections: which is here first is chance.
        """

        def is_here(connection: Connection) -> bool:
            return uploads.is_expected(connection, wanted, who.node or wanted.node)

        until = time.monotonic() + tus.patience(request)
        while time.monotonic() < until and self._waiting < MAX_WAITING:
            self._waiting += 1
            try:
                if await self._receiver.store.read(is_here):
                    return
                await asyncio.sleep(LOOK_EVERY)
            finally:
                self._waiting -= 1

    async def head(self, request: Request, key: str) -> Response:
        row = await self._row(request, key)
        headers = {"Upload-Length": str(row.length), "Upload-Metadata": row.metadata}
        return Response(None, 200, headers | self._state(row, row.arrived))

    async def patch(self, request: Request, key: str) -> Response:
        row = await self._row(request, key)
        at = await self._take(request, row.key, tus.offset(request))
        return Response(None, 204, self._state(row, at))

    async def patch_by_post(self, request: Request, key: str) -> Response:
        """For clients that can only POST."""
        if request.headers.get("x-http-method-override", "").upper() != "PATCH":
            raise HTTPException(405, "expected PATCH", {"Allow": "HEAD, PATCH, OPTIONS"} | CLOSE)
        return await self.patch(request, key)

    async def _row(self, request: Request, key: str) -> Row[Any]:
        """The upload that a request names, if it is the sender's own."""
        who = self._receiver.access.who(request)
        row = None
        if uploads.KEY.fullmatch(key):
            row = await self._receiver.store.read(partial(uploads.find, key=key))
        _require_own(who, row)
        assert row is not None
        return row

    def _state(self, row: Row[Any], arrived: int) -> dict[str, str]:
        expires = None if arrived == row.length else row.written_at + KEPT_SECONDS
        return tus.state(arrived, expires)

    async def _take(self, request: Request, key: str, offset: int) -> int:
        """Add a request's bytes to an upload; how many of its bytes are there then.

        Raises:
            HTTPException: 409, the upload is at another offset; 413, there are more bytes than it
                has room for; 415, packed; 423, another request writes to it; 503, too many do; 400,
                it is whole and no picture; 408, nothing came for a while; 507, the disk is full.
        """
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise HTTPException(415, "content-encoding: send the bytes as they are", CLOSE)
        if self._under_way >= MAX_AT_ONCE:
            raise HTTPException(503, "too many uploads at a time", {"Retry-After": "1"} | CLOSE)
        self._under_way += 1
        try:
            writing, row, _ = await self._refusing(self._uploads.begin(key, offset))
            try:
                _require_fitting(request, row.length - offset)
                return await self._write(request, writing, row, offset)
            finally:
                writing.close()
        except OSError as error:
            raise HTTPException(507, f"cannot be kept: {error.strerror}", CLOSE) from None
        finally:
            self._under_way -= 1

    async def _write(self, request: Request, writing: Writing, row: Row[Any], at: int) -> int:
        acknowledged = at
        problem = None
        try:
            async for piece in _pieces(request, row.length - at):
                if at + len(piece) > row.length:
                    problem = HTTPException(413, f"more than {row.length:,} bytes came", CLOSE)
                    break
                await asyncio.to_thread(writing.write, piece)
                at += len(piece)
                if at - acknowledged >= SYNC_EVERY and at < row.length:
                    await self._refusing(self._uploads.acknowledge(writing, row, at))
                    acknowledged = at
        except TimeoutError:
            problem = HTTPException(408, f"no byte came for {SILENCE:g} s", CLOSE)
        except ClientDisconnect:
            problem = HTTPException(400, "the connection ended")  # nobody reads it
        if at > acknowledged:
            await self._refusing(self._uploads.acknowledge(writing, row, at))
        if problem is not None:
            raise problem
        return at

    @staticmethod
    async def _refusing(work: Awaitable[T]) -> T:
        """What it comes to; an `UploadError` as HTTP tells it."""
        try:
            return await work
        except uploads.Answered:
            raise
        except UploadError as error:
            retry = {"Retry-After": "10"} if error.status in (423, 429) else {}
            raise HTTPException(error.status, str(error), CLOSE | retry) from None


async def _pieces(request: Request, room: int) -> AsyncIterator[bytes]:
    """The body, in pieces of `PIECE` bytes and a last one.

    It ends with the upload's last byte. The mark that a body in chunks has after it is a packet of
    its own, and where that one gets lost the picture is here long before.

    Args:
        room: bytes that the upload lacks.

    Raises:
        TimeoutError: nothing came for `SILENCE`; ClientDisconnect: the connection ended. What came
            before was given.
    """
    held = bytearray()
    body = request.stream()
    problem: Exception | None = None
    while problem is None:
        try:
            async with asyncio.timeout(SILENCE):
                came = await anext(body)
            held += came
            room -= len(came)
        except StopAsyncIteration:
            break
        except (TimeoutError, ClientDisconnect) as error:
            problem = error
        if len(held) >= PIECE:
            yield bytes(held)
            held.clear()
        if room <= 0:
            break
    if held:
        yield bytes(held)
    if problem is not None:
        raise problem


def _brings_bytes(request: Request) -> bool:
    """Whether a creation comes with bytes of the visual."""
    if content_type(request) == tus.CONTENT_TYPE:
        return True
    headers = request.headers
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise HTTPException(415, f"content-type: expected {tus.CONTENT_TYPE}", CLOSE)
    return False


def _require_own(who: Who, row: Row[Any] | None) -> None:
    """404 for what is not there and for what is another's alike."""
    if row is None or (who.node is not None and who.node != row.node):
        raise HTTPException(404, "no such upload", CLOSE)
    who.require_node(row.node)


def _require_fitting(request: Request, room: int) -> None:
    stated = request.headers.get("content-length", "0")
    if len(stated) > 15 or int(stated) > room:
        raise HTTPException(413, f"this upload takes {room:,} bytes more", CLOSE)
