"""The comparison over a real link: TCP over loopback, its bandwidth shaped by the kernel (tbf).

    python -m eval.real_link --trace OUT/data/bandwidth.csv \
        --config configs/transmission/c0.yaml --out OUT/real-link

Every scheme runs in real time in a network namespace of its own while the token bucket replays a
piece of the trace, and once more in the simulator; both are printed side by side. The same code
plans and measures in both: only `finish` of the link differs. Skipped with the reason where
namespaces or tbf are not permitted.
"""

import argparse
import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.stage import Stage
from eval.uplink.arrivals import Event, Setting, draw, load_setting
from eval.uplink.beyond import live_queue
from eval.uplink.link import Link, read_trace, run_live, window
from eval.uplink.replay import TABLE_3_SCALE, replay, rows_of_table_3
from eval.uplink.timeliness import COLUMNS, Timeliness, measure

SCHEMES = ("DAT", "Priority-Only", "Fixed JSON+Box", "dat_live")
MTU = 1_500
PAYLOAD_SHARE = 1_448 / 1_514
"""TCP payload of a full packet over what tbf counts of it."""

BUCKET = 4_000
"""Bytes that may leave at once."""

SHAPE = "ip link set lo mtu {mtu} up && tc qdisc add dev lo root tbf {tbf}"


class RealLink(Link):
    """A link that really sends. `finish` waits for the start, sends, and returns at the receipt."""

    def __init__(self, bandwidth: Sequence[float]):
        super().__init__(bandwidth)
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._receive, daemon=True).start()
        self._sender = socket.create_connection(self._listener.getsockname())
        self._sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._zero = time.monotonic()
        threading.Thread(target=self._replay_trace, daemon=True).start()

    def finish(self, start: float, size: float) -> float:
        with suppress(ValueError):
            time.sleep(self._zero + start - time.monotonic())
        payload = struct.pack(">I", int(size)) + bytes(int(size))
        self._sender.sendall(payload)
        self._sender.recv(1)
        return max(start, time.monotonic() - self._zero)

    def _receive(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as incoming:
            while header := incoming.read(4):
                incoming.read(struct.unpack(">I", header)[0])
                connection.sendall(b"!")

    def _replay_trace(self) -> None:
        second = 0
        while True:
            _tc("change", self.bandwidth(second))
            second += 1
            time.sleep(max(0.0, self._zero + second - time.monotonic()))


def _tbf(rate: float) -> str:
    bits = max(8_000, round(8 * rate / PAYLOAD_SHARE))
    return f"rate {bits}bit burst {BUCKET} limit 1000000"


def _tc(action: str, rate: float) -> None:
    command = ["tc", "qdisc", action, "dev", "lo", "root", "tbf", *_tbf(rate).split()]
    subprocess.run(command, check=True, capture_output=True)


def not_permitted() -> str | None:
    """Why this machine cannot shape a link of its own; None when it can."""
    for tool in ("unshare", "ip", "tc"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    shape = SHAPE.format(mtu=MTU, tbf=_tbf(100_000))
    tried = subprocess.run(
        ["unshare", "-Urmn", "sh", "-c", shape], capture_output=True, text=True, check=False
    )
    return None if tried.returncode == 0 else tried.stderr.strip() or "unshare failed"


def run_scheme(setting: Setting, events: Sequence[Event], link: Link, name: str) -> Timeliness:
    """One scheme over a link, simulated or real; delays from capture."""
    if name == "dat_live":
        found = run_live(events, link, live_queue(setting, link))
    else:
        scheme = next(s for s in rows_of_table_3(setting) if s.name == name)
        found = replay(setting, events, link, scheme)
    return measure(found, setting.parse, from_capture=True)


def _experiment(
    setting: Setting, trace: Sequence[float], seconds: int
) -> tuple[list[Event], list[float]]:
    """Bursts that fit into so many seconds, and the rates of the link at 0.25x."""
    rates = [rate * TABLE_3_SCALE for rate in window(trace, setting.trace)]
    events = [e for e in draw(setting, "burst", 0) if e.entered_at < seconds - 3]
    return events, rates


def _in_namespace(args: argparse.Namespace) -> int:
    """The inner process: one scheme in real time, its timeliness as JSON on stdout."""
    setting = load_setting(args.config)
    events, rates = _experiment(setting, read_trace(args.trace), args.seconds)
    found = run_scheme(setting, events, RealLink(rates), args.scheme)
    print(json.dumps(asdict(found)))
    return 0


def _run_real(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """All schemes at once, each in a namespace of its own."""
    shape = SHAPE.format(mtu=MTU, tbf=_tbf(100_000))
    inner = [sys.executable, "-m", "eval.real_link", "--trace", str(args.trace)]
    inner += ["--config", str(args.config), "--seconds", str(args.seconds), "--scheme"]
    running = {
        name: subprocess.Popen(
            ["unshare", "-Urmn", "sh", "-c", shape + ' && exec "$@"', "sh", *inner, name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in SCHEMES
    }
    results = {}
    for name, process in running.items():
        out, err = process.communicate(timeout=args.seconds + 120)
        if process.returncode:
            raise ConfigError(f"{name} over the real link failed: {err.strip()[-500:]}")
        results[name] = json.loads(out)
    return results


def as_markdown(rows: Sequence[dict[str, Any]], events: int, seconds: int) -> str:
    """Simulated and real side by side."""
    lines = [
        f"Burst, 0.25x, {events} events in {seconds} s, delays from capture. Real: TCP over "
        "loopback in a network namespace, shaped by tbf.",
        "",
        "| Scheme | Link | W-Alarm (s) | VTR@0.5s (%) | VTR@1s (%) | Avg visual delay (s) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        for link in ("simulated", "real"):
            cells = [f"{row[link][c]:.{2 if 'vtr' in c else 4}f}" for c in COLUMNS]
            lines.append(f"| {row['scheme']} | {link} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eval.real_link",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trace", type=Path, required=True, help="bandwidth.csv")
    parser.add_argument("--config", type=Path, required=True, help="the setting, YAML")
    parser.add_argument("--out", type=Path, help="folder to write")
    parser.add_argument("--seconds", type=int, default=60, help="of the trace (default 60)")
    parser.add_argument("--scheme", choices=SCHEMES, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.scheme:
        return _in_namespace(args)
    if args.out is None:
        raise ConfigError("--out is missing: the folder to write")
    if reason := not_permitted():
        print(f"[real-link] skipped: {reason}", flush=True)
        return 0
    setting = load_setting(args.config)
    events, rates = _experiment(setting, read_trace(args.trace), args.seconds)
    stage = Stage(
        args.out,
        kind="real-link",
        inputs={"trace": args.trace, "config": args.config},
        config={"seconds": args.seconds},
        code=[__file__],
    )
    with stage as folder:
        print(f"[real-link] {len(events)} events, {args.seconds} s in real time", flush=True)
        real = _run_real(args)
        rows = []
        for name in SCHEMES:
            simulated = asdict(run_scheme(setting, events, Link(rates), name))
            rows.append({"scheme": name, "simulated": simulated, "real": real[name]})
        (folder / "real_link.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
        text = as_markdown(rows, len(events), args.seconds)
        (folder / "real_link.md").write_text(text, "utf-8")
    print(text, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
