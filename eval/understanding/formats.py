"""`tables.json` as Markdown, CSV, LaTeX and HTML. Pure."""

import csv
import html
import io
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

from eval.understanding.grids import (
    COLUMNS_1,
    COLUMNS_3,
    MARK,
    UNDERSTANDING,
    Grid,
    Tables,
    comparisons,
    detail_grids,
    grids,
)

LINE_NAMES = ("Source", "Against", "Group", "S answered")
"""Columns that name the lines of a group in HTML."""


def markdown(tables: Tables) -> str:
    """GitHub Markdown."""
    parts = [f"{tables['measured_on']}.\n"]
    for grid in _all(tables):
        lines = [_markdown_row(grid.columns), _markdown_row(["---"] * len(grid.columns))]
        lines += map(_markdown_row, grid.rows)
        parts.append(f"## {grid.title}\n\n" + "\n".join(lines) + "\n")
    notes = [f"- {note}" for note in tables["notes"]]
    parts.append("\n".join(notes) + "\n")
    return "\n".join(parts)


def _all(tables: Tables) -> list[Grid]:
    pairs = [comparisons(tables)] if tables["comparisons"] else []
    return grids(tables) + detail_grids(tables) + pairs


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def comma_separated(tables: Tables) -> str:
    """One line per figure, unrounded."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", "row", "source", "n", "metric", "value", "low", "high", "mark"])
    for name in UNDERSTANDING:
        writer.writerows(_understanding_lines(tables, name))
    for row in tables["by_split"]:
        label = ["by_split", row["row"], row["frames"]]
        for metric in COLUMNS_1:
            writer.writerow([*label, *_scored(row["ours"], metric), ""])
    for name, usage in tables["usage"].items():
        for metric in ("answered", "prompt_tokens", "completion_tokens", "usd", "generation_s"):
            writer.writerow(["usage", name, "ours", "", metric, usage[metric], "", "", ""])
    for row in tables["table_3"] or []:
        label = f"{row['block']} {row['method']}"
        for metric in COLUMNS_3:
            mean = row[metric]["mean"] if row[metric] else ""
            paper = row["paper"][metric]
            writer.writerow(["table_3", label, "paper", "", metric, paper, "", "", ""])
            writer.writerow(["table_3", label, "ours", "", metric, mean, "", "", ""])
    return out.getvalue()


def _understanding_lines(tables: Tables, name: str) -> Iterator[list[Any]]:
    """The paper's figure and ours, metric by metric."""
    for row in tables[name]:
        for metric in UNDERSTANDING[name]:
            if row["paper"]:
                yield [name, row["row"], "paper", "", metric, row["paper"][metric], "", "", ""]
            if row["ours"]:
                mark = MARK * (metric in row["marks"])
                yield [name, row["row"], "ours", *_scored(row["ours"], metric), mark]


def _scored(scores: dict[str, Any], metric: str) -> list[Any]:
    """The cells from `n` on of one of our figures."""
    score = scores[metric]
    return [scores["n"], metric, score["value"], score["low"], score["high"]]


_TEX = str.maketrans(
    {"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$", "±": r"$\pm$", "–": "--",
     "↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$", "†": r"$\dagger$",
     "{": r"\{", "}": r"\}"}
)  # fmt: skip


def latex(tables: Tables) -> str:
    """One `tabular` per table, plain LaTeX without packages."""
    parts = [f"% {tables['measured_on']}"]
    for grid in _all(tables):
        lines = [
            r"\begin{table}",
            rf"\caption{{{grid.title.translate(_TEX)}}}",
            rf"\begin{{tabular}}{{{'l' * len(grid.columns)}}}",
            r"\hline",
            _latex_row(grid.columns),
            r"\hline",
        ]
        lines += map(_latex_row, grid.rows)
        lines += [r"\hline", r"\end{tabular}", r"\end{table}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _latex_row(cells: list[str]) -> str:
    return " & ".join(cell.translate(_TEX) for cell in cells) + r" \\"


def html_tables(tables: Tables) -> str:
    """The tables as HTML elements, for a page that brings its own style."""
    return "\n".join(map(html_table, grids(tables))) + "\n"


def html_table(grid: Grid) -> str:
    """A grid with a column that names its lines; those before it name a group of lines."""
    named = next(i for i, column in enumerate(grid.columns) if column in LINE_NAMES)
    first_figure = named + (2 if "n" in grid.columns else 1)
    columns = [grid.columns[0], grid.columns[named], *grid.columns[first_figure:]]
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = []
    for label, group in groupby(grid.rows, key=lambda row: row[:named]):
        rows = list(group)
        heading = _html_heading(label, len(rows))
        for row in rows:
            shade = ' class="ours"' if row[named] == "ours" else ""
            name = _html_source(row[named], row[named + 1 : first_figure], columns[1])
            cells = _html_cells(columns[2:], row[first_figure:])
            body.append(f"<tr{shade}>{heading}{name}{cells}</tr>")
            heading = ""  # spans the group's further rows
    figures = len(columns) - 2
    across = (
        3 if figures % 3 == 0 else 4 if figures % 4 == 0 else 5
    )  # beside one another on a phone
    caption = f"<figcaption>{html.escape(grid.title)}</figcaption>" if grid.title else ""
    return (
        f'<figure>{caption}<div class="wide">'
        f'<table class="cards across-{across}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div></figure>"
    )


def _html_heading(label: list[str], rows: int) -> str:
    """The name of a group of rows, and smaller what else is known of it."""
    name, *rest = map(html.escape, label)
    details = " · ".join(filter(None, rest))
    if details:
        name += f"<br><small>{details}</small>"
    return f'<th scope="rowgroup" rowspan="{rows}">{name}</th>'


def _html_source(source: str, counts: list[str], column: str) -> str:
    """Whose figures a line holds, and of how many frames where that is known."""
    text = html.escape(source)
    for count in filter(None, counts):
        text += f"<br><small>n = {count}</small>"
    head = "" if column == "Source" else f' data-name="{html.escape(column)}"'
    return f'<td class="source"{head}>{text}</td>'


def _html_cells(columns: list[str], texts: list[str]) -> str:
    """The cells of a line; a note instead of figures takes the whole line."""
    if texts[0] and not any(texts[1:]):
        return f'<td class="note" colspan="{len(texts)}">{html.escape(texts[0])}</td>'
    return "".join(map(_html_cell, columns, texts))


def _html_cell(column: str, text: str) -> str:
    """The figure, and under it, smaller, its interval, deviation or size."""
    value, small = text, ""
    if " (" in text:
        value, _, small = text.rstrip(")").partition(" (")
    elif " ± " in text:
        value, _, deviation = text.partition(" ± ")
        small = f"± {deviation}"
    cell = html.escape(value)
    if small:
        cell += f"<br><small>{html.escape(small)}</small>"
    kind = f' class="{value}"' if value in ("better", "worse") else ""  # no colour for "better†"
    return f'<td{kind} data-label="{html.escape(column)}">{cell}</td>'


FORMATS: dict[str, Callable[[Tables], str]] = {
    "md": markdown,
    "csv": comma_separated,
    "tex": latex,
    "html": html_tables,
}
"""By the suffix of the file."""
