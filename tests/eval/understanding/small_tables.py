"""The tables of an evaluation of twelve frames, small enough to write down what becomes of them."""

from collections.abc import Iterable
from typing import Any

from eval.understanding import grids

METRICS = (*grids.COLUMNS_1, *grids.COLUMNS_2)


def scored(metrics: Iterable[str] = METRICS) -> dict[str, Any]:
    """Every metric 0.5, from 0.25 to 0.625; no true box."""
    scores: dict[str, Any] = {"n": 12, "missing": 0}
    for metric in metrics:
        scores[metric] = {"value": 0.5, "low": 0.25, "high": 0.625}
    return scores | {"bbox_miou": {"value": None, "low": None, "high": None}}


def small_tables() -> grids.Tables:
    """Ours beside the paper's, a row of the paper's that was not run, one that only we have."""
    paper_3 = {"w_alarm": 0.0531, "vtr_05": 98.33, "vtr_1": 99.17, "avg_visual_delay": None}
    ours_3 = {metric: {"mean": 0.5, "std": 0.25} for metric in grids.COLUMNS_3}
    took = {
        "answered": 11,
        "missing": {"f1": "no answer"},
        "cut": 2,
        "prompt_tokens": 1200,
        "completion_tokens": 500,
        "uncounted": 0,
        "usd": 0.25,
        "generation_s": 2.0,
    }
    unknown = took | {"uncounted": 1, "usd": None, "generation_s": None}
    worse_boxes = {"count_em": "better", "count_mae": "worse", "bbox_miou": ""}
    compared = {
        "row": "boxed-lora",
        "against": "a|b",
        "sentence": "boxed-lora against a|b: is better in Count EM.",
        "verdicts": dict.fromkeys(METRICS, "same") | worse_boxes,
        "differences": {metric: {"value": 0.25, "low": 0.1, "high": 0.5} for metric in METRICS},
    }
    parted = {"row": "boxed-lora", "frames": "of these, without a twin", "ours": scored()}
    return {
        "measured_on": "ours: 12 frames",
        "table_1": _rows(grids.COLUMNS_1, marked="count_em"),
        "table_2": _rows(grids.COLUMNS_2, marked="parse"),
        "table_3": [
            {"block": "B", "method": "DAT", **ours_3, "avg_visual_delay": None, "paper": paper_3}
        ],
        "by_split": [parted],
        "usage": {"boxed-lora": took, "gpt-5": unknown},
        "comparisons": [compared, compared | {"row": "gpt-5", "sentence": "Not shown."}],
        "breakdown": {"boxed-lora": [], "a|b": []},
        "notes": ["One note of 100 %.", "Another & " + "long " * 18 + "one."],
    }


def _rows(columns: Iterable[str], marked: str) -> list[dict[str, Any]]:
    paper = dict.fromkeys(columns, 0.75)
    boxed = {"input": "Boxed image", "note": "", "marks": []}
    ours = {
        **boxed,
        "row": "boxed-lora",
        "model": "Ours",
        "our_model": "tiny Qwen2.5-VL",
        "tuning": "LoRA",
        "paper": paper,
        "ours": scored(),
        "marks": [marked],
    }
    not_run = {
        **boxed,
        "row": "gpt-5",
        "model": "GPT-5",
        "our_model": "GPT-5",
        "tuning": "None",
        "paper": paper,
        "ours": None,
        "note": "not run",
    }
    called = {"row": "a|b", "model": "a|b", "our_model": "a|b", "input": "", "tuning": ""}
    return [ours, not_run, {**called, "paper": None, "ours": scored(), "note": "", "marks": []}]
