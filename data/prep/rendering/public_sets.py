"""Rendered frames and a trace laid out exactly as the two public image sets and the 5G trace.

The three in one folder:

    accidents-detection/data.yaml, {train,valid,test}/{images,labels}/
    accident-detection-from-cctv-footage/data/{train,val,test}/{Accident,Non Accident}/
    5g-traffic/zoom_1s.csv

The frames come in clips: a clip is one camera's place, and its frames show different traffic there.
A place belongs to one split, because the split is part of every seed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dat_runtime.draw import Image, encode_jpeg
from dat_runtime.truth import SPLITS
from dat_runtime.types import SEVERITIES, Accident
from data.prep.rendering import frames, places
from data.prep.rendering.camera import REFERENCE_SIDE

Each = Callable[..., Iterable[Any]]

FRAMES_PER_CLIP = 3

COLLISIONS = {0: 0.15, 1: 0.72, 2: 0.1, 3: 0.03}
"""Numbers of collisions in a frame of the set with boxes, and how often each occurs."""

NEGATIVES_FROM = 10
"""Added to a split's number, so that no accident-free frame shows a place of the set with boxes."""

NEGATIVE_SHARES = (268, 120, 120)
"""The paper's split of its negatives (section 4.1), in the order of SPLITS."""

ROBOFLOW_NAMES = {"val": "valid"}
"""A Roboflow export calls one split differently."""

TRACE_SECONDS = 6000

TRACE_STREAM = 99
"""Makes the trace's seed differ from those of the splits."""

DATA_YAML = """train: ../train/images
val: ../valid/images
test: ../test/images

nc: 2
names: [moderate, severe]
"""

TRACE_MEDIANS = (1.6e6, 1.05e6)
"""Medians of downlink and uplink, bytes per second."""

TRACE_SLOW, TRACE_FAST = 180, 6
"""Seconds after which the correlation of the link's slow and fast changes is down to 1/e."""


def write_sets(
    folder: Path, seed: int, counts: Sequence[int], negatives: int, each: Each = map
) -> None:
    """All three sets into `folder`.

    Args:
        counts: the frames with boxes of train, val and test.
        each: as `map`, one clip at a time: `Pool.imap` renders several.
    """
    with_boxes = folder / "accidents-detection"
    classes = folder / "accident-detection-from-cctv-footage" / "data"
    for split, count in enumerate(counts):
        _write_accidents(with_boxes, classes, seed, split, count, each)
    (with_boxes / "data.yaml").write_text(DATA_YAML)
    _write_negatives(classes, seed, negatives, each)
    _write_trace(folder / "5g-traffic", seed)


def _write_accidents(
    with_boxes: Path, classes: Path, seed: int, split: int, count: int, each: Each
) -> None:
    """One split's frames with boxes; some of them are also in the set of classes."""
    name = SPLITS[split]
    target = with_boxes / ROBOFLOW_NAMES.get(name, name)
    images, labels = target / "images", target / "labels"
    copies = classes / name / "Accident"
    for part in (images, labels, copies):
        part.mkdir(parents=True)
    for i, (stem, jpeg, accidents) in enumerate(accident_frames(seed, split, count, each=each)):
        (images / f"{stem}.jpg").write_bytes(jpeg)
        (labels / f"{stem}.txt").write_text("\n".join(map(_label, accidents)))
        if accidents and i < max(2, count // 30):
            (copies / f"{stem}.jpg").write_bytes(jpeg)
        _show_progress(f"{name} with boxes", i + 1, count)


def _label(accident: Accident) -> str:
    """A YOLO row: class, centre and sides as shares of the frame."""
    box = accident.box
    width, height = box.frame.width, box.frame.height
    shares = (
        (box.x1 + box.x2) / 2 / width,
        (box.y1 + box.y2) / 2 / height,
        (box.x2 - box.x1) / width,
        (box.y2 - box.y1) / height,
    )
    digits = " ".join(f"{share:.10g}" for share in shares)
    return f"{SEVERITIES.index(accident.severity)} {digits}"


def _write_negatives(classes: Path, seed: int, negatives: int, each: Each) -> None:
    """Accident-free frames with the public set's faults: exact copies and a stray shortcut."""
    counts = [negatives * share // sum(NEGATIVE_SHARES) for share in NEGATIVE_SHARES]
    counts[0] += negatives - sum(counts)  # what rounding down left out
    done = 0
    for split, (name, count) in enumerate(zip(SPLITS, counts, strict=True)):
        target = classes / name / "Non Accident"
        target.mkdir()
        for stem, jpeg in negative_frames(seed, split, count, each=each):
            (target / f"{stem}.jpg").write_bytes(jpeg)
            done += 1
            _show_progress("accident-free", done, negatives)

    originals = sorted((classes / "train" / "Non Accident").iterdir())
    every = max(1, len(originals) // 4)
    for i, original in enumerate(originals[::every][:4]):
        # The last copy lies in another split than its original.
        split_of_copy = "test" if i == 3 else "train"
        copy = classes / split_of_copy / "Non Accident" / f"{original.stem}_copy{i:02d}.jpg"
        copy.write_bytes(original.read_bytes())
    stray = classes / "test" / "Non Accident" / "Pictures - Shortcut.lnk"
    stray.write_bytes(b"L\0\0\0stray shortcut, not an image")


def _write_trace(folder: Path, seed: int) -> None:
    """The trace as CSV: a row per second, bytes per second as whole numbers."""
    folder.mkdir()
    lines = ["DL_bitrate,UL_bitrate"]
    for down, up in uplink_trace(np.random.default_rng([seed, TRACE_STREAM]), TRACE_SECONDS):
        lines.append(f"{down},{up}")
    (folder / "zoom_1s.csv").write_text("\n".join(lines) + "\n")


def _show_progress(what: str, done: int, count: int) -> None:
    if done % 60 == 0 or done == count:
        print(f"[source] {what}: {done}/{count} frames", flush=True)


class Clip(NamedTuple):
    """The frames of one place that are asked for."""

    seed: int
    split: int
    number: int
    frames: int
    size: int


def accident_frames(
    seed: int, split: int, count: int, size: int = REFERENCE_SIDE, each: Each = map
) -> Iterator[tuple[str, bytes, list[Accident]]]:
    """`count` frames of the set with boxes: name, JPEG, accidents (see COLLISIONS)."""
    return chain.from_iterable(each(_accident_clip, _clips(seed, split, count, size)))


def negative_frames(
    seed: int, split: int, count: int, size: int = REFERENCE_SIDE, each: Each = map
) -> Iterator[tuple[str, bytes]]:
    """`count` accident-free frames: name, JPEG."""
    return chain.from_iterable(
        each(_negative_clip, _clips(seed, NEGATIVES_FROM + split, count, size))
    )


def _clips(seed: int, split: int, count: int, size: int) -> list[Clip]:
    return [
        Clip(seed, split, first // FRAMES_PER_CLIP, min(FRAMES_PER_CLIP, count - first), size)
        for first in range(0, count, FRAMES_PER_CLIP)
    ]


def _accident_clip(clip: Clip) -> list[tuple[str, bytes, list[Accident]]]:
    shown = []
    for frame, place, rng in _shots(clip):
        many = int(rng.choice(list(COLLISIONS), p=list(COLLISIONS.values())))
        severities = [SEVERITIES[i] for i in rng.integers(0, len(SEVERITIES), many)]
        if severities:
            scene = frames.accident(rng, place, severities)
        else:
            scene = frames.ordinary(rng, place)
        accidents = [Accident(wreck.box, wreck.severity) for wreck in scene.wrecks]
        name = f"cam{clip.split}{clip.number:03d}_{frame:04d}"
        shown.append((name, _jpeg(scene.image, place), accidents))
    return shown


def _negative_clip(clip: Clip) -> list[tuple[str, bytes]]:
    return [
        (
            f"test{clip.split - NEGATIVES_FROM}{clip.number:02d}_{frame:04d}",
            _jpeg(frames.ordinary(rng, place).image, place),
        )
        for frame, place, rng in _shots(clip)
    ]


def _shots(clip: Clip) -> Iterator[tuple[int, places.Place, np.random.Generator]]:
    """Frame number, place and generator of each frame.

    Each frame has a different seed, so a larger count does not change the first frames.
    """
    at = [clip.seed, clip.split, clip.number]
    place = places.place(np.random.default_rng(at), clip.size)
    for nth in range(clip.frames):
        # Numbers as if every seventh frame of a video were kept, from one of the first seven on.
        yield 7 * nth + clip.number % 7, place, np.random.default_rng([*at, nth + 1])


def _jpeg(image: Image, place: places.Place) -> bytes:
    return encode_jpeg(image, place.weather.jpeg_quality)


def uplink_trace(rng: np.random.Generator, seconds: int) -> NDArray[np.int64]:
    """A made-up record of a mobile link: (seconds, 2), downlink and uplink, bytes per second.

    It is bursty, with dips to almost nothing.
    """
    series = np.empty((seconds, 2))
    for column, median in enumerate(TRACE_MEDIANS):
        slow = _autoregressive(rng, seconds, TRACE_SLOW) * 0.32
        fast = _autoregressive(rng, seconds, TRACE_FAST) * 0.22
        level = median * np.exp(slow + fast)
        # On average once in TRACE_SLOW seconds the link is almost lost, for 2 to 8 seconds.
        for start in np.flatnonzero(rng.random(seconds) < 1 / TRACE_SLOW):
            level[start : start + rng.integers(2, 9)] *= rng.uniform(0.0, 0.06)
        series[:, column] = np.minimum(level, 2.2 * median)
    return series.astype(np.int64)


def _autoregressive(rng: np.random.Generator, steps: int, memory: float) -> NDArray[np.float64]:
    """A series of unit variance whose correlation is down to 1/e after `memory` steps."""
    keep = np.exp(-1 / memory)
    noise = rng.standard_normal(steps)
    series = np.empty(steps)
    value = noise[0]
    for t in range(steps):
        # The second factor keeps the variance at 1: keep² + (1 - keep²).
        value = keep * value + np.sqrt(1 - keep**2) * noise[t]
        series[t] = value
    return series
