"""Frames with the gate's scores, the truth, the MLLM's verdicts and further signals."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dat_runtime import fields, manifest
from dat_runtime.cascade import Floats
from dat_runtime.errors import DataError
from dat_runtime.files import read_json_lines
from dat_runtime.schema import judge
from eval.routing.probabilities import Bools, Scored
from eval.understanding.records import read_texts

_SCORE = {
    "image_id": fields.TEXT,
    "score": fields.SHARE,
    "accident": fields.FLAG,
    "severe": fields.FLAG,
}
"""A line of `scores_<split>.jsonl`, as `GatedFrames.lines` writes it."""

MAX_SIGNALS = 16

_ANY_SIZE = 10**6
"""In place of a frame's size, which is not known here: only an answer's count is used."""


def read_scored(gating: Path, part: str, predictions: Path | None, signals: Path | None) -> Scored:
    """The frames of one part (val or test).

    Args:
        gating: folder made by eval.gating.
        predictions: row of eval.predict about exactly these frames.
        signals: CSV with the columns image_id and one per signal.

    Raises:
        DataError: a file is not what these stages write, or is about other frames; or all frames
            show an accident, or none does.
    """
    path = gating / f"scores_{part}.jsonl"
    ids: list[str] = []
    scores: list[float] = []
    accidents: list[bool] = []
    severes: list[bool] = []
    for number, line in read_json_lines(path):
        try:
            fields.checked(line, _SCORE, "score of eval.gating")
        except ValueError as error:
            raise DataError(str(error), path, number) from None
        ids.append(line["image_id"])
        scores.append(float(line["score"]))
        accidents.append(line["accident"])
        severes.append(line["severe"])
    if len(set(accidents)) < 2:
        raise DataError(
            f"{sum(accidents)} of {len(ids)} frames show an accident: thresholds are fitted and "
            "judged on frames with and frames without one (data.prep.importers.cctv)",
            path,
        )
    accident = np.array(accidents, bool)
    signal_scores: dict[str, Floats] = {}
    if signals:
        signal_scores = read_signals(signals, ids)
    mllm_reports, failed = None, 0
    if predictions:
        mllm_reports, failed = read_mllm_reports(predictions, ids, accident)
    return Scored(
        np.array(scores),
        accident,
        np.array(severes, bool),
        signal_scores,
        mllm_reports,
        failed,
    )


def read_mllm_reports(folder: Path, ids: Sequence[str], accident: Bools) -> tuple[Bools, int]:
    """Whether the MLLM reports an accident in each frame, (n,), and how many answers failed.

    A failed or missing answer counts as the wrong one.

    Args:
        folder: row of eval.predict.
        ids, accident: of the n frames.

    Raises:
        DataError: the answers are not what eval.predict writes, or are about other frames.
        ManifestError: the folder is not as eval.predict left it.
    """
    manifest.verify(folder, kind="predictions")
    path = folder / "predictions.jsonl"
    verdicts: dict[str, bool | None] = {}
    for _, image_id, text in read_texts(path):
        answer = judge(text, _ANY_SIZE, _ANY_SIZE).answer
        verdicts[image_id] = None if answer is None else answer["count"] > 0
    strangers = verdicts.keys() - set(ids)
    if strangers:
        raise DataError(
            f"{len(strangers)} frames of other parts, such as {min(strangers)!r}: the row must be "
            "about the frames that eval.gating scored (eval.predict --part val for validation)",
            path,
        )
    reports: list[bool] = []
    failed = 0
    for image_id, is_accident in zip(ids, accident, strict=True):
        verdict = verdicts.get(image_id)
        if verdict is None:
            failed += 1
            verdict = not is_accident
        reports.append(verdict)
    return np.array(reports, bool), failed


def read_signals(path: Path, ids: Sequence[str]) -> dict[str, Floats]:
    """The scores of each signal, (n,); NaN where a frame has none.

    Raises:
        DataError: names the file and line: columns are missing, a score is outside [0, 1], or a
            frame is listed twice; or no frame has a score.
    """
    rows: dict[str, list[float]] = {}
    try:
        # utf-8-sig: spreadsheets write a byte order mark, which would belong to the first column.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or ())
            names = [name for name in columns if name != "image_id"]
            if "image_id" not in columns or not 1 <= len(names) <= MAX_SIGNALS:
                raise DataError("expected the columns image_id and one per signal", path, 1)
            for row in reader:
                image_id = row["image_id"]
                if image_id in rows:
                    raise DataError(f"{image_id!r:.60} is there twice", path, reader.line_num)
                rows[image_id] = _signal_scores(row, names, path, reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot be read as CSV ({error})", path) from None
    none_given = [float("nan")] * len(names)
    table = np.array([rows.get(image_id, none_given) for image_id in ids], float)
    if np.isnan(table).all():
        raise DataError("has no score for any of the frames", path)
    return {name: table[:, k] for k, name in enumerate(names)}


def _signal_scores(row: dict[str, str], names: Sequence[str], path: Path, line: int) -> list[float]:
    """The scores of one row; NaN where a cell is empty."""
    scores = []
    for name in names:
        text = (row[name] or "").strip()  # `None` in a row that is too short
        try:
            score = float(text) if text else float("nan")
        except ValueError:
            score = -1.0
        if text and not 0 <= score <= 1:
            raise DataError(f"{name} is {text!r:.20}, expected 0 to 1", path, line)
        scores.append(score)
    return scores
