"""The two-lane sender, and a FIFO, over the kernel's own TCP on an emulated link.

`run` starts the receiver and the node at the link's two ends, each a process of this module. Queue,
`Path` and `TwoLanes` are those of the simulator; the sockets are set up and read as the edge node's
own (`dat_runtime.edge.uplink.tcp`).
"""

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dat_runtime.edge.uplink import tcp
from dat_runtime.errors import ConfigError
from dat_runtime.planning.live import Chunk, LiveQueue
from dat_runtime.planning.path import Path
from eval.uplink.arrivals import Event
from eval.uplink.emulated_link import RECEIVER, REPOSITORY, EmulatedLink
from eval.uplink.lanes import ALERTS, FRAME, POLL, VISUALS, LaneDelivery, TwoLanes
from eval.uplink.link import LinkSettings
from eval.uplink.sending import live_event

PORT = 9_000

HEADER = struct.Struct(">IBBxxI")
"""The frame before a chunk: number of the event, kind, whether it is the last one, bytes."""

KINDS = ("json", "roi", "box")

INFO_BYTES, UNACKNOWLEDGED_AT = 32, 24
"""Of tcp_info (linux/tcp.h): the first bytes, and where the count of packets on their way stands in
them, followed by that of the selectively acknowledged ones."""

GRACE = 15
"""Seconds after the last event in which what still waits may be sent."""

assert HEADER.size == FRAME


@dataclass(frozen=True)
class Run:
    """What the node's process is told.

    Attributes:
        events: as `asdict` gives them.
        initial: what the path is first believed to carry, bytes a second.
        zero: time 0 of the run on the clock of `time.monotonic`.
        fifo: one connection and `sendall` instead of two lanes.
        congestion: TCP's congestion control, such as "bbr"; "" leaves the node's own choice.
    """

    events: Sequence[dict[str, Any]]
    initial: float
    zero: float
    fifo: bool
    congestion: str


def run(
    events: Sequence[Event], settings: LinkSettings, *, fifo: bool = False, congestion: str = ""
) -> list[LaneDelivery]:
    """Send the events over the emulated link in real time.

    Raises:
        ConfigError: one of the two processes failed.
        OSError: the link cannot be emulated here.
    """
    this = (sys.executable, "-m", "eval.uplink.real_lanes")
    with EmulatedLink(**asdict(settings)) as link:
        receiver = _process(link.at_receiver(*this, "receiver", "1" if fifo else "2"))
        assert receiver.stdout is not None
        receiver.stdout.readline()  # it listens
        node = _process(link.at_node(*this, "node"))
        told = Run([asdict(e) for e in events], settings.rates[0], link.zero, fifo, congestion)
        known, node_errors = node.communicate(json.dumps(asdict(told)))
        arrived, errors = receiver.communicate()
    if node.returncode or receiver.returncode:
        raise ConfigError(f"over the emulated link: {(node_errors + errors).strip()[-500:]}")
    deliveries = [LaneDelivery(event) for event in events]
    for number, kind, is_last, at in json.loads(arrived):
        chunk = Chunk(deliveries[number].event.id, KINDS[kind], 0, 0, is_last)
        deliveries[number].arrived(chunk, at - link.zero)
    for number, at in json.loads(known):
        deliveries[number].alert_known_at = at
    return deliveries


def _process(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


class _Connection:
    """A connection that knows which of its bytes have arrived."""

    def __init__(self, congestion: str, as_the_node: bool):
        self.socket = socket.create_connection((RECEIVER, PORT))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._as_the_node = as_the_node
        if as_the_node:
            tcp.prepare(self.socket)
        if congestion:
            name = congestion.encode()
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
        self.socket.setblocking(False)
        self.held = bytearray()
        """What the kernel did not take yet."""
        self._taken = 0
        self._arrived = 0
        self._on_the_way = 0
        self._alerts: deque[tuple[int, int]] = deque()  # (last byte's place, number of the event)

    def write(self, number: int, chunk: Chunk) -> None:
        if self._as_the_node and not self._on_the_way:
            tcp.forget_rate(self.socket)  # as the node's uplink does before a request
        self.held += HEADER.pack(number, KINDS.index(chunk.kind), chunk.last, chunk.size)
        self.held += bytes(chunk.size)
        if chunk.kind == "json":
            self._alerts.append((self._taken + len(self.held), number))
        self.flush()

    def flush(self) -> None:
        """Give the kernel what it takes."""
        with contextlib.suppress(BlockingIOError):
            while self.held:
                taken = self.socket.send(self.held)
                self._taken += taken
                del self.held[:taken]

    def look(self) -> tuple[int, tcp.TcpProgress]:
        """Bytes that have arrived since the last look, and what else the kernel says."""
        progress = tcp.progress(self.socket)
        assert progress is not None
        # Not what the kernel calls acknowledged: that counts the handshake too.
        before, self._arrived = self._arrived, self._taken - progress.in_flight
        self._on_the_way = progress.in_flight - progress.unsent
        return self._arrived - before, progress

    def beyond_a_gap(self) -> int:
        """Bytes that the other end has after a lost packet (selective acknowledgements), about."""
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
        unacknowledged, sacked = struct.unpack_from("=II", info, UNACKNOWLEDGED_AT)
        return self._on_the_way * sacked // max(1, unacknowledged)

    def arrived_alerts(self) -> list[int]:
        """Numbers of the events of which the alert has arrived since this was last asked."""
        numbers = []
        while self._alerts and self._alerts[0][0] <= self._arrived:
            numbers.append(self._alerts.popleft()[1])
        return numbers


class _Node:
    """What both senders do: queue events at their capture, and note when alerts have arrived."""

    def __init__(self, told: Run):
        self.told = told
        self.events = [Event(**fields) for fields in told.events]
        self._numbers = {event.id: number for number, event in enumerate(self.events)}
        self._coming = deque(sorted(self.events, key=lambda event: event.captured_at))
        self.end = self._coming[-1].captured_at + GRACE
        self.known: list[tuple[int, float]] = []

    def now(self) -> float:
        return time.monotonic() - self.told.zero

    def captured(self, now: float) -> list[Event]:
        """The events captured until now that were not given yet."""
        events = []
        while self._coming and self._coming[0].captured_at <= now:
            events.append(self._coming.popleft())
        return events

    def number(self, chunk: Chunk) -> int:
        return self._numbers[chunk.event_id]

    def note(self, connection: _Connection, now: float) -> None:
        self.known += [(number, now) for number in connection.arrived_alerts()]

    def goes_on(self, waiting: int) -> bool:
        return self.now() < self.end and bool(self._coming or waiting)


def _send_in_lanes(told: Run) -> list[tuple[int, float]]:
    node = _Node(told)
    lanes = {name: _Connection(told.congestion, as_the_node=True) for name in (ALERTS, VISUALS)}
    path = Path(told.initial)
    queue = LiveQueue(path)
    sender = TwoLanes(
        queue, path, lambda now, lane, chunk: lanes[lane].write(node.number(chunk), chunk)
    )
    unacknowledged = 0
    while node.goes_on(len(queue) + path.in_flight + unacknowledged):
        now = node.now()
        unacknowledged = 0
        for event in node.captured(now):
            queue.add(live_event(event, True), event.camera)
        for name, lane in lanes.items():
            lane.flush()
            arrived, progress = lane.look()
            unacknowledged += progress.in_flight
            path.acknowledged(now, arrived, progress.round_trip, name, lane.beyond_a_gap())
            if progress.unsent:
                path.idle()  # TCP's window holds back: the path may carry more
            node.note(lane, now)
        sender.pump(now)
        time.sleep(POLL)
    return node.known


def _send_in_order(told: Run) -> list[tuple[int, float]]:
    """A FIFO: all that is captured is written at once, the kernel takes what it can hold."""
    node = _Node(told)
    connection = _Connection(told.congestion, as_the_node=False)
    unacknowledged = 0
    while node.goes_on(len(connection.held) + unacknowledged):
        now = node.now()
        for event in node.captured(now):
            queue = LiveQueue(Path(1.0))
            queue.add(live_event(event, True))
            while chunk := queue.next_chunk(0.0):
                queue.sent(chunk)
                connection.write(node.number(chunk), chunk)
        connection.flush()
        _, progress = connection.look()
        unacknowledged = progress.in_flight
        node.note(connection, now)
        time.sleep(POLL)
    return node.known


def _receive() -> list[tuple[int, int, int, float]]:
    """Of every chunk that came: the event's number, kind, whether it was the last one, and when."""
    listener = socket.create_server((RECEIVER, PORT))
    print("listening", flush=True)
    came: list[tuple[int, int, int, float]] = []
    readers = []
    lanes = json.loads(sys.argv[2])
    for _ in range(lanes):
        connection, _ = listener.accept()
        readers.append(threading.Thread(target=_read, args=(connection, came)))
        readers[-1].start()
    for reader in readers:
        reader.join()
    return came


def _read(connection: socket.socket, came: list[tuple[int, int, int, float]]) -> None:
    with connection, connection.makefile("rb") as incoming:
        while header := incoming.read(HEADER.size):
            number, kind, is_last, size = HEADER.unpack(header)
            if len(incoming.read(size)) == size:
                came.append((number, kind, is_last, time.monotonic()))


def main() -> int:
    if sys.argv[1] == "receiver":
        print(json.dumps(_receive()))
        return 0
    told = Run(**json.load(sys.stdin))
    print(json.dumps(_send_in_order(told) if told.fifo else _send_in_lanes(told)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
