"""`tables.json` as grids of text, which each format lays out. Pure."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

Tables = dict[str, Any]
"""The content of tables.json (`assembly.assemble`, `evaluation.write`)."""


class Grid(NamedTuple):
    """One table as cells of text."""

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
MARK = "†"
"""Behind a figure of ours that is no better than the best trivial row's (`trivial.marks`)."""

UNDERSTANDING = {"table_1": COLUMNS_1, "table_2": COLUMNS_2}
"""The tables of scores, by their key in tables.json."""

USAGE_COLUMNS = (
    "Answers",
    "Missing",
    "Cut",
    "Prompt tokens",
    "Completion tokens",
    "USD",
    "ms per token",
)
TITLES = {
    "table_1": "Table 1. Structured accident understanding",
    "table_2": "Table 2. Structured output format compliance",
    "table_3": "Table 3. Transmission",
    "comparisons": "What can be told apart",
}


def name_of(metric: str) -> str:
    """The metric's name in the paper's tables."""
    columns = COLUMNS_1 if metric in COLUMNS_1 else COLUMNS_2
    return columns[metric].rstrip("↑↓.")


def figure(metric: str, value: float | None) -> str:
    """A figure as the paper prints it: percent in Table 1, fractions elsewhere."""
    if value is None:
        return "-"
    if _is_percent(metric):
        return f"{value:.2%}"
    return f"{value:.4f}"


def bounds(metric: str, score: Mapping[str, Any]) -> str:
    """The interval of a score, shorter than the score itself; "" where it is undefined."""
    if score["value"] is None:
        return ""
    if _is_percent(metric):
        return f"{100 * score['low']:.1f}–{100 * score['high']:.1f}"
    return f"{score['low']:.3f}–{score['high']:.3f}"


def _is_percent(metric: str) -> bool:
    return metric in COLUMNS_1 and metric != "count_mae"


def grids(tables: Tables) -> list[Grid]:
    """Tables 1-3, ours in the line below the paper's."""
    tables_1_to_3 = [_understanding(tables, name) for name in UNDERSTANDING]
    if tables["table_3"]:
        tables_1_to_3.append(transmission(tables["table_3"]))
    return tables_1_to_3


def detail_grids(tables: Tables) -> list[Grid]:
    """What follows the tables: the scores by split, and what the answers took."""
    details = []
    if tables["by_split"]:
        details.append(_by_split(tables["by_split"]))
    if tables["usage"]:
        rows = [[name, *_usage_cells(usage)] for name, usage in tables["usage"].items()]
        details.append(Grid("What the answers took", ["Row", *USAGE_COLUMNS], rows))
    return details


def _understanding(tables: Tables, name: str) -> Grid:
    columns = UNDERSTANDING[name]
    rows = []
    for row in tables[name]:
        setting = [row["input"], row["tuning"]]
        paper, ours = row["paper"], row["ours"]
        if paper:
            figures = [figure(metric, paper[metric]) for metric in columns]
            rows.append([row["model"], *setting, "paper", "", *figures])
        label = [row["our_model"], *setting]
        if ours:
            cells = _with_bounds(ours, columns, row["marks"])
            rows.append([*label, "ours", str(ours["n"]), *cells])
        else:
            empty = [""] * (len(columns) - 1)
            rows.append([*label, "ours", "", row["note"], *empty])
    heads = ["MLLM", "Input", "Tuning", "Source", "n", *columns.values()]
    return Grid(TITLES[name], heads, rows)


def _with_bounds(
    scores: Mapping[str, Any], metrics: Iterable[str], marked: Collection[str] = ()
) -> list[str]:
    """Each figure with its mark, and with its interval in brackets, if it has one."""
    cells = []
    for metric in metrics:
        cell = figure(metric, scores[metric]["value"]) + MARK * (metric in marked)
        interval = bounds(metric, scores[metric])
        if interval:
            cell += f" ({interval})"
        cells.append(cell)
    return cells


def _by_split(lines: list[dict[str, Any]]) -> Grid:
    rows = []
    for line in lines:
        ours = line["ours"]
        label = [line["row"], line["frames"], str(ours["n"])]
        rows.append(label + _with_bounds(ours, COLUMNS_1))
    return Grid("Table 1 by split", ["Row", "Source", "n", *COLUMNS_1.values()], rows)


def comparisons(tables: Tables) -> Grid:
    """One line for each pair of rows: verdict and difference of every metric.

    "better" bears the mark where the row is no better than the best trivial one.
    """
    marks = {row["row"]: row["marks"] for row in tables["table_1"]}
    rows = []
    for found in tables["comparisons"]:
        cells = []
        for metric in (*COLUMNS_1, *COLUMNS_2):
            verdict = found["verdicts"][metric]
            if verdict == "better" and metric in marks[found["row"]]:
                verdict += MARK
            cells.append(_judged(metric, verdict, found["differences"][metric]))
        rows.append([found["row"], found["against"], *cells])
    heads = ["Row", "Against", *COLUMNS_1.values(), *COLUMNS_2.values()]
    return Grid(TITLES["comparisons"], heads, rows)


def _judged(metric: str, verdict: str, found: Mapping[str, float | None]) -> str:
    """`better (+65.2)`: in percent where the metric is; `=` where they cannot be told apart."""
    if verdict in ("", "same"):
        return {"": "-", "same": "="}[verdict]
    value = found["value"]
    assert value is not None, "a verdict has a value"
    size = f"{100 * value:+.1f}" if _is_percent(metric) else f"{value:+.3f}"
    return f"{verdict} ({size})"


def _usage_cells(usage: Mapping[str, Any]) -> list[str]:
    """The cells of `USAGE_COLUMNS`; `-` where a figure is not known.

    Milliseconds are given for a local model only: behind an endpoint no generation time is known.
    """
    prompt = completion = usd = per_token = "-"
    seconds, tokens = usage["generation_s"], usage["completion_tokens"]
    if usage["uncounted"] == 0:
        prompt, completion = str(usage["prompt_tokens"]), str(tokens)
    if usage["usd"] is not None:
        usd = f"{usage['usd']:.4f}"
    if seconds and tokens:
        per_token = f"{1000 * seconds / tokens:.2f}"
    counts = [usage["answered"], len(usage["missing"]), usage["cut"]]
    return [*map(str, counts), prompt, completion, usd, per_token]


def transmission(rows: list[dict[str, Any]]) -> Grid:
    """Table 3, means and deviations over the draws below the paper's figures."""
    lines = []
    for row in rows:
        label = [row["method"], row["block"]]
        paper = [_timing(metric, row["paper"][metric]) for metric in COLUMNS_3]
        ours = [_mean_and_deviation(metric, row[metric]) for metric in COLUMNS_3]
        lines.append([*label, "paper", *paper])
        lines.append([*label, "ours", *ours])
    return Grid(TITLES["table_3"], ["Method", "Block", "Source", *COLUMNS_3.values()], lines)


def _timing(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    if metric.startswith("vtr"):
        return f"{value:.2f}"
    return f"{value:.4f}"


def _mean_and_deviation(metric: str, figures: Mapping[str, float] | None) -> str:
    if figures is None:
        return "-"
    return f"{_timing(metric, figures['mean'])} ± {_timing(metric, figures['std'])}"
