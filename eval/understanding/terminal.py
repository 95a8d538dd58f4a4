"""`tables.json` as text for a terminal of a hundred columns. Pure."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from eval.understanding.assembly import main_row
from eval.understanding.grids import (
    MARK,
    TITLES,
    UNDERSTANDING,
    Grid,
    Tables,
    bounds,
    detail_grids,
    figure,
    transmission,
)

WIDTH = 100
LABEL = 22
"""Room for the name of a row of Tables 1 and 2."""


def terminal(tables: Tables) -> str:
    """All tables, and how the main row compares with the others."""
    lines = [_wrapped(tables["measured_on"], "")]
    for name, columns in UNDERSTANDING.items():
        heads = "".join(f"{column:>12}" for column in columns.values())
        lines += ["", TITLES[name], " " * (LABEL + 6) + heads]
        for row in tables[name]:
            lines += _understanding_lines(row, columns)
    if tables["table_3"]:
        lines.append("")
        lines += _transmission_lines(transmission(tables["table_3"]))
    for grid in detail_grids(tables):
        lines += _detail_lines(grid)
    lines.append("")
    for comparison in tables["comparisons"]:
        if main_row(list(tables["breakdown"])) in (comparison["row"], comparison["against"]):
            lines.append(_wrapped(comparison["sentence"], "- "))
    for note in tables["notes"]:
        lines.append(_wrapped(note, "- "))
    return "\n".join(lines)


def _understanding_lines(row: dict[str, Any], columns: Mapping[str, str]) -> Iterator[str]:
    """The paper's figures, ours, and the intervals of ours, under the row's name."""
    paper, ours = row["paper"], row["ours"]
    label = _label(row, "model")
    if paper:
        cells = "".join(f"{figure(metric, paper[metric]):>12}" for metric in columns)
        yield f"{label:<{LABEL}}paper {cells}"
    label = "" if paper and row["our_model"] == row["model"] else _label(row, "our_model")
    if len(label) >= LABEL:  # no room for figures beside it
        yield label
        label = ""
    if ours is None:
        yield f"{label:<{LABEL}}ours    {row['note']}"
        return
    cells = ""
    for metric in columns:
        cells += f"{figure(metric, ours[metric]['value']) + MARK * (metric in row['marks']):>12}"
    yield f"{label:<{LABEL}}ours  {cells}"
    count = f"  n = {ours['n']}"
    intervals = "".join(f"{bounds(metric, ours[metric]):>12}" for metric in columns)
    yield f"{count:<{LABEL}}95 %  {intervals}"


def _label(row: Mapping[str, Any], model: str) -> str:
    """Cut to what tells the rows apart: "Qwen Boxed LoRA"."""
    names = (row[model].partition("2.5")[0], row["input"].partition(" ")[0], row["tuning"])
    return " ".join(name for name in names if name)


def _transmission_lines(grid: Grid) -> Iterator[str]:
    yield grid.title
    yield " " * 29 + "".join(f"{column:>17}" for column in grid.columns[3:])
    shown_block = ""
    for method, block, source, *figures in grid.rows:
        if block != shown_block:
            shown_block = block
            yield f"Block {block}"
        name = method if source == "paper" else ""
        yield f"  {name:<20}{source:<7}" + "".join(f"{cell:>17}" for cell in figures)


def _detail_lines(grid: Grid) -> Iterator[str]:
    """Each row on a line; its name on a line of its own where it is long."""
    texts = 2 if "Source" in grid.columns else 1  # columns of words, before those of figures
    heads = grid.columns[texts:]
    widths = [max(9, len(head) + 2) for head in heads]
    room = WIDTH - sum(widths)
    yield ""
    yield grid.title
    yield " " * room + _aligned(heads, widths)
    for row in grid.rows:
        name = ", ".join(row[:texts])
        if len(name) >= room:
            yield name
            name = ""
        figures = [cell.partition(" (")[0] for cell in row[texts:]]  # without the interval
        yield f"{name:<{room}}" + _aligned(figures, widths)


def _aligned(cells: list[str], widths: list[int]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _wrapped(text: str, mark: str) -> str:
    """The text over several lines, all but the first indented under the mark."""
    indent = " " * len(mark)
    return textwrap.fill(text, WIDTH - 2, initial_indent=mark, subsequent_indent=indent)
