"""Instruction data: boxed and raw images, prompts, and the answers that the labels call for.

    python -m data.prep.instruct --data OUT/data --gate OUT/gate --out OUT/instructions
    python -m data.prep.instruct --data OUT/data --detections out-of-fold --gate OUT/gate \\
        --fold-gate OUT/gate-fold-1 --fold-gate OUT/gate-fold-2 --out OUT/instructions
    python -m data.prep.instruct --data OUT/data --detections labels --out OUT/instructions

Writes LLaMA-Factory's ShareGPT form with its dataset_info.json: {boxed,raw}_{train,val,test}.json
and images/{boxed,raw}/{train,val,test}/<id>.png, each image at the size at which the model sees it
(`docs/decisions/002-model-frame.md`). Prompts and answers count that image's pixels. truth.jsonl is
the test part in original-frame pixels. detections.json tells how often the detections err in each
part (`guides`).
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime import answer, manifest
from dat_runtime.draw import MAX_PIXELS, PATCH, Image
from dat_runtime.edge.source import read_frame
from dat_runtime.errors import ConfigError, DataError, reports_errors
from dat_runtime.event import question
from dat_runtime.stage import Stage
from dat_runtime.truth import Frame, read_split
from dat_runtime.types import Accident, Detection
from data.prep.instructions.guides import ORIGINS, Gates, Guide, Tally, write_tallies

SPLITS = ("train", "val", "test")
INPUTS = ("boxed", "raw")


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    if args.max_pixels < PATCH * PATCH:
        raise ConfigError(f"--max-pixels must be at least {PATCH * PATCH}, got {args.max_pixels}")
    gates = Gates(args.detections, args.gate, tuple(args.fold_gate))
    stage = Stage(
        args.out,
        kind="instructions",
        inputs={"data": args.data, **gates.inputs},
        config={
            "max_pixels": args.max_pixels,
            "detections": args.detections,
            "classes": gates.classes,
        },
        code=[__file__],
    )
    if not stage.up_to_date():
        manifest.read(args.data, "data")
        for path in gates.inputs.values():
            manifest.read(path, "gate")
        with stage as folder:
            write_samples(folder, args.data, gates, args.max_pixels)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data.prep.instruct",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--data", type=Path, required=True, help="prepared set (data.prep.build)")
    parser.add_argument("--gate", type=Path, help="trained gate (train.gate)")
    parser.add_argument(
        "--detections", choices=ORIGINS, default="gate", help="shown in boxed images (gate)"
    )
    parser.add_argument(
        "--fold-gate",
        type=Path,
        action="append",
        default=[],
        help="gate that left a fold out (train.gate --fold); again for each fold",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--max-pixels", type=int, default=MAX_PIXELS, help=f"of a model image ({MAX_PIXELS})"
    )
    return parser.parse_args(argv)


def write_samples(folder: Path, data: Path, gates: Gates, max_pixels: int) -> None:
    """Fill the output folder."""
    guides = gates.guides(data)
    tallies = {
        split: write_split(data, split, guides[split], folder, max_pixels) for split in SPLITS
    }
    write_tallies(gates.origin, tallies, folder)
    write_dataset_info(folder)
    (folder / "truth.jsonl").write_bytes((data / "truth_test.jsonl").read_bytes())


def write_split(data: Path, split: str, guide: Guide, folder: Path, max_pixels: int) -> Tally:
    """Write one split's images, boxed and raw, and its two ShareGPT files."""
    frames = read_split(data, split)
    samples: dict[str, list[dict[str, Any]]] = {inputs: [] for inputs in INPUTS}
    for inputs in INPUTS:
        (folder / "images" / inputs / split).mkdir(parents=True)
    noted, tally = time.monotonic(), Tally()
    for done, frame in enumerate(frames, start=1):
        image = read_frame(data / frame.image)
        detections = guide(frame, image)
        tally.add(frame, detections)
        for inputs in INPUTS:
            guides = detections if inputs == "boxed" else None
            png = f"images/{inputs}/{split}/{frame.image_id}.png"
            made = sample(frame, image, guides, png, max_pixels)
            (folder / png).write_bytes(made.pop("png"))
            samples[inputs].append(made)
        if time.monotonic() - noted > 2:
            noted = time.monotonic()
            print(f"[instructions] {split}: {done}/{len(frames)} frames", flush=True)
    for inputs in INPUTS:
        text = json.dumps(samples[inputs], ensure_ascii=False, indent=1)
        (folder / f"{inputs}_{split}.json").write_text(text + "\n", "utf-8")
    print(f"[instructions] {split}: {tally.words()}", flush=True)
    return tally


def sample(
    frame: Frame,
    image: Image,
    detections: Sequence[Detection] | None,
    path: str,
    max_pixels: int,
) -> dict[str, Any]:
    """One ShareGPT sample, with the encoded image under `png`.

    Args:
        detections: D⁺ of Eq. 2 for a boxed sample, `None` for a raw one.
        path: the image's path inside the folder.
    """
    try:
        asked = question(image, detections, max_pixels)
    except ValueError as error:
        raise DataError(f"no image for the model: {error}", frame.image) from None
    wanted = answer.target([Accident(a.box.to(asked.frame), a.severity) for a in frame.accidents])
    return {
        "image_id": frame.image_id,
        "system": asked.system,
        "messages": [
            {"role": "user", "content": f"<image>{asked.prompt}"},
            {"role": "assistant", "content": answer.dump(wanted)},
        ],
        "images": [path],
        "frame": [asked.frame.width, asked.frame.height],
        "original": [frame.size.width, frame.size.height],
        "png": asked.png,
    }


def write_dataset_info(folder: Path) -> None:
    """LLaMA-Factory's description of the six data sets."""
    columns = {"messages": "messages", "images": "images", "system": "system"}
    tags = {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
    }
    info = {
        f"{inputs}_{split}": {
            "file_name": f"{inputs}_{split}.json",
            "formatting": "sharegpt",
            "columns": columns,
            "tags": tags,
        }
        for inputs in INPUTS
        for split in SPLITS
    }
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
