"""`scores.json`: the metrics of one set of answers, each with its interval."""

from pathlib import Path
from typing import Any

from eval.understanding.metrics import Measures, measure, score
from eval.understanding.records import read_predictions, read_truth

Scores = dict[str, Any]
"""`n`, `missing`, and per metric `{"value", "low", "high"}`."""


def score_files(truth: Path, predictions: Path) -> Scores:
    """The scores of a predictions file, as in `scores.json`.

    Raises:
        DataError: names the file and line of what is wrong in either.
    """
    frames = read_truth(truth)
    return scores_of(measure(frames, read_predictions(predictions, frames)))


def scores_of(measures: Measures) -> Scores:
    """The scores of measured answers, as in `scores.json`."""
    scores: Scores = {"n": len(measures), "missing": int(measures.missing.sum())}
    for name, interval in score(measures).items():
        scores[name] = interval._asdict()
    return scores


def table(scores: Scores) -> str:
    """The scores for the terminal."""
    lines = [f"{'metric':<12}{'value':>8}   95 % interval"]
    for name, entry in scores.items():
        if isinstance(entry, int):  # n and missing
            continue
        if entry["value"] is None:
            lines.append(f"{name:<12}{'-':>8}   no true box")
        else:
            interval = f"{entry['low']:.4f} to {entry['high']:.4f}"
            lines.append(f"{name:<12}{entry['value']:>8.4f}   {interval}")
    last = f"n = {scores['n']} frames"
    if scores["missing"]:
        last += f", {scores['missing']} without an answer"
    lines.append(last)
    return "\n".join(lines)
