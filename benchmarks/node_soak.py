"""Whether a node that runs and runs takes more and more memory.

    python -m benchmarks.node_soak --bundle OUT/bundle --frames OUT/data [--minutes 30]

Node and receiver are processes of the wheel's commands, with a spool on a real disk, and an MLLM
over HTTP that answers each question in 0.5 s. Cameras repeat pictures on which the gate fires;
whoever watches asks for metrics and state every `SAMPLE` seconds. The memory is that of the node
and its cameras (proportional set size); its slope, of the means of each minute after the first
`SETTLED`, has a 95 % interval (Student's t). The demand: less than 1 MB a minute.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
from scipy import stats

# Called by its path, Python looks for modules in benchmarks/ and not in the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.node_kills import write_frames
from benchmarks.node_load import mllm
from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from export.live.processes import Process, receiver, running, until, write_node, write_tokens

CAMERAS, FPS, PICTURES = 3, 2.0, 40

SAMPLE = 5.0
"""Seconds between two looks."""

SETTLED = 3
"""Minutes in which buffers, caches and connections come to their size."""

MOST = 1e6
"""Bytes a minute."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.node_soak", __doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="made by `make export`")
    parser.add_argument("--frames", type=Path, required=True, help="made by `make data`")
    parser.add_argument("--minutes", type=int, default=30, help="(30)")
    args = parser.parse_args(argv)
    if args.minutes < SETTLED + 3:
        raise ConfigError(f"--minutes is {args.minutes}, expected {SETTLED + 3} or more")
    with ExitStack() as stack:
        return _run(args, stack)


def _run(args: argparse.Namespace, stack: ExitStack) -> int:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dat-soak-")))
    write_frames(args.bundle, args.frames, folder / "frames", PICTURES)
    tokens = write_tokens(folder)
    store = f"sqlite:///{folder / 'events.sqlite'}"
    receiving = stack.enter_context(receiver(store, "--tokens", tokens))
    model = stack.enter_context(mllm())
    camera = {"source": str(folder / "frames"), "fps": FPS, "loop": True}
    settings = write_node(
        folder,
        args.bundle,
        receiving.url,
        cameras=[{"name": f"c{number}"} | camera for number in range(CAMERAS)],
        mllm={"url": model, "model": "m", "concurrency": 2},
        metrics={"listen": "127.0.0.1:0"},
    )
    node = stack.enter_context(running("edge", "run", settings))
    until(lambda: httpx.get(node.url + "/healthz").status_code == 200)
    taken = {"node": _Taken(node), "receiver": _Taken(receiving)}
    for minute in range(args.minutes):
        _watch(node, list(taken.values()), 60.0)
        now = ", ".join(f"{name} {one.minutes[-1] / 1e6:.1f} MB" for name, one in taken.items())
        print(f"minute {minute + 1}: {now}; {_counted(node)}", flush=True)
    for name, one in taken.items():
        slope, error = one.slope()
        first, last = (one.minutes[i] / 1e6 for i in (SETTLED, -1))
        print(
            f"{name}: {first:.1f} MB in minute {SETTLED + 1}, {last:.1f} MB in the last; "
            f"{slope / 1e3:+.1f} kB a minute (95 %: {(slope - error) / 1e3:+.1f} to "
            f"{(slope + error) / 1e3:+.1f})"
        )
    slope, error = taken["node"].slope()
    return 0 if slope + error < MOST else 1


class _Taken:
    """Memory of a process and its children: means of each minute, in bytes."""

    def __init__(self, process: Process):
        self.process = process
        self.minutes: list[float] = []

    def now(self) -> int:
        # A child may end between two looks: a camera's process that was started again.
        return sum(_proportional_bytes(pid) for pid in self.process.family())

    def slope(self) -> tuple[float, float]:
        """Bytes a minute, and half of its 95 % interval."""
        settled = np.array(self.minutes[SETTLED:])
        fit = stats.linregress(np.arange(len(settled)), settled)
        return float(fit.slope), float(stats.t.ppf(0.975, len(settled) - 2) * fit.stderr)


def _proportional_bytes(pid: int) -> int:
    try:
        told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it ended meanwhile
    return 1024 * int(told.partition("\nPss:")[2].split()[0])


def _watch(node: Process, taken: Sequence[_Taken], seconds: float) -> None:
    """Look for so long, and add a minute's mean to each."""
    end = time.monotonic() + seconds
    sizes: list[list[int]] = []
    while time.monotonic() < end:
        for page in ("/metrics", "/status", "/healthz"):
            httpx.get(node.url + page, timeout=10).raise_for_status()
        sizes.append([one.now() for one in taken])
        time.sleep(SAMPLE)
    for one, mean in zip(taken, np.mean(sizes, axis=0), strict=True):
        one.minutes.append(float(mean))


def _counted(node: Process) -> str:
    """Frames that the gate looked at and alerts, so far."""
    lines = httpx.get(node.url + "/metrics", timeout=10).text.splitlines()
    totals = dict.fromkeys(("dat_node_frames_total", "dat_node_alerts_total"), 0.0)
    for line in lines:
        name = line.partition("{")[0].partition(" ")[0]
        if name in totals:
            totals[name] += float(line.rpartition(" ")[2])
    frames, alerts = totals.values()
    return f"{frames:.0f} frames, {alerts:.0f} alerts"


if __name__ == "__main__":
    raise SystemExit(main())
