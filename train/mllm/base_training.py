"""The making of the smoke job's base model: vocabulary, untrained model, training on the primer."""

import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dat_runtime import answer
from dat_runtime.errors import DataError
from dat_runtime.files import read_json, write_json, write_yaml
from dat_runtime.types import SEVERITIES, Accident, Box, Detection, Size, reading_order
from train.mllm import tiny_model, tuning
from train.mllm.run_settings import read_settings

VOCABULARY = 640
"""Entries of the tokenizer besides the special tokens; 256 of them are the bytes."""


_INSTRUCTION = (
    "You are a traffic accident analyst. Answer with one JSON object and nothing else: "
    '{"count": number of accidents, '
    '"severity": "none", "moderate" or "severe", the highest of all accidents, '
    '"level": 1 if severe, else 0, '
    '"score": urgency from 0 to 1, at least 0.5 exactly when level is 1, '
    '"accidents": [{"bbox": [x1, y1, x2, y2] in pixels of the image, '
    '"severity": "moderate" or "severe"}], '
    '"summary": at most 200 characters}'
)
"""Words of the task. Not the prompt itself: a base does not change when the prompt does."""


def make_base(folder: Path, primer: Path, config: Mapping[str, Any], name: str) -> None:
    """Fill the output folder of `train.base`.

    The untrained model is written first, into a folder of its own; in the end its files take their
    place beside the trained weights.

    Args:
        config: LLaMA-Factory's keys.
        name: the progress lines begin with it.
    """
    settings = read_settings(config)
    untrained, work = folder / "untrained", folder / "work"
    # `processor_config.json` is written last: with it the model of an earlier start is whole.
    if not (untrained / "processor_config.json").is_file():
        shutil.rmtree(untrained, ignore_errors=True)
        print(f"[{name}] tokenizer and untrained model", flush=True)
        with tuning.output_into(folder / tuning.LOG):
            texts = [*primer_texts(primer), *task_texts(settings.seed)]
            tiny_model.build(untrained, texts, VOCABULARY, settings.image_max_pixels, settings.seed)
    paths = {
        "model_name_or_path": str(untrained),
        "dataset_dir": str(primer),
        "media_dir": str(primer),
        "dataset": "primer_train",
    }
    report = tuning.run({**config, **paths}, work, folder, name)
    for file in untrained.iterdir():
        file.rename(folder / file.name)
    (work / "model.safetensors").replace(folder / "model.safetensors")
    write_yaml(folder / "config.yaml", tuning.without_paths(config))
    write_json(folder / "run.json", report)
    shutil.rmtree(work)
    untrained.rmdir()


def primer_texts(primer: Path) -> Iterator[str]:
    """All messages of the primer's training part.

    Raises:
        DataError: the file is not what `data.prep.primer` writes.
    """
    path = primer / "primer_train.json"
    rows = read_json(path)
    try:
        for row in rows:
            yield row["system"]
            for message in row["messages"]:
                yield message["content"]
    except (KeyError, TypeError) as error:
        raise DataError(f"does not hold ShareGPT samples ({error!r})", path) from None


def task_texts(seed: int, count: int = 500) -> Iterator[str]:
    """Questions and answers with random boxes: words for the vocabulary, nothing to learn."""
    draw = random.Random(seed)
    frame = Size(640, 640)
    for _ in range(count):
        detections = []
        for _ in range(draw.randint(0, 3)):
            x1, x2 = sorted(draw.sample(range(frame.width), 2))
            y1, y2 = sorted(draw.sample(range(frame.height), 2))
            severity = draw.choice(SEVERITIES)
            detections.append(Detection(Box(x1, y1, x2, y2, frame), severity, draw.random()))
        accidents = [Accident(detection.box, detection.severity) for detection in detections]
        yield _INSTRUCTION
        listed = "; ".join(
            f"{d.label} {d.confidence:.2f} {list(d.box.pixels())}"
            for d in sorted(detections, key=reading_order)
        )
        boxes = f" Gate boxes (orange moderate, red severe): {listed}"
        yield f"Image 640 x 640.{boxes if listed else ' The gate found no box.'}"
        yield answer.dump(answer.target(accidents))
