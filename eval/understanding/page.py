"""`report.html`: one self-contained page about an evaluation, for a screen, a phone and paper."""

import html
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dat_runtime.truth import Frame
from eval.understanding.assembly import main_row
from eval.understanding.breakdown import LIGHTS
from eval.understanding.cases import case, failure, ranked
from eval.understanding.formats import html_table, html_tables
from eval.understanding.grids import Grid, Tables, comparisons, detail_grids
from eval.understanding.metrics import HIT, OVERALL, Measures
from eval.understanding.page_style import STYLE

WORST = 6
BEST = 4
WORST_OF_OTHERS = 3
FAILURES = 12
MISSING = 60
REASONS = 5
"""How many of each are shown; the headings say of how many."""

CHART_WIDTH = 360
"""Units of a chart: about the pixels of a phone, so that its text keeps its size there."""


@dataclass(frozen=True)
class Row:
    """One row of the tables, with its frames, answers and measures."""

    name: str
    frames: Sequence[Frame]
    texts: Sequence[str | None]
    measures: Measures


def page(tables: Tables, rows: Sequence[Row], folder: Path) -> str:
    """The whole page; nothing in it is loaded from elsewhere.

    Args:
        rows: `assembly.main_row` of them is shown in most detail.
        folder: the instructions, whose test images are the pictures.
    """
    sections = [("Tables", html_tables(tables) + _list(tables["notes"]))]
    sections += [_detail(grid) for grid in detail_grids(tables)]
    sections += [
        ("What can be told apart", _comparisons(tables)),
        (
            "Overlap of true boxes",
            f'<div class="grid pairs">{"".join(map(_histogram, rows))}</div>',
        ),
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
        # Answers are quoted in the page: whatever they hold, a browser loads and runs nothing.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        f"<title>DAT evaluation</title><style>{STYLE}</style></head><body>"
        f"<h1>DAT evaluation</h1>{_head(tables, rows)}{body}</body></html>\n"
    )


def _head(tables: Tables, rows: Sequence[Row]) -> str:
    label = html.escape(tables["measured_on"])
    frames = rows[0].frames
    boxes = sum(len(frame.accidents) for frame in frames)
    return (
        f'<p class="measured">{label[:1].upper()}{label[1:]}.</p>'
        f"<p>{len(frames)} test frames with {boxes} true accidents; "
        f"{len(rows)} rows of answers.</p>"
    )


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = _cells("th", columns)
    body = "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)


def _detail(grid: Grid) -> tuple[str, str]:
    """Heading and body; the table by split carries its own title."""
    if "Source" in grid.columns:
        return "By split", html_table(grid)
    return grid.title, _table(grid.columns, grid.rows)


def _comparisons(tables: Tables) -> str:
    if not tables["comparisons"]:
        return "<p>There is one row.</p>"
    explanation = (
        "<p>Each row against those before it, by paired bootstrap over the same frames, each "
        "metric by itself at 95 %; under a verdict the difference, in points or as it is. "
        "“=”: chance explains it.</p>"
    )
    return explanation + html_table(comparisons(tables)._replace(title=""))


def _histogram(row: Row) -> str:
    """Bars for IoU 0 (not found) and ten bins of (0, 1]; those under 0.5 miss Recall@0.5."""
    name, values = html.escape(row.name), row.measures.iou
    if not len(values):
        return f"<div><h3>{name}</h3><p>No true box.</p></div>"
    tenths = np.clip((values * 10).astype(int), 0, 9)
    bins = np.where(values > 0, 1 + tenths, 0)
    shares = np.bincount(bins, minlength=11) / len(values)
    highest = max(shares)
    bars = [_bar(i, share, 80 * share / highest) for i, share in enumerate(shares)]
    ticks = [_tick(i) for i in range(11)]
    hit = float((values >= HIT).mean())
    return (
        f"<div><h3>{name}</h3><p>mean {values.mean():.3f}, {hit:.1%} at 0.5 or more, "
        f'{len(values)} boxes</p><svg viewBox="0 0 {CHART_WIDTH} 132" role="img" class="chart" '
        f'aria-label="IoU histogram of {name}">{"".join(bars + ticks)}</svg></div>'
    )


def _bar(i: int, share: float, height: float) -> str:
    """The bar of a bin, on a ground at y = 98, with its share above it; the first stands apart."""
    left = 2 + 31 * i + (9 if i else 0)
    kind = "bar" if i > 5 else "bar low"
    bar = (
        f'<rect class="{kind}" x="{left}" y="{98 - height:.1f}" width="28" height="{height:.1f}"/>'
    )
    if not share:
        return bar
    return (
        f'{bar}<text class="axis" x="{left + 14}" y="{93 - height:.1f}" text-anchor="middle">'
        f"{share:.0%}</text>"
    )


def _tick(i: int) -> str:
    """The bound at the left of bin `i`; the frames without overlap have words instead."""
    if i == 0:
        return _axis_text(16, 112, "not") + _axis_text(16, 126, "found")
    text = _axis_text(39 + 31 * (i - 1) + 2, 112, f"{(i - 1) / 10:g}")
    return text + (_axis_text(350, 112, "1") if i == 10 else "")


def _axis_text(x: float, y: float, text: str) -> str:
    return f'<text class="axis" x="{x}" y="{y}" text-anchor="middle">{text}</text>'


def _confusion(row: Row) -> str:
    """True severity in rows, answered in columns."""
    answered = (*OVERALL, "failed")
    index = row.measures.true_severity * len(answered) + row.measures.severity
    counts = np.bincount(index, minlength=len(OVERALL) * len(answered)).reshape(-1, len(answered))
    lines = ""
    for name, line in zip(OVERALL, counts, strict=True):
        cells = "".join(_shaded(count, count / max(1, line.sum())) for count in line)
        lines += f"<tr><td>{name}</td>{cells}</tr>"
    head = _cells("th", answered)
    return (
        f'<div><h3>{html.escape(row.name)}</h3><div class="wide"><table>'
        f"<thead><tr><th>true</th>{head}</tr></thead>"
        f"<tbody>{lines}</tbody></table></div></div>"
    )


def _shaded(count: int, share: float) -> str:
    """A count on a blue as deep as its share of the row, white where the blue is dark."""
    colour = "#fff" if share > 0.6 else "inherit"
    return f'<td style="background:rgba(59,116,196,{share:.2f});color:{colour}">{count}</td>'


def _breakdown(by_row: Mapping[str, Any]) -> str:
    rows = []
    for name, groups in by_row.items():
        for group in groups:
            rows.append([name, *_group_cells(group)])
    night, dusk, _ = (high for _, _, high in LIGHTS)
    note = (
        f"<p>Light by the picture's mean luma (0-255): night under {night}, dusk under {dusk}, "
        "day from there; a convention, since no label says. Sizes of true boxes are COCO's: small "
        "under 32² pixels, large from 96² on.</p>"
    )
    columns = ["Row", "Group", "Frames", "SevAcc", "True boxes", "mIoU", "Recall@0.5"]
    return html_table(Grid("", columns, rows)) + note


def _group_cells(group: Mapping[str, Any]) -> list[str]:
    frames = severity = "-"
    if "frames" in group:  # a group by light
        frames, severity = str(group["frames"]), f"{group['sev_acc']:.1%}"
    overlap = recall = "-"
    if group["boxes"]:
        overlap, recall = f"{group['bbox_miou']:.3f}", f"{group['recall_50']:.1%}"
    return [group["group"], frames, severity, str(group["boxes"]), overlap, recall]


def _calibration(by_row: Mapping[str, Any]) -> str:
    rows = []
    for name, agreement in by_row.items():
        error = "-" if agreement["mae"] is None else f"{agreement['mae']:.3f}"
        label = [name, f"MAE {error}"]
        rows.append([*label, "all", str(agreement["frames"]), "-", "-"])
        for part in agreement["bins"]:
            bounds = f"{part['low']:.1f}–{part['high']:.1f}"
            stated, true = f"{part['said']:.2f}", f"{part['true']:.2f}"
            rows.append([*label, bounds, str(part["frames"]), stated, true])
    explanation = (
        "<p>Priority S of Eq. 7: what the answer states against what the labels call for. "
        "A calibrated row has equal means in every bin.</p>"
    )
    columns = ["Row", "MAE", "S answered", "Frames", "mean answered", "mean true"]
    return explanation + html_table(Grid("", columns, rows))


def _cases(rows: Sequence[Row], folder: Path) -> Iterator[str]:
    shown = main_row([row.name for row in rows])
    main = next(row for row in rows if row.name == shown)
    others = [row for row in rows if row is not main]
    order = ranked(main.measures)
    worst = order[:WORST]
    rest = [i for i in reversed(order) if i not in worst]
    with_boxes_first = sorted(rest, key=lambda i: not main.frames[i].accidents)
    best = with_boxes_first[:BEST]
    name = html.escape(main.name)
    yield (
        "<p>White: true boxes. Dashed: the answer's, orange moderate, red severe. "
        "The frame as the model saw it, without the gate's boxes.</p>"
    )
    yield f"<h3>Worst of {name}</h3>{_shown(main, worst, folder)}"
    yield f"<h3>Best of {name}</h3>{_shown(main, best, folder)}"
    for row in others:
        shown = _shown(row, ranked(row.measures)[:WORST_OF_OTHERS], folder)
        yield f"<details><summary>Worst of {html.escape(row.name)}</summary>{shown}</details>"


def _shown(row: Row, indices: Sequence[int], folder: Path) -> str:
    cases = [case(row.frames[i], row.texts[i], row.measures, i, folder) for i in indices]
    return f'<div class="grid">{"".join(cases)}</div>'


def _failures(row: Row) -> str:
    parse, schema, rule, violation = row.measures.verdicts.T
    compliant = parse & schema & rule & ~violation
    faulty = np.flatnonzero(~compliant & ~row.measures.missing)
    name = html.escape(row.name)
    if not len(faulty):
        return f"<p>{name}: none.</p>"
    shown = "".join(failure(row.frames[i], row.texts[i] or "") for i in faulty[:FAILURES])
    count = str(len(faulty))
    if len(faulty) > FAILURES:
        count += f", {FAILURES} shown"
    return f"<details open><summary>{name}: {count}</summary>{shown}</details>"


def _missing(rows: Sequence[Row], usage: Mapping[str, Any]) -> str:
    items = []
    for row in rows:
        missing = [row.frames[i].image_id for i in np.flatnonzero(row.measures.missing)]
        item = f"{row.name}: {len(missing)} of {len(row.frames)} answers"
        if missing:
            item += f": {', '.join(missing[:MISSING])}"
        if len(missing) > MISSING:
            item += f" and {len(missing) - MISSING} more"
        reasons = Counter(usage.get(row.name, {}).get("missing", {}).values())
        for reason, count in reasons.most_common(REASONS):
            item += f"; {count} x {reason[:200]}"
        items.append(item)
    return _list(items)
