"""Samples in LLaMA-Factory's ShareGPT form, and the files of an instruction set.

A frame gives a sample for each kind of input: boxed (the kept detections drawn into the image and
listed in the prompt) and raw. Prompts and answers count as the model's family does: pixels of the
image that it sees, for Qwen2.5-VL.
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
from dat_runtime.family import QWEN2_5_VL, Family
from dat_runtime.files import write_json
from dat_runtime.prompt import system_message, task_prompt
from dat_runtime.truth import SPLITS, Frame, read_split
from dat_runtime.types import Accident, Detection, Size
from data.prep.instructions.dataset_info import dataset_info
from data.prep.instructions.guides import Gates, Guide, Tally, write_tallies
from data.prep.pictures.pool import over_all

Inputs = Literal["boxed", "raw"]
INPUTS: tuple[Inputs, ...] = ("boxed", "raw")


def write_samples(
    folder: Path,
    data: Path,
    gates: Gates | None,
    inputs: Sequence[Inputs],
    max_pixels: int,
    family: Family = QWEN2_5_VL,
) -> None:
    """Fill the output folder with the samples of a prepared set.

    Args:
        gates: None where all inputs are raw.
        family: of the models that will be tuned or asked.

    Raises:
        DataError: a frame cannot be read, or its sides are too unequal for the model.
        ConfigError: the gates of the folds do not belong together, see `guides.held_out`.
    """
    guides = dict.fromkeys(SPLITS) if gates is None else gates.guides(data)
    tallies = {}
    for split in SPLITS:
        guide = guides[split]
        tallies[split] = write_split(data, split, guide, folder, inputs, max_pixels, family)
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
    family: Family = QWEN2_5_VL,
) -> Tally:
    """Write one split's images and a ShareGPT file for each kind of input, on all cores.

    Returns:
        How often the guide's detections err.
    """
    frames = read_split(data, split)
    for kind in inputs:
        (folder / "images" / kind / split).mkdir(parents=True)
    job = _Job(data, folder, split, guide, tuple(inputs), max_pixels, family)
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
    family: Family


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
            counted = _write_image(job, job.folder / path, image, shown)
        except ValueError as error:
            raise DataError(f"no image for the model: {error}", picture) from None
        made[kind] = sample(frame, task_prompt(counted, shown), counted, path, job.family)
    return detections, made


def _write_image(
    job: _Job, path: Path, image: Image, detections: Sequence[Detection] | None
) -> Size:
    """The frame in which prompt and answer about it count."""
    seen, counted = seen_image(image, detections, job.max_pixels, job.family)
    path.write_bytes(seen)
    return counted


def sample(
    frame: Frame, prompt: str, counted: Size, path: str, family: Family = QWEN2_5_VL
) -> dict[str, Any]:
    """One ShareGPT sample: the question about a frame, and the answer that follows from its labels.

    Args:
        counted: the frame in which prompt and answer count.
        path: of the question's image, relative to the folder.
    """
    accidents = [Accident(a.box.to(counted), a.severity) for a in frame.accidents]
    return {
        "image_id": frame.image_id,
        "system": system_message(family),
        "messages": [
            {"role": "user", "content": f"<image>{prompt}"},
            {"role": "assistant", "content": answer.dump(answer.target(accidents))},
        ],
        "images": [path],
        "frame": [counted.width, counted.height],
        "original": [frame.size.width, frame.size.height],
    }
