"""Sentences beside Tables 1-2: how to read the figures, and how the rows compare."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from dat_runtime.files import read_json
from dat_runtime.prompt import task_prompt
from dat_runtime.truth import Frame
from dat_runtime.types import Size
from eval.statistics.bootstrap import Interval
from eval.understanding.grids import name_of
from eval.understanding.metrics import LOWER_IS_BETTER, Measures, difference

FAULTLESS = {"parse": 1, "schema": 1, "rule": 1, "viol": 0}


def notes(scores: Mapping[str, Any]) -> list[str]:
    """What a reader must know to read the figures rightly."""
    remarks = [
        "Intervals are 95 % bootstrap intervals over the test frames.",
        "Paper, Table 1: SevAcc 98.83 % (Ours) against 98.49 % (GPT-5) on at most 600 frames "
        "differ by 0.3 points, with a 95 % interval of about -1.0 to +1.6: they cannot be told "
        "apart.",
    ]
    if any(_has_faultless_metric(row) for row in scores.values()):
        n = min(row["n"] for row in scores.values())
        # Where n frames show no fault, a rate above 3 / n is excluded with 95 % confidence, since
        # (1 - 3 / n) ^ n is about exp(-3) = 0.05.
        remarks.append(
            f"An interval without width (1.0 or 0.0) is no certainty: 0 faults in {n} frames still "
            f"allow a fault rate of up to {3 / n:.1%} (rule of three)."
        )
    for name, row in scores.items():
        if row["missing"]:
            remarks.append(
                f"{name}: {row['missing']} of {row['n']} answers are missing, counted failed."
            )
    return remarks


def _has_faultless_metric(row: Mapping[str, Any]) -> bool:
    return any(row[metric]["value"] == best for metric, best in FAULTLESS.items())


def gate_notes(frames: Sequence[Frame], boxed: Path) -> list[str]:
    """How many test frames the gate would drop, which the boxed rows answer all the same.

    Args:
        boxed: the instructions of the boxed test frames, if they are there.
    """
    if not boxed.is_file():
        return []
    dropped = set()
    for sample in read_json(boxed):
        without_detections = task_prompt(Size(*sample["frame"]), ())
        if sample["messages"][0]["content"].endswith(without_detections):
            dropped.add(sample["image_id"])
    lost = sum(frame.image_id in dropped and bool(frame.accidents) for frame in frames)
    return [
        f"The gate finds nothing in {len(dropped)} of {len(frames)} frames, {lost} of them with "
        "accidents; in the field these never reach the MLLM, here it is asked about them too."
    ]


def compare(rows: Mapping[str, Measures]) -> list[dict[str, Any]]:
    """Compare each pair of rows by paired bootstrap; a sentence states which metrics differ."""
    comparisons = []
    for before, after in combinations(rows, 2):
        differences = difference(rows[after], rows[before])
        comparisons.append(
            {
                "row": after,
                "against": before,
                "sentence": f"{after} against {before}: {_verdicts(differences)}.",
                "differences": {name: d._asdict() for name, d in differences.items()},
            }
        )
    return comparisons


def _verdicts(differences: Mapping[str, Interval]) -> str:
    """Which metrics are better, which worse, and which cannot be told apart."""
    metrics: dict[str, list[str]] = {
        "is better in": [],
        "is worse in": [],
        "cannot be told apart in": [],
    }
    for metric, (value, low, high) in differences.items():
        if value is None or low is None or high is None:
            continue
        if low <= 0 <= high:
            verdict = "cannot be told apart in"
        elif (value > 0) != (metric in LOWER_IS_BETTER):
            verdict = "is better in"
        else:
            verdict = "is worse in"
        metrics[verdict].append(name_of(metric))
    return "; ".join(f"{verdict} {', '.join(names)}" for verdict, names in metrics.items() if names)
