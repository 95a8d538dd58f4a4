"""The tables as Markdown, CSV, LaTeX and HTML, to the letter."""

import re

import pytest

from eval.understanding.formats import comma_separated, html_table, html_tables, latex, markdown
from eval.understanding.grids import Grid, grids
from tests.eval.understanding.small_tables import small_tables

MARKDOWN = r"""ours: 12 frames.

## Table 1. Structured accident understanding

| MLLM | Input | Tuning | Source | n | Count EM↑ | Count MAE↓ | SevAcc↑ | SevF1↑ | BBox mIoU↑ | Recall@0.5↑ |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| Ours | Boxed image | LoRA | paper |  | 75.00% | 0.7500 | 75.00% | 75.00% | 75.00% | 75.00% |
| tiny Qwen2.5-VL | Boxed image | LoRA | ours | 12 | 50.00%† (25.0–62.5) | 0.5000 (0.250–0.625) | 50.00% (25.0–62.5) | 50.00% (25.0–62.5) | - | 50.00% (25.0–62.5) |
| GPT-5 | Boxed image | None | paper |  | 75.00% | 0.7500 | 75.00% | 75.00% | 75.00% | 75.00% |
| GPT-5 | Boxed image | None | ours |  | not run |  |  |  |  |  |
| a\|b |  |  | ours | 12 | 50.00% (25.0–62.5) | 0.5000 (0.250–0.625) | 50.00% (25.0–62.5) | 50.00% (25.0–62.5) | - | 50.00% (25.0–62.5) |

## Table 2. Structured output format compliance

| MLLM | Input | Tuning | Source | n | Parse↑ | Schema↑ | Rule↑ | Viol.↓ |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| Ours | Boxed image | LoRA | paper |  | 0.7500 | 0.7500 | 0.7500 | 0.7500 |
| tiny Qwen2.5-VL | Boxed image | LoRA | ours | 12 | 0.5000† (0.250–0.625) | 0.5000 (0.250–0.625) | 0.5000 (0.250–0.625) | 0.5000 (0.250–0.625) |
| GPT-5 | Boxed image | None | paper |  | 0.7500 | 0.7500 | 0.7500 | 0.7500 |
| GPT-5 | Boxed image | None | ours |  | not run |  |  |  |
| a\|b |  |  | ours | 12 | 0.5000 (0.250–0.625) | 0.5000 (0.250–0.625) | 0.5000 (0.250–0.625) | 0.5000 (0.250–0.625) |

## Table 3. Transmission

| Method | Block | Source | W-Alarm (s) | VTR@0.5s (%) | VTR@1s (%) | Visual delay (s) |
| --- | --- | --- | --- | --- | --- | --- |
| DAT | B | paper | 0.0531 | 98.33 | 99.17 | - |
| DAT | B | ours | 0.5000 ± 0.2500 | 0.50 ± 0.25 | 0.50 ± 0.25 | - |

## Table 1 by split

| Row | Source | n | Count EM↑ | Count MAE↓ | SevAcc↑ | SevF1↑ | BBox mIoU↑ | Recall@0.5↑ |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| boxed-lora | of these, without a twin | 12 | 50.00% (25.0–62.5) | 0.5000 (0.250–0.625) | 50.00% (25.0–62.5) | 50.00% (25.0–62.5) | - | 50.00% (25.0–62.5) |

## What the answers took

| Row | Answers | Missing | Cut | Prompt tokens | Completion tokens | USD | ms per token |
| --- | --- | --- | --- | --- | --- | --- | --- |
| boxed-lora | 11 | 1 | 2 | 1200 | 500 | 0.2500 | 4.00 |
| gpt-5 | 11 | 1 | 2 | - | - | - | - |

## What can be told apart

| Row | Against | Count EM↑ | Count MAE↓ | SevAcc↑ | SevF1↑ | BBox mIoU↑ | Recall@0.5↑ | Parse↑ | Schema↑ | Rule↑ | Viol.↓ |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| boxed-lora | a\|b | better† (+25.0) | worse (+0.250) | = | = | - | = | = | = | = | = |
| gpt-5 | a\|b | better (+25.0) | worse (+0.250) | = | = | - | = | = | = | = | = |

- One note of 100 %.
- Another & long long long long long long long long long long long long long long long long long long one.
"""  # noqa: E501

COMMA_SEPARATED = """\
table,row,source,n,metric,value,low,high,mark
table_2,boxed-lora,paper,,parse,0.75,,,
table_2,boxed-lora,ours,12,parse,0.5,0.25,0.625,†
table_2,boxed-lora,paper,,schema,0.75,,,
table_2,boxed-lora,ours,12,schema,0.5,0.25,0.625,
table_2,boxed-lora,paper,,rule,0.75,,,
table_2,boxed-lora,ours,12,rule,0.5,0.25,0.625,
table_2,boxed-lora,paper,,viol,0.75,,,
table_2,boxed-lora,ours,12,viol,0.5,0.25,0.625,
table_2,gpt-5,paper,,parse,0.75,,,
table_2,gpt-5,paper,,schema,0.75,,,
table_2,gpt-5,paper,,rule,0.75,,,
table_2,gpt-5,paper,,viol,0.75,,,
table_2,a|b,ours,12,parse,0.5,0.25,0.625,
table_2,a|b,ours,12,schema,0.5,0.25,0.625,
table_2,a|b,ours,12,rule,0.5,0.25,0.625,
table_2,a|b,ours,12,viol,0.5,0.25,0.625,
by_split,boxed-lora,"of these, without a twin",12,count_em,0.5,0.25,0.625,
by_split,boxed-lora,"of these, without a twin",12,count_mae,0.5,0.25,0.625,
by_split,boxed-lora,"of these, without a twin",12,sev_acc,0.5,0.25,0.625,
by_split,boxed-lora,"of these, without a twin",12,sev_f1,0.5,0.25,0.625,
by_split,boxed-lora,"of these, without a twin",12,bbox_miou,,,,
by_split,boxed-lora,"of these, without a twin",12,recall_50,0.5,0.25,0.625,
usage,boxed-lora,ours,,answered,11,,,
usage,boxed-lora,ours,,prompt_tokens,1200,,,
usage,boxed-lora,ours,,completion_tokens,500,,,
usage,boxed-lora,ours,,usd,0.25,,,
usage,boxed-lora,ours,,generation_s,2.0,,,
usage,gpt-5,ours,,answered,11,,,
usage,gpt-5,ours,,prompt_tokens,1200,,,
usage,gpt-5,ours,,completion_tokens,500,,,
usage,gpt-5,ours,,usd,,,,
usage,gpt-5,ours,,generation_s,,,,
table_3,B DAT,paper,,w_alarm,0.0531,,,
table_3,B DAT,ours,,w_alarm,0.5,,,
table_3,B DAT,paper,,vtr_05,98.33,,,
table_3,B DAT,ours,,vtr_05,0.5,,,
table_3,B DAT,paper,,vtr_1,99.17,,,
table_3,B DAT,ours,,vtr_1,0.5,,,
table_3,B DAT,paper,,avg_visual_delay,,,,
table_3,B DAT,ours,,avg_visual_delay,,,,
"""

LATEX = r"""% ours: 12 frames

\begin{table}
\caption{Table 1. Structured accident understanding}
\begin{tabular}{lllllllllll}
\hline
MLLM & Input & Tuning & Source & n & Count EM$\uparrow$ & Count MAE$\downarrow$ & SevAcc$\uparrow$ & SevF1$\uparrow$ & BBox mIoU$\uparrow$ & Recall@0.5$\uparrow$ \\
\hline
\hline
\end{tabular}
\end{table}

\begin{table}
\caption{Table 2. Structured output format compliance}
\begin{tabular}{lllllllll}
\hline
MLLM & Input & Tuning & Source & n & Parse$\uparrow$ & Schema$\uparrow$ & Rule$\uparrow$ & Viol.$\downarrow$ \\
\hline
\hline
\end{tabular}
\end{table}

\begin{table}
\caption{Table 3. Transmission}
\begin{tabular}{lllllll}
\hline
Method & Block & Source & W-Alarm (s) & VTR@0.5s (\%) & VTR@1s (\%) & Visual delay (s) \\
\hline
DAT & B & paper & 0.0531 & 98.33 & 99.17 & - \\
DAT & B & ours & 0.5000 $\pm$ 0.2500 & 0.50 $\pm$ 0.25 & 0.50 $\pm$ 0.25 & - \\
\hline
\end{tabular}
\end{table}
"""  # noqa: E501

HTML = """\
<figure>
<figcaption>1 &lt; 2</figcaption>
<div class="wide">
<table class="cards across-3"><thead>
<tr>
<th>MLLM</th>
<th>Source</th>
<th>A</th>
<th>B</th>
<th>C</th></tr></thead>
<tbody>
<tr>
<th scope="rowgroup" rowspan="2">Ours<br><small>Boxed · LoRA</small></th>
<td class="source">paper</td>
<td data-label="A">75.00%</td>
<td data-label="B">0.7500</td>
<td data-label="C">-</td></tr>
<tr class="ours">
<td class="source">ours<br><small>n = 12</small></td>
<td data-label="A">50.00%†<br><small>25.0–62.5</small></td>
<td data-label="B">0.5<br><small>± 0.2</small></td>
<td data-label="C">&lt;b&gt;</td></tr>
<tr class="ours">
<th scope="rowgroup" rowspan="1">Never</th>
<td class="source">ours</td>
<td class="note" colspan="3">not run</td></tr>
</tbody></table></div></figure>"""

PAIR = """\
<figure>
<div class="wide">
<table class="cards across-4"><thead>
<tr>
<th>Row</th>
<th>Against</th>
<th>A</th>
<th>B</th>
<th>C</th>
<th>D</th></tr></thead>
<tbody>
<tr>
<th scope="rowgroup" rowspan="1">a</th>
<td class="source" data-name="Against">b</td>
<td class="better" data-label="A">better<br><small>+1.0</small></td>
<td class="worse" data-label="B">worse<br><small>-0.001</small></td>
<td data-label="C">=</td>
<td data-label="D">better†<br><small>+2.0</small></td></tr>
</tbody></table></div></figure>"""


def test_markdown_holds_every_table_and_the_notes() -> None:
    assert markdown(small_tables()) == MARKDOWN


def test_a_line_of_csv_is_one_unrounded_figure() -> None:
    assert comma_separated(small_tables() | {"table_1": []}) == COMMA_SEPARATED


def test_latex_is_one_tabular_a_table_and_what_it_reads_is_escaped() -> None:
    empty = {"table_1": [], "table_2": [], "by_split": [], "usage": {}, "comparisons": []}
    assert latex(small_tables() | empty) == LATEX
    many = latex(small_tables())
    assert many.count(r"\begin{tabular}") == 6
    assert r"boxed-lora & a|b & better$\dagger$ (+25.0) & worse (+0.250) & =" in many


def lines(text: str) -> str:
    """Each element of a table on a line of its own."""
    return re.sub(r"(?<=>)(?=<(?:tr|td|th\b|table|tbody|/tbody|figcaption|div))", "\n", text)


def test_html_names_groups_of_lines_and_puts_intervals_under_their_figures() -> None:
    rows = [
        ["Ours", "Boxed", "LoRA", "paper", "", "75.00%", "0.7500", "-"],
        ["Ours", "Boxed", "LoRA", "ours", "12", "50.00%† (25.0–62.5)", "0.5 ± 0.2", "<b>"],
        ["Never", "", "", "ours", "", "not run", "", ""],
    ]
    grid = Grid("1 < 2", ["MLLM", "Input", "Tuning", "Source", "n", "A", "B", "C"], rows)
    assert lines(html_table(grid)) == HTML


def test_html_colours_verdicts_without_a_mark() -> None:
    found = ["better (+1.0)", "worse (-0.001)", "=", "better† (+2.0)"]
    grid = Grid("", ["Row", "Against", "A", "B", "C", "D"], [["a", "b", *found]])
    assert lines(html_table(grid)) == PAIR


@pytest.mark.parametrize(("figures", "across"), [(3, 3), (4, 4), (5, 5), (6, 3), (8, 4), (12, 3)])
def test_figures_are_dealt_evenly_over_a_phone(figures: int, across: int) -> None:
    columns = [f"c{i}" for i in range(figures)]
    grid = Grid("", ["Row", "Source", "n", *columns], [["a", "b", "1", *columns]])
    assert f'class="cards across-{across}"' in html_table(grid)


def test_the_page_takes_tables_1_to_3() -> None:
    made = html_tables(small_tables())
    assert made.splitlines() == [html_table(grid) for grid in grids(small_tables())]
    assert made.endswith("</figure>\n")
    assert len(made.splitlines()) == 3
    assert len(grids(small_tables() | {"table_3": None})) == 2
