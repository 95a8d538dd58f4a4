"""The whole way, live: cameras, a node, a thin link, a receiver and the operator's page.

    python -m export.demo_live --bundle runs/smoke/bundle

Cameras are videos of rendered scenes. With a bundle its gate looks at them; without one, and in
place of the MLLM in any case, stand-ins answer that know the scenes by heart: they show how the
parts work together, and nothing of how well a model sees. Ctrl-C ends it.
"""

import contextlib
import json
import signal
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from dat_runtime.cascade import Routing
from dat_runtime.command import command
from dat_runtime.draw import DRAWING_VERSION, MAX_PIXELS
from dat_runtime.edge.node import Gate
from dat_runtime.edge.node_file import read_node
from dat_runtime.edge.run import assemble
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_json
from dat_runtime.prompt import PROMPT_VERSION
from dat_runtime.schema import SCHEMA_VERSION
from export.live.processes import receiver
from export.live.scenes import FPS, Album, render, write_video
from export.live.stand_in import MODEL, RecordedGate, mllm
from export.live.thin_link import thin_link

NAMES = ("north", "south", "bridge-east", "bridge-west", "tunnel", "harbour", "depot", "ramp")
DELAY = 0.04
"""Seconds on each way of the link."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("export.demo_live", __doc__)
    parser.add_argument("--bundle", type=Path, help="folder made by export.bundle")
    parser.add_argument("--cameras", type=int, default=6, help=f"1 to {len(NAMES)} (default 6)")
    parser.add_argument("--rate", type=float, default=50, help="of the link, kB/s (default 50)")
    parser.add_argument(
        "--listen", default="127.0.0.1:8080", help="of the page; port 0: a free one"
    )
    parser.add_argument("--seconds", type=float, help="end after so long (default: at Ctrl-C)")
    args = parser.parse_args(argv)
    if not 1 <= args.cameras <= len(NAMES):
        raise ConfigError(f"--cameras is {args.cameras}, expected 1 to {len(NAMES)}")
    if not args.rate > 0:
        raise ConfigError(f"--rate is {args.rate:g}, expected kB/s above 0")
    with ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        stack.enter_context(_interrupted_by(signal.SIGTERM))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dat-live-")))
        _show(folder, args.bundle, args.cameras, 1000 * args.rate, args.listen, args.seconds, stack)
    print("[live] ended", flush=True)
    return 0


def _show(
    folder: Path,
    bundle: Path | None,
    cameras: int,
    bytes_per_s: float,
    listen: str,
    seconds: float | None,
    stack: ExitStack,
) -> None:
    print(f"[live] rendering scenes for {cameras} cameras", flush=True)
    turns = render(folder / "scenes", cameras)
    album = Album([still for shown in turns for still in shown])
    rng = np.random.default_rng(0)
    for name, stills in zip(NAMES, turns, strict=False):
        write_video(folder / f"{name}.mp4", stills, rng)
    page = stack.enter_context(receiver(f"sqlite:///{folder}/receiver.db", listen=listen))
    near = stack.enter_context(thin_link(page.port, bytes_per_s, DELAY))
    url = stack.enter_context(mllm(album))
    settings = _node_yaml(folder, bundle, NAMES[:cameras], near, url)
    gate = None if bundle is not None else _recorded_gate(album)
    stack.enter_context(_node(settings, gate))
    by = f"the gate of {bundle}" if bundle else "a stand-in for a gate (there is no --bundle)"
    print(f"[live] {by}; a stand-in for the MLLM; a link of {bytes_per_s / 1000:g} kB/s")
    print(f"[live] open {page.url}   (Ctrl-C ends it)", flush=True)
    _watch(page.url, seconds)


def _recorded_gate(album: Album) -> Gate:
    versions: dict[str, str | int | None] = {
        "bundle": None,
        "prompt": PROMPT_VERSION,
        "schema": SCHEMA_VERSION,
        "drawing": DRAWING_VERSION,
        "mllm": MODEL,
    }
    return Gate(RecordedGate(album), Routing(), versions, MAX_PIXELS)


def _node_yaml(
    folder: Path, bundle: Path | None, names: Sequence[str], port: int, mllm_url: str
) -> Path:
    """The settings of the node, as `dat-runtime edge run` reads them."""
    cameras = [
        {"name": name, "source": str(folder / f"{name}.mp4"), "fps": FPS, "loop": True}
        for name in names
    ]
    settings: dict[str, Any] = {
        "node": "demo-1",
        "bundle": str((bundle or folder).resolve()),
        "cameras": cameras,
        "mllm": {"url": mllm_url, "model": MODEL, "concurrency": 2, "timeout": 20},
        "uplink": {"url": f"http://127.0.0.1:{port}", "initial_bytes_per_s": 50_000},
        "spool": {"path": str(folder / "spool.sqlite")},
    }
    write_json(folder / "node.yaml", settings)
    return folder / "node.yaml"


@contextmanager
def _node(settings: Path, gate: Gate | None) -> Iterator[None]:
    """The node, in a thread of this process."""
    node = assemble(read_node(settings), gate).node
    thread = threading.Thread(target=node.run, name="node", daemon=True)
    thread.start()
    try:
        yield
    finally:
        node.stop()
        thread.join(10)


def _watch(address: str, seconds: float | None) -> None:
    """Tell when the first alert and its picture are there, then wait for the end."""
    begun = time.monotonic()
    told: set[str] = set()
    while seconds is None or time.monotonic() - begun < seconds:
        for what in _there(address) - told:
            told.add(what)
            print(f"[live] {what} after {time.monotonic() - begun:.1f} s", flush=True)
        time.sleep(0.1 if len(told) < 2 else 1.0)


def _there(address: str) -> set[str]:
    with urllib.request.urlopen(f"{address}/v1/events?limit=100", timeout=10) as answer:
        events = json.load(answer)["events"]
    there = set()
    if events:
        there.add("first alert")
    if any(event["visuals"] for event in events):
        there.add("first picture")
    return there


@contextmanager
def _interrupted_by(signum: signal.Signals) -> Iterator[None]:
    """Let a signal end the program as Ctrl-C does."""

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signum, interrupt)
    try:
        yield
    finally:
        signal.signal(signum, before)


if __name__ == "__main__":
    raise SystemExit(main())
