"""What an update that comes in moves alerts by, over a thin uplink.

    python -m benchmarks.update_latency [--rate 250] [--round-trip 50] [--seconds 60]

The real uplink sends the same events three times over an emulated link (the kernel's TCP through a
TUN device in namespaces, no privileges needed): twice with nothing else under way, and once while a
process beside the node brings an update of 40 MB, as `dat-runtime install` does, at the rate of the
link. That process cannot ask the node whether it is busy, so that the cap alone holds. What two
runs without an update differ by is the noise of the machine. The way back of the link has no
bottleneck: what an update costs the alerts are its requests and acknowledgements, and processor
time. As many bytes come as fit into the seconds.

The demand: no alert comes more than 50 ms later than without an update.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.uplink_latency import PORT, WARM_UP, Case, _node
from dat_runtime.command import command
from eval.uplink.emulated_link import RECEIVER, EmulatedLink, not_permitted

FILES_PORT = 8082
UPDATE_BYTES = 40_000_000
DEMAND = 0.05


@dataclass(frozen=True)
class Run:
    """When alerts were captured and when they arrived, by event, and the update's bytes."""

    captured: dict[str, float]
    arrived: dict[str, float]
    update_bytes: int

    def delays(self) -> dict[str, float]:
        """Seconds from capture to arrival of every event after the first seconds."""
        first = min(self.captured.values())
        never = float("inf")
        return {
            id: self.arrived.get(id, never) - at
            for id, at in self.captured.items()
            if at - first >= WARM_UP
        }


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    case = Case("dat", args.rate, args.round_trip, 0.0, args.seconds)
    if args.end == "receiver":
        _receiver(Path(args.file))
        return 0
    if args.end == "node":
        _node(case)
        return 0
    if args.end == "update":
        _update(case, Path(args.file))
        return 0
    reason = not_permitted()
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    before, again, during = (_run(args, case, update) for update in (False, False, True))
    print(f"{'':14} {'alerts':>6} | {'P50':>6} {'P99':>6} {'max':>6} ms")
    for name, run in (("alone", before), ("alone again", again), ("with an update", during)):
        print(f"{name:14} {len(run.delays()):6} | {_figures(list(run.delays().values()))}")
    print(f"{'moved by':14} {'':6} | {_figures(_shifts(before, again))}   alone again")
    shifts = _shifts(before, during)
    print(f"{'':14} {'':6} | {_figures(shifts)}   with an update")
    print(f"{during.update_bytes / 1e6:.1f} MB of {UPDATE_BYTES / 1e6:.0f} MB came")
    met = max(shifts) <= DEMAND
    print(
        f"the demand, no alert more than {1e3 * DEMAND:.0f} ms later: {'met' if met else 'missed'}"
    )
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("benchmarks.update_latency", __doc__)
    parser.add_argument("--rate", type=int, default=250, help="kB/s")
    parser.add_argument("--round-trip", type=int, default=50, help="ms")
    parser.add_argument("--seconds", type=float, default=60.0, help="of events a run")
    parser.add_argument("--end", choices=("receiver", "node", "update"), help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _shifts(before: Run, after: Run) -> list[float]:
    """By how much each alert that both runs have came later."""
    earlier, later = before.delays(), after.delays()
    return [later[id] - earlier[id] for id in earlier.keys() & later.keys()]


def _figures(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    shares = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99)]
    return " ".join(f"{1e3 * second:6.0f}" for second in (*shares, ordered[-1]))


def _run(args: argparse.Namespace, case: Case, update: bool) -> Run:
    this = [sys.executable, "-m", "benchmarks.update_latency", "--rate", str(case.rate)]
    this += ["--round-trip", str(case.round_trip), "--seconds", str(case.seconds)]
    with tempfile.TemporaryDirectory() as folder:
        file, coming = Path(folder, "update"), Path(folder, "coming")
        file.write_bytes(os.urandom(1 << 16) * (UPDATE_BYTES >> 16))
        with EmulatedLink([case.rate * 1e3], case.round_trip / 1e3) as link:
            receiver = subprocess.Popen(
                link.at_receiver(*this, "--end", "receiver", "--file", str(file)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert receiver.stdout is not None
            receiver.stdout.readline()  # it listens
            bringing = [*this, "--end", "update", "--file", str(coming)]
            updating = subprocess.Popen(link.at_node(*bringing)) if update else None
            node = subprocess.run(
                link.at_node(*this, "--end", "node"), stdout=subprocess.PIPE, check=True, text=True
            )
            if updating is not None:
                updating.terminate()
                updating.wait()
            told, _ = receiver.communicate("\n", timeout=30)
        part = coming.with_name("coming.part")
        came = part.stat().st_size if part.exists() else 0
    return Run(json.loads(node.stdout), json.loads(told), came)


def _update(case: Case, file: Path) -> None:
    """The installation beside the node."""
    from dat_runtime.edge.updates.polite import PoliteFetcher

    fetcher = PoliteFetcher(case.rate * 1e3, None)
    url = f"http://{RECEIVER}:{FILES_PORT}/update"
    fetcher.file(url, file, sha256="0" * 64, size=UPDATE_BYTES)


def _receiver(file: Path) -> None:
    """The receiver's end, and the server of the update beside it."""
    from tests.dat_runtime.edge.updates.lying_server import LyingServer
    from tests.dat_runtime.edge.uplink.small_receiver import SmallReceiver

    with (
        SmallReceiver(host=RECEIVER, port=PORT) as receiver,
        LyingServer(file.parent, RECEIVER, FILES_PORT),
    ):
        print("listening", flush=True)
        sys.stdin.readline()
        print(json.dumps(receiver.arrived), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
