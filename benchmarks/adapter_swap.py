"""Adapters changed under load: failed questions, answers of mixed versions, lost events.

    python -m benchmarks.adapter_swap [--swaps 100] [--answers 10000]

A real node (gate, questions, spool, its follower of versions) looks at one accident after the
other, as fast as the MLLM answers. Meanwhile its current version changes again and again between
bundles whose adapters differ; their gate sees an accident in every picture. The server is a
stand-in without a model (`benchmarks.lora_server`): it serves adapters by name as vLLM does, and
each answer states the name and the sha256 of the weights that made it. An event is mixed when these
are not those of the bundle that it states.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

# Called by its path, Python looks for modules in benchmarks/ and not in the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bundle_variants import tiny_bundle, variant
from benchmarks.lora_server import LoraServer, serving, weights_digest
from dat_runtime.command import command
from dat_runtime.demo.recording import FRAME
from dat_runtime.draw import Image
from dat_runtime.edge.asking import Asking
from dat_runtime.edge.cameras.settings import CameraFrame
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.node import Node
from dat_runtime.edge.node_settings import MllmSettings, NodeSettings, SpoolSettings
from dat_runtime.edge.source import read_frame
from dat_runtime.edge.spool import Spool
from dat_runtime.edge.updates import switch
from dat_runtime.edge.updates.adapters import adapter_of
from dat_runtime.edge.updates.at_work import first
from dat_runtime.edge.updates.serving import Follower
from dat_runtime.edge.updates.versions import Versions
from dat_runtime.edge.uplink.settings import UplinkState
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.event import Event
from dat_runtime.manifest import read

SLOTS = 4
ANSWER_S = 0.02
WAIT_S = 20.0
"""For an answer: here the machine is full, and a late answer is none of a mixed version."""

VARIANTS = 5
DEGRADED = "questions_degraded"


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    with tempfile.TemporaryDirectory(prefix="dat-swap-") as name:
        swapped = run(Path(name), args.swaps, args.answers)
    print(swapped.line())
    return 0 if swapped.is_clean else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("benchmarks.adapter_swap", __doc__)
    parser.add_argument("--swaps", type=int, default=100, help="of the version at work (100)")
    parser.add_argument("--answers", type=int, default=10_000, help="at least (10,000)")
    return parser.parse_args(argv)


class Accidents:
    """Cameras that show one accident after the other, while fewer than `SLOTS` are in hand."""

    def __init__(self, image: Image):
        self._image = image
        self._done = threading.Semaphore(SLOTS)
        self.shown = 0
        self.ended = False

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self) -> None:
        """There is nothing to stop."""

    def states(self) -> dict[str, str]:
        return {"a": "live"}

    @property
    def finished(self) -> bool:
        return self.ended

    def next(self, timeout: float) -> CameraFrame | None:
        if self.ended or not self._done.acquire(timeout=timeout):
            return None
        self.shown += 1
        # A camera of its own each: no two are one incident.
        return CameraFrame(f"c{self.shown}", self._image, time.time(), time.monotonic())

    def told(self) -> None:
        self._done.release()


class Offered:
    """In an uplink's place: what it is offered, and that the next accident may come."""

    def __init__(self, accidents: Accidents):
        self._accidents = accidents
        self.events: list[Event] = []

    def start(self) -> None:
        """There is no way to anywhere."""

    def stop(self, timeout: float) -> None:
        """There is nothing under way."""

    def offer(self, event: Event, camera: str) -> None:
        self.events.append(event)
        self._accidents.told()

    @property
    def state(self) -> UplinkState:
        return UplinkState("", False, 0.0, None, 0, 0, None)


@dataclass
class Swapped:
    """What became of all questions."""

    swaps: int = 0
    shown: int = 0
    answers: int = 0
    failed: int = 0
    mixed: int = 0
    lost: int = 0
    names: int = 0
    swap_s: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        return not (self.failed or self.mixed or self.lost)

    def line(self) -> str:
        middle = sorted(self.swap_s)[len(self.swap_s) // 2]
        return (
            f"{self.swaps} swaps among {self.names} names in {self.seconds:.0f} s: "
            f"{self.shown:,} accidents, {self.answers:,} answers, {self.failed} questions failed, "
            f"{self.mixed} answers of mixed versions, {self.lost} events lost; "
            f"a swap takes {middle:.2f} s (median), {max(self.swap_s):.2f} s at most"
        )


def run(folder: Path, swaps: int, answers: int) -> Swapped:
    """Swap so often while at least so many questions are answered."""
    bundle = tiny_bundle(folder / "bundle")
    versions = Versions(bundle)
    names, weights = _prepared(bundle, folder, versions)
    server = LoraServer(seconds=ANSWER_S, plain=bundle / "adapter")
    with serving(server) as url:
        settings = NodeSettings(
            node="n1",
            bundle=bundle,
            cameras=(),
            uplinks=(),
            spool=SpoolSettings(folder / "spool.sqlite"),
            mllm=MllmSettings(url=url, model="dat", concurrency=SLOTS),
        )
        return _swapped(settings, versions, server, names, weights, swaps, answers)


def _prepared(bundle: Path, folder: Path, versions: Versions) -> tuple[list[str], dict[str, str]]:
    """The versions, among which the first one is current, and the weights of each."""
    names, weights = [], {}
    with versions.installing():
        for number in range(VARIANTS):
            made = variant(bundle, folder / f"v{number}", number)
            names.append(versions.add(versions.bring(made)))
            weights[names[-1]] = weights_digest(made / "adapter")
    served = adapter_of(read(bundle))
    versions.change(lambda state: switch.adopted(state, names[0], served))
    return names, weights


@dataclass
class Running:
    """A node at work, and what is seen of it."""

    follower: Follower
    accidents: Accidents
    offered: Offered
    counts: Counts


@contextmanager
def running(settings: NodeSettings, versions: Versions) -> Iterator[Running]:
    """A node with the current version, while the context lasts.

    Its follower is not started: whoever wants to know when it looked asks it to look.
    """
    counts, at_work = Counts(), first(settings, versions)
    accidents = Accidents(read_frame(FRAME))
    offered = Offered(accidents)
    assert settings.mllm is not None
    spool = Spool(settings.spool.path, 500_000_000, 20_000_000, counts)
    asked = at_work.assessor if at_work.is_served else None
    asking = Asking(asked, SLOTS, WAIT_S, settings.mllm.timeout, counts)
    node = Node("n1", at_work.gate, accidents, asking, spool, offered, counts)  # type: ignore[arg-type]
    thread = threading.Thread(target=node.run)
    thread.start()
    try:
        yield Running(
            Follower(settings, versions, node, asking, at_work), accidents, offered, counts
        )
    finally:
        accidents.ended = True
        thread.join(60)


def _swapped(
    settings: NodeSettings,
    versions: Versions,
    server: LoraServer,
    names: Sequence[str],
    weights: dict[str, str],
    swaps: int,
    answers: int,
) -> Swapped:
    swapped, began = Swapped(names=len(names)), time.monotonic()
    with running(settings, versions) as node:
        for number in range(1, swaps + 1):
            version = names[number % len(names)]
            versions.change(lambda state, v=version: switch.switched(state, v, time.time()))
            begun = time.monotonic()
            node.follower.look()
            swapped.swap_s.append(time.monotonic() - begun)
            if node.follower.status()["version"] != version:
                raise ConfigError(f"the node does not follow: {node.follower.status()}")
            swapped.swaps = number
            # The answers are spread over the swaps.
            while len(node.offered.events) < answers * number / swaps:
                time.sleep(0.01)
            if number % 10 == 0:
                print(f"{number} swaps, {len(node.offered.events):,} answers", flush=True)
    swapped.seconds = time.monotonic() - began
    swapped.shown, swapped.answers = node.accidents.shown, server.answered
    # Of the questions, some were not answered, or not in time; the server counts its own failures.
    degraded = sum(n for (name, _), n in node.counts.snapshot().items() if name == DEGRADED)
    swapped.failed = server.failed + server.broken_off + degraded
    swapped.mixed = sum(is_mixed(event, weights) for event in node.offered.events)
    swapped.lost = node.accidents.shown - len(node.offered.events)
    return swapped


def is_mixed(event: Event, weights: dict[str, str]) -> bool:
    """Whether an event's answer was made by others than the versions that it states."""
    stated = event.alert.origin.versions
    expected = f"{stated['mllm']} {weights[str(stated['bundle'])]}"
    return event.assessment.summary != expected


if __name__ == "__main__":
    raise SystemExit(main())
