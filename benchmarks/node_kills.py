"""A node that is killed again and again: every event that it had kept arrives, and arrives once.

    python -m benchmarks.node_kills --bundle OUT/bundle --frames OUT/data [--kills 100]

Node and receiver are processes of the wheel's commands, with a spool on a real disk. The node is
killed (SIGKILL) at a random moment; after each kill its spool says what it had kept. While it is
killed the receiver runs in every other round, so that kills meet events under way too. At the end
the node runs once more, without new frames, until its spool is empty.
"""

import argparse
import json
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

# Called by its path, Python looks for modules in benchmarks/ and not in the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.node_load import ANSWER, frames_that_fire
from dat_runtime.command import command
from dat_runtime.edge.bundle import open_bundle
from dat_runtime.errors import reports_errors
from dat_runtime.files import write_json

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 8
LONGEST = 2.0
"""Seconds that a node runs before it is killed, at most."""

PATIENCE = 120.0
"""Seconds in which the spool has to become empty at the end."""

TOKEN = "0123456789abcdef0123456789abcdef"


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.node_kills", __doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="made by `make export`")
    parser.add_argument("--frames", type=Path, required=True, help="made by `make data`")
    parser.add_argument("--kills", type=int, default=100)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        return _run(args, Path(folder))


def _run(args: argparse.Namespace, folder: Path) -> int:
    _write_frames(args, folder / "frames")
    chance = random.Random(0)
    port = 0
    kept: set[str] = set()
    for round_ in range(args.kills):
        with _receiver(folder, port if round_ % 2 else None) as listening:
            port = listening or port or 9
            with _process("edge", "run", _node(args, folder, port)) as node:
                _line_of(node, "node n1")
                time.sleep(chance.uniform(0.05, LONGEST))
                node.kill()
                node.wait()
            kept |= _spooled(folder)
        if round_ % 10 == 9:
            print(f"[kills] {round_ + 1} of {args.kills}, {len(kept)} events kept", flush=True)
    shutil.rmtree(folder / "frames")
    (folder / "frames").mkdir()
    with (
        _receiver(folder, port) as listening,
        _process("edge", "run", _node(args, folder, listening or port)),
    ):
        deadline = time.monotonic() + PATIENCE
        while _spooled(folder) and time.monotonic() < deadline:
            time.sleep(0.1)
        arrived = Counter(_arrived(listening or port))
    lost = kept - set(arrived)
    doubled = [id for id, times in arrived.items() if times > 1]
    print(f"killed {args.kills} times; seen in the spool after a kill: {len(kept)} events")
    print(f"at the receiver: {len(arrived)}; lost {len(lost)}, doubled {len(doubled)}")
    return 1 if lost or doubled else 0


def _write_frames(args: argparse.Namespace, folder: Path) -> None:
    """Pictures on which the gate fires, as a camera's folder."""
    import cv2

    folder.mkdir()
    bundle = open_bundle(args.bundle)
    for number, image in enumerate(frames_that_fire(bundle, args.frames)[:FRAMES]):
        cv2.imwrite(str(folder / f"{number}.png"), image)


def _node(args: argparse.Namespace, folder: Path, port: int) -> Path:
    write_json(folder / "answer.json", ANSWER)
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "token").chmod(0o600)
    source = str(folder / "frames")
    node = {
        "node": "n1",
        "bundle": str(args.bundle.resolve()),
        "cameras": [{"name": f"c{i}", "source": source, "fps": 4} for i in range(3)],
        "mllm": {"recorded": "answer.json", "concurrency": 2},
        "uplink": {
            "url": f"http://127.0.0.1:{port}",
            "token_file": "token",
            "initial_bytes_per_s": 100_000,
        },
        "spool": {
            "path": "spool.sqlite",
            "max_bytes": 50_000_000,
            "alert_reserve_bytes": 5_000_000,
        },
    }
    path = folder / "node.yaml"
    path.write_text(json.dumps(node))  # JSON is YAML
    return path


@contextmanager
def _process(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "dat_runtime.cli", *map(str, arguments)]
    quiet = subprocess.DEVNULL
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=quiet, text=True, cwd=ROOT)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()
        assert running.stdout is not None
        running.stdout.close()


@contextmanager
def _receiver(folder: Path, port: int | None) -> Iterator[int | None]:
    """A receiver on that port (0: a free one), and its port; none runs where `port` is None."""
    if port is None:
        yield None
        return
    tokens = folder / "tokens"
    tokens.write_text(f"n1\t{TOKEN}\noperator\t{TOKEN[::-1]}\n")
    store = f"sqlite:///{folder / 'events.sqlite'}"
    listen = f"127.0.0.1:{port}"
    with _process("receive", "--listen", listen, "--store", store, "--tokens", tokens) as running:
        yield int(_line_of(running, r"listening on http://\S+:(\d+)")[1])


def _line_of(running: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    assert running.stdout is not None
    for line in running.stdout:
        found = re.search(pattern, line)
        if found:
            return found
    raise RuntimeError(f"a process ended with {running.wait()} before it said {pattern!r}")


def _spooled(folder: Path) -> set[str]:
    path = folder / "spool.sqlite"
    if not path.is_file():
        return set()
    with closing(sqlite3.connect(path)) as spool:
        return {id for (id,) in spool.execute("SELECT id FROM events")}


def _arrived(port: int) -> list[str]:
    """Ids of all events at the receiver, in pages."""
    ids: list[str] = []
    address = f"http://127.0.0.1:{port}/v1/events"
    with httpx.Client(headers={"Authorization": f"Bearer {TOKEN[::-1]}"}) as client:
        after = ""
        while True:
            page = client.get(address, params={"after": after, "limit": 1000}).json()
            if not page["events"]:
                return ids
            ids += [event["id"] for event in page["events"]]
            after = page["next"]


if __name__ == "__main__":
    raise SystemExit(main())
