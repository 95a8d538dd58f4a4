"""What the figures of Tables 1-2 say, and what a reader must know to read them rightly."""

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dat_runtime.prompt import task_prompt
from dat_runtime.types import Size

if TYPE_CHECKING:
    from eval.understanding.metrics import Frame, Measures


def notes(scores: Mapping[str, Any]) -> list[str]:
    """What a reader must know to read the figures rightly."""
    faultless = {"parse": 1, "schema": 1, "rule": 1, "viol": 0}
    found = [
        "Intervals are 95 % bootstrap intervals over the test frames.",
        "Paper, Table 1: SevAcc 98.83 % (Ours) against 98.49 % (GPT-5) on at most 600 frames "
        "differ by 0.3 points, with a 95 % interval of about -1.0 to +1.6: they cannot be told "
        "apart.",
    ]
    sizes = sorted({s["n"] for s in scores.values()})
    if sizes and any(s[m]["value"] == v for s in scores.values() for m, v in faultless.items()):
        n = sizes[0]
        found.append(
            f"An interval without width (1.0 or 0.0) is no certainty: 0 faults in {n} frames still "
            f"allow a fault rate of up to {3 / n:.1%} (rule of three)."
        )
    for name, s in scores.items():
        if s["missing"]:
            found.append(f"{name}: {s['missing']} of {s['n']} answers are missing, counted failed.")
    return found


def gate_notes(frames: "Sequence[Frame]", boxed: Path) -> list[str]:
    """How many test frames the gate would drop, which the boxed rows answer all the same."""
    if not boxed.is_file():
        return []
    dropped = {
        sample["image_id"]
        for sample in json.loads(boxed.read_text("utf-8"))
        if sample["messages"][0]["content"].endswith(task_prompt(Size(*sample["frame"]), ()))
    }
    lost = sum(f.image_id in dropped and bool(f.accidents) for f in frames)
    return [
        f"The gate finds nothing in {len(dropped)} of {len(frames)} frames, {lost} of them with "
        "accidents; in the field these never reach the MLLM, here it is asked about them too."
    ]


def compare(rows: "Mapping[str, Measures]") -> list[dict[str, Any]]:
    """Each pair of rows by paired bootstrap, with a sentence that says what can be told apart."""
    from eval.understanding.formats import name_of
    from eval.understanding.metrics import LOWER_IS_BETTER, difference

    comparisons = []
    for before, after in combinations(rows, 2):
        differences = difference(rows[after], rows[before])
        better, worse, same = [], [], []
        for metric, (value, low, high) in differences.items():
            if value is None or low is None or high is None:
                continue
            if low <= 0 <= high:
                same.append(name_of(metric))
            elif (value > 0) != (metric in LOWER_IS_BETTER):
                better.append(name_of(metric))
            else:
                worse.append(name_of(metric))
        parts = [
            f"{word} {', '.join(metrics)}"
            for word, metrics in (
                ("is better in", better),
                ("is worse in", worse),
                ("cannot be told apart in", same),
            )
            if metrics
        ]
        comparisons.append(
            {
                "row": after,
                "against": before,
                "sentence": f"{after} against {before}: {'; '.join(parts)}.",
                "differences": {k: v._asdict() for k, v in differences.items()},
            }
        )
    return comparisons
