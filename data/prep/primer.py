"""A small world for the smoke job's base model: coloured boxes drawn on ordinary traffic.

    python -m data.prep.primer --out runs/smoke/primer

It gives the base model what a real MLLM already knows before it is tuned: reading where a drawn box
is and which colour it has, and copying what the prompt says. Nothing of the accident task is in it:
no accident is shown, and the wording and the answer format differ (`bbox_2d` and `label`, as in
Qwen's grounding answers). So the tuning has to teach the accident task.

Writes LLaMA-Factory's ShareGPT form: primer_train.json, primer_val.json, dataset_info.json and
images/*.png. Boxes are whole pixels of the image, right and bottom exclusive.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from dat_runtime import files
from dat_runtime.command import command
from dat_runtime.draw import PATCH, encode_png
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.stage import Stage
from data.prep.instructions.dataset_info import dataset_info
from data.prep.rendering.primer_samples import samples

LARGEST = 6 * PATCH
"""Side of the largest image, pixels."""


def write(folder: Path, name: str, seed: int, count: int, size: int) -> None:
    """One part of the set: images and its ShareGPT file."""
    rows: list[dict[str, Any]] = []
    for i, (image, system, question, answer) in enumerate(samples(seed, count, size)):
        paths = []
        if image is not None:
            paths.append(f"images/{name}_{i:05d}.png")
            (folder / paths[0]).write_bytes(encode_png(image))
            question = f"<image>{question}"
        messages = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
        rows.append({"system": system, "messages": messages, "images": paths})
        if (i + 1) % 500 == 0 or i + 1 == count:
            print(f"[primer] {name}: {i + 1}/{count} samples", flush=True)
    # Without indentation, unlike `write_json`: there are some thousand samples.
    text = json.dumps(rows, indent=0) + "\n"
    files.write_atomically(folder / f"primer_{name}.json", text)


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("data.prep.primer", __doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--count", type=int, default=3000, help="training samples")
    parser.add_argument("--size", type=int, default=112, help="side of the images, pixels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if options.size % PATCH or not PATCH < options.size <= LARGEST:
        raise ConfigError(
            f"--size is a multiple of {PATCH} from {2 * PATCH} to {LARGEST}, got {options.size}"
        )
    if options.count < 1 or options.seed < 0:
        raise ConfigError(
            f"--count is at least 1 and --seed at least 0, got {options.count} and {options.seed}"
        )
    config = {"count": options.count, "size": options.size, "seed": options.seed}
    stage = Stage(options.out, kind="primer", inputs={}, config=config, code=[__file__])
    if not stage.up_to_date():
        cv2.setNumThreads(1)
        with stage as folder:
            (folder / "images").mkdir()
            # Even seeds for training, odd ones for validation: the two share no picture.
            write(folder, "train", 2 * options.seed, options.count, options.size)
            write(folder, "val", 2 * options.seed + 1, max(1, options.count // 20), options.size)
            info = dataset_info(["primer_train", "primer_val"])
            files.write_json(folder / "dataset_info.json", info)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
