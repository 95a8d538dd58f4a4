"""Cameras: what a process of its own costs each of them, and how soon a hung one is back.

    python -m benchmarks.camera_speed [--video road.mp4] [--cameras 50]

Prints four tables. Frames a second of a node that takes all it can get, beside bare PyAV (decoding
and conversion to BGR in one process, nothing else); a "frame" of the node was decoded in another
process, asked for, and copied to this one, while those that were replaced were decoded only. CPU
time is that of both processes, at 25 frames a second, of which none is replaced. Many
cameras at once: the node's own share of a core, memory of each process, turns and ages of frames,
with a gate that takes 20 ms. The time from a process that hangs to a frame of the next one.
Descriptors and memory of the node over restarts.
"""

import argparse
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

# Called by its path, Python looks for modules in benchmarks/ and not in the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

import av
import cv2
import numpy as np

from dat_runtime.command import command
from dat_runtime.edge.cameras.settings import CameraFrame, CameraSettings
from dat_runtime.edge.cameras.watch import Cameras
from dat_runtime.edge.counts import Counts
from dat_runtime.errors import reports_errors

SIZES = ((640, 352), (1920, 1080))
GATE = 0.02
"""Seconds that the gate of the many cameras takes."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    print(f"{os.cpu_count()} cores, PyAV {av.__version__}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        print("\nframes a second           bare PyAV     node  replaced  CPU ms/frame: bare   node")
        for size in SIZES:
            name = f"rendered {size[0]} x {size[1]}"
            videos = [_rendered(folder / f"{size[0]}-{r}.mp4", size, rate=r) for r in (1000, 25)]
            print(_speed(*videos, name, args.seconds), flush=True)
        if args.video:
            hurried = _hurried(args.video, folder / "hurried.mp4")
            print(_speed(hurried, args.video, args.video.name, args.seconds))
        slow = folder / f"{SIZES[0][0]}-25.mp4"
        print(f"\n{args.cameras} cameras, 640 x 352 at 25 frames a second, 5 wanted")
        _many(slow, args.cameras, args.seconds)
        print("\nhung (SIGSTOP) to the next frame, silence 2 s:", _hangs(slow, 5), flush=True)
        print("\nrestarts   descriptors   resident MB   processes")
        _restarts(args.restarts)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("benchmarks.camera_speed", __doc__)
    parser.add_argument("--video", type=Path, help="a video file to measure beside rendered ones")
    parser.add_argument("--cameras", type=int, default=50, help="how many at once (default 50)")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="time of each figure (default 3)"
    )
    parser.add_argument("--restarts", type=int, default=100, help="how many (default 100)")
    return parser.parse_args(argv)


def _rendered(path: Path, size: tuple[int, int], rate: int, frames: int = 200) -> Path:
    """Objects that move over a textured road."""
    width, height = size
    rng = np.random.default_rng(0)
    road = cv2.resize(rng.integers(60, 160, (height // 8, width // 8, 3), np.uint8), size)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "g": "50"}
        for number in range(frames):
            image = road.copy()
            for car in range(8):
                x = (number * (car + 2) * 3) % width
                cv2.rectangle(
                    image, (x, car * height // 8), (x + 40, car * height // 8 + 24), 0, -1
                )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return path


def _hurried(source: Path, path: Path) -> Path:
    """The same packets, each due 1 ms after the one before: nobody waits for its time."""
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        theirs = read.streams.video[0]
        ours = written.add_stream_from_template(theirs)
        for packet in read.demux(theirs):
            if packet.dts is None:
                continue
            per_frame = 1 / float(theirs.average_rate) / float(theirs.time_base)
            scale = 0.001 / float(theirs.time_base) / per_frame
            packet.pts, packet.dts = round(packet.pts * scale), round(packet.dts * scale)
            packet.stream = ours
            written.mux(packet)
    return path


def _speed(fast: Path, paced: Path, name: str, seconds: float) -> str:
    bare, bare_cpu = _bare(fast, seconds)
    most, replaced, _ = _node(fast, 1000.0, seconds)
    _, _, node_cpu = _node(paced, 25.0, seconds)
    return (
        f"{name:22} {bare:12.0f} {most:8.0f} {replaced:9.0f}"
        f" {bare_cpu * 1000:15.2f} {node_cpu * 1000:6.2f}"
    )


def _node(video: Path, fps: float, seconds: float) -> tuple[float, float, float]:
    """Frames taken and replaced a second, and CPU seconds of both processes for each taken."""
    counts = Counts()
    cameras = Cameras([CameraSettings("c", str(video), fps, loop=True)], counts)
    cameras.start()
    try:
        _first(cameras)
        (pid,) = _children()
        cpu, began = time.process_time() + _cpu(pid), time.monotonic()
        before = _total(counts, "frames_taken"), _total(counts, "frames_replaced")
        while time.monotonic() - began < seconds:
            cameras.next(1.0)
        wall = time.monotonic() - began
        cpu = time.process_time() + _cpu(pid) - cpu
        taken = _total(counts, "frames_taken") - before[0]
        replaced = _total(counts, "frames_replaced") - before[1]
    finally:
        cameras.stop()
    return taken / wall, replaced / wall, cpu / taken


def _bare(video: Path, seconds: float) -> tuple[float, float]:
    """Frames a second, and CPU seconds a frame, of decoding and converting in this process."""
    number, began, cpu = 0, time.monotonic(), time.process_time()
    while True:
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            reformatter = av.video.reformatter.VideoReformatter()
            for frame in container.decode(stream):
                reformatter.reformat(frame, format="bgr24").to_ndarray()
                number += 1
                if (wall := time.monotonic() - began) > seconds:
                    return number / wall, (time.process_time() - cpu) / number


def _many(video: Path, number: int, seconds: float) -> None:
    settings = [CameraSettings(f"c{n}", str(video), 5.0, loop=True) for n in range(number)]
    cameras = Cameras(settings, Counts())
    began = time.monotonic()
    cameras.start()
    try:
        while any(state != "live" for state in cameras.states().values()):
            cameras.next(0.1)
        started = time.monotonic() - began
        turns: Counter[str] = Counter()
        ages = []
        cpu, began = time.process_time(), time.monotonic()
        while time.monotonic() - began < seconds:
            if frame := cameras.next(0.1):
                ages.append(time.monotonic() - frame.taken)
                turns[frame.camera] += 1
                time.sleep(GATE)
        wall, cpu = time.monotonic() - began, time.process_time() - cpu
        memory = [_memory(pid) for pid in _children()]
    finally:
        cameras.stop()
    print(f"all live after {started:.1f} s; the node takes {len(ages) / wall:.0f} frames a second,")
    print(f"  {100 * cpu / wall:.0f} % of a core for it ({1000 * cpu / len(ages):.2f} ms a frame)")
    print(f"frames of a camera: {min(turns.values())} to {max(turns.values())}, of {len(turns)}")
    ages.sort()
    print(
        f"age when taken: median {ages[len(ages) // 2]:.3f} s, 95 % {ages[-len(ages) // 20]:.3f} s"
    )
    print(f"memory of a process (PSS): median {statistics.median(memory):.0f} MB")


def _hangs(video: Path, times: int) -> str:
    cameras = Cameras([CameraSettings("c", str(video), 25.0, loop=True)], Counts(), silence=2.0)
    cameras.start()
    took = []
    try:
        _first(cameras)
        for _ in range(times):
            (pid,) = _children()
            os.kill(pid, signal.SIGSTOP)
            stopped = time.monotonic()
            while cameras.next(1.0) is None or _children() == [pid]:
                pass
            took.append(time.monotonic() - stopped)
            time.sleep(0.5)
    finally:
        cameras.stop()
    return ", ".join(f"{seconds:.1f} s" for seconds in took)


def _restarts(most: int) -> None:
    """Of 25 cameras at an address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    counts = Counts()
    names = [f"c{n}" for n in range(25)]
    cameras = Cameras([CameraSettings(name, address, 5.0) for name in names], counts)
    cameras.start()
    try:
        for goal in (25, most // 2, most):
            while (done := _total(counts, "camera_restarts")) < goal:
                cameras.next(0.1)
            print(
                f"{done:8} {len(os.listdir('/proc/self/fd')):13} {_resident():13.1f}"
                f" {len(_children()):11}",
                flush=True,
            )
    finally:
        cameras.stop()


def _first(cameras: Cameras) -> CameraFrame:
    while (frame := cameras.next(1.0)) is None:
        pass
    return frame


def _total(counts: Counts, name: str) -> int:
    return sum(number for (counter, _), number in counts.snapshot().items() if counter == name)


def _children() -> list[int]:
    lists = Path("/proc/self/task").glob("*/children")
    return [int(pid) for children in lists for pid in children.read_text().split()]


def _cpu(pid: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> float:
    """MB, what it shares divided among those that share it."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    raise SystemExit(main())
