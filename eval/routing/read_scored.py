"""Frames with the gate's scores, the truth, the MLLM's verdicts and further signals."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dat_runtime import manifest
from dat_runtime.cascade import Floats
from dat_runtime.errors import DataError
from dat_runtime.files import read_json_lines
from dat_runtime.schema import judge
from eval.routing.probabilities import Bools, Scored

MAX_SIGNALS = 16
_ANY = 10**6


def read_scored(gating: Path, part: str, predictions: Path | None, signals: Path | None) -> Scored:
    """The frames of one part (val or test).

    Args:
        gating: folder made by eval.gating.
        predictions: row of eval.predict about exactly these frames.
        signals: CSV with the columns image_id and one per signal.

    Raises:
        DataError: a file is not what these stages write, or speaks of other frames; or all frames
            show an accident, or none does.
    """
    path = gating / f"scores_{part}.jsonl"
    ids, scores, accidents, severes = [], [], [], []
    for number, line in read_json_lines(path):
        try:
            ids.append(str(line["image_id"]))
            scores.append(float(line["score"]))
            accidents.append(line["accident"] is True)
            severes.append(line["severe"] is True)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"no score of eval.gating ({error!r:.80})", path, number) from None
        if not 0 <= scores[-1] <= 1:
            raise DataError(f"score is {scores[-1]}, expected 0 to 1", path, number)
    score, accident, severe = np.array(scores), np.array(accidents, bool), np.array(severes, bool)
    if len(set(accidents)) < 2:
        raise DataError(
            f"{sum(accidents)} of {len(ids)} frames show an accident: thresholds are fitted and "
            "judged on frames with and frames without one (data.prep.importers.cctv)",
            path,
        )
    return Scored(
        score,
        accident,
        severe,
        read_signals(signals, ids) if signals else {},
        *(read_said(predictions, ids, accident) if predictions else (None, 0)),
    )


def read_said(folder: Path, ids: Sequence[str], accident: Bools) -> tuple[Bools, int]:
    """Whether the MLLM reports an accident in each frame, and how many answers failed.

    A failed or missing answer is the wrong one.
    """
    manifest.verify(folder, kind="predictions")
    path = folder / "predictions.jsonl"
    answers: dict[str, bool | None] = {}
    for number, record in read_json_lines(path):
        image_id, text = record.get("image_id"), record.get("text")
        if not isinstance(image_id, str) or not isinstance(text, str):
            raise DataError("needs image_id and text, both strings", path, number)
        if image_id in answers:
            raise DataError(f"a second prediction for image {image_id!r}", path, number)
        answer = judge(text, _ANY, _ANY).answer
        answers[image_id] = None if answer is None else answer["count"] > 0
    if strangers := answers.keys() - set(ids):
        raise DataError(
            f"{len(strangers)} frames of other parts, such as {min(strangers)!r}: the row must be "
            "about the frames that eval.gating scored (eval.predict --part val for validation)",
            path,
        )
    known = [answers.get(i) for i in ids]
    said = [not a if k is None else k for k, a in zip(known, accident, strict=True)]
    return np.array(said, bool), known.count(None)


def read_signals(path: Path, ids: Sequence[str]) -> dict[str, Floats]:
    """Per signal its scores (n,), NaN where a frame has none.

    Raises:
        DataError: with file and line: no such columns, a score outside [0, 1], or a frame twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # as spreadsheets write it too
            reader = csv.DictReader(file, strict=True)
            names = [name for name in reader.fieldnames or () if name != "image_id"]
            if "image_id" not in (reader.fieldnames or ()) or not 1 <= len(names) <= MAX_SIGNALS:
                raise DataError("expected the columns image_id and one per signal", path, 1)
            rows: dict[str, list[float]] = {}
            for row in reader:
                if row["image_id"] in rows:
                    raise DataError(f"{row['image_id']!r:.60} stands twice", path, reader.line_num)
                rows[row["image_id"]] = _scores(row, names, path, reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot be read as CSV ({error})", path) from None
    silent = [float("nan")] * len(names)
    table = np.array([rows.get(i, silent) for i in ids], float)
    if np.isnan(table).all():
        raise DataError("knows none of the frames", path)
    return {name: table[:, k] for k, name in enumerate(names)}


def _scores(
    row: dict[str, str], names: Sequence[str], path: Path, reader: "csv.DictReader[str]"
) -> list[float]:
    scores = []
    for name in names:
        text = (row[name] or "").strip()
        try:
            score = float(text) if text else float("nan")
        except ValueError:
            score = -1.0
        if text and not 0 <= score <= 1:
            raise DataError(f"{name} is {text!r:.20}, expected 0 to 1", path, reader.line_num)
        scores.append(score)
    return scores
