"""The spool under SIGKILLs and power cuts.

    python -m benchmarks.spool_faults [--kills 1000] [--cuts 2000]

Every put that returned must be there afterwards, once, byte for byte; every drop must be counted.
`python benchmarks/spool_faults.py` is the same.
"""

import argparse
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Called by its path, Python looks for modules in benchmarks/ and not in the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import power_cut
from dat_runtime.alert import Alert, Origin
from dat_runtime.command import command
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.spool import Spool
from dat_runtime.errors import reports_errors
from dat_runtime.event import Event
from dat_runtime.types import Assessment, Size

ROOT = Path(__file__).resolve().parents[1]

CAP, RESERVE = 1_000_000, 200_000
"""A small spool, so that it drops visuals and moves its log all the time."""

THREADS = 3


def make_event(
    id: str,
    priority: float = 0.5,
    *,
    revision: int = 0,
    json: bytes | None = None,
    json_bytes: int = 1200,
    visual_bytes: int = 10_000,
) -> Event:
    """An event whose content follows from its id and revision, so that a reader can check it."""
    nothing = Assessment(0, "none", 0, 0.0, (), "")
    alert = Alert(
        id,
        Origin("node", "camera", {}),
        time.time(),
        priority,
        "gate",
        None,
        False,
        Size(100, 100),
        None,
        nothing,
        revision,
    )
    word = f"{id}/{revision};".encode()
    if json is None:
        json = (word * (json_bytes // len(word) + 1))[:json_bytes]
    visual = random.Random(word).randbytes(visual_bytes)
    return Event(alert, None, json, visual or None, visual + bytes(len(visual)))


# The process that is killed


def work(path: Path, name: str, events: int, tell: Callable[[str], None]) -> None:
    """Put events from several threads and acknowledge some alerts; `tell` what is done, in order.

    "begin ID" before a put, "put ID" after it returned, "sent ID" before an alert is acknowledged.
    """
    spool = Spool(path, CAP, RESERVE, Counts())
    # Most of what an earlier run left goes out now, so that alerts alone never fill the spool.
    for waiting in spool.waiting():
        if not waiting.pending.json_sent and random.random() < 0.8:
            tell(f"sent {waiting.pending.id}\n")
            spool.acknowledge(waiting.pending.id, "json")

    def camera(number: int) -> None:
        chance = random.Random(f"{name}-{number}")
        for i in range(events):
            id = f"{name}-{number}-{i}"
            tell(f"begin {id}\n")
            spool.put(make_event(id, round(chance.random(), 2)), f"camera{number}")
            tell(f"put {id}\n")
            if chance.random() < 0.7:
                tell(f"sent {id}\n")
                spool.acknowledge(id, "json")

    threads = [threading.Thread(target=camera, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spool.close()


@dataclass
class Ledger:
    """What a process said it did, and whether the spool agrees."""

    begun: set[str] = field(default_factory=set)
    put: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)
    present: int = 0

    def hear(self, line: str) -> None:
        word, _, id = line.partition(" ")
        {"begin": self.begun, "put": self.put, "sent": self.sent}[word].add(id)

    def faults(self, path: Path) -> list[str]:
        """What of the promise is broken in the spool that was left; no lines are good news."""
        counts = Counts()
        spool = Spool(path, CAP, RESERVE, counts)
        try:
            return list(self._faults(spool, counts))
        finally:
            spool.close()

    def _faults(self, spool: Spool, counts: Counts) -> list[str]:
        found = []
        waiting = {w.pending.id: w for w in spool.waiting()}
        alerts = {id for id, w in waiting.items() if not w.pending.json_sent}
        self.present = len(alerts)
        found += [f"lost: {id}" for id in sorted(self.put - self.sent - alerts)]
        found += [f"from nowhere: {id}" for id in sorted(set(waiting) - self.begun)]
        visuals = set()
        for id, one in waiting.items():
            event = make_event(id)
            if id in alerts and spool.alert(id) != event.json:
                found.append(f"not what was put: {id}")
            if one.pending.roi_bytes is not None:
                visuals.add(id)
                if spool.visual(id, "roi") != event.roi:
                    found.append(f"not the visual that was put: {id}")
        if counts.of("spools_set_aside", reason="damaged"):
            found.append("the database was damaged")
        # A put that did not return may be there whole, or not at all; once seen, it has to stay.
        self.put |= set(waiting)
        dropped = counts.of("visuals_dropped", reason="the spool is full")
        if len(self.put) - len(visuals) != dropped:
            found.append(f"{len(self.put) - len(visuals)} visuals gone, {dropped} counted")
        return found


# SIGKILL


def kill_once(
    path: Path, name: str, ledger: Ledger, seconds: float, *, after_first_word: bool
) -> None:
    """Let a child use the spool, kill it after some time, and read what it said it had done.

    The time begins with its start or with its first word, which comes when the spool is open.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            work(path, name, 10_000, lambda line: void(os.write(writing, line.encode())))
        finally:
            os._exit(1)
    os.close(writing)
    said = os.read(reading, 65536) if after_first_word else b""
    said += _read_until(reading, time.monotonic() + seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child ended by itself"
    while more := os.read(reading, 65536):
        said += more
    os.close(reading)
    for line in said.decode().splitlines():
        ledger.hear(line)


def _read_until(pipe: int, end: float) -> bytes:
    said = b""
    while (left := end - time.monotonic()) > 0:
        if select.select([pipe], [], [], left)[0]:
            said += os.read(pipe, 65536)
    return said


def void(_: object) -> None:
    """Nothing, of anything."""


def kills(folder: Path, times: int, seed: int = 0) -> tuple[Ledger, list[str]]:
    """Kill a spool's process many times, and look after each time."""
    chance = random.Random(seed)
    ledger, faults = Ledger(), []
    for n in range(times):
        seconds, is_open = chance.uniform(0.002, 0.1), n % 4 > 0
        kill_once(folder / "spool.sqlite", f"k{n}", ledger, seconds, after_first_word=is_open)
        faults += [f"kill {n}: {fault}" for fault in ledger.faults(folder / "spool.sqlite")]
    return ledger, faults


# Power cuts


def traced(folder: Path, events: int = 8) -> list[power_cut.Step]:
    """The writes of a real process that uses a spool in `folder`/traced."""
    log = folder / "trace.txt"
    program = (
        "import os; from pathlib import Path; from benchmarks.spool_faults import void, work\n"
        "for run in 'cd':"  # the second time it finds a database, and makes a new log
        f" work(Path({str(folder / 'traced' / 'spool.sqlite')!r}), run, {events},"
        " lambda line: void(os.write(1, line.encode())))"
    )
    subprocess.run(
        [*power_cut.strace(log), sys.executable, "-c", program],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=100,
    )
    return power_cut.steps(log, folder / "traced")


def cuts(
    folder: Path, steps: Sequence[power_cut.Step], times: int, *, flushes_work: bool = True
) -> list[str]:
    """Cut the power at many moments, each time with another state of the disk, and look."""
    faults = []
    for n in range(times):
        chance = random.Random(n)
        moment = chance.randrange(len(steps) + 1)
        ledger = Ledger()
        for step in steps[:moment]:
            if step.what == "say":
                ledger.hear(step.data.decode().rstrip())
        disk = power_cut.disk_after(steps[:moment], chance, flushes_work=flushes_work)
        place = folder / f"cut-{n}"
        power_cut.put_down(disk, folder / "traced", place)
        faults += [f"cut {n}: {fault}" for fault in ledger.faults(place / "spool.sqlite")]
        shutil.rmtree(place)
    return faults


# The command


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        ledger, killed = kills(folder, args.kills)
        print(
            f"SIGKILL: {args.kills:,} times, {len(ledger.put):,} events acknowledged,"
            f" {len(killed)} faults (demanded: 0)",
            flush=True,
        )
        steps = traced(folder)
        cut = cuts(folder, steps, args.cuts)
        bad = cuts(folder, steps, 100, flushes_work=False)
        print(
            f"power cuts: {args.cuts:,} states of the disk after {len(steps):,} calls,"
            f" {len(cut)} faults (demanded: 0); {len(bad)} in 100 states if flushes did nothing"
        )
    for fault in [*killed, *cut][:20]:
        print(f"  {fault}")
    return 1 if killed or cut else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("benchmarks.spool_faults", __doc__)
    parser.add_argument("--kills", type=int, default=1000, help="SIGKILLs (default 1000)")
    parser.add_argument("--cuts", type=int, default=2000, help="power cuts (default 2000)")
    parser.add_argument("--folder", help="on the disk to be used (default: the temporary one)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
