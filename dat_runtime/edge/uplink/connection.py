"""One HTTP/1.1 connection to a receiver: one request at a time, bounded in time and size.

No client library says how many bytes the other end has, keeps the kernel's buffer short, or holds
one deadline over a whole response that comes a byte a second; h11 does the protocol, asyncio the
sockets.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import h11

from dat_runtime.edge.uplink import tcp
from dat_runtime.edge.uplink.names import Names
from dat_runtime.edge.uplink.sender import Progress, SendError, nothing

MAX_RESPONSE_BYTES = 1 << 18
"""Of a body; the receiver's answers to a batch of alerts take a fraction of it."""

MAX_INFORMATIONAL = 10
"""Responses of 1xx before the one that counts."""

READ_BYTES = 1 << 16


class ClosedError(SendError):
    """The other end closed a connection before it answered."""


class TooLongError(SendError):
    """A response of more bytes than it may have: endless, or not what was asked for.

    Attributes:
        status: of the response.
    """

    def __init__(self, most_bytes: int, status: int):
        super().__init__(f"a response of more than {most_bytes:,} bytes")
        self.status = status


@dataclass(frozen=True)
class Address:
    """Where a receiver listens.

    Attributes:
        prefix: the path of its address, without a final slash.
        tls: `None` for http.
    """

    host: str
    port: int
    prefix: str
    tls: ssl.SSLContext | None

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @classmethod
    def of(cls, url: str, tls: ssl.SSLContext | None) -> "Address":
        """The parts of an http or https address that has been checked."""
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.hostname or "", port, parts.path.rstrip("/"), tls)


@dataclass(frozen=True)
class Response:
    """Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body[:300].decode("utf-8", "replace").strip()


class Connection:
    """A connection that is open; `request` uses it, again and again while `reusable`."""

    def __init__(
        self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ):
        self._address = address
        self._reader = reader
        self._writer = writer
        self._protocol = h11.Connection(h11.CLIENT)
        self._socket: tcp.TcpSocket = writer.get_extra_info("socket")
        self._written = 0
        self._confirmed = 0
        self._last = Progress(0, 0, None)
        handshake = tcp.progress(self._socket)
        self._before = 0 if handshake is None else handshake.acknowledged
        self.requests = 0
        self.was_idle = False
        """Whether it was kept unused for a while: the other end may have closed it meanwhile."""

    @classmethod
    async def open(
        cls, address: Address, names: Names, timeout: float, *, quick: bool = True
    ) -> "Connection":
        """Connect, with TLS where the address asks for it; `quick` as `tcp.prepare` has it.

        Raises:
            SendError: it took longer, or the other end cannot be reached or trusted.
        """
        at = ""
        try:
            async with asyncio.timeout(timeout):
                at = await names.address()
                reader, writer = await asyncio.open_connection(
                    at,
                    address.port,
                    ssl=address.tls,
                    server_hostname=address.host if address.tls else None,
                    limit=READ_BYTES,
                )
        except TimeoutError:
            names.failed(at)
            raise SendError(f"no connection in {timeout:g} s") from None
        except OSError as error:
            names.failed(at)
            raise SendError(f"cannot connect ({error})") from None
        # Every byte is in the kernel, and counted there, before the next one is handed over.
        writer.transport.set_write_buffer_limits(0)
        connection = cls(address, reader, writer)
        tcp.prepare(connection._socket, quick=quick)
        return connection

    @property
    def reusable(self) -> bool:
        """Whether another request may follow, as far as is known here."""
        idle = self._protocol.our_state is h11.IDLE and self._protocol.their_state is h11.IDLE
        return idle and not self._reader.at_eof() and not self._writer.transport.is_closing()

    async def request(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | AsyncIterator[bytes],
        timeout: float,
        written: Callable[[], None] = nothing,
        *,
        most_bytes: int = MAX_RESPONSE_BYTES,
    ) -> Response:
        """Send a request and read its response; a body in pieces goes out chunked.

        `written` is called when the kernel has all of the request. The response may come before the
        body has ended: the rest of the body stays unsent then.

        Raises:
            ClosedError: the other end closed the connection before it answered anything.
            TooLongError: the response's body is larger than `most_bytes`.
            SendError: the response was not whole after `timeout` seconds, or is not HTTP.
        """
        if self.requests:
            tcp.forget_rate(self._socket)
        self.requests += 1
        answered = asyncio.ensure_future(self._read(most_bytes))
        try:
            with _named():
                async with asyncio.timeout(timeout):
                    await self._send(method, target, headers, body, answered)
                    written()
                    response = await answered
        except TimeoutError:
            raise SendError(f"no whole response in {timeout:g} s") from None
        finally:
            await _ended(answered)
        self._confirmed = self._written
        if self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE:
            self._protocol.start_next_cycle()
        return response

    async def _send(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | AsyncIterator[bytes],
        answered: "asyncio.Future[Response]",
    ) -> None:
        framing = []
        if not isinstance(body, bytes):
            framing = [("transfer-encoding", "chunked")]
        elif body or method not in ("GET", "HEAD"):
            framing = [("content-length", str(len(body)))]
        head = h11.Request(
            method=method,
            target=self._address.prefix + target,
            headers=[("host", self._address.host_header), *headers, *framing],
        )
        if isinstance(body, bytes):
            # In one write, so that head and body share a packet.
            parts = [head, h11.Data(body), h11.EndOfMessage()]
            await self._write(b"".join(self._protocol.send(part) or b"" for part in parts))
            return
        await self._write(self._protocol.send(head) or b"")
        async for piece in body:
            if answered.done():
                return
            await self._write(self._protocol.send(h11.Data(piece)) or b"")
        if not answered.done():
            await self._write(self._protocol.send(h11.EndOfMessage()) or b"")

    async def _write(self, content: bytes) -> None:
        self._written += len(content)
        self._writer.write(content)
        await self._writer.drain()

    async def get(self, target: str, headers: Sequence[tuple[str, str]]) -> Response:
        """Ask for something of any length; the response has no body yet: `pieces` reads it.

        The connection is not used again afterwards. Time is the caller's to bound.

        Raises:
            ClosedError, SendError: as `request`.
        """
        self.requests += 1
        # What is not read waits at the other end, but for so much.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BYTES)
        with _named():
            await self._send("GET", target, headers, b"", asyncio.Future())
            return await self._head()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body of what `get` asked for, as it comes.

        Raises:
            ClosedError, SendError: as `request`.
        """
        while True:
            with _named():
                content = await self._piece()
            if content is None:
                return
            yield content

    async def _read(self, most_bytes: int) -> Response:
        head = await self._head()
        body = bytearray()
        while (content := await self._piece()) is not None:
            body += content
            if len(body) > most_bytes:
                raise TooLongError(most_bytes, head.status)
        return replace(head, body=bytes(body))

    async def _head(self) -> Response:
        """The response that counts, after those of 1xx; without its body."""
        informational = 0
        while True:
            event = self._protocol.next_event()
            if event is h11.NEED_DATA:
                content = await self._reader.read(READ_BYTES)
                if not content:
                    raise ClosedError("the receiver closed the connection before it answered")
                self._protocol.receive_data(content)
            elif isinstance(event, h11.InformationalResponse):
                informational += 1
                if informational > MAX_INFORMATIONAL:
                    raise SendError(f"more than {MAX_INFORMATIONAL} responses of 1xx")
            elif isinstance(event, h11.Response):
                names = {k.decode("ascii"): v.decode("latin-1") for k, v in event.headers}
                return Response(event.status_code, names, b"")
            else:
                raise ClosedError("the receiver closed the connection")

    async def _piece(self) -> bytes | None:
        """More of a body; `None` at its end."""
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            self._protocol.receive_data(await self._reader.read(READ_BYTES))
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return None
        raise ClosedError("the receiver closed the connection")

    def progress(self) -> Progress:
        """How far this connection's bytes came.

        Where the kernel does not say, a byte counts as acknowledged once its request is answered,
        and as in flight while it is in a buffer of this process.
        """
        waiting = self._writer.transport.get_write_buffer_size()
        known = tcp.progress(self._socket)
        if known is not None:
            self._last = Progress(
                known.acknowledged - self._before,
                known.in_flight + waiting,
                known.round_trip or None,
                known.unsent + waiting,
                known.beyond,
                known.packets,
                known.resent,
            )
        elif self._writer.transport.is_closing():
            self._last = self._last._replace(in_flight=0)
        else:
            self._last = Progress(self._confirmed, waiting, None)
        return self._last

    def close(self) -> int:
        """End the connection at once; how many bytes the other end had acknowledged."""
        acknowledged = self.progress().acknowledged
        self._writer.transport.abort()
        return acknowledged


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """What h11 and the socket raise, as kinds of `SendError`; time that is over stays as it is."""
    try:
        yield
    except (h11.LocalProtocolError, h11.RemoteProtocolError) as error:
        raise SendError(f"the response is not HTTP ({error})") from None
    except TimeoutError:
        raise
    except OSError as error:
        raise ClosedError(f"the connection broke ({error})") from None


async def _ended(task: "asyncio.Future[Response]") -> None:
    """Let a task end, cancelled if it has not; its result or error was looked at elsewhere."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
