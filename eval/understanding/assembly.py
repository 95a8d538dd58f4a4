"""The rows of Tables 1 and 2: our scores beside the paper's figures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eval.paper import printed
from eval.understanding import remarks
from eval.understanding.grids import Tables
from eval.understanding.trivial import NAMES, Marks

LABELS = {
    "raw-none": ("Qwen2.5-VL-7B-Instruct", "Raw image", "None"),
    "raw-lora": ("Qwen2.5-VL-7B-Instruct", "Raw image", "LoRA"),
    "gpt-5": ("GPT-5", "Boxed image", "None"),
    "boxed-none": ("Qwen2.5-VL-7B-Instruct", "Boxed image", "None"),
    "boxed-lora": ("Ours", "Boxed image", "LoRA"),
}
"""MLLM, input and tuning of the paper's rows, in its order."""

TINY = "tiny Qwen2.5-VL"
"""What our models are called where they are not of the paper's size."""

MAIN = "boxed-lora"
"""The row that is shown in most detail, where it was run."""

DECODINGS = {"-constrained": "constrained decoding", "-ruled": "decoding that keeps the rules"}
"""By the end of a row's name: the schema constrained its decoding, or the rules too."""


def measured_on(profile: str, source: str, split: str = "") -> str:
    """A sentence for every table: what our figures were measured on."""
    frames = f"frames of {source!r}" if source else "rendered scenes"
    if split:
        frames += f", {split} split"
    if profile == "paper" and source:
        return f"ours: {frames}, models of the paper's size (profile paper)"
    model = "a tiny Qwen2.5-VL" if profile == "smoke" else "models of the paper's size"
    return (
        f"ours: {frames}, {model} (profile {profile}). This shows that the pipeline works; it is "
        "not the paper's accuracy and is not comparable with it"
    )


def assemble(
    scores: Mapping[str, Any],
    label: str,
    table_3: Any = None,
    *,
    tiny: bool = True,
    trivial: Mapping[str, Any] | None = None,
    marks: Mapping[str, Marks] | None = None,
) -> Tables:
    """`tables.json`: per table the rows in the paper's order, then ours, then the trivial ones.

    Args:
        scores: `scores.json` of each row.
        trivial: scores of the trivial rows (`trivial.NAMES`).
        marks: of each row, where it is not better than they are.
        label: what they were measured on (`measured_on`).
        table_3: the rows of Table 3, as `eval.transmission` writes them.
        tiny: our models are not of the paper's size, and are not called as the paper's are.
    """
    tables: Tables = {
        "measured_on": label,
        "table_1": _beside_paper(scores, printed.table(1), tiny),
        "table_2": _beside_paper(scores, printed.table(2), tiny),
        "table_3": table_3,
        "notes": remarks.notes(scores) + remarks.trivial_notes(marks or {}, trivial or {}),
    }
    for row in tables["table_1"]:
        row["marks"] = list((marks or {}).get(row["row"], {}))
    for name, scored in (trivial or {}).items():
        tables["table_1"].append(_trivial_row(name, scored))
        tables["table_2"].append(_trivial_row(name, scored))
    if table_3:
        tables["notes"].append(
            "Table 3: calibration, not evidence: its setting was fitted to the paper's Table 3. "
            "Evidence is what holds on perturbed settings and other traces (eval.transmission)."
        )
    return tables


def _beside_paper(
    scores: Mapping[str, Any], paper_rows: list[dict[str, Any]], tiny: bool
) -> list[dict[str, Any]]:
    paper = {row["row"]: row for row in paper_rows}
    rows = []
    for name in in_order([*LABELS, *scores]):
        ours, theirs = scores.get(name), paper.get(name)
        if ours is None and theirs is None:
            continue
        note = ""
        if ours is None:
            note = "no endpoint was given" if name == "gpt-5" else "not run"
        model, image, tuning = _label(name)
        our_model = TINY if tiny and ours and _is_local(name) else model
        rows.append(
            {
                "row": name,
                "model": model if theirs else our_model,
                "our_model": our_model,
                "input": image,
                "tuning": tuning,
                "paper": theirs,
                "ours": ours,
                "note": note,
                "marks": [],
            }
        )
    return rows


def _trivial_row(name: str, scored: Any) -> dict[str, Any]:
    called = {"row": f"trivial-{name}", "model": NAMES[name], "our_model": NAMES[name]}
    setting = {"input": "", "tuning": "", "paper": None, "note": "", "marks": []}
    return {**called, **setting, "ours": scored}


def _label(name: str) -> tuple[str, str, str]:
    """MLLM, input and tuning of a row; the decoding too where it was constrained."""
    plain, decoding = _decoding(name)
    model, image, tuning = LABELS.get(plain, (plain, "", ""))
    return model, image, ", ".join(filter(None, (tuning, decoding)))


def _decoding(name: str) -> tuple[str, str]:
    """The name without its ending, and how the answers were decoded; "" where freely."""
    for ending, decoding in DECODINGS.items():
        if name.endswith(ending):
            return name.removesuffix(ending), decoding
    return name, ""


def _is_local(name: str) -> bool:
    """Whether a row is of the model that the profile names; own rows are called by their name."""
    plain, _ = _decoding(name)
    return plain in LABELS and plain != "gpt-5"


def in_order(names: Iterable[str]) -> list[str]:
    """The one order of rows: the paper's in its order, then our own; each name once."""
    given = dict.fromkeys(names)
    own = [name for name in given if name not in LABELS]
    return [name for name in LABELS if name in given] + own


def main_row(names: Sequence[str]) -> str:
    """The row that is shown in most detail: the paper's own, or the last."""
    return MAIN if MAIN in names else names[-1]
