"""A web server that serves a folder, parts of files too, and misbehaves where a test asks it to."""

import mmap
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class LyingServer(ThreadingHTTPServer):
    """Use as a context manager: it runs in a thread of its own, on a free port of loopback.

    Attributes:
        lies: pattern of a path -> what answers in place of the file.
        asked: path and range of each request.
    """

    daemon_threads = True

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0):
        super().__init__((host, port), _Handler)
        self.folder = folder
        self.lies: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = {}
        self.asked: list[tuple[str, str]] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_port}"

    def __enter__(self) -> "LyingServer":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """The client may well have left."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LyingServer

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["range"] or ""))
        file = self.server.folder / self.path.lstrip("/")
        for pattern, lie in self.server.lies.items():
            if re.search(pattern, self.path):
                lie(self, file.read_bytes() if file.is_file() else b"")
                return
        if file.is_file():
            with file.open("rb") as content:
                # Not read whole: a benchmark serves 40 MB in pieces.
                serve(self, mmap.mmap(content.fileno(), 0, prot=mmap.PROT_READ))
        else:
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def serve(handler: BaseHTTPRequestHandler, content: bytes | mmap.mmap) -> None:
    """The part that was asked for."""
    first, last = map(int, handler.headers["range"].removeprefix("bytes=").split("-"))
    piece = content[first : last + 1]
    handler.send_response(206 if piece else 416)
    handler.send_header("content-range", f"bytes {first}-{last}/{len(content)}")
    handler.send_header("content-length", str(len(piece)))
    handler.end_headers()
    handler.wfile.write(piece)


def endless(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """A body that never ends."""
    handler.send_response(206)
    handler.send_header("content-range", handler.headers["range"].replace("=", " ") + "/1000")
    handler.send_header("connection", "close")
    handler.end_headers()
    while not handler.server.ended.is_set():
        handler.wfile.write(b"x" * 65536)


def _whole_head(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("content-length", str(len(content)))
    handler.end_headers()


def endless_whole(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """No parts of files, and a body that never ends."""
    handler.send_response(200)
    handler.send_header("connection", "close")
    handler.end_headers()
    while not handler.server.ended.is_set():
        handler.wfile.write(b"x" * 65536)


def slow_whole(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """No parts of files, and after half of it a byte now and then."""
    _whole_head(handler, content)
    handler.wfile.write(content[: len(content) // 2])
    for byte in content[len(content) // 2 :]:
        if handler.server.ended.is_set():
            return
        handler.wfile.write(bytes([byte]))
        time.sleep(0.02)


def short_whole(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """No parts of files, and the connection breaks after half of it."""
    _whole_head(handler, content)
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


def endless_head(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Headers that never end."""
    handler.wfile.write(b"HTTP/1.1 206 Partial Content\r\n")
    while not handler.server.ended.is_set():
        handler.wfile.write(b"x-more: " + b"y" * 1000 + b"\r\n")


def slow(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """A byte now and then, in the head already."""
    for byte in b"HTTP/1.1 206 Partial Content\r\n" * 1000:
        if handler.server.ended.is_set():
            return
        handler.wfile.write(bytes([byte]))
        time.sleep(0.02)


def truncated(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """A file that ends too early."""
    serve(handler, content[: len(content) // 2])


def byte_by_byte(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """A byte of each part that is asked for, and that in time."""
    first = handler.headers["range"].removeprefix("bytes=").partition("-")[0]
    handler.send_response(206)
    handler.send_header("content-range", f"bytes {first}-{first}/{len(content)}")
    handler.send_header("content-length", "1")
    handler.end_headers()
    handler.wfile.write(content[int(first) : int(first) + 1])


def swapped(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Another file, of the same length."""
    serve(handler, b"x" * len(content))


def longer(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """The file, and more after it."""
    serve(handler, content + b"more")


def elsewhere(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Somebody else's address."""
    handler.send_response(302)
    handler.send_header("location", "http://127.0.0.1:9/metadata/timestamp.json")
    handler.send_header("content-length", "0")
    handler.end_headers()
