"""Connections that are kept open, the last used first."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from dat_runtime.edge.uplink.connection import Connection
from dat_runtime.edge.uplink.sender import Progress, SendError, together

OPENING_SECONDS = 0.2
"""For a connection that is being opened when all are ended."""


class Pool:
    """Connections to one receiver: as many as its lane has requests under way.

    With `spare`, taking the last idle connection opens another one beside it, so that what comes
    next has one at once.
    """

    def __init__(self, open_one: Callable[[], Awaitable[Connection]], *, spare: bool = False):
        self._open_one = open_one
        self._spare = spare
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._acknowledged_before = 0
        self._opening: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def connection(self, *, fresh: bool = False) -> AsyncIterator[Connection]:
        """A connection for one request after another; it is kept where it can be used again.

        With `fresh`, a new one: those that were idle may all have been closed meanwhile.

        Raises:
            SendError: none can be opened.
        """
        if fresh:
            self._drop_idle()
        connection = self._reused() or await self._open_one()
        self._busy.add(connection)
        self._keep_spare()
        try:
            yield connection
        finally:
            self._busy.discard(connection)
            self._put_back(connection)

    def _reused(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
            self._end(connection)
        return None

    def _put_back(self, connection: Connection) -> None:
        if connection.reusable:
            connection.was_idle = True
            self._idle.append(connection)
        else:
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        self._acknowledged_before += connection.close()

    def _drop_idle(self) -> None:
        while self._idle:
            self._end(self._idle.pop())

    def _keep_spare(self) -> None:
        if self._spare and not self._idle and (self._opening is None or self._opening.done()):
            self._opening = asyncio.create_task(self._open_spare())

    async def _open_spare(self) -> None:
        with contextlib.suppress(SendError):
            self._put_back(await self._open_one())

    def progress(self) -> Progress:
        """How far the bytes came, over all connections."""
        ended = Progress(self._acknowledged_before, 0, None)
        return together([ended, *(one.progress() for one in (*self._idle, *self._busy))])

    async def close(self) -> None:
        """End all connections, those in use too."""
        if self._opening is not None:
            # A TLS connection that is cancelled as it begins is left open by asyncio: most end
            # opening within this time.
            await asyncio.wait([self._opening], timeout=OPENING_SECONDS)
            self._opening.cancel()
            await asyncio.wait([self._opening])
        self._drop_idle()
        for connection in self._busy:
            connection.close()
        await asyncio.sleep(0)  # lets the transports end
