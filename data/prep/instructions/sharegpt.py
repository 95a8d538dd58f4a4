"""Samples in LLaMA-Factory's ShareGPT form, and the files of an instruction set.

A frame gives a sample for each kind of input: boxed (the kept detections drawn into the image and
listed in the prompt) and raw. Prompts and answers count pixels of the image that the model sees.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dat_runtime import answer
from dat_runtime.draw import Image
from dat_runtime.edge.source import read_frame
from dat_runtime.errors import DataError
from dat_runtime.event import seen_image
from dat_runtime.files import write_json
from dat_runtime.prompt import SYSTEM, task_prompt
from dat_runtime.truth import SPLITS, Frame, read_split
from dat_runtime.types import Accident, Detection, Size
from data.prep.instructions.dataset_info import dataset_info
from data.prep.instructions.guides import Gates, Guide, Tally, write_tallies
from data.prep.pictures.pool import over_all

Inputs = Literal["boxed", "raw"]
INPUTS: tuple[Inputs, ...] = ("boxed", "raw")


def write_samples(
    folder: Path, data: Path, gates: Gates | None, inputs: Sequence[Inputs], max_pixels: int
) -> None:
    """Fill the output folder with the samples of a prepared set.

    Args:
        gates: None where all inputs are raw.

    Raises:
        DataError: a frame cannot be read, or its sides are too unequal for the model.
        ConfigError: the gates of the folds do not belong together, see `guides.held_out`.
    """
    guides = dict.fromkeys(SPLITS) if gates is None else gates.guides(data)
    tallies = {}
    for split in SPLITS:
        tallies[split] = write_split(data, split, guides[split], folder, inputs, max_pixels)
    if gates is not None:
        write_tallies(gates.origin, tallies, folder)
    names = [f"{kind}_{split}" for kind in inputs for split in SPLITS]
    write_json(folder / "dataset_info.json", dataset_info(names))
    (folder / "truth.jsonl").write_bytes((data / "truth_test.jsonl").read_bytes())


def write_split(
    data: Path,
    split: str,
    guide: Guide | None,
    folder: Path,
    inputs: Sequence[Inputs],
    max_pixels: int,
) -> Tally:
    """Write one split's images and a ShareGPT file for each kind of input, on all cores.

    Returns:
        How often the guide's detections err.
    """
    frames = read_split(data, split)
    for kind in inputs:
        (folder / "images" / kind / split).mkdir(parents=True)
    job = _Job(data, folder, split, guide, tuple(inputs), max_pixels)
    samples: dict[Inputs, list[dict[str, Any]]] = {kind: [] for kind in inputs}
    tally = Tally()
    results = over_all(partial(_written, job), frames, f"instructions, {split}")
    for frame, (detections, made) in zip(frames, results, strict=True):
        tally.add(frame, detections)
        for kind in inputs:
            samples[kind].append(made[kind])
    for kind in inputs:
        write_json(folder / f"{kind}_{split}.json", samples[kind])
    if guide is not None:
        print(f"[instructions] {split}: {tally.words()}", flush=True)
    return tally


class _Job(NamedTuple):
    """What is the same for all frames of a split."""

    data: Path
    folder: Path
    split: str
    guide: Guide | None
    inputs: tuple[Inputs, ...]
    max_pixels: int


def _written(job: _Job, frame: Frame) -> tuple[Sequence[Detection], dict[Inputs, dict[str, Any]]]:
    """Write a frame's images; returns its detections, and a sample for each kind of input."""
    picture = job.data / frame.image
    image = read_frame(picture)
    detections = () if job.guide is None else job.guide(frame, image)
    made = {}
    for kind in job.inputs:
        shown = detections if kind == "boxed" else None
        path = f"images/{kind}/{job.split}/{frame.image_id}.jpg"
        try:
            size = _write_image(job.folder / path, image, shown, job.max_pixels)
        except ValueError as error:
            raise DataError(f"no image for the model: {error}", picture) from None
        made[kind] = sample(frame, task_prompt(size, shown), size, path)
    return detections, made


def _write_image(
    path: Path, image: Image, detections: Sequence[Detection] | None, max_pixels: int
) -> Size:
    seen, size = seen_image(image, detections, max_pixels)
    path.write_bytes(seen)
    return size


def sample(frame: Frame, prompt: str, size: Size, path: str) -> dict[str, Any]:
    """One ShareGPT sample: the question about a frame, and the answer that follows from its labels.

    Args:
        size, path: of the question's image; the path is relative to the folder.
    """
    accidents = [Accident(a.box.to(size), a.severity) for a in frame.accidents]
    return {
        "image_id": frame.image_id,
        "system": SYSTEM,
        "messages": [
            {"role": "user", "content": f"<image>{prompt}"},
            {"role": "assistant", "content": answer.dump(answer.target(accidents))},
        ],
        "images": [path],
        "frame": [size.width, size.height],
        "original": [frame.size.width, frame.size.height],
    }
