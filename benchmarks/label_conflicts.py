"""Contradictions found, and honest copies accused: `python -m benchmarks.label_conflicts --data D`.

Copies every frame with boxes of a prepared set D in the ways below, once with its boxes mapped
along, once with one of them moved by a third of its width (IoU 0.5), and judges each copy beside
its original. Then it tells what the pixels say of the pairs of D itself that look alike and have
other boxes: where an accident moves before a still camera, the correlation in the boxes falls.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks.leak_recall import encoded, noisy, toned
from dat_runtime.command import command
from dat_runtime.errors import reports_errors
from dat_runtime.files import write_json
from dat_runtime.truth import SPLITS, Frame, read_split
from dat_runtime.types import Accident, Box, Size
from data.prep.importers.labels import UNIT
from data.prep.importers.source_frame import SourceFrame
from data.prep.pictures import looks, records
from data.prep.pictures.prepare import Prepared
from data.prep.pictures.unchanged import STRAIGHT, TURNS, Turn, correlation, region
from data.prep.prepared.kept import Kept
from data.prep.splitting import agreement, conflicts

Change = Callable[[Image.Image, np.random.Generator], Image.Image]
_MIRRORED = next(turn for turn in TURNS if turn == (False, True, False))
_TURNED = next(turn for turn in TURNS if turn == (True, False, True))

CHANGES: dict[str, tuple[Change, Turn]] = {
    "the same pixels": (lambda p, rng: p, STRAIGHT),
    "re-encoded, quality 30": (lambda p, rng: encoded(p, 30), STRAIGHT),
    "half size": (lambda p, rng: p.resize((p.width // 2, p.height // 2)), STRAIGHT),
    "mirrored": (lambda p, rng: encoded(ImageOps.mirror(p), 80), _MIRRORED),
    "turned 90 degrees": (lambda p, rng: encoded(p.rotate(90, expand=True), 80), _TURNED),
    "grey": (lambda p, rng: encoded(p.convert("L").convert("RGB"), 80), STRAIGHT),
    "noise, sigma 30": (lambda p, rng: noisy(p, rng, 30), STRAIGHT),
    "gamma 1.2": (lambda p, rng: toned(p, 1.2), STRAIGHT),
    "re-encoded, quality 10": (lambda p, rng: encoded(p, 10), STRAIGHT),
    "160 x 90": (lambda p, rng: encoded(p.resize((160, 90)), 80), STRAIGHT),
}
"""The last two lose more than what is vouched for."""


def moved(accident: Accident) -> Accident:
    """The accident a third of its width further left, or right where there is no room."""
    x1, y1, x2, y2, _ = accident.box
    step = (x2 - x1) / 3
    if x1 >= step:
        step = -step
    return accident._replace(box=Box(x1 + step, y1, x2 + step, y2, UNIT))


def kept(number: int, image: Image.Image, accidents: Sequence[Accident]) -> Kept:
    """A frame as the build has it before splits are made."""
    content = hashlib.sha256(image.tobytes()).hexdigest()
    source = SourceFrame(str(number), "train", Path(), "", tuple(accidents))
    look = looks.look_of(image).hex()
    picture = Prepared(content, Size(image.width, image.height), look, ())
    return Kept(source, picture, content, number, "train")


def accidents_of(frame: Frame) -> list[Accident]:
    return [accident._replace(box=accident.box.to(UNIT)) for accident in frame.accidents]


def judged(frames: Sequence[tuple[Path, Frame]], name: str) -> dict[str, float]:
    """Shares of contradictory and of honest copies that are called contradictions."""
    change, turn = CHANGES[name]
    rng = np.random.default_rng(0)
    found = accused = 0
    for path, frame in frames:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        accidents = accidents_of(frame)
        copy = change(image, rng)
        honest = [accident._replace(box=turn.of_box(accident.box)) for accident in accidents]
        other = [moved(accidents[0]), *accidents[1:]]
        wrong = [accident._replace(box=turn.of_box(accident.box)) for accident in other]
        original = kept(0, image, accidents)
        seen = records.of_pictures([image, copy])
        for truth, is_wrong in ((honest, False), (wrong, True)):
            pair = [original, kept(1, copy, truth)]
            contradicted = bool(conflicts.find(pair, [], seen, "threads").of)
            found += contradicted and is_wrong
            accused += contradicted and not is_wrong
    return {"found": found / len(frames), "accused": accused / len(frames)}


def pairs_of_set(frames: Sequence[tuple[Path, Frame]]) -> dict[str, Any]:
    """The pairs of the set itself that look alike and have other boxes, and their correlations."""
    own = []
    for number, (path, frame) in enumerate(frames):
        with Image.open(path) as opened:
            own.append(kept(number, opened.convert("RGB"), accidents_of(frame)))
    seen = records.of_pictures(Image.open(path) for path, _ in frames)
    bits = [bytes.fromhex(frame.picture.look) for frame in own]
    correlations = []
    for pairs in looks.alike(bits, conflicts.RADIUS):
        for first, second, _ in pairs.tolist():
            one, two = own[first].accidents, own[second].accidents
            if len(one) == len(two) and agreement.agreement(one, two)[0] >= agreement.SAME_BOX:
                continue
            place = region([accident.box for accident in (*one, *two)])
            views = [seen["view"][index][place] for index in (first, second)]
            correlations.append(correlation(*views))
    contradicted = conflicts.find(own, [], seen, "threads").of
    shares = np.array(correlations)
    return {
        "frames": len(own),
        "pairs_with_other_boxes": len(correlations),
        "of_them_unchanged": int((shares >= 0.99).sum()),
        "correlation_percentiles": {
            str(q): round(float(np.percentile(shares, q)), 3)
            for q in (0, 10, 50, 90)
            if len(shares)
        },
        "contradicted_frames": len(contradicted),
    }


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.label_conflicts", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="a set by data.prep.build")
    parser.add_argument("--every", type=int, default=4, help="copies of every n-th frame")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    frames = []
    for split in SPLITS:
        for frame in read_split(args.data, split):
            if frame.accidents:
                frames.append((args.data / frame.image, frame))
    chosen = frames[:: args.every]
    rows = {}
    for name in CHANGES:
        rows[name] = judged(chosen, name)
        print(
            f"{name:>24}: {rows[name]['found']:7.1%} of contradictions found, "
            f"{rows[name]['accused']:.1%} of honest copies accused",
            flush=True,
        )
    own = pairs_of_set(frames)
    print(f"{len(chosen)} frames copied in each way; the set itself: {own}")
    if args.out:
        write_json(args.out, {"frames": len(chosen), "changes": rows, "set": own})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
