"""`report.html`: one self-contained page about an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.render import html_tables

if TYPE_CHECKING:
    from eval.metrics import Frame, Measures


def page(
    tables: dict[str, Any],
    frames: "Sequence[Frame]",
    answers: "Mapping[str, Sequence[str | None]]",
    rows: "Mapping[str, Measures]",
    instructions: Path,
) -> str:
    """The whole page; nothing in it is loaded from elsewhere."""
    return f"<!doctype html><meta charset=utf-8><title>DAT</title>{html_tables(tables)}"
