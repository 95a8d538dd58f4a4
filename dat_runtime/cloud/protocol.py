"""HTTP/1.1 with the bounds that uvicorn leaves open: heads without end, clients that do not read.

A client that sends a head slowly or without end holds a connection, and memory, for ever; here a
head has bounds of size and time. So does one that sends requests in a row and reads no answer: few
of them wait, and an answer has to be taken. A refusal that is sent while the body still comes would
be lost with the connection's reset; here the rest is read and thrown away for a moment, so that the
client sees why.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 32_768
"""Bytes in a row that bring nothing of a body: a request's head, chunk sizes, trailers."""

HEAD_SECONDS = 10.0
"""From a request's first byte to the end of its head."""

MAX_IN_A_ROW = 16
"""Requests of one connection that wait for the answer to an earlier one. A node waits for each
answer; who sends more is cut off: each takes 6 kB, and one read brings thousands."""

UNREAD_SECONDS = 30.0
"""In which the other end has to take some of an answer that waits."""

LINGER_SECONDS = 2.0
LINGER_BYTES = 8_000_000
"""How long, and how much of, a body is thrown away after its answer."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._unread = 0
        self._thrown_away: int | None = None  # bytes; None: nothing is to be thrown away
        self._parses = True
        self._patience: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        super().connection_made(_Lingering(transport, self))  # type: ignore[arg-type]
        # Until its first byte a connection is idle, as it is between two requests.
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._moves()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._moves()
        self._stuck = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        self._moves()
        super().resume_writing()

    def _moves(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def data_received(self, data: bytes) -> None:
        if self._thrown_away is not None:
            self._thrown_away += len(data)
            if self._thrown_away > LINGER_BYTES:
                self._parses = False
                self.transport.abort()
        if not self._parses:
            return
        if self._patience is None and (self.cycle is None or self.cycle.response_complete):
            self._wait(HEAD_SECONDS)
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        self._unread = 0
        self._stop_waiting()
        if len(self.pipeline) >= MAX_IN_A_ROW:
            # The parser goes on to the end of what was read: the further heads come here too.
            self._parses = False
            self.transport.abort()
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        if self._thrown_away is not None:  # a short rest: the connection can go on
            self._thrown_away = None
            self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        is_early = not self.pipeline and self.cycle.more_body
        super().on_response_complete()
        if is_early and self._thrown_away is None:
            self._thrown_away = 0
            self._wait(LINGER_SECONDS)

    def linger(self, transport: asyncio.Transport) -> None:
        """Close, but read on for a moment: a reset would take our answer from the other end."""
        if not self._parses:
            return
        self._parses = False
        self._thrown_away = 0
        if transport.can_write_eof():
            transport.write_eof()
        self.flow.resume_reading()
        self._stop_waiting()
        self._patience = self.loop.call_later(LINGER_SECONDS, transport.abort)

    @property
    def is_lingering(self) -> bool:
        return not self._parses

    @property
    def is_mid_message(self) -> bool:
        """Whether the other end has not sent all of the request that we answer."""
        return self._unread > 0 or (self.cycle is not None and self.cycle.more_body)

    def _refuse(self, status: bytes) -> None:
        """Answer a head that breaks the bounds; nothing else was answered in its place."""
        if not self._parses:
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()
        else:
            self.transport.abort()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        if self._thrown_away is None:
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.close()


class _Lingering:
    """A transport whose `close` lets the other end read our answer first."""

    def __init__(self, transport: asyncio.Transport, protocol: BoundedProtocol):
        self._transport = transport
        self._protocol = protocol
        self.write = transport.write

    def close(self) -> None:
        if self._protocol.is_mid_message and not self._transport.is_closing():
            self._protocol.linger(self._transport)
        else:
            self._transport.close()

    def is_closing(self) -> bool:
        return self._protocol.is_lingering or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
