"""Rendered sets laid out exactly as the two public image sets and the 5G trace.

    python -m data.prep.scenes --out runs/smoke/source

The same importers read them, so the whole job runs where no data set is at hand. A rendered clip is
one camera's place; its frames show other traffic there. No place is in two splits.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dat_runtime.draw import Image, encode_jpeg
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.stage import Stage
from dat_runtime.types import SEVERITIES, Accident
from data.prep.rendering import frames, places

SIZE = 640
FRAMES_PER_CLIP = 3
SPLITS = ("train", "val", "test")
NEGATIVE_SHARES = (268, 120, 120)
"""The paper's split of its negatives."""
TRACE_SECONDS = 6000
DATA_YAML = """train: ../train/images
val: ../valid/images
test: ../test/images

nc: 2
names: [moderate, severe]
"""


def accident_frames(
    seed: int, split: int, count: int, size: int = SIZE
) -> Iterator[tuple[str, bytes, list[Accident]]]:
    """`count` frames of the set with boxes: name, JPEG, accidents (most one, some 0, 2 or 3)."""
    for number, frame, place, rng in _shots(seed, split, count, size):
        many = int(rng.choice([0, 1, 2, 3], p=[0.03, 0.8, 0.13, 0.04]))
        wanted = [SEVERITIES[int(i)] for i in rng.integers(0, 2, many)]
        image, accidents = (
            frames.accident(rng, place, wanted) if wanted else (frames.ordinary(rng, place), [])
        )
        yield f"cam{split}{number:03d}_{frame:04d}", _jpeg(image, place), accidents


def negative_frames(
    seed: int, split: int, count: int, size: int = SIZE
) -> Iterator[tuple[str, bytes]]:
    """`count` accident-free frames: name, JPEG."""
    for number, frame, place, rng in _shots(seed, 10 + split, count, size):
        yield f"test{split}{number:02d}_{frame:04d}", _jpeg(frames.ordinary(rng, place), place)


def uplink_trace(rng: np.random.Generator, seconds: int) -> NDArray[np.int64]:
    """(seconds, 2): down- and uplink, bytes per second; bursty, with dips to almost nothing."""
    series = np.empty((seconds, 2))
    for column, mean in enumerate((1.6e6, 1.05e6)):
        slow = _autoregressive(rng, seconds, minutes := 180) * 0.32
        fast = _autoregressive(rng, seconds, 6) * 0.22
        level = mean * np.exp(slow + fast)
        for start in np.flatnonzero(rng.random(seconds) < 1 / minutes):
            level[start : start + rng.integers(2, 9)] *= rng.uniform(0.0, 0.06)
        series[:, column] = np.minimum(level, 2.2 * mean)
    return series.astype(np.int64)


def write_sets(folder: Path, seed: int, counts: Sequence[int], negatives: int) -> None:
    """All three sets into `folder`; `counts` are the frames with boxes of train, val and test."""
    with_boxes = folder / "accidents-detection"
    classes = folder / "accident-detection-from-cctv-footage" / "data"
    for split, (name, count) in enumerate(zip(SPLITS, counts, strict=True)):
        target = with_boxes / ("valid" if name == "val" else name)
        for part in (target / "images", target / "labels", classes / name / "Accident"):
            part.mkdir(parents=True)
        for i, (stem, jpeg, accidents) in enumerate(accident_frames(seed, split, count)):
            (target / "images" / f"{stem}.jpg").write_bytes(jpeg)
            (target / "labels" / f"{stem}.txt").write_text("\n".join(map(_label, accidents)))
            if accidents and i < max(2, count // 30):
                (classes / name / "Accident" / f"{stem}.jpg").write_bytes(jpeg)
            _tell(f"{name} with boxes", i + 1, count)
    (with_boxes / "data.yaml").write_text(DATA_YAML)
    _write_negatives(classes, seed, negatives)
    (folder / "5g-traffic").mkdir()
    rows = uplink_trace(np.random.default_rng([seed, 99]), TRACE_SECONDS)
    lines = ["DL_bitrate,UL_bitrate", *(f"{down},{up}" for down, up in rows)]
    (folder / "5g-traffic" / "zoom_1s.csv").write_text("\n".join(lines) + "\n")


def _write_negatives(classes: Path, seed: int, negatives: int) -> None:
    """Accident-free frames with the public set's faults: exact copies and a stray shortcut."""
    parts = [negatives * s // sum(NEGATIVE_SHARES) for s in NEGATIVE_SHARES]
    parts[0] += negatives - sum(parts)
    done = 0
    for split, (name, count) in enumerate(zip(SPLITS, parts, strict=True)):
        target = classes / name / "Non Accident"
        target.mkdir()
        for stem, jpeg in negative_frames(seed, split, count):
            (target / f"{stem}.jpg").write_bytes(jpeg)
            done += 1
            _tell("accident-free", done, negatives)
    originals = sorted((classes / "train" / "Non Accident").iterdir())
    for i, original in enumerate(originals[:: max(1, len(originals) // 4)][:4]):
        twin = classes / ("test" if i == 3 else "train") / "Non Accident"
        (twin / f"{original.stem}_copy{i:02d}.jpg").write_bytes(original.read_bytes())
    (classes / "test" / "Non Accident" / "Pictures - Shortcut.lnk").write_bytes(
        b"L\0\0\0stray shortcut, not an image"
    )


def _shots(
    seed: int, split: int, count: int, size: int
) -> Iterator[tuple[int, int, places.Place, np.random.Generator]]:
    """Clip number, frame number, place and generator of each of `count` frames."""
    for i in range(count):
        clip, nth = divmod(i, FRAMES_PER_CLIP)
        if nth == 0:
            place = places.place(np.random.default_rng([seed, split, clip]), size)
        yield clip, 7 * nth + clip % 7, place, np.random.default_rng([seed, split, clip, nth + 1])


def _jpeg(image: Image, place: places.Place) -> bytes:
    return encode_jpeg(image, place.weather.jpeg_quality)


def _label(accident: Accident) -> str:
    """A YOLO row: class, centre and sides as shares of the frame."""
    b = accident.box
    w, h = b.frame.width, b.frame.height
    row = ((b.x1 + b.x2) / 2 / w, (b.y1 + b.y2) / 2 / h, (b.x2 - b.x1) / w, (b.y2 - b.y1) / h)
    return f"{SEVERITIES.index(accident.severity)} " + " ".join(f"{v:.10g}" for v in row)


def _autoregressive(rng: np.random.Generator, steps: int, memory: float) -> NDArray[np.float64]:
    """A unit-variance series that forgets over about `memory` steps."""
    keep = np.exp(-1 / memory)
    noise = rng.standard_normal(steps)
    series = np.empty(steps)
    value = noise[0]
    for t in range(steps):
        value = keep * value + np.sqrt(1 - keep**2) * noise[t]
        series[t] = value
    return series


def _tell(what: str, done: int, count: int) -> None:
    if done % 60 == 0 or done == count:
        print(f"[source] {what}: {done}/{count} frames", flush=True)


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=720, help="frames with boxes")
    parser.add_argument("--val", type=int, default=60)
    parser.add_argument("--test", type=int, default=120)
    parser.add_argument(
        "--negatives", type=int, default=160, help="accident-free frames, all splits"
    )
    options = parser.parse_args(argv)
    config = {k: v for k, v in vars(options).items() if k != "out"}
    if min(config.values()) < 0 or min(options.train, options.val, options.test) < 1:
        raise ConfigError(f"seed and counts must be positive, got {config}")
    stage = Stage(options.out, kind="source", inputs={}, config=config, code=[__file__])
    if not stage.up_to_date():
        cv2.setNumThreads(1)
        counts = (options.train, options.val, options.test)
        with stage as folder:
            write_sets(folder, options.seed, counts, options.negatives)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
