"""The rows of Tables 1 and 2: our scores beside the paper's figures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eval.paper import printed
from eval.understanding import remarks
from eval.understanding.grids import Tables

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

CONSTRAINED = "-constrained"
"""Ends the name of a row whose decoding the schema constrained."""


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
    scores: Mapping[str, Any], label: str, table_3: Any = None, *, tiny: bool = True
) -> Tables:
    """`tables.json`: per table the rows in the paper's order, then rows the paper does not have.

    Args:
        scores: `scores.json` of each row.
        label: what they were measured on (`measured_on`).
        table_3: the rows of Table 3, as `eval.transmission` writes them.
        tiny: our models are not of the paper's size, and are not called as the paper's are.
    """
    tables: Tables = {
        "measured_on": label,
        "table_1": _beside_paper(scores, printed.table(1), tiny),
        "table_2": _beside_paper(scores, printed.table(2), tiny),
        "table_3": table_3,
        "notes": remarks.notes(scores),
    }
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
            }
        )
    return rows


def _label(name: str) -> tuple[str, str, str]:
    """MLLM, input and tuning of a row; the decoding too where the schema constrained it."""
    plain = name.removesuffix(CONSTRAINED)
    model, image, tuning = LABELS.get(plain, (plain, "", ""))
    if plain != name:
        tuning = f"{tuning}, constrained decoding".removeprefix(", ")
    return model, image, tuning


def _is_local(name: str) -> bool:
    """Whether a row is of the model that the profile names; own rows are called by their name."""
    plain = name.removesuffix(CONSTRAINED)
    return plain in LABELS and plain != "gpt-5"


def in_order(names: Iterable[str]) -> list[str]:
    """The one order of rows: the paper's in its order, then our own; each name once."""
    given = dict.fromkeys(names)
    own = [name for name in given if name not in LABELS]
    return [name for name in LABELS if name in given] + own


def main_row(names: Sequence[str]) -> str:
    """The row that is shown in most detail: the paper's own, or the last."""
    return MAIN if MAIN in names else names[-1]
