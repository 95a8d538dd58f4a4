"""Answers that need no MLLM: every row of Tables 1 and 2 has to be better than they are.

never      no accident, whatever the frame shows
commonest  the same accidents for every frame: those that the training part has most often, each at
           the median place of its kind. (Where the commonest answer of all is "no accident", that
           is `never`.)
gate       the gate's own boxes and classes, as a node tells them when the MLLM is silent
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dat_runtime import manifest
from dat_runtime.answer import dump, target
from dat_runtime.event import told_by_gate
from dat_runtime.files import read_json
from dat_runtime.prompt import detections_in
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Severity, Size, reading_order
from eval.answers.asks import part_file
from eval.answers.likelihood import read_questions
from eval.statistics.bootstrap import Floats
from eval.understanding.metrics import (
    LOWER_IS_BETTER,
    TABLE_1,
    Measures,
    difference,
    score,
    verdict,
)

NAMES = {
    "never": "Never an alert",
    "commonest": "Always the commonest accidents",
    "gate": "The gate alone",
}
"""The trivial rows, as the tables call them."""

Marks = dict[str, Any]
"""Of one row: metric -> the trivial row that it is not better than, and the difference."""


def answers(instructions: Path, frames: Sequence[Frame], part: str) -> dict[str, list[str]]:
    """The trivial answers about the frames of a part, boxes in pixels of each frame's `size`.

    Those that the instructions do not tell are left out: `commonest` without a training part that
    has accidents, `gate` without boxed images or where their boxes are the labels.

    Raises:
        DataError: the instructions are not what `data.prep.instruct` writes.
    """
    given = {"never": [dump(target([])) for _ in frames]}
    usual = commonest(_training_frames(instructions))
    if usual:
        given["commonest"] = [dump(target(_at(frame.size, usual))) for frame in frames]
    assessed = _by_gate(instructions, part)
    if assessed is not None:
        detections, sizes = assessed
        texts = []
        for frame in frames:
            found = detections_in(detections[frame.image_id], sizes[frame.image_id])
            texts.append(dump(told_by_gate(found, frame.size)))
        given["gate"] = texts
    return given


def commonest(frames: Sequence[Frame]) -> list[tuple[Floats, Severity]]:
    """The severities that frames with accidents have most often, in the order of an answer.

    Returns:
        Of each accident its box (4,) in fractions of the frame, the median over these frames, and
        its severity; nothing where no frame has an accident.
    """
    groups: dict[tuple[Severity, ...], list[Floats]] = defaultdict(list)
    for frame in frames:
        ordered = sorted(frame.accidents, key=reading_order)
        scale = [frame.size.width, frame.size.height] * 2
        corners = np.array([accident.box[:4] for accident in ordered]).reshape(-1, 4) / scale
        groups[tuple(accident.severity for accident in ordered)].append(corners)
    groups.pop((), None)
    if not groups:
        return []
    severities = max(groups, key=lambda kind: len(groups[kind]))
    boxes = np.median(groups[severities], axis=0)
    return list(zip(boxes, severities, strict=True))


def _at(size: Size, usual: Sequence[tuple[Floats, Severity]]) -> list[Accident]:
    scale = np.array([size.width, size.height] * 2)
    return [Accident(Box(*(box * scale).tolist(), size), severity) for box, severity in usual]


def _training_frames(instructions: Path) -> list[Frame]:
    for inputs in ("boxed", "raw"):  # both are about the same frames
        if part_file(instructions, inputs, "train").is_file():
            return [question.truth for question in read_questions(instructions, inputs, "train")]
    return []


def training_counts(instructions: Path) -> tuple[int, int]:
    """How many frames the training part has, and how many of them have an accident."""
    frames = _training_frames(instructions)
    return len(frames), sum(bool(frame.accidents) for frame in frames)


def _by_gate(instructions: Path, part: str) -> tuple[dict[str, str], dict[str, Size]] | None:
    """The prompt of each boxed frame and the size of its image; `None` without a gate's boxes."""
    path = part_file(instructions, "boxed", part)
    if not path.is_file() or gate_of(instructions) is None:
        return None
    prompts, sizes = {}, {}
    for sample in read_json(path):
        prompts[sample["image_id"]] = sample["messages"][0]["content"]
        sizes[sample["image_id"]] = Size(*sample["frame"])
    return prompts, sizes


def gate_of(instructions: Path) -> str | None:
    """The digest of the gate whose boxes are in the images; `None`: they are the labels'."""
    if not (instructions / manifest.NAME).is_file():
        return ""  # from elsewhere: whatever the prompts list is a gate's
    return manifest.read(instructions, "instructions").inputs.get("gate")


def marks(rows: Mapping[str, Measures], trivial: Mapping[str, Measures]) -> dict[str, Marks]:
    """Where each row is not better than the best trivial one.

    "Better" is an interval of the paired difference that lies wholly on the better side. Only the
    metrics of Table 1 are judged: the trivial answers are faultless in form.
    """
    figures = {name: score(measures) for name, measures in trivial.items()}
    best = {}
    for metric in TABLE_1:
        sign = -1 if metric in LOWER_IS_BETTER else 1
        # A box metric is undefined for all of them, where the truth has no box.
        known = {name: sign * (found[metric].value or 0) for name, found in figures.items()}
        best[metric] = max(known, key=lambda name: known[name])
    marked: dict[str, Marks] = {}
    for row, measures in rows.items():
        against = {name: difference(measures, trivial[name]) for name in set(best.values())}
        marked[row] = {}
        for metric, name in best.items():
            change = against[name][metric]
            if verdict(metric, change) in ("same", "worse"):
                marked[row][metric] = {"trivial": name, "difference": change._asdict()}
    return marked
