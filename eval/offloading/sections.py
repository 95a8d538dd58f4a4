"""What the parts of the report are made of, and how Markdown and HTML lay them out."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eval.understanding.page_style import STYLE

FOLDED_FROM = 12
"""Rows; a table of more is opened by a tap."""


@dataclass(frozen=True)
class Grid:
    """A table as cells of text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


@dataclass(frozen=True)
class Section:
    """One part: what it shows, in a sentence or two, then a plot, remarks and tables.

    Attributes:
        plot: the name of its PNG, without suffix.
    """

    title: str
    says: str
    plot: str = ""
    remarks: Sequence[str] = ()
    grids: Sequence[Grid] = ()


def markdown(title: str, head: str, parts: Iterable[Section]) -> str:
    """tables.md; `head` is a sentence under the title."""
    text = [f"# {title}\n\n{head}.\n"]
    for part in parts:
        text.append(f"## {part.title}\n\n{part.says}\n")
        if part.remarks:
            text.append("\n".join(f"- {remark}" for remark in part.remarks) + "\n")
        for grid in part.grids:
            lines = [grid.columns, ["---"] * len(grid.columns), *grid.rows]
            title = f"{grid.title}:\n\n" if grid.title else ""
            text.append(title + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n")
    return "\n".join(text)


def page(title: str, head: str, parts: Iterable[Section], plots: Mapping[str, bytes]) -> str:
    """report.html: one page that loads nothing from elsewhere.

    Args:
        head: a sentence under the title.
        plots: PNG by name.
    """
    body = "".join(_section(part, plots) for part in parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{html.escape(title)}</title><style>{STYLE}{_PLOT}</style></head><body>"
        f'<h1>{html.escape(title)}</h1><p class="measured">{html.escape(head)}.</p>'
        f"{body}</body></html>\n"
    )


_PLOT = (
    "figure img { width: 100%; max-width: 34rem; height: auto; display: block; } "
    "thead th { white-space: normal; vertical-align: bottom; }"
)


def _section(part: Section, plots: Mapping[str, bytes]) -> str:
    text = f"<section><h2>{html.escape(part.title)}</h2><p>{html.escape(part.says)}</p>"
    if part.plot in plots:
        data = base64.b64encode(plots[part.plot]).decode("ascii")
        alt = html.escape(part.says, quote=True)
        text += f'<figure><img alt="{alt}" src="data:image/png;base64,{data}"></figure>'
    if part.remarks:
        items = "".join(f"<li>{html.escape(remark)}</li>" for remark in part.remarks)
        text += f"<ul>{items}</ul>"
    return text + "".join(map(_table, part.grids)) + "</section>"


def _table(grid: Grid) -> str:
    """A table; a long one is folded."""
    head = _cells("th", grid.columns)
    rows = "".join(f"<tr>{_cells('td', row)}</tr>" for row in grid.rows)
    table = (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    title = html.escape(grid.title)
    if len(grid.rows) > FOLDED_FROM:
        return f"<details><summary>{title or 'All rows'}</summary>{table}</details>"
    return (f"<h3>{title}</h3>" if title else "") + table


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)
