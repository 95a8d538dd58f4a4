"""SIGKILL at any moment of a switch: the node has its old version or the new one, whole.

    python -m benchmarks.switch_kills [--kills 200]

A process takes a bundle among the versions, switches to it, goes through probation and keeps it or
gives it back. It is killed before its n-th change of the disk (n is drawn over all of them, as
Python's audit events tell them), or after a time that is drawn. Then the versions are looked at as
a node does at its start; every tenth time a node's whole opening runs, with the gate's first look.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Called by its path, Python looks for modules in benchmarks/ and not in the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bundle_variants import tiny_bundle, variant
from dat_runtime import manifest
from dat_runtime.command import command
from dat_runtime.edge.node_settings import NodeSettings, SpoolSettings
from dat_runtime.edge.updates import switch
from dat_runtime.edge.updates.at_work import first
from dat_runtime.edge.updates.probation import Measured
from dat_runtime.edge.updates.versions import Versions, VersionsError, version_of
from dat_runtime.errors import DatError, reports_errors

ROOT = Path(__file__).resolve().parents[1]

CHANGES = frozenset(
    {"os.rename", "os.mkdir", "os.symlink", "os.remove", "os.rmdir", "shutil.copyfile", "open"}
)
"""Audit events of what changes a disk; of `open` those that write."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    if args.switch is not None:
        return _switch(*args.switch)
    with tempfile.TemporaryDirectory(prefix="dat-kills-") as name:
        found = kills(Path(name), args.kills, random.Random(17), opens_every=10)
    total = sum(found.values())
    words = ", ".join(f"{number} {what}" for what, number in sorted(found.items()))
    print(f"{total} switches: {words}")
    return 1 if found["broken"] else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("benchmarks.switch_kills", __doc__)
    parser.add_argument("--kills", type=int, default=200, help="(200)")
    parser.add_argument("--switch", nargs=4, help=argparse.SUPPRESS)  # this program's own child
    return parser.parse_args(argv)


def kills(folder: Path, times: int, chance: random.Random, opens_every: int) -> Counter[str]:
    """Kill so many switches; what the versions were like after each."""
    bundle = tiny_bundle(folder / "bundle")
    others = [variant(bundle, folder / f"v{number}", number) for number in (1, 2)]
    versions = Versions(bundle)
    names = {version_of(path) for path in (bundle, *others)}
    _run(bundle, bundle, "whole", "keep")
    changes = _changes_of(bundle, others[0])
    found: Counter[str] = Counter()
    for number in range(times):
        before, end = versions.state(), chance.choice(("keep", "return"))
        coming = others[number % 2]
        if number % 4 < 3:
            moment = str(chance.randrange(changes))
        else:
            moment = f"s{chance.uniform(0.0, 0.3)}"
        was_killed = not _run(bundle, coming, moment, end)
        expected = {before.current, version_of(coming)}
        if end == "return":  # to the last that was kept
            expected.add(before.previous)
        verdict = look(versions, expected & names, opens=number % opens_every == 0)
        found[verdict if was_killed or verdict == "broken" else "ended before the kill"] += 1
        if (number + 1) % 20 == 0:
            print(f"{number + 1} switches", flush=True)
    return found


def _changes_of(bundle: Path, coming: Path) -> int:
    """How many changes of the disk a switch makes."""
    line = [sys.executable, "-m", "benchmarks.switch_kills", "--switch"]
    line += [str(bundle), str(coming), "never", "keep"]
    done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


def look(versions: Versions, expected: set[str], opens: bool = False) -> str:
    """What a node would find at its start: "old or new, whole", or "broken"."""
    try:
        state = versions.state()
        if state.current not in expected:
            print(f"broken: {state.current} is current, expected {expected}", flush=True)
            return "broken"
        for version in filter(None, (state.current, state.previous)):
            place = versions.folder_of(version)
            manifest.verify(place)
            if version_of(place) != version:
                return "broken"
        manifest.verify(versions.folder / "current")  # as a server that is told the path
        if opens:
            settings = NodeSettings("n1", Path("none"), (), (), SpoolSettings(Path("none")))
            if first(settings, versions).version not in expected:
                return "broken"
    except (DatError, VersionsError) as error:
        print(f"broken: {error}", flush=True)
        return "broken"
    return "old or new, whole"


def _run(bundle: Path, coming: Path, moment: str, end: str) -> bool:
    """One switch in a process of its own; whether it came to its end.

    A fork: 200 interpreters would take longer to start than to be killed.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            code = _switch(str(bundle), str(coming), moment, end)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status not in (0, signal.SIGKILL):
        raise SystemExit(f"a switch ended with status {status}")
    return not status


def _switch(bundle: str, coming: str, moment: str, end: str) -> int:
    """The child: a whole installation and probation, killed at a moment."""
    changes = _Changes(int(moment) if moment.isdigit() else None)
    sys.addaudithook(changes)
    if moment.startswith("s"):
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, max(1e-6, float(moment[1:])))
    versions = Versions(Path(bundle))
    with versions.installing():
        version = versions.add(versions.bring(Path(coming)))
        if versions.state().current is None:
            versions.change(lambda state: switch.adopted(state, version, None))
        versions.change(lambda state: switch.switched(state, version, time.time()))
        versions.prune()
    versions.change(switch.started)
    versions.change(lambda state: switch.measured(state, Measured()))
    if end == "return" and versions.state().previous is not None:
        versions.change(lambda state: switch.returned(state, "drawn"))
        versions.change(lambda state: switch.unblocked(state, version))
    versions.change(switch.ended)
    versions.change(switch.kept)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if moment == "never":
        print(changes.number, flush=True)
    return 0


class _Changes:
    """Counts what changes the disk, and kills this process before the change of a number."""

    def __init__(self, last: int | None):
        self.number = 0
        self._last = last

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES:
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE):
            return
        if self.number == self._last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.number += 1


if __name__ == "__main__":
    raise SystemExit(main())
