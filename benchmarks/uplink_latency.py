"""How long alerts take while images flow, over a link with a rate, a round trip and losses.

    python -m benchmarks.uplink_latency [--rates 50 250] [--round-trips 0 50 100 300] [--seconds 20]
    python -m benchmarks.uplink_latency --steps

The real uplink (spool, two lanes, HTTP, tus) and a FIFO uplink (one connection, `sendall`, each
event's JSON and ROI in order of capture) send the same events to the same receiver, each over an
emulated link of its own: the kernel's TCP through a TUN device in namespaces, no privileges needed.
An alert's delay runs from capture to the moment at which the receiver has it; events of the first
seconds, in which connections open, are left out. The demand: P99 at most 50 ms + round trip. Floor:
the P99 of a sender that knows everything and puts visuals on the link in pieces as small as ours
(`eval/uplink/perfect.py`).

`--steps`: the bandwidth goes 2 -> 0.1 -> 0 -> 2 Mbit/s. The demand: the alert of a severe event
arrives no later than 100 ms after the link could have carried the JSON that was queued before it,
and its own, packed and with heads. The others are shown beside them: severe ones pass them.
"""

import argparse
import itertools
import json
import math
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime import alert
from dat_runtime.alert import Alert, Origin
from dat_runtime.command import command
from dat_runtime.edge.uplink.visual_lane import PIECE_SECONDS
from dat_runtime.event import Event
from dat_runtime.types import Assessment, Size
from eval.uplink.emulated_link import RECEIVER, EmulatedLink, not_permitted
from eval.uplink.link import Link
from eval.uplink.perfect import perfect_delays

PORT, FIFO_PORT = 8080, 8081
WARM_UP = 4.0
"""Seconds whose events are not counted."""

GRACE = 4.0
"""Seconds after the last event in which what waits may be sent."""

LOAD = 0.6
"""Of the link: bytes of alerts and ROIs, without headers, over the rate."""

ROI_BYTES = {50: 6_000, 250: 15_000}
"""By rate in kB/s: sizes that a second of the link carries several of."""

HEAD_BYTES = 200
"""Of an alert's packet beside its packed JSON: HTTP's head, TCP, IP."""

SUMMARY = "Two collisions; a car lies overturned in the left lane, a second one stands across it."


@dataclass(frozen=True)
class Case:
    """One row of the table; rate in kB/s, round trip in milliseconds."""

    scheme: str
    rate: int
    round_trip: int
    loss: float
    seconds: float
    seed: int = 0

    @property
    def roi_bytes(self) -> int:
        return ROI_BYTES.get(self.rate, 60 * self.rate)


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    if args.end is not None:
        case = Case(**json.loads(args.case))
        {"receiver": _receiver, "dat": _node, "fifo": _fifo}[args.end](case)
        return 0
    reason = not_permitted()
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    if args.steps:
        return _steps(args.seed)
    print(_HEAD, flush=True)
    for rate in args.rates:
        for round_trip in args.round_trips:
            for loss in args.losses:
                for scheme in ("dat", "fifo"):
                    case = Case(scheme, rate, round_trip, loss / 100, args.seconds, args.seed)
                    print(_row(case, *_run(case)), flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("benchmarks.uplink_latency", __doc__)
    parser.add_argument("--rates", type=int, nargs="+", default=[50, 250], help="kB/s")
    parser.add_argument("--round-trips", type=int, nargs="+", default=[0, 50, 100, 300], help="ms")
    parser.add_argument("--losses", type=float, nargs="+", default=[0, 2], help="percent")
    parser.add_argument("--seconds", type=float, default=20.0, help="of events a row")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of events (0)")
    parser.add_argument("--steps", action="store_true", help="the bandwidth changes and vanishes")
    parser.add_argument("--end", choices=("receiver", "dat", "fifo"), help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


_HEAD = (
    f"{'uplink':6} {'kB/s':>5} {'RTT':>4} {'loss':>5} {'events':>6} |"
    f" {'P50':>6} {'P90':>6} {'P99':>6} {'max':>6} {'floor':>5} ms, demand |"
    f" {'VTR@1':>6} {'VTR@1.5':>7}"
)


def _row(case: Case, captured: dict[str, float], arrived: dict[str, float]) -> str:
    first = min(captured.values())
    ids = [id for id, at in captured.items() if at - first >= WARM_UP]
    never = float("inf")
    alerts = sorted(arrived.get(id, never) - captured[id] for id in ids)
    visuals = [arrived.get(f"{id}/roi", never) - captured[id] for id in ids]

    def percentile(share: float) -> float:
        return 1e3 * alerts[min(len(alerts) - 1, int(share * len(alerts)))]

    perfect = perfect_delays(
        sorted(captured[id] - first for id in ids),
        _alert_bytes(),
        case.roi_bytes,
        case.rate * 1e3,
        piece=round(PIECE_SECONDS * case.rate * 1e3),
        loss=case.loss,
    )
    floor = 1e3 * (perfect[int(0.99 * len(perfect))] + case.round_trip / 2e3)
    within = [sum(delay <= x for delay in visuals) / len(visuals) for x in (1.0, 1.5)]
    demand = 50 + case.round_trip
    verdict = "met" if percentile(0.99) <= demand else "missed"
    return (
        f"{case.scheme:6} {case.rate:5} {case.round_trip:4} {case.loss:5.0%} {len(ids):6} |"
        f" {percentile(0.5):6.0f} {percentile(0.9):6.0f} {percentile(0.99):6.0f}"
        f" {1e3 * alerts[-1]:6.0f} {floor:5.0f} {demand:4} {verdict:6} |"
        f" {within[0]:6.1%} {within[1]:7.1%}"
    )


STEPS = {"2": (250e3, 5), "0.1": (12.5e3, 6), "0": (0.0, 5), "2 again": (250e3, 8)}
"""Mbit/s in words -> bytes per second, and for how many seconds."""

SEVERE = 0.75
"""The least priority of a severe event (Eq. 7 with beta 0.5, gamma 0.5)."""

FIRST = 2.0
"""Seconds after the link began: connections have opened."""

SLACK = 0.1
"""Seconds that an alert may take beyond the JSON before it."""


def _steps(seed: int) -> int:
    """The bandwidth in steps: how much later than it could an alert comes, in each of them."""
    rates = [rate for rate, seconds in STEPS.values() for _ in range(seconds)]
    case = Case("dat", 25, 0, 0.0, len(rates) - WARM_UP - 2, seed)
    zero, captured, arrived = _run_over(EmulatedLink(rates), case)
    severe = {id for id in captured if _priority(id) >= SEVERE}
    link = Link(rates)
    size = _alert_bytes()
    ends = itertools.accumulate(seconds for _, seconds in STEPS.values())
    print(f"{'Mbit/s':8} | {'severe':6} {'later than it could':>20} in time | others, in time")
    for (name, (_, seconds)), end in zip(STEPS.items(), ends, strict=True):
        late: dict[bool, list[float]] = {True: [], False: []}
        for id, at in captured.items():
            if not max(FIRST, end - seconds) <= at - zero < end:
                continue
            before = [other for other, then in captured.items() if then <= at]
            queued = sum(arrived.get(other, math.inf) > at for other in before)
            could = zero + link.finish(at - zero, queued * size)
            late[id in severe].append(arrived.get(id, math.inf) - could)
            if id in severe and late[True][-1] > SLACK:
                print(f"  {id}: captured at {at - zero:.2f} s, {1e3 * late[True][-1]:.0f} ms late")
        in_time = {kind: sum(one <= SLACK for one in several) for kind, several in late.items()}
        print(
            f"{name:8} | {len(late[True]):6} {1e3 * max(late[True]):17.0f} ms {in_time[True]:7} |"
            f" {in_time[False]} of {len(late[False])}"
        )
    return 0


def _run(case: Case) -> tuple[dict[str, float], dict[str, float]]:
    """By event id: when it was captured, and when it (or `id/roi`) was whole at the receiver."""
    link = EmulatedLink([case.rate * 1e3], case.round_trip / 1e3, loss=case.loss)
    return _run_over(link, case)[1:]


def _run_over(link: EmulatedLink, case: Case) -> tuple[float, dict[str, float], dict[str, float]]:
    """When the link's rates began, and what `_run` gives."""
    this = [sys.executable, "-m", "benchmarks.uplink_latency", "--case", json.dumps(vars(case))]
    with link:
        receiver = subprocess.Popen(
            link.at_receiver(*this, "--end", "receiver"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert receiver.stdout is not None
        receiver.stdout.readline()  # it listens
        node = subprocess.run(
            link.at_node(*this, "--end", case.scheme), stdout=subprocess.PIPE, check=True, text=True
        )
        told, _ = receiver.communicate("\n", timeout=30)
    return link.zero, json.loads(node.stdout), json.loads(told)


def _events(case: Case, offer: Any) -> dict[str, float]:
    """Make the events of a case in real time, at random moments; when each was captured."""
    chance = random.Random(case.seed)
    captured: dict[str, float] = {}
    began = due = time.monotonic()
    while due < began + case.seconds + WARM_UP:
        time.sleep(max(0.0, due - time.monotonic()))
        id = f"e{len(captured)}"
        event = _event(id, _priority(id), case.roi_bytes)
        captured[event.id] = time.monotonic()
        offer(event)
        size = len(event.json) + case.roi_bytes
        due += chance.expovariate(1.0) * size / (LOAD * case.rate * 1e3)
    time.sleep(GRACE)
    return captured


def _priority(id: str) -> float:
    return random.Random(id).uniform(0.3, 1.0)


def _event(id: str, priority: float, roi: int) -> Event:
    said = Alert(
        id=id,
        origin=Origin("n1", "c1", {"bundle": "0" * 40, "prompt": 1, "schema": 1, "drawing": 1}),
        captured_at=time.time(),
        priority=priority,
        source="gate",
        degraded=None,
        conflict=False,
        frame=Size(1280, 720),
        roi=None,
        answer=Assessment(0, "none", 0, 0.1, (), SUMMARY),
    )
    visual = random.Random(id).randbytes(roi)
    return Event(said, None, alert.dump(said), visual, visual + visual)


def _alert_bytes() -> int:
    """Of an alert on the link, as it goes to a receiver that takes it packed."""
    return len(zlib.compress(_event("e0", 0.9, 1).json)) + HEAD_BYTES


def _node(case: Case) -> None:
    """The node's end: the real uplink over a real spool."""
    from dat_runtime.edge.counts import Counts
    from dat_runtime.edge.spool import Spool
    from dat_runtime.edge.uplink.settings import UplinkSettings
    from dat_runtime.edge.uplink.uplink import Uplink

    # In memory, where there is such a disk: how long a commit takes is `spool_faults`' question.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        counts = Counts()
        spool = Spool(Path(folder) / "spool.sqlite", 100_000_000, 10_000_000, counts)
        way = UplinkSettings(f"http://{RECEIVER}:{PORT}", None, case.rate * 1e3)
        uplink = Uplink([way], spool, counts, "n1")
        uplink.start()

        def offer(event: Event) -> None:
            spool.put(event, "c1")
            uplink.offer(event, "c1")

        captured = _events(case, offer)
        uplink.stop(2.0)
        spool.close()
    print(json.dumps(captured))


_FRAME = struct.Struct(">HI")
"""Of the FIFO: bytes of the name that follows, bytes of the content after it."""


def _fifo(case: Case) -> None:
    """The node's end: one connection, each event's JSON and ROI in order of capture."""
    waiting: list[Event | None] = []
    there = threading.Condition()
    connection = socket.create_connection((RECEIVER, FIFO_PORT))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send() -> None:
        while True:
            with there:
                there.wait_for(lambda: waiting)
                event = waiting.pop(0)
            if event is None:
                return
            assert event.roi is not None
            for name, content in ((event.id, event.json), (f"{event.id}/roi", event.roi)):
                told = name.encode()
                connection.sendall(_FRAME.pack(len(told), len(content)) + told + content)

    def offer(event: Event | None) -> None:
        with there:
            waiting.append(event)
            there.notify()

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    print(json.dumps(_events(case, offer)))
    connection.close()


def _receiver(case: Case) -> None:
    """The receiver's end: what came when, as JSON, once standard input has said so.

    It speaks the contract and commits nothing, so that the disk of this machine is not measured.
    """
    from tests.dat_runtime.edge.uplink.small_receiver import SmallReceiver

    with SmallReceiver(host=RECEIVER, port=PORT) as receiver:
        receiver.packed = True  # as the receiver itself
        listener = socket.create_server((RECEIVER, FIFO_PORT))
        threading.Thread(
            target=_receive_fifo, args=(listener, receiver.arrived), daemon=True
        ).start()
        print("listening", flush=True)
        sys.stdin.readline()
        print(json.dumps(receiver.arrived), flush=True)


def _receive_fifo(listener: socket.socket, arrived: dict[str, float]) -> None:
    connection, _ = listener.accept()
    with connection.makefile("rb") as incoming:
        while head := incoming.read(_FRAME.size):
            name_size, size = _FRAME.unpack(head)
            name = incoming.read(name_size).decode()
            incoming.read(size)
            arrived[name] = time.monotonic()


if __name__ == "__main__":
    raise SystemExit(main())
