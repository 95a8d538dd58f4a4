"""A whole node under load: from capture to the receiver's commit, for one camera and for fifty.

    python -m benchmarks.node_load --bundle OUT/bundle --frames OUT/data [--seconds 30]

Real: the bundle's gate, the node, its spool, its uplink, and a receiver with SQLite in a process of
its own, over the loopback. Simulated: the cameras, which repeat prepared frames on which the gate
fires, and the MLLM, an HTTP server with four slots of 0.5 s. First every camera sees a new accident
once a second. Then, with one every 20 s, the frame rate of the loop beside that of the detector
alone, from 1 to 10 times what the detector can look at.
"""

import argparse
import asyncio
import json
import random
import re
import resource
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Called by its path, Python looks for modules in benchmarks/ and not in the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from dat_runtime import gate
from dat_runtime.command import command
from dat_runtime.draw import Image, size_of
from dat_runtime.edge.asking import Asking
from dat_runtime.edge.assess import EndpointAssessor
from dat_runtime.edge.bundle import Bundle, open_bundle
from dat_runtime.edge.cameras.settings import CameraFrame
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.node import Gate, Node
from dat_runtime.edge.run import ANSWER_WAIT
from dat_runtime.edge.source import read_frame
from dat_runtime.edge.spool import Spool
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.edge.uplink.uplink import Uplink
from dat_runtime.errors import ConfigError, reports_errors
from export.live.processes import receiver

SLOTS, ANSWER_SECONDS = 4, 0.5
SETTLE_SECONDS = 3.0
"""After the last frame: what is under way still counts."""

FRAMES = 40
"""Prepared frames that the cameras repeat."""

ANSWER = {
    "count": 1,
    "severity": "severe",
    "level": 1,
    "score": 0.9,
    "accidents": [{"bbox": [1, 1, 50, 50], "severity": "severe"}],
    "summary": "One severe.",
}


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    bundle = open_bundle(args.bundle)
    frames = frames_that_fire(bundle, args.frames)
    alone = detector_alone(bundle, frames, seconds=5.0)
    size = size_of(frames[0])
    print(f"detector alone: {alone:.0f} frames/s at {size.width} x {size.height}", flush=True)
    print("cameras  offered  frames/s of detector  alerts   P50 s   P99 s  gate alone  "
          "visuals  lost    MB")  # fmt: skip
    rows = [(cameras, args.fps, 1.0) for cameras in args.cameras]
    rows += [(50, factor * alone / 50, 20.0) for factor in (1, 2, 5, 10)]
    for cameras, fps, period in rows:
        measured = run(bundle, frames, cameras, fps, period, args.seconds)
        print(measured.line(cameras, fps, alone), flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("benchmarks.node_load", __doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="made by `make export`")
    parser.add_argument("--frames", type=Path, required=True, help="a prepared set (`make data`)")
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 50], help="(1 50)")
    parser.add_argument("--fps", type=float, default=1.0, help="of each camera (1)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each row (30)")
    return parser.parse_args(argv)


def frames_that_fire(bundle: Bundle, folder: Path) -> list[Image]:
    """Frames of a prepared set on which the gate sees an accident."""
    routing = bundle.detector.settings.routing
    found = []
    for path in sorted((folder / "images").rglob("*.*")):
        image = read_frame(path)
        score = gate.trigger_score(bundle.detector.detect(image))
        if routing.decide(score) == "ask" and score >= routing.keep:
            found.append(image)
        if len(found) == FRAMES:
            return found
    raise ConfigError(f"the gate fires on {len(found)} frames of {folder}, expected {FRAMES}")


def detector_alone(bundle: Bundle, frames: Sequence[Image], seconds: float) -> float:
    """Frames a second of a bare loop around the detector."""
    start, looked = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        bundle.detector.detect(frames[looked % len(frames)])
        looked += 1
    return looked / (time.perf_counter() - start)


class SimulatedCameras:
    """Frames at a rate from each camera, the newest of each in turn; a new view every `period`.

    A camera's name changes with the view, so that every accident is a new one.
    """

    def __init__(
        self, frames: Sequence[Image], number: int, fps: float, period: float, seconds: float
    ):
        self._frames, self._number, self._fps = frames, number, fps
        self._period, self._seconds = period, seconds
        self._begun = time.monotonic()
        self._seen = [-1] * number
        self._turn = 0

    def start(self) -> None:
        self._begun = time.monotonic()

    def stop(self) -> None:
        """Nothing runs."""

    def states(self) -> dict[str, str]:
        return {"simulated": "live"}

    @property
    def finished(self) -> bool:
        return time.monotonic() - self._begun > self._seconds

    def next(self, timeout: float) -> CameraFrame | None:
        deadline = time.monotonic() + timeout
        while not self.finished and time.monotonic() < deadline:
            for _ in range(self._number):
                camera = self._turn
                self._turn = (camera + 1) % self._number
                since = time.monotonic() - self._begun - camera / self._number / self._fps
                newest = int(since * self._fps) if since >= 0 else -1
                if newest > self._seen[camera]:
                    self._seen[camera] = newest
                    return self._frame(camera, newest)
            time.sleep(0.0005)
        return None

    def _frame(self, camera: int, number: int) -> CameraFrame:
        taken = self._begun + (number / self._fps) + camera / self._number / self._fps
        late = time.monotonic() - taken
        # The cameras' accidents are spread over the period.
        view = int((taken - self._begun) / self._period + camera / self._number)
        image = self._frames[(camera + view) % len(self._frames)]
        return CameraFrame(f"c{camera}-{view}", image, time.time() - late, taken)


@dataclass
class Measured:
    """One row."""

    looked: int
    seconds: float
    delays: list[float]
    gate_alone: int
    visuals: int
    lost: int
    megabytes: float

    def line(self, cameras: int, fps: float, alone: float) -> str:
        rate = self.looked / self.seconds
        p50, p99 = np.percentile(self.delays, [50, 99]) if self.delays else (np.nan, np.nan)
        share = self.gate_alone / max(1, len(self.delays))
        return (
            f"{cameras:7} {cameras * fps:8.0f} {rate:7.0f} {rate / alone:11.0%} "
            f"{len(self.delays):7} {p50:7.3f} {p99:7.3f} {share:11.0%} "
            f"{self.visuals:8} {self.lost:5} {self.megabytes:5.0f}"
        )


def run(
    bundle: Bundle,
    frames: Sequence[Image],
    cameras: int,
    fps: float,
    period: float,
    seconds: float,
) -> Measured:
    """One node, one receiver, so many cameras at that rate."""
    counts = Counts()
    with tempfile.TemporaryDirectory(prefix="dat-node-") as name, mllm() as model:
        folder = Path(name)
        database = folder / "events.sqlite"
        with receiver(f"sqlite:///{database}") as receiving:
            spool = Spool(folder / "spool.sqlite", 200_000_000, 20_000_000, counts)
            uplink = Uplink([UplinkSettings(receiving.url, None, 1e6)], spool, counts, "n1")
            asking = Asking(EndpointAssessor(model, "m"), SLOTS, ANSWER_WAIT, 20.0, counts)
            routing = bundle.detector.settings.routing
            looks = Gate(bundle.detector, routing, {"bundle": "b"}, bundle.max_pixels)
            simulated = SimulatedCameras(frames, cameras, fps, period, seconds)
            node = Node("n1", looks, simulated, asking, spool, uplink, counts)  # type: ignore[arg-type]
            settle = threading.Timer(seconds + SETTLE_SECONDS, lambda: None)
            settle.start()
            _run_and_settle(node, settle)
            delays, gate_alone, visuals = read_back(database)
    kept = sum(n for (name, _), n in counts.snapshot().items() if name == "frames")
    alerts = {name: n for (name, _), n in counts.snapshot().items() if name == "alerts_lost"}
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return Measured(
        looked=kept,
        seconds=seconds,
        delays=delays,
        gate_alone=gate_alone,
        visuals=visuals,
        lost=sum(alerts.values()),
        megabytes=megabytes,
    )


def _run_and_settle(node: Node, settle: threading.Timer) -> None:
    """Run the node to the end of its cameras; then wait for what is under way."""
    end = node._end
    node._end = lambda: (settle.join(), end())  # type: ignore[method-assign, func-returns-value]
    node.run()


def read_back(database: Path) -> tuple[list[float], int, int]:
    """Seconds from capture to commit of each event's first alert; those of the gate; visuals."""
    delays, gate_alone = [], 0
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT received_at, content FROM revisions WHERE revision = 0")
        for received_at, content in rows:
            data = json.loads(content)["data"]
            delays.append(received_at - data["captured_at"])
            gate_alone += data["source"] == "gate"
        (visuals,) = connection.execute("SELECT sum(roi) + sum(box) FROM events").fetchone()
    return delays, gate_alone, int(visuals or 0)


@contextmanager
def mllm() -> Iterator[str]:
    """An OpenAI-compatible server that answers `ANSWER`, four at a time; its address."""
    loop = asyncio.new_event_loop()
    body = json.dumps({"choices": [{"message": {"content": json.dumps(ANSWER)}}]}).encode()
    slots = asyncio.Semaphore(SLOTS)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                async with slots:
                    await asyncio.sleep(ANSWER_SECONDS * random.uniform(0.8, 1.2))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()  # the end of the benchmark, too

    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


if __name__ == "__main__":
    raise SystemExit(main())
