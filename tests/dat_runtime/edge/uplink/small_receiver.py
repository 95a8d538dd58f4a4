"""A receiver that speaks the contract and nothing more, and misbehaves where a test asks it to."""

import asyncio
import base64
import json
import re
import ssl
import threading
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import h11

Misbehaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""What is done in place of an answer; the connection is closed after it."""


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    at: float
    """When its head had come, monotonic seconds."""
    body: bytearray = field(default_factory=bytearray)


class SmallReceiver:
    """Use as a context manager: it runs in a thread of its own, on a free port of loopback.

    `faults` are served in place of the next answers, each once; `always` in place of all answers
    to targets that it matches.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0):
        self.alerts: dict[str, bytes] = {}
        self.arrived: dict[str, float] = {}
        """By event id, or (id, kind) joined by a slash: when it was whole, monotonic seconds."""
        self.order: list[str] = []
        self.visuals: dict[str, bytearray] = {}
        self.sizes: dict[str, int] = {}
        self.statuses: list[dict] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.faults: list[Misbehaviour] = []
        self.always: tuple[str, Misbehaviour] | None = None
        self.refused: dict[str, int] = {}
        """Event id -> the status with which its alert is refused."""
        self.packed = False
        """Whether it says that it takes packed bodies."""
        self.commit_seconds = 0.0
        self.patient = True
        """Whether a visual that comes before its alert may wait for it."""
        self.least_piece = 1
        """Bytes after which a reading of a body is looked at: 1 takes what comes."""
        self._tls, self._host, self.port = tls, host, port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    def __enter__(self):
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Stop listening, with all connections; a second time it does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(20)

    def _run(self):
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self):
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, self._host, self.port, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        # asyncio drops a connection unclosed that it accepts in the very moment of closing.
        await asyncio.sleep(0.03)
        server.close()
        for attempt in range(20):
            for writer in self._writers:
                writer.transport.abort()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            if not tasks:
                break
            await asyncio.wait(tasks, timeout=0.02)
            if attempt > 5:  # not sooner: a handshake that is cancelled leaves its socket open
                for task in tasks:
                    task.cancel()
        await asyncio.sleep(0.01)  # lets the transports end

    async def _connection(self, reader, writer):
        self.connections += 1
        self._writers.add(writer)
        try:
            protocol = h11.Connection(h11.SERVER)
            while await self._request(protocol, reader, writer):
                protocol.start_next_cycle()
        except (ConnectionError, h11.RemoteProtocolError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _request(self, protocol, reader, writer) -> bool:
        request = None
        upload = None
        while True:
            event = protocol.next_event()
            if event is h11.NEED_DATA:
                content = await reader.read(65536)
                protocol.receive_data(content)
                if not content and request is None:
                    return False
            elif isinstance(event, h11.Request):
                headers = {k.decode(): v.decode() for k, v in event.headers}
                method, target = event.method.decode(), event.target.decode()
                request = Request(method, target, headers, time.monotonic())
                self.requests.append(request)
                upload = await self._patient_upload(request)
            elif isinstance(event, h11.Data):
                if upload is None:
                    request.body += event.data
                else:
                    self.visuals[upload] += event.data
                    self._note_whole(upload)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:  # closed in the middle
                return False
        fault = self._fault(request)
        if fault is not None:
            await fault(writer)
            return False
        await asyncio.sleep(self.commit_seconds)
        if request.headers.get("content-encoding") == "deflate" and self.packed:
            request.body = bytearray(zlib.decompress(request.body))
        status, headers, body = self._answer(request, upload)
        if self.packed and request.target == "/v1/events":
            headers = [*headers, ("accept-encoding", "deflate")]
        head = h11.Response(
            status_code=status, headers=[*headers, ("content-length", str(len(body)))]
        )
        parts = [head, h11.EndOfMessage()]
        if body and request.method != "HEAD":
            parts.insert(1, h11.Data(body))
        writer.write(b"".join(protocol.send(part) for part in parts))
        await writer.drain()
        return protocol.our_state is h11.DONE

    def _fault(self, request):
        if self.always is not None and re.match(self.always[0], request.target):
            return self.always[1]
        if self.faults and not request.target.startswith("/v1/nodes"):
            return self.faults.pop(0)
        return None

    async def _patient_upload(self, request) -> str | None:
        """A creation that asks for it waits for its alert (RFC 7240)."""
        preference = request.headers.get("prefer", "")
        until = time.monotonic() + float(preference.removeprefix("wait=") or 0)
        while True:
            upload = self._upload(request)
            missing = upload is None and getattr(request, "key", None) not in self.visuals
            if not missing or not self.patient or time.monotonic() >= until:
                return upload
            await asyncio.sleep(0.002)

    def _upload(self, request) -> str | None:
        """The visual that a request's body is of."""
        if request.method == "PATCH":
            key = request.target.removeprefix("/v1/visuals/")
            offset = int(request.headers["upload-offset"])
            return key if key in self.visuals and offset == len(self.visuals[key]) else None
        if (request.method, request.target) != ("POST", "/v1/visuals"):
            return None
        pairs = dict(pair.split(" ") for pair in request.headers["upload-metadata"].split(","))
        values = {name: base64.b64decode(text).decode() for name, text in pairs.items()}
        key = f"{values['event']}/{values['kind']}"
        request.key = key
        if values["event"] not in self.alerts or self.visuals.get(key):
            return None
        self.visuals[key] = bytearray()
        self.sizes[key] = int(request.headers["upload-length"])
        return key

    def _answer(self, request, upload):
        if (request.method, request.target) == ("POST", "/v1/events"):
            return self._events(request)
        if request.target.startswith("/v1/nodes/"):
            self.statuses.append(json.loads(request.body))
            return 204, [], b""
        key = getattr(request, "key", None)
        if request.method == "POST":
            if key not in self.visuals:
                return 404, [], b'{"detail":"no such event"}'
            return 201, [("location", f"/v1/visuals/{key}"), self._offset(key)], b""
        key = request.target.removeprefix("/v1/visuals/")
        if key not in self.visuals:
            return 404, [], b""
        if request.method == "PATCH" and upload is None:
            return 409, [], b""
        return 204 if request.method == "PATCH" else 200, [self._offset(key)], b""

    def _note_whole(self, key):
        if len(self.visuals[key]) >= self.sizes[key]:
            self.arrived.setdefault(key, time.monotonic())

    def _offset(self, key):
        return "upload-offset", str(len(self.visuals[key]))

    def _events(self, request):
        value = json.loads(request.body)
        if isinstance(value, dict):
            status = self._take(value)
            body = json.dumps({"id": value["id"], "status": status}).encode()
            return status, [], body
        if any(self.refused.get(one["id"]) == 400 for one in value):
            return 400, [], b'{"detail":"one is wrong"}'
        told = [{"id": one["id"], "status": self._take(one)} for one in value]
        worst = max(one["status"] for one in told)
        return worst, [], json.dumps({"events": told}).encode()

    def _take(self, event) -> int:
        refused = self.refused.get(event["id"])
        if refused is not None:
            return refused
        content = json.dumps(event).encode()
        known = self.alerts.get(event["id"])
        if known == content:
            return 200
        revision = -1 if known is None else json.loads(known)["data"]["revision"]
        if event["data"]["revision"] > revision:
            self.alerts[event["id"]] = content
        self.order.append(event["id"])
        self.arrived.setdefault(event["id"], time.monotonic())
        return 201


def status(code: int, *headers: str) -> Misbehaviour:
    """Answer with a status, and close."""

    async def fault(writer):
        head = "\r\n".join([f"HTTP/1.1 {code} no", *headers, "content-length: 5", "", "words"])
        writer.write(head.encode())
        await writer.drain()
        writer.close()

    return fault


async def close(writer):
    """Close without an answer."""


async def close_in_the_middle(writer):
    writer.write(b"HTTP/1.1 201 created\r\ncontent-length: 100\r\n\r\n{")
    await writer.drain()


async def drip(writer):
    """A response that never ends, a byte at a time."""
    for letter in b"HTTP/1.1 201 created\r\nx: " + b"y" * 1_000_000:
        writer.write(bytes([letter]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def only_1xx(writer):
    while True:
        writer.write(b"HTTP/1.1 103 early hints\r\n\r\n")
        await writer.drain()


async def endless(writer):
    writer.write(b"HTTP/1.1 201 created\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
        await writer.drain()


async def login_page(writer):
    """What a hotspot answers to everything."""
    page = b"<html>please log in</html>"
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(page), page))
    await writer.drain()
