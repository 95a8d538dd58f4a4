"""Streams for tests: rendered videos, and small servers on loopback that send them or misbehave."""

import base64
import contextlib
import itertools
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

Handler = Callable[[socket.socket, threading.Event], None]
"""Serves one connection until the event is set."""


def picture(number: int, width: int = 160, height: int = 96) -> np.ndarray:
    """A picture whose brightness tells its number, up to 50."""
    image = np.full((height, width, 3), 5 * number, np.uint8)
    image[:8, :: 1 + number % 7] = 255
    return image


def render(path: Path, frames: int, fps: int = 25, codec: str = "libx264", gop: int = 10) -> Path:
    """A video of `picture(0)`, `picture(1)` and so on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = 0
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number % 51), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def number_of(image: np.ndarray) -> int:
    """Which picture of a rendered video it is."""
    # Video is a little darker than what was drawn.
    return round((float(image[20:].mean()) + 2) / 5)


@contextlib.contextmanager
def serving(handler: Handler, port: int = 0) -> Iterator[int]:
    """A server on loopback; its port."""
    listener = socket.create_server(("127.0.0.1", port))
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            handler(connection, over)

    def accept() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

    listener.settimeout(0.05)
    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        accepting.join()
        for thread in threads:
            thread.join()
        listener.close()


def silent(connection: socket.socket, over: threading.Event) -> None:
    """Takes what it is sent, and says nothing."""
    connection.settimeout(0.05)
    while not over.is_set():
        with contextlib.suppress(TimeoutError):
            if not connection.recv(4096):
                return


def garbage(connection: socket.socket, over: threading.Event) -> None:
    """Something, without end."""
    noise = np.random.default_rng(0).bytes(1 << 16)
    request(connection)
    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
    while not over.is_set():
        connection.sendall(noise)
        time.sleep(0.01)


def http(content: bytes, seconds: float, then_silent: bool = False) -> Handler:
    """Sends a transport stream over so many seconds, then closes, or says nothing more."""

    def handle(connection: socket.socket, over: threading.Event) -> None:
        request(connection)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
        for part in parts(content, seconds, over):
            connection.sendall(part)
        if then_silent:
            over.wait()

    return handle


def motion_jpeg(jpeg: Callable[[int], bytes], fps: float) -> Handler:
    """What a cheap camera serves: pictures one after the other in one response."""

    def handle(connection: socket.socket, over: threading.Event) -> None:
        request(connection)
        connection.sendall(
            b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=frame\r\n\r\n"
        )
        number = 0
        while not over.wait(1 / fps):
            head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
            content = jpeg(number)
            connection.sendall(head % len(content) + content + b"\r\n")
            number += 1

    return handle


def rtsp(fps: float, user: str, password: str) -> Handler:
    """An RTSP server (RFC 2326) of H.264 (RFC 6184), all in one connection, for who has the key."""
    key = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    sdp = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=c\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
        "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n"
    )
    answers = {
        "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}",
        "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n",
        "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n",
    }
    units = h264_units(50)

    def handle(connection: socket.socket, over: threading.Event) -> None:
        method = ""
        while method != "PLAY":
            method, headers = request(connection)
            status, answer = "200 OK", answers.get(method, "Session: 1\r\n\r\n")
            if method == "DESCRIBE" and headers.get("authorization") != key:
                status, answer = "401 Unauthorized", 'WWW-Authenticate: Basic realm="c"\r\n\r\n'
            connection.sendall(f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\n{answer}".encode())
        sequence = 0
        for number in itertools.count():
            for unit in units[number % len(units)]:
                for payload in fragments(unit):
                    head = struct.pack(
                        ">BBHII", 0x80, 96, sequence % 65536, int(number / fps * 90_000), 1
                    )
                    packet = head + payload
                    connection.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
                    sequence += 1
            if over.wait(1 / fps):
                return

    return handle


def h264_units(frames: int) -> list[list[bytes]]:
    """For each frame of a rendered video, its NAL units."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 160, 96, "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"tune": "zerolatency", "g": "10"}
    units = []
    for number in range(frames):
        frame = av.VideoFrame.from_ndarray(picture(number), format="bgr24")
        (packet,) = encoder.encode(frame)
        units.append([unit for unit in re.split(b"\0\0\0?\1", bytes(packet)) if unit])
    return units


def fragments(unit: bytes, most: int = 1000) -> list[bytes]:
    """A NAL unit as it is, or in parts (FU-A), where it is long."""
    if len(unit) <= most:
        return [unit]
    kind = unit[0] & 0x1F
    rest = [unit[at : at + most] for at in range(1, len(unit), most)]
    marks = [0x80] + [0] * (len(rest) - 2) + [0x40]
    return [
        bytes([unit[0] & 0xE0 | 28, mark | kind]) + part
        for mark, part in zip(marks, rest, strict=True)
    ]


def request(connection: socket.socket) -> tuple[str, dict[str, str]]:
    """The method and headers of one request; raises OSError at the end of the connection."""
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        part = connection.recv(1)
        if not part:
            raise ConnectionError
        text += part
    first, *lines = text.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines if line)
    return first.split(" ")[0], {name.lower(): value for name, value in pairs}


def parts(
    content: bytes, seconds: float, over: threading.Event, size: int = 7 * 188
) -> Iterator[bytes]:
    """The content in parts, evenly over the time."""
    starts = range(0, len(content), size)
    began = time.monotonic()
    for index, at in enumerate(starts):
        if over.wait(max(0.0, began + seconds * index / len(starts) - time.monotonic())):
            return
        yield content[at : at + size]
