"""Sentences beside Tables 1-2: how to read the figures, and how the rows compare."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dat_runtime.files import read_json
from dat_runtime.prompt import task_prompt
from dat_runtime.truth import Frame
from dat_runtime.types import Size
from eval.understanding.grids import MARK, figure, name_of
from eval.understanding.metrics import Measures, difference, verdict
from eval.understanding.trivial import NAMES, Marks

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


def trivial_notes(marks: Mapping[str, Marks], trivial: Iterable[str]) -> list[str]:
    """What the mark at a figure means, and which rows bear it in which metrics.

    Args:
        trivial: the trivial rows that there are.
    """
    if not marks:
        return []
    names = ", ".join(NAMES[name] for name in trivial)
    notes = [
        f"{MARK}: no better than the best row that needs no MLLM ({names}): the 95 % interval of "
        "the paired difference does not lie on the better side."
    ]
    for row, found in marks.items():
        against: dict[str, list[str]] = {}
        for metric, mark in found.items():
            low, high = (figure(metric, mark["difference"][end]) for end in ("low", "high"))
            words = f"{name_of(metric)} ({low} to {high})"
            against.setdefault(NAMES[mark["trivial"]].lower(), []).append(words)
        parts = [f"{name} in {', '.join(metrics)}" for name, metrics in against.items()]
        if parts:
            notes.append(f"{row} is no better than {'; than '.join(parts)}.")
    return notes


def compare(
    rows: Mapping[str, Measures], marks: Mapping[str, Marks] | None = None
) -> list[dict[str, Any]]:
    """Compare each pair of rows by paired bootstrap: which metrics differ, also as a sentence.

    Args:
        marks: of each row (`trivial.marks`); in the sentence a metric in which the row is better
            bears the mark too.
    """
    comparisons = []
    names = list(rows)
    for place, row in enumerate(names):
        marked = (marks or {}).get(row, {})
        comparisons += [_compared(rows, row, before, marked) for before in names[:place]]
    return comparisons


def _compared(
    rows: Mapping[str, Measures], row: str, against: str, marked: Marks
) -> dict[str, Any]:
    differences = difference(rows[row], rows[against])
    verdicts = {name: verdict(name, found) for name, found in differences.items()}
    return {
        "row": row,
        "against": against,
        "sentence": f"{row} against {against}: {_in_words(verdicts, marked)}.",
        "verdicts": verdicts,
        "differences": {name: found._asdict() for name, found in differences.items()},
    }


def _in_words(verdicts: Mapping[str, str], marked: Marks) -> str:
    """Which metrics are better, which worse, and which cannot be told apart."""
    words = {
        "better": "is better in",
        "worse": "is worse in",
        "same": "cannot be told apart in",
    }
    parts = []
    for kind, phrase in words.items():
        names = []
        for metric in verdicts:
            if verdicts[metric] == kind:
                mark = MARK if kind == "better" and metric in marked else ""
                names.append(name_of(metric) + mark)
        if names:
            parts.append(f"{phrase} {', '.join(names)}")
    return "; ".join(parts)
