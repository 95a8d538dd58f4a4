"""Frames with the gate's scores, the truth, the MLLM's verdicts and further signals."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dat_runtime import manifest
from dat_runtime.cascade import Floats
from dat_runtime.errors import DataError
from dat_runtime.schema import judge
from eval.probabilities import Bools, Scored

MAX_SIGNALS = 16
_ANY = 10**6


def read_scored(gating: Path, part: str, predictions: Path | None, signals: Path | None) -> Scored:
    """The frames of one part (val or test).

    Args:
        gating: folder made by eval.gating.
        predictions: row of eval.predict about exactly these frames.
        signals: CSV with the columns image_id and one per signal.

    Raises:
        DataError: a file is not what these stages write, or speaks of other frames.
    """
    path = gating / f"scores_{part}.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        ids = [str(line["image_id"]) for line in lines]
        score = np.array([float(line["score"]) for line in lines])
        accident = np.array([line["accident"] is True for line in lines], bool)
        severe = np.array([line["severe"] is True for line in lines], bool)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"not scores of eval.gating ({error!r:.80})", path) from None
    if not lines:
        raise DataError("holds no frame", path)
    return Scored(
        score,
        accident,
        severe,
        read_signals(signals, ids) if signals else {},
        read_said(predictions, ids, accident) if predictions else None,
    )


def read_said(folder: Path, ids: Sequence[str], accident: Bools) -> Bools:
    """Whether the MLLM reports an accident in each frame; a failed answer is the wrong one."""
    manifest.verify(folder, kind="predictions")
    path = folder / "predictions.jsonl"
    answers: dict[str, bool | None] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            answer = judge(record["text"], _ANY, _ANY).answer
            answers[record["image_id"]] = None if answer is None else answer["count"] > 0
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"no prediction ({error!r:.80})", path, number) from None
    if strangers := answers.keys() - set(ids):
        raise DataError(
            f"{len(strangers)} frames of other parts, such as {min(strangers)!r}: the row must be "
            "about the frames that eval.gating scored (eval.predict --part val for validation)",
            path,
        )
    known = [answers.get(i) for i in ids]
    return np.array([not a if k is None else k for k, a in zip(known, accident, strict=True)], bool)


def read_signals(path: Path, ids: Sequence[str]) -> dict[str, Floats]:
    """Per signal its scores (n,), NaN where a frame has none.

    Raises:
        DataError: with file and line: no such columns, or a score outside [0, 1].
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            names = [name for name in reader.fieldnames or () if name != "image_id"]
            if "image_id" not in (reader.fieldnames or ()) or not 1 <= len(names) <= MAX_SIGNALS:
                raise DataError("expected the columns image_id and one per signal", path, 1)
            rows = {str(row["image_id"]): _scores(row, names, path, reader) for row in reader}
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
