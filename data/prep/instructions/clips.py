"""Questions about the frames of video clips of which no frame's truth is known.

In the form of `sharegpt`, without answers. As in the field, the gate decides what the MLLM is asked
about: a frame in which it keeps no detection is no question.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime.draw import Image, size_of
from dat_runtime.errors import DataError
from dat_runtime.event import seen_image
from dat_runtime.files import write_json, write_json_lines
from dat_runtime.prompt import task_prompt
from dat_runtime.truth import Frame
from data.prep.importers.accident_clips import Clip
from data.prep.importers.clip_frames import ClipFrames
from data.prep.instructions.dataset_info import dataset_info
from data.prep.instructions.guides import Guide
from data.prep.instructions.sharegpt import sample
from data.prep.pictures.pool import over_all

FPS = 2.0
"""Frames a second, as the benchmark's own vision-language baselines look at a clip."""

NAME = "boxed_test"
IMAGES = "images/boxed/test"


class _Job(NamedTuple):
    """What is the same for all clips."""

    folder: Path
    guide: Guide
    max_pixels: int


class _Asked(NamedTuple):
    """What became of a clip: its line of clips.jsonl, and its questions."""

    record: dict[str, Any]
    samples: list[dict[str, Any]]


def write_clips(folder: Path, clips: Sequence[Clip], guide: Guide, max_pixels: int) -> None:
    """Fill the output folder: the questions, their images, and clips.jsonl.

    A line of clips.jsonl holds the clip's labels (`accident_clips.Clip`), how many frames were
    looked at (`looked_at`), how many could not be decoded (`damaged`), and of each question
    (`frames`) the `image_id` and the `time` in seconds from the clip's start, in that order.

    Raises:
        DataError: a clip cannot be read, or the gate keeps no frame of any.
    """
    (folder / IMAGES).mkdir(parents=True)
    job = _Job(folder, guide, max_pixels)
    asked = list(over_all(partial(_asked, job), clips, "clips"))
    samples = [one for clip in asked for one in clip.samples]
    records = [clip.record for clip in asked]
    looked_at, damaged = (
        sum(record[key] for record in records) for key in ("looked_at", "damaged")
    )
    print(
        f"[clips] {len(clips):,} clips, {looked_at:,} frames looked at, {len(samples):,} kept by "
        f"the gate, {damaged:,} packets or frames damaged",
        flush=True,
    )
    if not samples:
        raise DataError(f"the gate keeps none of {looked_at:,} frames: there is nothing to ask")
    write_json(folder / f"{NAME}.json", samples)
    write_json(folder / "dataset_info.json", dataset_info([NAME]))
    write_json_lines(folder / "clips.jsonl", records)


def _asked(job: _Job, clip: Clip) -> _Asked:
    """Look at one clip, and write the images of its questions."""
    frames = ClipFrames(clip.video, FPS)
    times, samples = [], []
    looked_at = 0
    for time, image in frames:
        looked_at += 1
        image_id = f"{clip.video.stem}-{looked_at:04d}"
        try:
            question = _question(job, image_id, image)
        except ValueError as error:
            raise DataError(f"no image for the model: {error}", clip.video) from None
        if question is not None:
            times.append({"image_id": image_id, "time": round(time, 6)})
            samples.append(question)
    record = {
        "path": clip.path,
        "type": clip.type,
        "accident_time": clip.accident_time,
        "duration": clip.duration,
        "center": clip.center,
        "box": clip.box,
        "looked_at": looked_at,
        "damaged": frames.damaged,
        "frames": times,
    }
    return _Asked(record, samples)


def _question(job: _Job, image_id: str, image: Image) -> dict[str, Any] | None:
    """The question about a frame, whose image is written; None where the gate drops the frame."""
    frame = Frame(image_id, "", size_of(image), ())
    detections = job.guide(frame, image)
    if not detections:
        return None
    path = f"{IMAGES}/{image_id}.jpg"
    seen, size = seen_image(image, detections, job.max_pixels)
    (job.folder / path).write_bytes(seen)
    question = sample(frame, task_prompt(size, detections), size, path)
    del question["messages"][1:]  # nobody has said what is in this frame
    return question
