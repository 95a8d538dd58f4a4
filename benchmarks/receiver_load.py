"""How fast the receiver keeps alerts, and whether it keeps all that it acknowledged.

    python -m benchmarks.receiver_load
    python -m benchmarks.receiver_load --rate 1000 --seconds 20 --workers 2
    python -m benchmarks.receiver_load --kills 200

Alerts are offered at a fixed rate whether or not earlier ones were answered (an open loop), from a
process of its own, and a latency counts from the moment at which the alert was due. SQLite and
PostgreSQL (a private one, fsync on) run one after the other, beside a floor: the same server, which
reads and checks each alert and keeps nothing. All on this machine: what the load generator takes is
missing to the receiver.

With --kills the receiver is killed (SIGKILL) again and again under load, begins again on the same
store, and is sent everything that was not acknowledged once more, and some of what was; at the end
every alert that was ever acknowledged has to be there, once, as it was sent.
"""

import argparse
import asyncio
import contextlib
import cProfile
import json
import multiprocessing
import os
import random
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from sqlalchemy import select

from benchmarks import private_postgresql
from dat_runtime.cloud import application, protocol, serve
from dat_runtime.cloud.store import Store
from dat_runtime.cloud.tables import events, revisions
from dat_runtime.command import command
from export.live.processes import family, free_port, status_bytes

LOADED = (application, protocol)
"""What the receiver needs, so that a process that is forked begins at once."""

CONNECTIONS = 64
NODES = 50


def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.receiver_load", __doc__)
    parser.add_argument("--rate", type=float, default=1000, help="alerts a second (default: 1000)")
    parser.add_argument("--seconds", type=float, default=10, help="of each run (default: 10)")
    parser.add_argument("--workers", type=int, default=1, help="of the receiver (default: 1)")
    parser.add_argument("--stores", default="floor,sqlite,postgresql", help="which, with commas")
    parser.add_argument("--kills", type=int, help="kill the receiver so often instead")
    parser.add_argument("--folder", type=Path, help="lay the stores in a new folder in this one")
    parser.add_argument("--profile", type=Path, help="write a cProfile of the receiver here")
    args = parser.parse_args(argv)
    stores = args.stores.split(",")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory("", "dat-", args.folder)))
        folder.chmod(0o711)  # PostgreSQL runs as another user
        urls = {}
        for store in stores:
            (place := folder / store).mkdir()
            urls[store] = f"sqlite:///{place}/receiver.db"
            if store == "postgresql":
                cluster = stack.enter_context(private_postgresql.cluster(place))
                urls[store] = cluster.format("postgres")
        run = kills if args.kills else load
        return run(args, urls, folder)


@contextlib.contextmanager
def served(
    url: str,
    folder: Path,
    workers: int = 1,
    stores_nothing: bool = False,
    profile: Path | None = None,
) -> Iterator[tuple[tuple[str, int], BaseProcess]]:
    """A receiver in a process of its own: its address, and the process."""
    address = ("127.0.0.1", free_port())
    # Forked, so that beginning again does not wait for the imports each time.
    process = multiprocessing.get_context("fork").Process(
        target=_receive, args=(address, url, folder, workers, stores_nothing, profile)
    )
    process.start()
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(address).close()
            break
        except ConnectionRefusedError:
            assert process.is_alive(), "the receiver ended"
            assert time.monotonic() < until, "the receiver does not listen"
            time.sleep(0.005)
    try:
        yield address, process
    finally:
        process.terminate()
        process.join(10)
        process.kill()


def _receive(
    address: tuple[str, int],
    url: str,
    folder: Path,
    workers: int,
    stores_nothing: bool,
    profile: Path | None,
) -> None:
    if stores_nothing:
        workers = 1  # further ones would not be forked

        async def nothing(self: Store, work: Any, items: Sequence[Any]) -> Sequence[int]:
            return [201] * len(items)

        Store.write_together = nothing  # type: ignore[assignment,method-assign]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    profiler = cProfile.Profile() if profile else contextlib.nullcontext()
    with profiler:
        serve.receive(f"{address[0]}:{address[1]}", url, workers=workers, data=folder)
    if profile:
        profiler.dump_stats(profile)


def cpu_seconds(pid: int) -> float:
    """Of a process and its children, so far."""
    ticks = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# Load


def load(args: argparse.Namespace, urls: dict[str, str], folder: Path) -> int:
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} before")
    print(
        f"{args.rate:g} alerts a second offered for {args.seconds:g} s over {CONNECTIONS} "
        f"connections, {args.workers} worker(s)"
    )
    print(
        "store        kept/s  refused  p50 ms  p90 ms  p99 ms  p99.9 ms  max ms  "
        "receiver cpu s/s   rss MB"
    )
    for store, url in urls.items():
        with served(
            url, folder / f"data-{store}", args.workers, store == "floor", args.profile
        ) as (
            address,
            process,
        ):
            uvloop.run(Load(address, 200, 1.0).run())  # warm: prepared statements, caches
            before = cpu_seconds(process.pid)
            offered = Load(address, args.rate, args.seconds)
            uvloop.run(offered.run())
            used = (cpu_seconds(process.pid) - before) / args.seconds
            rss = sum(status_bytes(pid, "VmHWM") for pid in family(process.pid)) / 1e6
        ms = np.array(sorted(offered.latencies)) * 1000
        p50, p90, p99, p999 = np.percentile(ms, [50, 90, 99, 99.9])
        print(
            f"{store:11s} {len(ms) / offered.took:7.0f}  {offered.refused:7d}  {p50:6.1f}  "
            f"{p90:6.1f}  {p99:6.1f}  {p999:8.1f}  {ms[-1]:6.1f}  {used:16.2f}  {rss:7.0f}",
            flush=True,
        )
    return 0


class Load:
    """Offers alerts at a fixed rate to one address.

    Attributes:
        latencies: seconds of each that was kept, from the moment it was due.
        refused: how many were answered otherwise.
        took: seconds until the last answer.
    """

    def __init__(self, address: tuple[str, int], rate: float, seconds: float):
        self.address = address
        self.rate = rate
        self.count = int(rate * seconds)
        self.latencies: list[float] = []
        self.refused = 0
        self.took = 0.0
        self._free: list[_Connection] = []
        self._late: list[tuple[float, bytes]] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(lambda: _Connection(self), *self.address)
            self._free.append(connection)
        mark = os.urandom(4).hex()
        alerts = (event(f"{mark}-{n}", f"n{n % NODES}") for n in range(self.count))
        requests = [as_request(alert) for alert in alerts]
        begun = loop.time() + 0.05
        for n, content in enumerate(requests):
            due = begun + n / self.rate
            if (wait := due - loop.time()) > 0.001:
                await asyncio.sleep(wait)
            self._late.append((due, content))
            self.send()
        until = loop.time() + 30
        while len(self.latencies) + self.refused < self.count and loop.time() < until:
            await asyncio.sleep(0.01)
        self.took = loop.time() - begun
        for connection in self._free:
            connection.transport.close()

    def send(self) -> None:
        """Give what is due to the connections that are free."""
        while self._late and self._free:
            due, content = self._late.pop(0)
            self._free.pop().send(due, content)

    def answered(self, connection: "_Connection", due: float, status: int, now: float) -> None:
        if status == 201:
            self.latencies.append(now - due)
        else:
            self.refused += 1
        self._free.append(connection)
        if self._late:
            self.send()


class _Connection(asyncio.Protocol):
    """One connection that is kept alive, one request at a time."""

    def __init__(self, load: Load):
        self.load = load
        self.loop = asyncio.get_running_loop()
        self.due = 0.0
        self.came = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, due: float, content: bytes) -> None:
        self.due, self.came = due, b""
        self.transport.write(content)

    def data_received(self, data: bytes) -> None:
        self.came += data
        head, end, body = self.came.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length: ")[2].split()[0]):
            self.load.answered(self, self.due, int(head[9:12]), self.loop.time())


def event(id: str, node: str, **data: Any) -> dict[str, Any]:
    """An alert of the usual size: two accidents and a summary."""
    accidents = [
        {"bbox": [101, 220, 318, 402], "severity": "severe"},
        {"bbox": [400, 180, 471, 240], "severity": "moderate"},
    ]
    return {
        "specversion": "1.0",
        "id": id,
        "source": f"/nodes/{node}/cameras/north",
        "type": "dat.alert.v1",
        "time": "2026-01-31T12:00:00.000Z",
        "data": {
            "schema": 1,
            "captured_at": 1_769_860_800.0,
            "priority": round(random.random(), 4),
            "source": "mllm",
            "degraded": None,
            "conflict": False,
            "frame": {"width": 1280, "height": 720},
            "roi": [101, 180, 471, 402],
            "answer": {
                "count": 2,
                "severity": "severe",
                "level": 1,
                "score": 0.83,
                "accidents": accidents,
                "summary": "Two collisions; a car lies overturned in the left lane.",
            },
            "versions": {"bundle": "3f2a" * 16, "prompt": 1, "schema": 1, "drawing": 1},
            "revision": 0,
        }
        | data,
    }


def as_request(alert: dict[str, Any]) -> bytes:
    body = json.dumps(alert, separators=(",", ":")).encode()
    head = (
        "POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/cloudevents+json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def kills(args: argparse.Namespace, urls: dict[str, str], folder: Path) -> int:
    """Kill, begin again, look: 1 when an acknowledged alert is missing, doubled or changed."""
    print(f"{args.kills} kills of a receiver with {args.workers} worker(s), under load")
    print("store        acknowledged  unsure at a kill  sent again  lost  twice  changed  seconds")
    worst = 0
    for store, url in urls.items():
        if store == "floor":
            continue
        begun = time.monotonic()
        sent = Sent()
        for _ in range(args.kills):
            with served(url, folder / f"data-{store}", args.workers) as (address, process):
                uvloop.run(sent.load(address, process.pid))
        # Once more to the end, so that what was unsure is there too, once.
        with served(url, folder / f"data-{store}", args.workers) as (address, process):
            uvloop.run(sent.load(address, None))
        lost, twice, changed = judged(url, sent.acknowledged)
        worst = max(worst, lost, twice, changed)
        print(
            f"{store:11s}  {len(sent.acknowledged):12d}  {sent.unsure:16d}  {sent.again:10d}  "
            f"{lost:4d}  {twice:5d}  {changed:7d}  {time.monotonic() - begun:7.0f}",
            flush=True,
        )
    return 1 if worst else 0


class Sent:
    """What was sent to a receiver that is killed again and again.

    Attributes:
        acknowledged: id -> the alert, of all that were answered 201 or 200.
        unsure: how many were sent and not answered when the receiver was killed.
        again: how many were sent again that had been acknowledged.
    """

    def __init__(self) -> None:
        self.acknowledged: dict[str, dict[str, Any]] = {}
        self.unsure = 0
        self.again = 0
        self._waiting: list[dict[str, Any]] = []
        self._count = 0

    async def load(self, address: tuple[str, int], pid: int | None) -> None:
        """Send over 16 connections, then kill `pid` at some moment; `None`: until all are kept."""
        senders = [asyncio.create_task(self._send(address, pid is None)) for _ in range(16)]
        if pid is not None:
            await asyncio.sleep(random.uniform(0.02, 0.25))
            for one in family(pid):
                os.kill(one, signal.SIGKILL)
        await asyncio.wait_for(asyncio.gather(*senders), 60)

    async def _send(self, address: tuple[str, int], only_waiting: bool) -> None:
        reader, writer = await asyncio.open_connection(*address)
        alert: dict[str, Any] | None = None
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while alert := self._next(only_waiting):
                writer.write(as_request(alert))
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                await reader.readexactly(length)
                status = int(head[9:12])
                assert status in (200, 201), (status, alert)
                self.acknowledged[alert["id"]] = alert
        if alert is not None:
            self.unsure += 1
            self._waiting.append(alert)
        writer.close()

    def _next(self, only_waiting: bool) -> dict[str, Any] | None:
        if self._waiting:
            return self._waiting.pop()
        if only_waiting:
            return None
        if self.acknowledged and random.random() < 0.1:
            self.again += 1
            return random.choice(list(self.acknowledged.values())[-1000:])
        self._count += 1
        return event(f"e{self._count}", f"n{self._count % NODES}")


def judged(url: str, acknowledged: dict[str, dict[str, Any]]) -> tuple[int, int, int]:
    """How many acknowledged alerts are lost, there twice, and there with other content."""
    store = Store(url)
    query = select(events.c.id, revisions.c.content).join(revisions)
    kept: dict[str, list[str]] = {}

    async def read() -> None:
        rows = await store.read(lambda connection: connection.execute(query).all())
        for id, content in rows:
            kept.setdefault(id, []).append(content)

    uvloop.run(read())
    store.close()
    lost = [id for id in acknowledged if id not in kept]
    twice = [id for id, contents in kept.items() if len(contents) > 1]
    changed = [i for i, one in acknowledged.items() if i in kept and json.loads(kept[i][0]) != one]
    return len(lost), len(twice), len(changed)


if __name__ == "__main__":
    raise SystemExit(main())
