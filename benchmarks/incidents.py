"""Alerts per accident: one a frame, one after each pause, and one event with updates.

    python -m benchmarks.incidents [--data ../shared/data/accidents-detection]

Rendered rows: an hour of a gate that misses, jitters and wavers, on made-up boxes. Real rows, with
--data: the labelled boxes of clips whose frames are numbered, at five frames a second, as they are
and through such a gate. "pause" is what is often done: a camera is mute for 30 s after each alert.
"""

import argparse
import random
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

# Called by its path, Python looks for modules in benchmarks/ and not in the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from dat_runtime.command import command
from dat_runtime.edge.incidents import Incidents
from dat_runtime.errors import reports_errors
from dat_runtime.types import SEVERITIES, Box, Detection, Size

FPS = 5
MUTE_S = 30.0
HOUR = 3600
FRAME = Size(640, 640)

Frame = tuple[float, list[Detection]]


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    print("scene                                 accidents  frames  one a frame   pause  "
          "events  alerts, updates included")  # fmt: skip
    for name, accidents, frames in rendered():
        show(name, accidents, frames)
    if args.data:
        clips = labelled(args.data)
        for name, misses in (("real clips, as labelled", 0.0), ("real clips, 40 % missed", 0.4)):
            chance = random.Random(0)
            seen = [[(t, wavers(d, chance, misses)) for t, d in frames] for frames in clips]
            total(f"{name} ({len(clips)})", seen)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("benchmarks.incidents", __doc__)
    parser.add_argument("--data", type=Path, help="folder of the Accidents Detection Dataset")
    return parser.parse_args(argv)


def rendered() -> Iterator[tuple[str, int, list[Frame]]]:
    """Scenes of an hour: name, true number of accidents, frames."""
    car, other = (200, 300, 60, 40), (480, 120, 50, 40)
    for misses in (0.1, 0.5, 0.9):
        chance = random.Random(1)
        stays = [(t, wavers([detection(*car)], chance, misses)) for t in times()]
        yield f"a stopped car, {misses:.0%} missed", 1, stays
    chance = random.Random(2)
    pile = [detection(200 + 50 * i, 300, 60, 40) for i in range(4)]
    yield "a pile-up of four, 50% missed", 1, [(t, wavers(pile, chance, 0.5)) for t in times()]
    two = [
        (t, wavers([detection(*car), *([detection(*other)] if t >= 600 else [])], chance, 0.3))
        for t in times()
    ]
    yield "a second accident after 10 min", 2, two
    six = [(t, wavers([detection(*car)] if t % 600 < 60 else [], chance, 0.3)) for t in times()]
    yield "six of a minute each, 9 min apart", 6, six


def times() -> list[float]:
    return [i / FPS for i in range(HOUR * FPS)]


def detection(x: float, y: float, width: float, height: float) -> Detection:
    return Detection(Box(x, y, x + width, y + height, FRAME), "moderate", 0.6)


def wavers(seen: Sequence[Detection], chance: random.Random, misses: float) -> list[Detection]:
    """The boxes as a gate sees them: some missed, all jittering, confidence and class unsure."""
    found = []
    for one in seen:
        if chance.random() < misses:
            continue
        box = one.box
        x, y = (box.x2 - box.x1) * 0.06, (box.y2 - box.y1) * 0.06
        corners = [c + chance.gauss(0, s) for c, s in zip(box[:4], (x, y, x, y), strict=True)]
        confidence = min(0.99, max(0.25, chance.gauss(0.6, 0.12)))
        severity = chance.choices(SEVERITIES, (0.9, 0.1))[0]
        found.append(Detection(Box(*corners, box.frame), severity, confidence))
    return found


def labelled(folder: Path) -> list[list[Frame]]:
    """The labels of each clip with ten or more frames, in the order of their numbers."""
    clips: dict[str, dict[int, list[Detection]]] = defaultdict(dict)
    for path in folder.glob("*/labels/*.txt"):
        match = re.fullmatch(r"(.+)_(\d+)_(g\d+)", path.stem)
        if match is None:
            continue
        boxes = []
        for line in path.read_text("utf-8").splitlines():
            kind, x, y, width, height = map(float, line.split())
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            boxes.append(Detection(Box(*corners, Size(1, 1)), SEVERITIES[int(kind)], 0.6))
        clips[match[1] + match[3]][int(match[2])] = boxes
    return [
        [(number / FPS, frames[number]) for number in sorted(frames)]
        for frames in clips.values()
        if len(frames) >= 10
    ]


def counted(frames: Sequence[Frame]) -> tuple[int, int, int, int]:
    """Alerts of one a frame, alerts with a pause, events, and alerts of those events."""
    incidents, events, alerts = Incidents(), set(), 0
    paused, mute_until = 0, -1.0
    for now, seen in frames:
        sighting = incidents.see("camera", now, seen)
        if sighting is not None and sighting.is_news:
            events.add(sighting.id)
            alerts += 1
        if seen and now >= mute_until:
            paused, mute_until = paused + 1, now + MUTE_S
    return sum(bool(seen) for _, seen in frames), paused, len(events), alerts


def show(name: str, accidents: int | str, frames: Sequence[Frame]) -> None:
    each, paused, events, alerts = counted(frames)
    print(f"{name:38}{accidents:>9}{len(frames):8}{each:13}{paused:8}{events:8}{alerts:8}")


def total(name: str, clips: Sequence[Sequence[Frame]]) -> None:
    rows = [counted(frames) for frames in clips]
    each, paused, events, alerts = (sum(column) for column in zip(*rows, strict=True))
    frames = sum(map(len, clips))
    print(f"{name:38}{len(clips):>9}{frames:8}{each:13}{paused:8}{events:8}{alerts:8}")


if __name__ == "__main__":
    raise SystemExit(main())
