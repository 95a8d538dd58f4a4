"""Samples in LLaMA-Factory's ShareGPT form, and the files of an instruction set.

A frame gives two samples: boxed (the kept detections drawn into the image and listed in the prompt)
and raw. Prompts and answers count pixels of the image that the model sees.
"""

import time
from pathlib import Path
from typing import Any

from dat_runtime import answer
from dat_runtime.edge.source import read_frame
from dat_runtime.errors import DataError
from dat_runtime.event import Question, question
from dat_runtime.files import write_json
from dat_runtime.truth import SPLITS, Frame, read_split
from dat_runtime.types import Accident
from data.prep.instructions.dataset_info import dataset_info
from data.prep.instructions.guides import Gates, Guide, Tally, write_tallies

INPUTS = ("boxed", "raw")

_SECONDS_BETWEEN_NOTES = 2.0


def write_samples(folder: Path, data: Path, gates: Gates, max_pixels: int) -> None:
    """Fill the output folder with the samples of a prepared set.

    Raises:
        DataError: a frame cannot be read, or its sides are too unequal for the model.
        ConfigError: the gates of the folds do not belong together, see `guides.held_out`.
    """
    guides = gates.guides(data)
    tallies = {}
    for split in SPLITS:
        tallies[split] = write_split(data, split, guides[split], folder, max_pixels)
    write_tallies(gates.origin, tallies, folder)
    names = [f"{inputs}_{split}" for inputs in INPUTS for split in SPLITS]
    write_json(folder / "dataset_info.json", dataset_info(names))
    (folder / "truth.jsonl").write_bytes((data / "truth_test.jsonl").read_bytes())


def write_split(data: Path, split: str, guide: Guide, folder: Path, max_pixels: int) -> Tally:
    """Write one split's images, boxed and raw, and its two ShareGPT files.

    Returns:
        How often the guide's detections err.
    """
    frames = read_split(data, split)
    samples: dict[str, list[dict[str, Any]]] = {inputs: [] for inputs in INPUTS}
    for inputs in INPUTS:
        (folder / "images" / inputs / split).mkdir(parents=True)
    tally = Tally()
    noted = time.monotonic()
    for done, frame in enumerate(frames, start=1):
        picture = data / frame.image
        image = read_frame(picture)
        detections = guide(frame, image)
        tally.add(frame, detections)
        for inputs in INPUTS:
            shown = detections if inputs == "boxed" else None
            try:
                asked = question(image, shown, max_pixels)
            except ValueError as error:
                raise DataError(f"no image for the model: {error}", picture) from None
            path = f"images/{inputs}/{split}/{frame.image_id}.png"
            (folder / path).write_bytes(asked.png)
            samples[inputs].append(sample(frame, asked, path))
        if time.monotonic() - noted > _SECONDS_BETWEEN_NOTES:
            noted = time.monotonic()
            print(f"[instructions] {split}: {done}/{len(frames)} frames", flush=True)
    for inputs in INPUTS:
        write_json(folder / f"{inputs}_{split}.json", samples[inputs])
    print(f"[instructions] {split}: {tally.words()}", flush=True)
    return tally


def sample(frame: Frame, asked: Question, path: str) -> dict[str, Any]:
    """One ShareGPT sample: the question about a frame, and the answer that follows from its labels.

    Args:
        path: of the question's image, relative to the folder.
    """
    accidents = [Accident(a.box.to(asked.frame), a.severity) for a in frame.accidents]
    return {
        "image_id": frame.image_id,
        "system": asked.system,
        "messages": [
            {"role": "user", "content": f"<image>{asked.prompt}"},
            {"role": "assistant", "content": answer.dump(answer.target(accidents))},
        ],
        "images": [path],
        "frame": [asked.frame.width, asked.frame.height],
        "original": [frame.size.width, frame.size.height],
    }
