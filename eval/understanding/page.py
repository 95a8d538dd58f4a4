"""`report.html`: one self-contained page about an evaluation, for a screen, a phone and paper."""

import html
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.understanding.breakdown import LIGHTS
from eval.understanding.cases import case, failure, ranked
from eval.understanding.formats import Grid, detail_grids, html_table, html_tables
from eval.understanding.metrics import FAILED, OVERALL, Frame, Measures

WORST, BEST, WORST_OF_OTHERS, FAILURES, MISSING, REASONS = 6, 4, 3, 12, 60, 5
"""How many of each are shown; the headings say of how many."""

STYLE = """
:root { color-scheme: light; --line: #d8dce2; --dim: #5b6470; --ours: #eef5ff; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #16191d; margin: 0 auto; padding: 1rem;
       max-width: 64rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-top: 1rem;
     border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; } h4 { font-size: .9rem; margin: 0 0 .3rem; }
p, ul { margin: .4rem 0; } li { margin: .15rem 0; }
.measured { background: #fff4d6; border-left: 4px solid #e0a100; padding: .6rem .8rem; }
figure { margin: 1rem 0; } figcaption { font-weight: 600; margin-bottom: .3rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .55rem; text-align: right; border-bottom: 1px solid var(--line);
         white-space: nowrap; vertical-align: top; }
th:first-child, td:first-child { text-align: left; } th[scope=rowgroup] { white-space: normal;
         min-width: 8rem; font-weight: 500; border-right: 1px solid var(--line); }
tr.ours td { background: var(--ours); } small { color: var(--dim); font-size: .78em; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
.pairs { grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); }
.pairs > div { min-width: 0; }
.case, .failure { border: 1px solid var(--line); border-radius: 6px; padding: .6rem; min-width: 0;
                  font-size: .85rem; }
.failure { margin: .6rem 0; }
svg { width: 100%; height: auto; display: block; overflow: hidden; }
rect { fill: none; vector-effect: non-scaling-stroke; stroke-width: 2.5; }
rect.true { stroke: #fff; } rect.said { stroke-dasharray: 7 4; }
rect.moderate { stroke: #ffa500; } rect.severe { stroke: #ff2020; } rect.none { fill: #8b929b; }
.bar { fill: #3b74c4; } .bar.low { fill: #b9c2cd; } .axis { font: 11px system-ui; fill: #5b6470; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f5f7; padding: .5rem;
      font-size: .75rem; margin: .3rem 0 0; max-height: 14rem; overflow: auto; }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
td.source { text-align: left; }
@media screen and (max-width: 40rem) {
  body { padding: .7rem; } th, td { padding: .2rem .35rem; } ul { padding-left: 1.2rem; }
  .cards thead { display: none; } .cards, .cards tbody { display: block; }
  .cards tr { display: grid; } .across-3 tr { grid-template-columns: repeat(3, 1fr); }
  .across-4 tr { grid-template-columns: repeat(4, 1fr); }
  .cards th, .cards td.source, .cards td.note { grid-column: 1 / -1; text-align: left; }
  .cards th[scope=rowgroup] { font-weight: 600; border: 0; margin-top: .8rem; }
  .cards td.source { border: 0; }
  .cards td { text-align: left; } .cards td:empty { display: none; }
  .cards td[data-label]::before { content: attr(data-label); display: block; color: var(--dim);
                                  font-size: .75em; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; } table { font-size: 7.5pt; }
  th, td { padding: .12rem .3rem; } .wide { overflow: visible; } pre { max-height: none; }
  .case, .failure, figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .grid { grid-template-columns: repeat(3, 1fr); } .pairs { grid-template-columns: 1fr 1fr; }
}
"""


@dataclass(frozen=True)
class Row:
    """One row of the tables, with what it is made of."""

    name: str
    frames: Sequence[Frame]
    texts: Sequence[str | None]
    measures: Measures


def page(tables: dict[str, Any], rows: Sequence[Row], folder: Path) -> str:
    """The whole page; nothing in it is loaded from elsewhere.

    Args:
        rows: the last one is shown in most detail.
        folder: the instructions, whose `images/raw/test/<id>.png` are the pictures.
    """
    sections = [
        ("Tables", html_tables(tables) + _list(tables["notes"])),
        *(_detail(grid) for grid in detail_grids(tables)),
        ("What can be told apart", _comparisons(tables)),
        ("Overlap of true boxes", "".join(_histogram(r) for r in rows)),
        ("Overall severity", f'<div class="grid pairs">{"".join(map(_confusion, rows))}</div>'),
        ("By light, severity and size", _breakdown(tables["breakdown"])),
        ("Priority", _calibration(tables["calibration"])),
        ("Cases", "".join(_cases(rows, folder))),
        ("Answers that are not compliant", "".join(map(_failures, rows))),
        ("What was missing", _missing(rows, tables["usage"])),
    ]
    body = "".join(f"<section><h2>{title}</h2>{text}</section>" for title, text in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        f"<title>DAT evaluation</title><style>{STYLE}</style></head><body>"
        f"<h1>DAT evaluation</h1>{_head(tables, rows)}{body}</body></html>\n"
    )


def _head(tables: dict[str, Any], rows: Sequence[Row]) -> str:
    label = html.escape(tables["measured_on"])
    n = len(rows[0].frames)
    boxes = sum(len(f.accidents) for f in rows[0].frames)
    return (
        f'<p class="measured">{label[:1].upper()}{label[1:]}.</p>'
        f"<p>{n} test frames with {boxes} true accidents; {len(rows)} rows of answers.</p>"
    )


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(i)}</li>" for i in items) + "</ul>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _detail(grid: Grid) -> tuple[str, str]:
    """Heading and body; the table by split carries its own title."""
    if "Source" in grid.columns:
        return "By split", html_table(grid)
    return grid.title, _table(grid.columns, grid.rows)


def _comparisons(tables: dict[str, Any]) -> str:
    told = "<p>Paired bootstrap over the same frames, each metric by itself at 95 %.</p>"
    return told + _list([c["sentence"] for c in tables["comparisons"]] or ["There is one row."])


def _histogram(row: Row) -> str:
    """Bars for IoU 0 (not found) and ten bins of (0, 1]; those under 0.5 miss Recall@0.5."""
    values = row.measures.iou
    if not len(values):
        return f"<h3>{html.escape(row.name)}</h3><p>No true box.</p>"
    bins = np.where(values > 0, 1 + np.clip((values * 10).astype(int), 0, 9), 0)
    shares = np.bincount(bins, minlength=11) / len(values)
    bars = []
    for i, share in enumerate(shares):
        x, tall = 4 + i * 54, 80 * share / max(shares)
        kind = "bar" if i > 5 else "bar low"
        label = "not found" if i == 0 else f"{(i - 1) / 10:.1f}–{i / 10:.1f}"
        bars.append(
            f'<rect class="{kind}" x="{x}" y="{98 - tall:.1f}" width="46" height="{tall:.1f}"/>'
            f'<text class="axis" x="{x + 23}" y="{93 - tall:.1f}" text-anchor="middle">'
            f'{share:.0%}</text><text class="axis" x="{x + 23}" y="112" text-anchor="middle">'
            f"{label}</text>"
        )
    hit = float((values >= 0.5).mean())
    return (
        f"<h3>{html.escape(row.name)}: mean {values.mean():.3f}, {hit:.1%} at 0.5 or more, "
        f'{len(values)} boxes</h3><svg viewBox="0 0 600 118" role="img" '
        f'aria-label="IoU histogram of {html.escape(row.name)}">{"".join(bars)}</svg>'
    )


def _confusion(row: Row) -> str:
    """True severity in rows, answered in columns."""
    size = FAILED + 1
    index = row.measures.true_severity * size + row.measures.severity
    counts = np.bincount(index, minlength=len(OVERALL) * size).reshape(-1, size)
    cells = ""
    for name, line in zip(OVERALL, counts, strict=True):
        shade = line / max(1, line.sum())
        counted = "".join(
            f'<td style="background:rgba(59,116,196,{s:.2f});'
            f'color:{"#fff" if s > 0.6 else "inherit"}">{n}</td>'
            for n, s in zip(line, shade, strict=True)
        )
        cells += f"<tr><td>{name}</td>{counted}</tr>"
    head = "".join(f"<th>{c}</th>" for c in (*OVERALL, "failed"))
    return (
        f'<div><h3>{html.escape(row.name)}</h3><div class="wide"><table>'
        f"<thead><tr><th>true \\ said</th>{head}</tr></thead>"
        f"<tbody>{cells}</tbody></table></div></div>"
    )


def _breakdown(found: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            g["group"],
            str(g.get("frames", "")),
            f"{g['sev_acc']:.1%}" if "sev_acc" in g else "",
            str(g["boxes"]),
            "-" if g["bbox_miou"] is None else f"{g['bbox_miou']:.3f}",
            "-" if g["recall_50"] is None else f"{g['recall_50']:.1%}",
        ]
        for name, groups in found.items()
        for g in groups
    ]
    night, dusk, _ = (high for _, _, high in LIGHTS)
    note = (
        f"<p>Light by the picture's mean luma (0-255): night under {night}, dusk under {dusk}, "
        "day from there; a convention, since no label says. Sizes of true boxes are COCO's: small "
        "under 32² pixels, large from 96² on.</p>"
    )
    columns = ["Row", "Group", "Frames", "SevAcc", "True boxes", "mIoU", "Recall@0.5"]
    return _table(columns, rows) + note


def _calibration(found: Mapping[str, Any]) -> str:
    rows = []
    for name, c in found.items():
        error = "-" if c["mae"] is None else f"{c['mae']:.3f}"
        rows.append([f"{name}: MAE {error}", "all", str(c["frames"]), "", ""])
        for b in c["bins"]:
            bounds = f"{b['low']:.1f}–{b['high']:.1f}"
            rows.append(["", bounds, str(b["frames"]), f"{b['said']:.2f}", f"{b['true']:.2f}"])
    told = (
        "<p>Priority S of Eq. 7: what the answer says against what the labels call for. "
        "A calibrated row has equal means in every bin.</p>"
    )
    return told + _table(["Row", "S said", "n", "mean said", "mean true"], rows)


def _cases(rows: Sequence[Row], folder: Path) -> Iterator[str]:
    *others, main = rows
    order = ranked(main.measures)
    worst = order[:WORST]
    rest = [i for i in reversed(order) if i not in worst]
    best = sorted(rest, key=lambda i: not main.frames[i].accidents)[:BEST]  # those with boxes first
    yield (
        "<p>White: true boxes. Dashed: the answer's, orange moderate, red severe. "
        "The frame as the model saw it, without the gate's boxes.</p>"
    )
    yield f"<h3>Worst of {html.escape(main.name)}</h3>{_shown(main, worst, folder)}"
    yield f"<h3>Best of {html.escape(main.name)}</h3>{_shown(main, best, folder)}"
    for row in others:
        shown = _shown(row, ranked(row.measures)[:WORST_OF_OTHERS], folder)
        yield f"<details><summary>Worst of {html.escape(row.name)}</summary>{shown}</details>"


def _shown(row: Row, indices: Sequence[int], folder: Path) -> str:
    found = (case(row.frames[i], row.texts[i], row.measures, i, folder) for i in indices)
    return f'<div class="grid">{"".join(found)}</div>'


def _failures(row: Row) -> str:
    parse, schema, rule, violation = row.measures.verdicts.T
    faulty = np.flatnonzero((~(parse & schema & rule) | violation) & ~row.measures.missing)
    name = html.escape(row.name)
    if not len(faulty):
        return f"<p>{name}: none.</p>"
    shown = "".join(failure(row.frames[i], row.texts[i] or "") for i in faulty[:FAILURES])
    count = f"{len(faulty)}" + (f", {FAILURES} shown" if len(faulty) > FAILURES else "")
    return f"<details open><summary>{name}: {count}</summary>{shown}</details>"


def _missing(rows: Sequence[Row], usage: Mapping[str, Any]) -> str:
    items = []
    for row in rows:
        lost = [row.frames[i].image_id for i in np.flatnonzero(row.measures.missing)]
        more = f" and {len(lost) - MISSING} more" if len(lost) > MISSING else ""
        listed = f": {', '.join(lost[:MISSING])}{more}" if lost else ""
        reasons = Counter(usage.get(row.name, {}).get("missing", {}).values()).most_common(REASONS)
        told = "".join(f"; {count} x {reason[:200]}" for reason, count in reasons)
        items.append(f"{row.name}: {len(lost)} of {len(row.frames)} answers{listed}{told}")
    return _list(items)
