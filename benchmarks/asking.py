"""How long an event waits for the MLLM: one camera and fifty; one that answers, hangs, is down.

    python -m benchmarks.asking [--seconds 4] [--cameras 50]

Each camera has a frame to ask about every two seconds. The MLLM is a real HTTP server on the
loopback with four slots of 0.5 s. Beside `edge.asking.Asking` runs what is often done instead: as
many threads, and a queue without bound before them. About 50 s.
"""

import argparse
import asyncio
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

# Called by its path, Python looks for modules in benchmarks/ and not in the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from dat_runtime.command import command
from dat_runtime.demo.recording import FRAME, read_recording
from dat_runtime.edge.asking import Asking, Outcome
from dat_runtime.edge.assess import EndpointAssessor
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.source import read_frame
from dat_runtime.endpoint import AssessmentError
from dat_runtime.errors import reports_errors
from dat_runtime.event import Question, question

SLOTS = 4
ANSWER_S = 0.5
PERIOD_S = 2.0
WAIT_S = 0.9
TIMEOUT_S = 10.0
SETTLE_S = 1.5
"""Seconds after the last question in which outcomes still count."""

Ask = Callable[[Callable[[], Question], Callable[[Outcome], None]], None]


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    print(f"{SLOTS} slots of {ANSWER_S:g} s; a question every {PERIOD_S:g} s and camera; "
          f"bound {WAIT_S:g} s")  # fmt: skip
    print("asked by          MLLM     cameras  questions     P50     P99     max  "
          "degraded  no outcome  in ask() P99")  # fmt: skip
    ways = (("Asking", bounded, 1), ("Asking", bounded, args.cameras),
            ("queue, no bound", queued, args.cameras))  # fmt: skip
    for mllm in ("answers", "hangs", "is down"):
        for name, start, cameras in ways:
            measured = run(mllm, cameras, args.seconds, start)
            print(f"{name:17} {mllm:8} {cameras:7}  {measured.line()}", flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("benchmarks.asking", __doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of questions a row (4)")
    parser.add_argument("--cameras", type=int, default=50, help="of the rows with many (50)")
    return parser.parse_args(argv)


@dataclass
class Measured:
    """Of each question: how long `ask` took, when its first outcome came, and what it was."""

    asked: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    degraded: int = 0
    late: int = 0

    def line(self) -> str:
        number = len(self.asked)
        if self.first:
            p50, p99, most = np.percentile(self.first, [50, 99, 100])
            times = f"{p50:6.3f}s {p99:6.3f}s {most:6.3f}s"
        else:
            times = "      -       -       -"
        share = self.degraded / max(len(self.first), 1)
        return (
            f"{number:9}  {times}  {share:7.0%}  {number - len(self.first):10}"
            f"  {np.percentile(self.asked, 99) * 1000:9.2f} ms"
        )


def bounded(assessor: EndpointAssessor) -> tuple[Ask, Callable[[], None]]:
    """What the node does."""
    asking = Asking(assessor, SLOTS, WAIT_S, TIMEOUT_S, Counts())
    return asking.ask, asking.stop


def queued(assessor: EndpointAssessor) -> tuple[Ask, Callable[[], None]]:
    """As many threads, a queue before them, and the event waits for its answer."""
    threads = ThreadPoolExecutor(SLOTS)

    def ask(make: Callable[[], Question], done: Callable[[Outcome], None]) -> None:
        def answer() -> None:
            asked = make()
            try:
                text = assessor.assess(asked.png, asked.system, asked.prompt)
                done(Outcome(text, asked.frame, None))
            except AssessmentError as error:
                done(Outcome(None, asked.frame, str(error)))

        threads.submit(answer)

    return ask, lambda: threads.shutdown(wait=False, cancel_futures=True)


def run(
    mllm: str,
    cameras: int,
    seconds: float,
    start: Callable[[EndpointAssessor], tuple[Ask, Callable[[], None]]],
) -> Measured:
    """The questions of so many cameras for so long."""
    url = serve(mllm)
    ask, stop = start(EndpointAssessor(url, "dat", timeout=TIMEOUT_S))
    frame, seen = read_frame(FRAME), read_recording().detections
    measured, random_ = Measured(), random.Random(0)
    phases = [random_.uniform(0, PERIOD_S) for _ in range(cameras)]
    times = [p + n * PERIOD_S for p in phases for n in range(round(seconds / PERIOD_S))]
    began = time.monotonic()
    for at in sorted(times):
        time.sleep(max(0.0, began + at - time.monotonic()))
        asked = time.monotonic()

        def done(outcome: Outcome, asked: float = asked) -> None:
            if outcome.late:
                measured.late += 1
                return
            measured.degraded += outcome.degraded is not None
            measured.first.append(time.monotonic() - asked)

        ask(lambda: question(frame, seen), done)
        measured.asked.append(time.monotonic() - asked)
    time.sleep(SETTLE_S)
    result = Measured(measured.asked, list(measured.first), measured.degraded, measured.late)
    stop()
    return result


def serve(mllm: str) -> str:
    """The address of an MLLM of that kind, which lives as long as the process."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    if mllm == "is down":
        listener.close()
        return url
    threading.Thread(target=asyncio.run, args=(_serve(listener, mllm),), daemon=True).start()
    return url


async def _serve(listener: socket.socket, mllm: str) -> None:
    slots = asyncio.Semaphore(SLOTS)
    body = json.dumps({"choices": [{"message": {"content": "{}"}}]}).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
                await reader.readexactly(length)
                async with slots:
                    await asyncio.sleep(ANSWER_S if mllm == "answers" else 3600)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, sock=listener)
    await server.serve_forever()


if __name__ == "__main__":
    raise SystemExit(main())
