"""Visuals over tus 1.0.0: core and creation, the creation with as much of the visual as goes."""

import base64
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from dat_runtime.edge.uplink.connection import Address, Connection, Response
from dat_runtime.edge.uplink.pool import Pool
from dat_runtime.edge.uplink.replies import REFUSED, require_served
from dat_runtime.edge.uplink.sender import (
    EarlyError,
    OutgoingVisual,
    Pieces,
    RefusedError,
    SendError,
)

Headers = list[tuple[str, str]]
Key = tuple[str, str, int]

PART_SECONDS = 40.0
"""For a part of a visual and its answer; the visual lane ends a part long before."""

ASK_SECONDS = 10.0

REMEMBERED_UPLOADS = 1_000

_TUS = ("tus-resumable", "1.0.0")
_WAIT = ("prefer", "wait=2")
"""RFC 7240: the alert is on its way, on another connection."""

_OFFSET_TYPE = ("content-type", "application/offset+octet-stream")


@dataclass
class _Upload:
    """Where a visual lies at the receiver; `offset` is `None` when it has to be asked."""

    location: str
    offset: int | None


class Uploads:
    """The visuals of one receiver that are under way.

    Args:
        authorization: the headers that say who sends.
    """

    def __init__(self, pool: Pool, address: Address, authorization: Callable[[], Headers]):
        self._pool = pool
        self._address = address
        self._authorization = authorization
        self._uploads: OrderedDict[Key, _Upload] = OrderedDict()

    async def send(self, visual: OutgoingVisual, pieces: Pieces) -> int:
        """See `Sender.send_visual`."""
        key = visual.id, visual.kind, visual.revision
        upload = self._uploads.get(key)
        async with self._pool.connection() as connection:
            if upload is None and not visual.begun:
                return await self._create(connection, visual, pieces(0))
            if upload is None:
                # Creating it again tells where it lies and how much of it is there.
                offset = await self._create(connection, visual, b"")
            elif upload.offset is None:
                offset = await self._offset(connection, key, upload)
            else:
                offset = upload.offset
            if offset >= visual.size:
                return self._arrived(key, visual.size, offset)
            return await self._continue(connection, visual, offset, pieces(offset))

    async def _create(
        self, connection: Connection, visual: OutgoingVisual, body: bytes | AsyncIterator[bytes]
    ) -> int:
        """Creation, with upload where there is a body: how much of the visual is there."""
        metadata = ",".join(f"{name} {_base64(text)}" for name, text in visual.told.items())
        headers = [
            *self._authorization(),
            _TUS,
            ("upload-length", str(visual.size)),
            ("upload-metadata", metadata),
        ]
        if not isinstance(body, bytes):
            headers.append(_OFFSET_TYPE)
        if visual.early:
            headers.append(_WAIT)
        response = await connection.request("POST", "/v1/visuals", headers, body, PART_SECONDS)
        if visual.early and response.status in (404, 409):
            raise EarlyError(f"{response.status}: {response.text}")
        if response.status in REFUSED or response.status in (404, 410):
            raise RefusedError(f"{response.status}: {response.text}")
        require_served(response, 200, 201)
        key = visual.id, visual.kind, visual.revision
        offset = _offset_in(response) or 0
        self._uploads[key] = _Upload(self._path_of(response), offset)
        if len(self._uploads) > REMEMBERED_UPLOADS:
            self._uploads.popitem(last=False)
        return self._arrived(key, visual.size, offset)

    async def _offset(self, connection: Connection, key: Key, upload: _Upload) -> int:
        headers = [*self._authorization(), _TUS]
        response = await connection.request("HEAD", upload.location, headers, b"", ASK_SECONDS)
        if response.status in (404, 410):
            del self._uploads[key]
        require_served(response, 200, 204)
        offset = _offset_in(response)
        if offset is None:
            raise SendError("the receiver does not say how much of a visual it has")
        return offset

    async def _continue(
        self,
        connection: Connection,
        visual: OutgoingVisual,
        offset: int,
        body: AsyncIterator[bytes],
    ) -> int:
        key = visual.id, visual.kind, visual.revision
        upload = self._uploads[key]
        upload.offset = None  # not known again until the receiver has answered
        headers = [
            *self._authorization(),
            _TUS,
            _OFFSET_TYPE,
            ("upload-offset", str(offset)),
        ]
        response = await connection.request("PATCH", upload.location, headers, body, PART_SECONDS)
        if response.status in (404, 410):
            del self._uploads[key]
        elif response.status in REFUSED - {409}:
            raise RefusedError(f"{response.status}: {response.text}")
        require_served(response, 200, 204)
        upload.offset = _offset_in(response)
        return self._arrived(key, visual.size, upload.offset or 0)

    def _arrived(self, key: Key, size: int, offset: int) -> int:
        if offset >= size:
            self._uploads.pop(key, None)
        return offset

    def _path_of(self, response: Response) -> str:
        """The path of `Location` below the address; nothing is sent to another host.

        A proxy that serves the receiver below a prefix may have added it there, or not.
        """
        prefix = self._address.prefix
        where = urljoin(f"{prefix}/v1/visuals", response.headers.get("location", ""))
        path = urlsplit(where).path.removeprefix(prefix)
        if not path.startswith("/v1/visuals/"):
            raise SendError("the receiver does not say where a visual lies")
        return path


def _offset_in(response: Response) -> int | None:
    text = response.headers.get("upload-offset", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")
