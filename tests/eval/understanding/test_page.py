"""The report of four frames and two rows, to the letter but for what other rooms make."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dat_runtime.truth import Frame
from eval.understanding import breakdown, priorities
from eval.understanding.formats import html_tables
from eval.understanding.metrics import measure
from eval.understanding.page import Row, page
from eval.understanding.page_style import STYLE
from tests.eval.understanding.four_frames import (
    EVIL,
    FRAMES,
    NOWHERE,
    QUIET,
    SIZE,
    TEXTS,
    measures,
)
from tests.eval.understanding.small_tables import small_tables

LUMA = np.array([59.9, 60.0, 90.0, float("nan")])


def tables() -> dict[str, Any]:
    empty = {"table_1": [], "table_2": [], "table_3": None, "by_split": [], "comparisons": []}
    agreement = priorities.calibration(*priorities.priorities(FRAMES, TEXTS))
    none = {"frames": 0, "without": 4, "mae": None, "bins": []}
    return {
        **small_tables(),
        **empty,
        "breakdown": {"boxed-lora": breakdown.breakdown(FRAMES, measures(), LUMA)},
        "calibration": {"boxed-lora": agreement, "a|b": none},
    }


def rows() -> list[Row]:
    return [
        Row("a|b", FRAMES, QUIET, measures(QUIET)),
        Row("boxed-lora", FRAMES, TEXTS, measures()),
    ]


PAGE = """\
<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>DAT evaluation</title>
<style>STYLE</style></head><body>
<h1>DAT evaluation</h1>
<p class="measured">Ours: 12 frames.</p>
<p>4 test frames with 4 true accidents; 2 rows of answers.</p>
<section>
<h2>Tables</h2>TABLES<ul>
<li>One note of 100 %.</li>
<li>Another &amp; long long long long long long long long long long long long long long long long long long one.</li></ul></section>
<section>
<h2>What the answers took</h2>
<div class="wide">
<table><thead>
<tr><th>Row</th><th>Answers</th><th>Missing</th><th>Cut</th><th>Prompt tokens</th><th>Completion tokens</th><th>USD</th><th>ms per token</th></tr></thead><tbody>
<tr><td>boxed-lora</td><td>11</td><td>1</td><td>2</td><td>1200</td><td>500</td><td>0.2500</td><td>4.00</td></tr>
<tr><td>gpt-5</td><td>11</td><td>1</td><td>2</td><td>-</td><td>-</td><td>-</td><td>-</td></tr></tbody></table></div></section>
<section>
<h2>What can be told apart</h2>
<p>There is one row.</p></section>
<section>
<h2>Overlap of true boxes</h2>
<div class="grid pairs">
<div>
<h3>a|b</h3>
<p>mean 0.000, 0.0% at 0.5 or more, 4 boxes</p>
<svg viewBox="0 0 360 132" role="img" class="chart" aria-label="IoU histogram of a|b">
<rect class="bar low" x="2" y="18.0" width="28" height="80.0"/>
<text class="axis" x="16" y="13.0" text-anchor="middle">100%</text>
<rect class="bar low" x="42" y="98.0" width="28" height="0.0"/>
<rect class="bar low" x="73" y="98.0" width="28" height="0.0"/>
<rect class="bar low" x="104" y="98.0" width="28" height="0.0"/>
<rect class="bar low" x="135" y="98.0" width="28" height="0.0"/>
<rect class="bar low" x="166" y="98.0" width="28" height="0.0"/>
<rect class="bar" x="197" y="98.0" width="28" height="0.0"/>
<rect class="bar" x="228" y="98.0" width="28" height="0.0"/>
<rect class="bar" x="259" y="98.0" width="28" height="0.0"/>
<rect class="bar" x="290" y="98.0" width="28" height="0.0"/>
<rect class="bar" x="321" y="98.0" width="28" height="0.0"/>
<text class="axis" x="16" y="112" text-anchor="middle">not</text>
<text class="axis" x="16" y="126" text-anchor="middle">found</text>
<text class="axis" x="41" y="112" text-anchor="middle">0</text>
<text class="axis" x="72" y="112" text-anchor="middle">0.1</text>
<text class="axis" x="103" y="112" text-anchor="middle">0.2</text>
<text class="axis" x="134" y="112" text-anchor="middle">0.3</text>
<text class="axis" x="165" y="112" text-anchor="middle">0.4</text>
<text class="axis" x="196" y="112" text-anchor="middle">0.5</text>
<text class="axis" x="227" y="112" text-anchor="middle">0.6</text>
<text class="axis" x="258" y="112" text-anchor="middle">0.7</text>
<text class="axis" x="289" y="112" text-anchor="middle">0.8</text>
<text class="axis" x="320" y="112" text-anchor="middle">0.9</text>
<text class="axis" x="350" y="112" text-anchor="middle">1</text></svg></div>
<div>
<h3>boxed-lora</h3>
<p>mean 0.400, 50.0% at 0.5 or more, 4 boxes</p>
<svg viewBox="0 0 360 132" role="img" class="chart" aria-label="IoU histogram of boxed-lora">
<rect class="bar low" x="2" y="18.0" width="28" height="80.0"/>
<text class="axis" x="16" y="13.0" text-anchor="middle">50%</text>
<rect class="bar low" x="42" y="98.0" width="28" height="0.0"/>
<rect class="bar low" x="73" y="98.0" width="28" height="0.0"/>
<rect class="bar low" x="104" y="98.0" width="28" height="0.0"/>
<rect class="bar low" x="135" y="98.0" width="28" height="0.0"/>
<rect class="bar low" x="166" y="98.0" width="28" height="0.0"/>
<rect class="bar" x="197" y="98.0" width="28" height="0.0"/>
<rect class="bar" x="228" y="58.0" width="28" height="40.0"/>
<text class="axis" x="242" y="53.0" text-anchor="middle">25%</text>
<rect class="bar" x="259" y="98.0" width="28" height="0.0"/>
<rect class="bar" x="290" y="98.0" width="28" height="0.0"/>
<rect class="bar" x="321" y="58.0" width="28" height="40.0"/>
<text class="axis" x="335" y="53.0" text-anchor="middle">25%</text>
<text class="axis" x="16" y="112" text-anchor="middle">not</text>
<text class="axis" x="16" y="126" text-anchor="middle">found</text>
<text class="axis" x="41" y="112" text-anchor="middle">0</text>
<text class="axis" x="72" y="112" text-anchor="middle">0.1</text>
<text class="axis" x="103" y="112" text-anchor="middle">0.2</text>
<text class="axis" x="134" y="112" text-anchor="middle">0.3</text>
<text class="axis" x="165" y="112" text-anchor="middle">0.4</text>
<text class="axis" x="196" y="112" text-anchor="middle">0.5</text>
<text class="axis" x="227" y="112" text-anchor="middle">0.6</text>
<text class="axis" x="258" y="112" text-anchor="middle">0.7</text>
<text class="axis" x="289" y="112" text-anchor="middle">0.8</text>
<text class="axis" x="320" y="112" text-anchor="middle">0.9</text>
<text class="axis" x="350" y="112" text-anchor="middle">1</text></svg></div></div></section>
<section>
<h2>Overall severity</h2>
<div class="grid pairs">
<div>
<h3>a|b</h3>
<div class="wide">
<table><thead>
<tr><th>true</th><th>none</th><th>moderate</th><th>severe</th><th>failed</th></tr></thead><tbody>
<tr><td>none</td><td style="background:rgba(59,116,196,1.00);color:#fff">1</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td></tr>
<tr><td>moderate</td><td style="background:rgba(59,116,196,1.00);color:#fff">1</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td></tr>
<tr><td>severe</td><td style="background:rgba(59,116,196,1.00);color:#fff">2</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td></tr></tbody></table></div></div>
<div>
<h3>boxed-lora</h3>
<div class="wide">
<table><thead>
<tr><th>true</th><th>none</th><th>moderate</th><th>severe</th><th>failed</th></tr></thead><tbody>
<tr><td>none</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td><td style="background:rgba(59,116,196,1.00);color:#fff">1</td></tr>
<tr><td>moderate</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td><td style="background:rgba(59,116,196,1.00);color:#fff">1</td></tr>
<tr><td>severe</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td><td style="background:rgba(59,116,196,0.50);color:inherit">1</td><td style="background:rgba(59,116,196,0.50);color:inherit">1</td><td style="background:rgba(59,116,196,0.00);color:inherit">0</td></tr></tbody></table></div></div></div></section>
<section>
<h2>By light, severity and size</h2><figure>
<div class="wide">
<table class="cards across-5"><thead>
<tr><th>Row</th><th>Group</th><th>Frames</th><th>SevAcc</th><th>True boxes</th><th>mIoU</th><th>Recall@0.5</th></tr></thead><tbody>
<tr><th scope="rowgroup" rowspan="7">boxed-lora</th><td class="source" data-name="Group">night</td><td data-label="Frames">1</td><td data-label="SevAcc">100.0%</td><td data-label="True boxes">1</td><td data-label="mIoU">1.000</td><td data-label="Recall@0.5">100.0%</td></tr>
<tr><td class="source" data-name="Group">dusk</td><td data-label="Frames">1</td><td data-label="SevAcc">0.0%</td><td data-label="True boxes">2</td><td data-label="mIoU">0.300</td><td data-label="Recall@0.5">50.0%</td></tr>
<tr><td class="source" data-name="Group">day</td><td data-label="Frames">1</td><td data-label="SevAcc">0.0%</td><td data-label="True boxes">1</td><td data-label="mIoU">0.000</td><td data-label="Recall@0.5">0.0%</td></tr>
<tr><td class="source" data-name="Group">moderate</td><td data-label="Frames">-</td><td data-label="SevAcc">-</td><td data-label="True boxes">2</td><td data-label="mIoU">0.300</td><td data-label="Recall@0.5">50.0%</td></tr>
<tr><td class="source" data-name="Group">severe</td><td data-label="Frames">-</td><td data-label="SevAcc">-</td><td data-label="True boxes">2</td><td data-label="mIoU">0.500</td><td data-label="Recall@0.5">50.0%</td></tr>
<tr><td class="source" data-name="Group">small box</td><td data-label="Frames">-</td><td data-label="SevAcc">-</td><td data-label="True boxes">1</td><td data-label="mIoU">0.000</td><td data-label="Recall@0.5">0.0%</td></tr>
<tr><td class="source" data-name="Group">medium box</td><td data-label="Frames">-</td><td data-label="SevAcc">-</td><td data-label="True boxes">3</td><td data-label="mIoU">0.533</td><td data-label="Recall@0.5">66.7%</td></tr></tbody></table></div></figure>
<p>Light by the picture's mean luma (0-255): night under 60, dusk under 90, day from there; a convention, since no label says. Sizes of true boxes are COCO's: small under 32² pixels, large from 96² on.</p></section>
<section>
<h2>Priority</h2>
<p>Priority S of Eq. 7: what the answer states against what the labels call for. A calibrated row has equal means in every bin.</p><figure>
<div class="wide">
<table class="cards across-3"><thead>
<tr><th>Row</th><th>S answered</th><th>Frames</th><th>mean answered</th><th>mean true</th></tr></thead><tbody>
<tr><th scope="rowgroup" rowspan="3">boxed-lora<br><small>MAE 0.395</small></th><td class="source" data-name="S answered">all</td><td data-label="Frames">2</td><td data-label="mean answered">-</td><td data-label="mean true">-</td></tr>
<tr><td class="source" data-name="S answered">0.0–0.2</td><td data-label="Frames">1</td><td data-label="mean answered">0.08</td><td data-label="mean true">0.87</td></tr>
<tr><td class="source" data-name="S answered">0.8–1.0</td><td data-label="Frames">1</td><td data-label="mean answered">0.83</td><td data-label="mean true">0.83</td></tr>
<tr><th scope="rowgroup" rowspan="1">a|b<br><small>MAE -</small></th><td class="source" data-name="S answered">all</td><td data-label="Frames">0</td><td data-label="mean answered">-</td><td data-label="mean true">-</td></tr></tbody></table></div></figure></section>
<section>
<h2>Cases</h2>
<p>White: true boxes. Dashed: the answer's, orange moderate, red severe. The frame as the model saw it, without the gate's boxes.</p>
<h3>Worst of boxed-lora</h3>
<div class="grid">CASE &lt;missing&gt;;CASE quiet;CASE wrong;CASE right;</div>
<h3>Best of boxed-lora</h3>
<div class="grid"></div>
<details><summary>Worst of a|b</summary>
<div class="grid">CASE wrong;CASE right;CASE &lt;missing&gt;;</div></details></section>
<section>
<h2>Answers that are not compliant</h2>
<p>a|b: none.</p>
<details open><summary>boxed-lora: 1</summary>
<article class="failure">
<h4>quiet</h4>
<p>schema: unknown key &#x27;&lt;b&gt;&#x27;, expected count, severity, level, score, accidents, summary; schema: count is missing; schema: severity is missing; schema: level is missing; schema: score is missing; …</p>
<pre>{&quot;&lt;b&gt;&quot;: &quot;&lt;/pre&gt;&quot;}</pre></article></details></section>
<section>
<h2>What was missing</h2>
<ul>
<li>a|b: 0 of 4 answers</li>
<li>boxed-lora: 1 of 4 answers: &lt;missing&gt;; 1 x no answer</li></ul></section></body></html>
"""  # noqa: E501


def lines(text: str) -> str:
    """Its elements on lines of their own; of a case its name alone."""
    text = re.sub(r'<article class="case"><h4>([^<]*)</h4>.*?</article>', r"CASE \1;", text)
    kinds = "section|h[1-4]|p|tr|article|svg|rect|text|details|li|ul|pre|div|table|title|style"
    return re.sub(rf"(?<=>)(?=<(?:{kinds}))", "\n", text)


def test_the_report_shows_everything_of_its_rows() -> None:
    made = page(tables(), rows(), NOWHERE)
    assert STYLE in made
    made = made.replace(STYLE, "STYLE").replace(html_tables(tables()), "TABLES")
    assert lines(made) == PAGE


def test_what_is_compared_and_split_has_a_part() -> None:
    more = {name: small_tables()[name] for name in ("by_split", "table_1")}
    more["comparisons"] = small_tables()["comparisons"][:1]
    made = page(tables() | more, rows(), NOWHERE)
    assert "<section><h2>By split</h2><figure><figcaption>Table 1 by split</figcaption>" in made
    assert (
        "<section><h2>What can be told apart</h2><p>Each row against those before it, by paired "
        "bootstrap over the same frames, each metric by itself at 95 %; under a verdict the "
        "difference, in points or as it is. “=”: chance explains it.</p><figure><div"
    ) in made


def many(texts: list[str | None]) -> Row:
    frames = [Frame(f"f{i}", "", SIZE, ()) for i in range(len(texts))]
    return Row("boxed-lora", frames, texts, measure(frames, texts))


def part(title: str, shown: list[Row], **changes: Any) -> str:
    made = page(tables() | changes, shown, NOWHERE)
    return made.partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]


def test_many_failures_and_missing_answers_are_counted_and_some_are_shown() -> None:
    failed = part("Answers that are not compliant", [many([EVIL] * 13)])
    assert "<summary>boxed-lora: 13, 12 shown</summary>" in failed
    assert failed.count("<article") == 12
    assert "<summary>boxed-lora: 12</summary>" in part(
        "Answers that are not compliant", [many([EVIL] * 12)]
    )
    took = {"boxed-lora": {"missing": {str(i): "x" * 300 for i in range(3)} | {"y": "late"}}}
    none: list[str | None] = [None] * 62
    missing = part("What was missing", [many(none)], usage={})
    assert missing.startswith("<ul><li>boxed-lora: 62 of 62 answers: f0, f1, ")
    assert missing.endswith("f58, f59 and 2 more</li></ul>")
    reasons = part("What was missing", [replace(many(none[:60]))], usage=small_usage(took))
    assert reasons.endswith(f"f59; 3 x {'x' * 200}; 1 x late</li></ul>")


def small_usage(took: dict[str, Any]) -> dict[str, Any]:
    whole = small_tables()["usage"]["boxed-lora"]
    return {name: {**whole, **changes} for name, changes in took.items()}


def test_the_worst_and_the_best_are_of_the_main_row_and_those_with_boxes_come_first() -> None:
    frames = [Frame(f"q{i}", "", SIZE, ()) for i in range(8)]
    frames += [FRAMES[0]._replace(image_id=f"b{i}") for i in range(4)]
    texts: list[str | None] = [QUIET[0]] * 6 + [EVIL] * 2 + [TEXTS[0]] * 3 + [EVIL]
    row = Row("boxed-lora", frames, texts, measure(frames, texts))
    shown = re.findall(r"<h3>[^<]*</h3>|<h4>[^<]*</h4>", part("Cases", [row]))
    assert [re.sub("<[^>]*>", "", text) for text in shown] == [
        *("Worst of boxed-lora", "b3", "q6", "q7", "q0", "q1", "q2"),
        *("Best of boxed-lora", "b2", "b1", "b0", "q5"),
    ]


@pytest.mark.parametrize("name", ["a", "<a>"])
def test_a_row_without_true_boxes_has_no_histogram(name: str, tmp_path: Path) -> None:
    row = replace(many([QUIET[0]]), name=name)
    shown = part("Overlap of true boxes", [row])
    escaped = name.replace("<", "&lt;").replace(">", "&gt;")
    assert f"<div><h3>{escaped}</h3><p>No true box.</p></div>" in shown
