"""The schemes over a link that really sends: TCP over loopback, shaped by the kernel (tbf).

Each scheme runs in a process and a network namespace of its own, in real time, while the token
bucket replays the trace second by second. Planners and measuring are the simulator's: only `finish`
of the link differs.
"""

import json
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dat_runtime.errors import ConfigError
from eval.uplink.arrivals import Event, draw
from eval.uplink.beyond import live_queue
from eval.uplink.link import Link
from eval.uplink.replay import TABLE_3_SCALE, replay, row_of_table_3
from eval.uplink.sending import run_live
from eval.uplink.setting import Setting
from eval.uplink.timeliness import Timeliness, measure
from eval.uplink.trace import Rates, window

SCHEMES = ("DAT", "Priority-Only", "Fixed JSON+Box", "dat_live")

LAST_ENTRY = 3
"""No burst enters in the last so many seconds, so that the last one can still be sent."""

PATIENCE = 120
"""Seconds that a process may run longer than its trace."""

MTU = 1_500
"""Loopback's own, 65,536 bytes, would make packets larger than the bucket."""

PAYLOAD_SHARE = 1_448 / 1_514
"""TCP payload of a full packet, over the bytes that tbf counts for it."""

BUCKET = 4_000
"""Bytes that may leave at once."""

LEAST_BITS_PER_S = 8_000
"""tbf takes no rate of 0: the rate of a second without bandwidth."""


class ShapedLink(Link):
    """A link that really sends. `finish` waits for the start, sends, and returns at the receipt."""

    def __init__(self, bandwidth: Rates):
        super().__init__(bandwidth)
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._receive, daemon=True).start()
        self._sender = socket.create_connection(self._listener.getsockname())
        # Without it the kernel would hold small packets back until earlier ones are acknowledged.
        self._sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._zero = time.monotonic()
        threading.Thread(target=self._replay_trace, daemon=True).start()

    def finish(self, start: float, size: float) -> float:
        _sleep_until(self._zero + start)
        payload = struct.pack(">I", int(size)) + bytes(int(size))
        self._sender.sendall(payload)
        self._sender.recv(1)  # the receipt
        return max(start, time.monotonic() - self._zero)

    def _receive(self) -> None:
        """The other end: read each unit by its length in front, and acknowledge it with a byte."""
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as incoming:
            while header := incoming.read(4):
                (size,) = struct.unpack(">I", header)
                incoming.read(size)
                connection.sendall(b"!")

    def _replay_trace(self) -> None:
        second = 0
        while True:
            bucket = _token_bucket(self.bandwidth(second))
            change = ["tc", "qdisc", "change", "dev", "lo", "root", *bucket]
            subprocess.run(change, check=True, capture_output=True)
            second += 1
            _sleep_until(self._zero + second)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _token_bucket(rate: float) -> list[str]:
    """tbf's arguments for a rate in bytes of payload per second."""
    bits = max(LEAST_BITS_PER_S, round(8 * rate / PAYLOAD_SHARE))
    return f"tbf rate {bits}bit burst {BUCKET} limit 1000000".split()


def _in_namespace(*then: str) -> list[str]:
    """A command line that makes a namespace with a shaped loopback, and runs `then` in it."""
    # Only the first rate: each link sets its own every second.
    bucket = " ".join(_token_bucket(100_000))
    script = f"ip link set lo mtu {MTU} up && tc qdisc add dev lo root {bucket}"
    if then:
        script += ' && exec "$@"'
    return ["unshare", "-Urmn", "sh", "-c", script, "sh", *then]


def not_permitted() -> str | None:
    """Why this machine cannot shape a link of its own; None when it can."""
    for tool in ("unshare", "ip", "tc"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    trial = subprocess.run(_in_namespace(), capture_output=True, text=True, check=False)
    if trial.returncode == 0:
        return None
    return trial.stderr.strip() or "unshare failed"


def experiment(setting: Setting, trace: Rates, seconds: int) -> tuple[list[Event], list[float]]:
    """Bursts that fit into the first `seconds` seconds, and the rates of the link at 0.25x.

    Raises:
        ConfigError: not one event fits.
    """
    rates = [rate * TABLE_3_SCALE for rate in window(trace, setting.trace)]
    drawn = draw(setting, "burst", seed=0)
    events = [event for event in drawn if event.entered_at < seconds - LAST_ENTRY]
    if not events:
        least = int(drawn[0].entered_at) + LAST_ENTRY + 1
        raise ConfigError(f"--seconds is {seconds}, expected {least} or more: no event fits in")
    return events, rates


def run_scheme(setting: Setting, events: Sequence[Event], link: Link, name: str) -> Timeliness:
    """One scheme over a link, simulated or real; delays from capture."""
    if name == "dat_live":
        deliveries = run_live(events, link, live_queue(setting, link))
    else:
        deliveries = replay(setting, events, link, row_of_table_3(setting, name))
    return measure(deliveries, setting.parse, from_capture=True)


def in_namespaces(command: Sequence[str], seconds: int) -> dict[str, dict[str, Any]]:
    """All schemes at once in real time, each in a namespace of its own.

    Args:
        command: runs one scheme, whose name is its last argument, over a `ShapedLink` and prints
            the timeliness as JSON.

    Raises:
        ConfigError: a process failed; the message ends with its last output.
    """
    processes = {}
    for name in SCHEMES:
        processes[name] = subprocess.Popen(
            _in_namespace(*command, name),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    results = {}
    for name, process in processes.items():
        out, err = process.communicate(timeout=seconds + PATIENCE)
        if process.returncode:
            raise ConfigError(f"{name} over the real link failed: {err.strip()[-500:]}")
        results[name] = json.loads(out)
    return results


def side_by_side(
    setting: Setting, events: Sequence[Event], rates: Rates, real: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """By scheme: its timeliness over the simulated link and over the real one."""
    rows = []
    for name in SCHEMES:
        simulated = run_scheme(setting, events, Link(rates), name)
        rows.append({"scheme": name, "simulated": asdict(simulated), "real": real[name]})
    return rows
