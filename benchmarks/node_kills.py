"""A node that is killed again and again: every event that it had kept arrives, and arrives once.

    python -m benchmarks.node_kills --bundle OUT/bundle --frames OUT/data [--kills 100]

Node and receiver are processes of the wheel's commands, with a spool on a real disk. The node is
killed (SIGKILL) at a random moment; after each kill its spool says what it had kept. While it is
killed the receiver runs in every other round, so that kills meet events under way too. At the end
the node runs once more, without new frames, until its spool is empty.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

# Called by its path, Python looks for modules in benchmarks/ and not in the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.node_load import ANSWER, frames_that_fire
from dat_runtime.command import command
from dat_runtime.edge.bundle import open_bundle
from dat_runtime.errors import reports_errors
from dat_runtime.files import write_json
from export.live.processes import (
    Process,
    operator,
    receiver,
    running,
    spooled,
    write_node,
    write_tokens,
)

FRAMES = 8
LONGEST = 2.0
"""Seconds that a node runs before it is killed, at most."""

PATIENCE = 120.0
"""Seconds in which the spool has to become empty at the end."""


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
    write_frames(args.bundle, args.frames, folder / "frames", FRAMES)
    chance = random.Random(0)
    port = 0
    kept: set[str] = set()
    for round_ in range(args.kills):
        with _receiver(folder, port if round_ % 2 else None) as listening:
            port = listening or port or 9
            with _node(_settings(args, folder, port)) as node:
                node.line("node n1")
                time.sleep(chance.uniform(0.05, LONGEST))
                node.kill()
            kept |= spooled(folder / "spool.sqlite")
        if round_ % 10 == 9:
            print(f"[kills] {round_ + 1} of {args.kills}, {len(kept)} events kept", flush=True)
    shutil.rmtree(folder / "frames")
    (folder / "frames").mkdir()
    with (
        _receiver(folder, port) as listening,
        _node(_settings(args, folder, listening or port)),
    ):
        deadline = time.monotonic() + PATIENCE
        while spooled(folder / "spool.sqlite") and time.monotonic() < deadline:
            time.sleep(0.1)
        arrived = Counter(_arrived(listening or port))
    lost = kept - set(arrived)
    doubled = [id for id, times in arrived.items() if times > 1]
    print(f"killed {args.kills} times; seen in the spool after a kill: {len(kept)} events")
    print(f"at the receiver: {len(arrived)}; lost {len(lost)}, doubled {len(doubled)}")
    return 1 if lost or doubled else 0


def write_frames(bundle: Path, prepared: Path, folder: Path, count: int) -> None:
    """Pictures of a prepared set on which the bundle's gate fires, as a camera's folder."""
    import cv2

    folder.mkdir()
    for number, image in enumerate(frames_that_fire(open_bundle(bundle), prepared)[:count]):
        cv2.imwrite(str(folder / f"{number}.png"), image)


def _settings(args: argparse.Namespace, folder: Path, port: int) -> Path:
    write_json(folder / "answer.json", ANSWER)
    write_tokens(folder)
    source = str(folder / "frames")
    return write_node(
        folder,
        args.bundle,
        f"http://127.0.0.1:{port}",
        cameras=[{"name": f"c{i}", "source": source, "fps": 4} for i in range(3)],
        mllm={"recorded": "answer.json", "concurrency": 2},
    )


def _node(settings: Path) -> AbstractContextManager[Process]:
    return running("edge", "run", settings)


@contextmanager
def _receiver(folder: Path, port: int | None) -> Iterator[int | None]:
    """A receiver on that port (0: a free one), and its port; none runs where `port` is None."""
    if port is None:
        yield None
        return
    store, tokens = f"sqlite:///{folder / 'events.sqlite'}", write_tokens(folder)
    with receiver(store, "--tokens", tokens, listen=f"127.0.0.1:{port}") as process:
        yield process.port


def _arrived(port: int) -> list[str]:
    """Ids of all events at the receiver, in pages."""
    ids: list[str] = []
    with operator(f"http://127.0.0.1:{port}") as client:
        after = ""
        while True:
            page = client.get("/v1/events", params={"after": after, "limit": 1000}).json()
            if not page["events"]:
                return ids
            ids += [event["id"] for event in page["events"]]
            after = page["next"]


if __name__ == "__main__":
    raise SystemExit(main())
