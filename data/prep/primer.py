"""A small world for the smoke job's base model: coloured boxes drawn on ordinary traffic.

    python -m data.prep.primer --out runs/smoke/primer

It stands for what a real MLLM already knows before it is tuned: reading where a drawn box is and
which colour it has, and copying what the prompt says. Nothing of the accident task is in it: no
accident is shown, and wording and answer format are others (`bbox_2d` and `label`, Qwen's grounding
habit), so what LoRA adds later is its own.

Writes LLaMA-Factory's ShareGPT form: primer_train.json, primer_val.json, dataset_info.json and
images/*.png. Boxes are whole pixels of the image, right and bottom exclusive.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dat_runtime.draw import PATCH, Image, encode_png, resize
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.stage import Stage
from dat_runtime.types import Box, Size
from data.prep.rendering import frames, places

COLOURS = {
    "orange": (0, 165, 255), "red": (0, 0, 255), "green": (0, 200, 0), "blue": (255, 60, 0),
}  # fmt: skip
"""BGR; orange and red as the boxed images have them."""
SHARES = (0.35, 0.35, 0.15, 0.15)
WORDS = (*COLOURS, "moderate", "severe", "car", "lorry", "slow", "fast")
"""Labels where no picture has to agree: a model that never met a word cannot learn to say it."""

SYSTEMS = ("You look at road pictures and mark positions.", "Reply with a list.")
TASKS = {"repeat": 0.45, "both": 0.3, "see": 0.2, "name": 0.05}
"""What is asked, and how often: copy the text (no picture), use both, or read the picture."""
ASKS = {
    "see": "List the drawn boxes from left to right.",
    "repeat": "Given: {listed}. Repeat them.",
    "both": "Given: {listed}. List the drawn boxes from left to right.",
    "name": "Positions: {places}. Name their colours.",
}
PICTURES_PER_PLACE, SAMPLES_PER_PICTURE = 4, 10


@dataclass(frozen=True)
class Mark:
    """A drawn or listed box."""

    label: str
    bbox: tuple[int, int, int, int]


def samples(seed: int, count: int, size: int) -> Iterator[tuple[Image | None, str, str, str]]:
    """`count` samples: image (size, size, 3) or none, system message, user message, answer."""
    rng = np.random.default_rng([seed, size])
    for i in range(count):
        if i % (PICTURES_PER_PLACE * SAMPLES_PER_PICTURE) == 0:
            place = places.place(rng, 2 * size)
        if i % SAMPLES_PER_PICTURE == 0:
            traffic = frames.ordinary(rng, place)
        task = str(rng.choice(list(TASKS), p=list(TASKS.values())))
        labels = (WORDS, None) if task == "repeat" else (tuple(COLOURS), SHARES)
        marks = draw_marks(rng, size, *labels)
        if task == "both":
            marks.sort(key=_from_left)
        image = None if task == "repeat" else _cut(rng, traffic, size)
        if image is not None:
            paint(image, marks, line=int(rng.integers(1, 3)))
        yield image, str(rng.choice(SYSTEMS)), ask(rng, task, marks), answer(task, marks)


def _from_left(mark: Mark) -> tuple[int, int]:
    return mark.bbox[0], mark.bbox[1]


def draw_marks(
    rng: np.random.Generator,
    size: int,
    labels: Sequence[str] = tuple(COLOURS),
    shares: Sequence[float] | None = SHARES,
) -> list[Mark]:
    """0-3 boxes with sides of 12-50 % of the image, hardly overlapping, in random order."""
    marks: list[Mark] = []
    frame = Size(size, size)
    wanted = int(rng.choice([0, 1, 2, 3], p=[0.1, 0.45, 0.3, 0.15]))
    for _ in range(30):
        if len(marks) == wanted:
            break
        w, h = rng.integers(int(0.12 * size), int(0.5 * size), 2)
        x, y = int(rng.integers(0, size - w + 1)), int(rng.integers(0, size - h + 1))
        box = Box(x, y, x + int(w), y + int(h), frame)
        if all(box.iou(Box(*m.bbox, frame)) < 0.05 for m in marks):
            marks.append(Mark(str(rng.choice(labels, p=shares)), box.pixels()))
    return marks


def paint(image: Image, marks: Sequence[Mark], line: int) -> None:
    """Draw the boxes into the image, lines of `line` pixels inside each box."""
    for mark in marks:
        x1, y1, x2, y2 = mark.bbox
        for inset in range(line):
            corners = (x1 + inset, y1 + inset), (x2 - 1 - inset, y2 - 1 - inset)
            cv2.rectangle(image, *corners, COLOURS[mark.label], 1, cv2.LINE_8)


def ask(rng: np.random.Generator, task: str, marks: Sequence[Mark]) -> str:
    """The user message, without the image; a listed box comes with a number that means nothing."""
    listed = "; ".join(f"{m.label} {rng.uniform(0.25, 1):.2f} {list(m.bbox)}" for m in marks)
    positions = "; ".join(str(list(m.bbox)) for m in marks)
    return ASKS[task].format(listed=listed or "no box", places=positions or "none")


def answer(task: str, marks: Sequence[Mark]) -> str:
    """How many boxes, the first one's label, and all; from left to right unless to be copied."""
    in_order = task in ("repeat", "name")
    ordered = marks if in_order else sorted(marks, key=_from_left)
    boxes = [{"bbox_2d": list(m.bbox), "label": m.label} for m in ordered]
    first = ordered[0].label if ordered else "no"
    return json.dumps({"number": len(boxes), "first": first, "boxes": boxes})


def _cut(rng: np.random.Generator, picture: Image, size: int) -> Image:
    """A square part of a traffic picture, maybe mirrored, a little lighter or darker."""
    side = int(rng.integers(size, picture.shape[0] + 1))
    x, y = rng.integers(0, picture.shape[0] - side + 1, 2)
    part = picture[y : y + side, x : x + side]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    part = resize(np.ascontiguousarray(part), Size(size, size))
    return np.asarray(cv2.convertScaleAbs(part, alpha=rng.uniform(0.75, 1.2)), np.uint8)


def write(folder: Path, name: str, seed: int, count: int, size: int) -> None:
    """One part of the set: images and its ShareGPT file."""
    rows: list[dict[str, Any]] = []
    for i, (image, system, question, reply) in enumerate(samples(seed, count, size)):
        paths = [f"images/{name}_{i:05d}.png"] if image is not None else []
        if image is not None:
            (folder / paths[0]).write_bytes(encode_png(image))
        messages = [
            {"role": "user", "content": "<image>" * len(paths) + question},
            {"role": "assistant", "content": reply},
        ]
        rows.append({"system": system, "messages": messages, "images": paths})
        if (i + 1) % 500 == 0 or i + 1 == count:
            print(f"[primer] {name}: {i + 1}/{count} samples", flush=True)
    (folder / f"primer_{name}.json").write_text(json.dumps(rows, indent=0) + "\n", "utf-8")


def dataset_info() -> dict[str, Any]:
    """LLaMA-Factory's description of both parts."""
    tags = {"role_tag": "role", "content_tag": "content"}
    tags |= {"user_tag": "user", "assistant_tag": "assistant"}
    columns = {"messages": "messages", "system": "system", "images": "images"}
    return {
        f"primer_{name}": {
            "file_name": f"primer_{name}.json",
            "formatting": "sharegpt",
            "columns": columns,
            "tags": tags,
        }
        for name in ("train", "val")
    }


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--count", type=int, default=3000, help="training samples")
    parser.add_argument("--size", type=int, default=112, help="side of the images, pixels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if options.size % PATCH or not PATCH < options.size <= 168:
        raise ConfigError(f"--size is a multiple of {PATCH} up to 168, got {options.size}")
    if options.count < 1 or options.seed < 0:
        raise ConfigError(f"--count is at least 1, --seed at least 0: {options.count}")
    config = {k: v for k, v in vars(options).items() if k != "out"}
    stage = Stage(options.out, kind="primer", inputs={}, config=config, code=[__file__])
    if not stage.up_to_date():
        cv2.setNumThreads(1)
        with stage as folder:
            (folder / "images").mkdir()
            write(folder, "train", 2 * options.seed, options.count, options.size)
            write(folder, "val", 2 * options.seed + 1, max(1, options.count // 20), options.size)
            info = json.dumps(dataset_info(), indent=1) + "\n"
            (folder / "dataset_info.json").write_text(info, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
