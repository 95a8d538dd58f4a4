"""What the answers about a clip's frames come to: when and where its accident was.

The first frame whose answer tells of an accident raises the alarm, and its time is the accident's.
An answer that is not fully compliant raises none, as it reaches no operator in the field. The place
is the middle of that answer's box: of several the largest of the severest, as one clip has one
accident. Answers name no type of collision: it is `single` throughout, as in the benchmark's own
baselines that see none.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime import fields
from dat_runtime.errors import DataError
from dat_runtime.files import read_json_lines
from dat_runtime.schema import check
from dat_runtime.types import SEVERITIES, Accident, Size
from eval.answers.asks import Ask
from eval.outside.accident_score import Claim, Label
from eval.understanding.records import read_texts

FILE = "clips.jsonl"
TYPE = "single"

_CLIP = {
    "path": fields.NAME,
    "type": fields.NAME,
    "accident_time": fields.number(0),
    "duration": fields.above(0),
    "center": fields.list_of(fields.number(), 2, 2),
    "box": fields.list_of(fields.number(), 4, 4),
    "frames": fields.LIST,
}
_FRAME = {"image_id": fields.NAME, "time": fields.number(0)}


class Clip(NamedTuple):
    """A clip: its label, and the time of each frame that was asked about, in this order.

    Attributes:
        path: by which a submission names it.
        duration: seconds.
        times: image_id -> seconds from the clip's start.
    """

    path: str
    duration: float
    label: Label
    times: dict[str, float]


class Told(NamedTuple):
    """A claim for each clip, with counts.

    Attributes:
        alarms: clips with an alarm; of the others the naive claim is made.
        questions, unanswered: frames asked about, and those of them without an answer.
    """

    claims: list[Claim]
    alarms: int
    questions: int
    unanswered: int


def read_clips(instructions: Path) -> list[Clip]:
    """The clips of a folder of `data.prep.accident_clips`.

    Raises:
        DataError: the file is missing, or a line of it is not what that writes.
    """
    path = instructions / FILE
    if not path.is_file():
        raise DataError("is missing: data.prep.accident_clips makes it", path)
    clips = []
    for line, record in read_json_lines(path):
        try:
            clips.append(_clip(record))
        except ValueError as error:
            raise DataError(str(error), path, line) from None
    if not clips:
        raise DataError("no clip in it", path)
    return clips


def _clip(record: Mapping[str, Any]) -> Clip:
    fields.checked(record, _CLIP, "", further_keys=True)
    (x1, y1, x2, y2), (x, y) = record["box"], record["center"]
    if not (x1 < x2 and y1 < y2):
        raise ValueError(f"box is {fields.shown(record['box'])}: no box")
    frames = [fields.checked(frame, _FRAME, "frame") for frame in record["frames"]]
    times = {frame["image_id"]: frame["time"] for frame in frames}
    truth = Claim(record["accident_time"], x, y, record["type"])
    return Clip(record["path"], record["duration"], Label(truth, x2 - x1, y2 - y1), times)


def read_answers(predictions: Path, asks: Sequence[Ask]) -> dict[str, str]:
    """The answers of a row by image_id.

    Raises:
        DataError: as `records.read_texts`, or a frame that nobody was asked about.
    """
    asked = {ask.id for ask in asks}
    answers = {}
    for line, image_id, text in read_texts(predictions):
        if image_id not in asked:
            raise DataError(f"nobody was asked about the image {image_id!r}", predictions, line)
        answers[image_id] = text
    return answers


def told(clips: Sequence[Clip], answers: Mapping[str, str], sizes: Mapping[str, Size]) -> Told:
    """What the answers (image_id -> text, boxes in pixels of `sizes`) say of each clip."""
    claims, alarms = [], 0
    for clip in clips:
        alarm = _alarm(clip, answers, sizes)
        alarms += alarm is not None
        claims.append(alarm or naive(clip))
    asked = [image_id for clip in clips for image_id in clip.times]
    return Told(claims, alarms, len(asked), sum(image_id not in answers for image_id in asked))


def naive(clip: Clip) -> Claim:
    """The benchmark's naive baseline: half the clip's time, the middle of the frame, `single`."""
    return Claim(clip.duration / 2, 0.5, 0.5, TYPE)


def _alarm(clip: Clip, answers: Mapping[str, str], sizes: Mapping[str, Size]) -> Claim | None:
    for image_id, time in clip.times.items():
        size = sizes[image_id]
        accident = worst_accident(answers.get(image_id, ""), size)
        if accident is not None:
            box = accident.box
            x, y = (box.x1 + box.x2) / 2 / size.width, (box.y1 + box.y2) / 2 / size.height
            return Claim(time, x, y, TYPE)
    return None


def worst_accident(text: str, size: Size) -> Accident | None:
    """The largest of the severest accidents of a compliant answer; None where it tells of none."""
    verdict = check(text, size.width, size.height)
    assessment = verdict.assessment
    if assessment is None or not verdict.rule or verdict.violation:
        return None
    worst = [SEVERITIES.index(accident.severity) for accident in assessment.accidents]
    pairs = list(zip(worst, assessment.accidents, strict=True))
    return max(pairs, key=lambda p: (p[0], p[1].box.area), default=(0, None))[1]


def submission(clips: Sequence[Clip], claims: Sequence[Claim]) -> str:
    """The claims as the CSV that the benchmark takes."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", "accident_time", "center_x", "center_y", "type"])
    for clip, claim in zip(clips, claims, strict=True):
        rows.writerow([clip.path, *(f"{part:.6g}" for part in claim[:3]), claim.type])
    return text.getvalue()
