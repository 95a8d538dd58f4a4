"""`tables.json` as text for the terminal, Markdown, CSV, LaTeX and HTML. Pure."""

import csv
import html
import io
import textwrap
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

Tables = dict[str, Any]


class Grid(NamedTuple):
    """One table as cells of text; each format only lays it out."""

    title: str
    columns: list[str]
    rows: list[list[str]]


COLUMNS_1 = {
    "count_em": "Count EM↑",
    "count_mae": "Count MAE↓",
    "sev_acc": "SevAcc↑",
    "sev_f1": "SevF1↑",
    "bbox_miou": "BBox mIoU↑",
    "recall_50": "Recall@0.5↑",
}
COLUMNS_2 = {"parse": "Parse↑", "schema": "Schema↑", "rule": "Rule↑", "viol": "Viol.↓"}
COLUMNS_3 = {
    "w_alarm": "W-Alarm (s)",
    "vtr_05": "VTR@0.5s (%)",
    "vtr_1": "VTR@1s (%)",
    "avg_visual_delay": "Visual delay (s)",
}
TITLES = {
    "table_1": "Table 1. Structured accident understanding",
    "table_2": "Table 2. Structured output format compliance",
    "table_3": "Table 3. Transmission",
}
_COLUMNS = {"table_1": COLUMNS_1, "table_2": COLUMNS_2}


def name_of(metric: str) -> str:
    """The metric's name in the paper's tables."""
    return {**COLUMNS_1, **COLUMNS_2}[metric].rstrip("↑↓.")


def figure(metric: str, value: float | None) -> str:
    """A figure as the paper prints it: percent in Table 1, fractions elsewhere."""
    if value is None:
        return "-"
    if metric in COLUMNS_1 and metric != "count_mae":
        return f"{value:.2%}"
    return f"{value:.4f}"


def bounds(metric: str, found: dict[str, Any]) -> str:
    """The interval of a score, shorter than the score itself."""
    if found["value"] is None:
        return ""
    if metric in COLUMNS_1 and metric != "count_mae":
        return f"{100 * found['low']:.1f}–{100 * found['high']:.1f}"
    return f"{found['low']:.3f}–{found['high']:.3f}"


def grids(tables: Tables) -> list[Grid]:
    """Tables 1-3, ours in the line below the paper's."""
    made = [_understanding(tables, name) for name in ("table_1", "table_2")]
    if tables["table_3"]:
        made.append(_transmission(tables["table_3"]))
    return made


def detail_grids(tables: Tables) -> list[Grid]:
    """What stands after the tables: the scores by split, and what the answers took."""
    made = []
    if tables["by_split"]:
        rows = [
            [r["row"], r["frames"], str(r["ours"]["n"]), *_with_bounds(r["ours"], COLUMNS_1)]
            for r in tables["by_split"]
        ]
        columns = ["Row", "Source", "n", *COLUMNS_1.values()]
        made.append(Grid("Table 1 by split", columns, rows))
    if tables["usage"]:
        rows = [[name, *_usage_cells(took)] for name, took in tables["usage"].items()]
        made.append(Grid("What the answers took", ["Row", *USAGE_COLUMNS], rows))
    return made


USAGE_COLUMNS = ("Answers", "Missing", "Tokens asked", "Tokens said", "USD", "ms per token")


def _usage_cells(took: Mapping[str, Any]) -> list[str]:
    """Milliseconds per answer token of a local model; `-` where a figure is not known."""
    known = took["uncounted"] == 0
    seconds, tokens = took["generation_s"], took["completion_tokens"]
    return [
        str(took["answered"]),
        str(len(took["missing"])),
        str(took["prompt_tokens"]) if known else "-",
        str(tokens) if known else "-",
        "-" if took["usd"] is None else f"{took['usd']:.4f}",
        f"{1000 * seconds / tokens:.2f}" if seconds and tokens else "-",
    ]


def _with_bounds(scores: Mapping[str, Any], columns: Mapping[str, str]) -> list[str]:
    """Each figure with its interval in brackets, if it has one."""
    return [
        f"{figure(m, scores[m]['value'])} ({bounds(m, scores[m])})".replace(" ()", "")
        for m in columns
    ]


def _understanding(tables: Tables, name: str) -> Grid:
    columns = _COLUMNS[name]
    rows = []
    for row in tables[name]:
        label = [row["model"], row["input"], row["tuning"]]
        if row["paper"]:
            rows.append([*label, "paper", "", *(figure(m, row["paper"][m]) for m in columns)])
        if row["ours"]:
            cells = _with_bounds(row["ours"], columns)
            rows.append([*label, "ours", str(row["ours"]["n"]), *cells])
        else:
            rows.append([*label, "ours", "", row["note"], *[""] * (len(columns) - 1)])
    return Grid(TITLES[name], ["MLLM", "Input", "Tuning", "Source", "n", *columns.values()], rows)


def _transmission(rows: list[dict[str, Any]]) -> Grid:
    cells = []
    for row in rows:
        label = [row["method"], row["block"]]
        cells.append([*label, "paper", *(_timing(m, row["paper"][m]) for m in COLUMNS_3)])
        cells.append([*label, "ours", *(_mean_and_deviation(m, row[m]) for m in COLUMNS_3)])
    return Grid(TITLES["table_3"], ["Method", "Block", "Source", *COLUMNS_3.values()], cells)


def _timing(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if metric.startswith("vtr") else f"{value:.4f}"


def _mean_and_deviation(metric: str, found: Mapping[str, float] | None) -> str:
    if found is None:
        return "-"
    return f"{_timing(metric, found['mean'])} ± {_timing(metric, found['std'])}"


def terminal(tables: Tables) -> str:
    """All tables within 100 columns, and how the last row compares with the others."""
    lines = [_wrapped(tables["measured_on"], "")]
    for name, columns in _COLUMNS.items():
        lines += ["", TITLES[name]]
        lines.append(" " * 28 + "".join(f"{c:>12}" for c in columns.values()))
        for row in tables[name]:
            lines += _terminal_row(row, columns)
    if tables["table_3"]:
        lines += ["", *_terminal_transmission(_transmission(tables["table_3"]))]
    lines += [line for grid in detail_grids(tables) for line in _terminal_detail(grid)]
    shown = [c for c in tables["comparisons"] if c["row"] == tables["comparisons"][-1]["row"]]
    sentences = [c["sentence"] for c in shown] + tables["notes"]
    return "\n".join([*lines, "", *(_wrapped(s, "- ") for s in sentences)])


def _terminal_row(row: dict[str, Any], columns: dict[str, str]) -> Iterator[str]:
    names = (row["model"].partition("2.5")[0], row["input"].partition(" ")[0], row["tuning"])
    label = ", ".join(n for n in names if n)
    paper, ours = row["paper"], row["ours"]
    if len(label) > 21:
        yield label
        label = ""
    if paper:
        yield f"{label:<22}paper " + "".join(f"{figure(m, paper[m]):>12}" for m in columns)
        label = ""
    if ours is None:
        yield f"{label:<22}ours    {row['note']}"
        return
    yield f"{label:<22}ours  " + "".join(f"{figure(m, ours[m]['value']):>12}" for m in columns)
    n = f"  n = {ours['n']}"
    yield f"{n:<22}95 %  " + "".join(f"{bounds(m, ours[m]):>12}" for m in columns)


def _terminal_transmission(grid: Grid) -> Iterator[str]:
    yield grid.title
    yield " " * 29 + "".join(f"{c:>17}" for c in grid.columns[3:])
    block = ""
    for row in grid.rows:
        if row[1] != block:
            block = row[1]
            yield f"Block {block}"
        method = row[0] if row[2] == "paper" else ""
        yield f"  {method:<20}{row[2]:<7}" + "".join(f"{c:>17}" for c in row[3:])


def _terminal_detail(grid: Grid) -> Iterator[str]:
    """Each row on a line, its name on one of its own where it is long."""
    texts = 2 if "Source" in grid.columns else 1
    room = 100 - 13 * (len(grid.columns) - texts)
    yield ""
    yield grid.title
    yield " " * room + "".join(f"{c:>13}" for c in grid.columns[texts:])
    for row in grid.rows:
        name = ", ".join(row[:texts])
        if len(name) >= room:
            yield name
            name = ""
        cells = (c.partition(" (")[0] for c in row[texts:])
        yield f"{name:<{room}}" + "".join(f"{c:>13}" for c in cells)


def _wrapped(text: str, mark: str) -> str:
    return textwrap.fill(text, 98, initial_indent=mark, subsequent_indent=" " * len(mark))


def markdown(tables: Tables) -> str:
    """GitHub Markdown."""
    parts = []
    for grid in grids(tables) + detail_grids(tables):
        lines = [grid.columns, ["---"] * len(grid.columns), *grid.rows]
        body = "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in r) + " |" for r in lines)
        parts.append(f"## {grid.title}\n\n{body}\n")
    told = "\n".join(f"- {c['sentence']}" for c in tables["comparisons"])
    noted = "\n".join(f"- {note}" for note in tables["notes"])
    return f"{tables['measured_on']}.\n\n" + "\n".join(parts) + f"\n{told}\n{noted}\n"


def comma_separated(tables: Tables) -> str:
    """One line per figure, unrounded."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", "row", "source", "n", "metric", "value", "low", "high"])
    for name, columns in _COLUMNS.items():
        for row in tables[name]:
            for m in columns:
                if row["paper"]:
                    writer.writerow([name, row["row"], "paper", "", m, row["paper"][m], "", ""])
                if row["ours"]:
                    found = row["ours"][m]
                    values = [found["value"], found["low"], found["high"]]
                    writer.writerow([name, row["row"], "ours", row["ours"]["n"], m, *values])
    for row in tables["by_split"]:
        for m in COLUMNS_1:
            found = row["ours"][m]
            values = [found["value"], found["low"], found["high"]]
            writer.writerow(["by_split", row["row"], row["frames"], row["ours"]["n"], m, *values])
    for name, took in tables["usage"].items():
        for m in ("answered", "prompt_tokens", "completion_tokens", "usd", "generation_s"):
            writer.writerow(["usage", name, "ours", "", m, took[m], "", ""])
    for row in tables["table_3"] or []:
        label = f"{row['block']} {row['method']}"
        for m in COLUMNS_3:
            mean = row[m]["mean"] if row[m] else ""
            writer.writerow(["table_3", label, "paper", "", m, row["paper"][m], "", ""])
            writer.writerow(["table_3", label, "ours", "", m, mean, "", ""])
    return out.getvalue()


_TEX = str.maketrans(
    {"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$", "±": r"$\pm$", "–": "--",
     "↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$", "{": r"\{", "}": r"\}"}
)  # fmt: skip


def latex(tables: Tables) -> str:
    """One `tabular` per table, plain LaTeX without packages."""
    parts = [f"% {tables['measured_on']}"]
    for grid in grids(tables) + detail_grids(tables):
        lines = [
            " & ".join(c.translate(_TEX) for c in r) + r" \\" for r in [grid.columns, *grid.rows]
        ]
        parts.append(
            "\\begin{table}\n\\caption{" + grid.title.translate(_TEX) + "}\n\\begin{tabular}{"
            + "l" * len(grid.columns) + "}\n\\hline\n" + lines[0] + "\n\\hline\n"
            + "\n".join(lines[1:]) + "\n\\hline\n\\end{tabular}\n\\end{table}"
        )  # fmt: skip
    return "\n\n".join(parts) + "\n"


def html_tables(tables: Tables) -> str:
    """The tables as HTML elements, for a page that brings its own style."""
    return "\n".join(map(html_table, grids(tables))) + "\n"


def html_table(grid: Grid) -> str:
    source = grid.columns.index("Source")
    first = source + (2 if "n" in grid.columns else 1)
    columns = [grid.columns[0], "Source", *grid.columns[first:]]
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    body = []
    for label, group in groupby(grid.rows, key=lambda row: row[:source]):
        rows = list(group)
        name, *rest = map(html.escape, label)
        detail = f"<br><small>{' · '.join(filter(None, rest))}</small>" if any(rest) else ""
        heading = f'<th scope="rowgroup" rowspan="{len(rows)}">{name}{detail}</th>'
        for row in rows:
            n = "".join(f"<br><small>n = {c}</small>" for c in row[source + 1 : first] if c)
            cells = "".join(map(_html_cell, columns[2:], row[first:]))
            shade = ' class="ours"' if row[source] == "ours" else ""
            body.append(
                f"<tr{shade}>{heading}"
                f'<td class="source">{html.escape(row[source])}{n}</td>{cells}</tr>'
            )
            heading = ""
    across = 3 if len(columns) == 8 else 4  # on a phone: figures beside one another
    return (
        f'<figure><figcaption>{html.escape(grid.title)}</figcaption><div class="wide">'
        f'<table class="cards across-{across}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div></figure>"
    )


def _html_cell(column: str, text: str) -> str:
    """The figure, and under it, smaller, its interval or deviation."""
    value, small = text, ""
    if " (" in text:
        value, _, small = text.rstrip(")").partition(" (")
    elif " ± " in text:
        value, _, deviation = text.partition(" ± ")
        small = f"± {deviation}"
    under = f"<br><small>{html.escape(small)}</small>" if small else ""
    cell = f"{html.escape(value)}{under}"
    if text[:1].isdigit() or text == "-":
        return f'<td data-label="{html.escape(column)}">{cell}</td>'
    return f'<td class="note">{cell}</td>'


FORMATS: dict[str, Callable[[Tables], str]] = {
    "md": markdown,
    "csv": comma_separated,
    "tex": latex,
    "html": html_tables,
}
