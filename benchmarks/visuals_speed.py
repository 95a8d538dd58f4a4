"""How fast a receiver keeps visuals, by how many requests a visual takes.

    python -m benchmarks.visuals_speed [--visuals 200] [--size 50000] [--senders 8]

A visual in one request (creation with upload) beside one in parts of 4 kB, a request each, on a
receiver of its own process with SQLite; and beside the floor of any of it: writing files of the
same size to the same disk, with an fsync each, one after the other.
"""

import argparse
import base64
import http.client
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dat_runtime.command import command
from dat_runtime.draw import encode_jpeg
from export.live.processes import receiver

PART = 4_000
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}


def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.visuals_speed", __doc__)
    parser.add_argument("--visuals", type=int, default=200, help="of each way (default: 200)")
    parser.add_argument("--size", type=int, default=50_000, help="bytes, about (default: 50,000)")
    parser.add_argument("--senders", type=int, default=8, help="connections (default: 8)")
    args = parser.parse_args(argv)
    picture = jpeg(args.size)
    print(f"{args.visuals} visuals of {len(picture):,} bytes, {args.senders} senders")
    print(f"{'way':34}{'visuals/s':>10}{'MB/s':>8}{'P50 ms':>8}{'P99 ms':>8}")
    with tempfile.TemporaryDirectory() as folder:
        show("write and fsync, one by one", args, picture, floor(Path(folder), picture), 1)
        with receiver(f"sqlite:///{folder}/r.db") as process:
            port = process.port
            show("one request", args, picture, lambda n: whole(port, f"a{n}", picture))
            show(f"parts of {PART:,} bytes", args, picture, lambda n: parts(port, f"b{n}", picture))
    return 0


def jpeg(size: int) -> bytes:
    """A picture of noise of about so many bytes."""
    side = 16
    while True:
        noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
        content = encode_jpeg(noise)
        if len(content) >= size:
            return content
        side += 8


def show(
    way: str,
    args: argparse.Namespace,
    picture: bytes,
    send: Callable[[int], object],
    senders: int | None = None,
) -> None:
    def timed(n: int) -> float:
        begun = time.perf_counter()
        send(n)
        return time.perf_counter() - begun

    begun = time.perf_counter()
    with ThreadPoolExecutor(senders or args.senders) as pool:
        times = list(pool.map(timed, range(args.visuals)))
    rate = args.visuals / (time.perf_counter() - begun)
    p50, p99 = 1e3 * np.percentile(times, (50, 99))
    print(f"{way:34}{rate:10.0f}{rate * len(picture) / 1e6:8.1f}{p50:8.1f}{p99:8.1f}", flush=True)


def floor(folder: Path, picture: bytes) -> Callable[[int], object]:
    def write(n: int) -> None:
        with (folder / f"floor{n}").open("wb") as file:
            file.write(picture)
            file.flush()
            os.fsync(file.fileno())

    return write


def ask(
    port: int, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> dict[str, str]:
    """One request on a connection of its own; the headers of its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"error: {method} {path}: {answer.status} {content[:200]!r}")
        return {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def alert(port: int, id: str) -> None:
    event = {
        "specversion": "1.0",
        "id": id,
        "source": "/nodes/n1/cameras/north",
        "type": "dat.alert.v1",
        "time": "2026-01-31T12:00:00Z",
        "data": {
            "schema": 1,
            "captured_at": 1.0,
            "priority": 0.0,
            "source": "gate",
            "frame": {"width": 640, "height": 480},
            "answer": {
                "count": 0,
                "severity": "none",
                "level": 0,
                "score": 0.0,
                "accidents": [],
                "summary": "No accident.",
            },
        },
    }
    headers = {"Content-Type": "application/cloudevents+json"}
    ask(port, "POST", "/v1/events", headers, json.dumps(event).encode())


def creation(id: str, picture: bytes) -> dict[str, str]:
    told = ((b"event", id.encode()), (b"kind", b"roi"))
    metadata = b",".join(name + b" " + base64.b64encode(value) for name, value in told).decode()
    return {"Upload-Length": str(len(picture)), "Upload-Metadata": metadata}


def whole(port: int, id: str, picture: bytes) -> None:
    alert(port, id)
    ask(port, "POST", "/v1/visuals", BYTES | creation(id, picture), picture)


def parts(port: int, id: str, picture: bytes) -> None:
    alert(port, id)
    where = ask(port, "POST", "/v1/visuals", TUS | creation(id, picture))["location"]
    for start in range(0, len(picture), PART):
        headers = BYTES | {"Upload-Offset": str(start)}
        ask(port, "PATCH", where, headers, picture[start : start + PART])


if __name__ == "__main__":
    raise SystemExit(main())
