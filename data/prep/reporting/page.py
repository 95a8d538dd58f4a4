"""`report.html`: a view of the prepared set, in one file that needs no network."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime.truth import SPLITS
from data.prep.reporting import charts, decisions, distributions, pictures
from data.prep.reporting.page_style import STYLE
from data.prep.reporting.shown import Shown
from data.prep.reporting.summaries import COLUMNS, split_counts
from data.prep.reporting.tables import table
from data.prep.splitting.by_groups import rank

_OVERLAYS = 12
"""Frames shown of each split."""


class _Section(NamedTuple):
    """A part of the page: its anchor, its title, what it needs a decision on, and its content."""

    anchor: str
    title: str
    open_questions: int
    content: str


def write_report(folder: Path, report: Mapping[str, Any], shown: Shown) -> None:
    """Write the page, its pictures inside the file; the same set gives the same page.

    What needs a decision comes first, then the set, then notes. Sheets of pictures are closed until
    they are opened.
    """
    sections = _sections(folder, report, shown)
    body = _head(report) + _contents(sections) + "".join(map(_section, sections))
    (folder / "report.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Prepared data</title><style>{STYLE}</style><body>{body}</body></html>\n",
        encoding="utf-8",
    )


def _sections(folder: Path, report: Mapping[str, Any], shown: Shown) -> list[_Section]:
    real = decisions.real_faults(report)
    conflict_count = report["conflicts"]["frames"]
    conflicts = decisions.conflict_part(report, shown)
    leaks = decisions.leak_part(folder, report, shown)
    faults = decisions.fault_sheets(report, real, shown) or _NO_FAULT
    return [
        _Section("conflicts", "One picture, two truths", conflict_count, conflicts),
        _Section("leaks", "Leaks between splits", decisions.twins_of_test(report), leaks),
        _Section("faults", "What was lost or repaired", sum(real.values()), faults),
        _Section("splits", "Splits and classes", 0, _splits(report, shown)),
        _Section("frames", "Frames with their boxes", 0, _overlays(folder, shown)),
        _Section("charts", "Boxes and pictures", 0, _charts(folder, shown)),
        _Section("uplink", "Uplink trace", 0, _trace(folder, report)),
        _Section("notes", "Notes", 0, _notes(report, shown)),
    ]


_NO_FAULT = '<p class="good">Nothing was lost, and nothing had to be repaired.</p>'


def _section(section: _Section) -> str:
    return f'<h2 id="{section.anchor}">{section.title}</h2>{section.content}'


def _head(report: Mapping[str, Any]) -> str:
    frames = sum(counts["frames"] for counts in report["splits"].values())
    split = escape(report["split"])
    return (
        f"<h1>Prepared data: {split} split</h1>"
        f"<p>{frames:,} frames: {_per_split(report)}. A score on this set is a score on the "
        f"{split} split. What needs a decision comes first.</p>"
    )


def _per_split(report: Mapping[str, Any]) -> str:
    counts = report["splits"].items()
    return ", ".join(f"{part['frames']:,} {split}" for split, part in counts)


def _contents(sections: Sequence[_Section]) -> str:
    links = []
    for section in sections:
        count = f" <b>{section.open_questions:,}</b>" if section.open_questions else ""
        links.append(f'<a href="#{section.anchor}">{section.title}{count}</a>')
    return f"<nav>{''.join(links)}</nav>"


def _splits(report: Mapping[str, Any], shown: Shown) -> str:
    balance = {split: dict.fromkeys(charts.COLOURS, 0) for split in SPLITS}
    for frame in shown.kept:
        balance[frame.split][frame.stratum] += 1
    heads = [column.replace("_", " ") for column in COLUMNS]
    counts = report["splits"]
    rows = {split: [counts[split][column] for column in COLUMNS] for split in counts}
    negative = report["negatives"]
    return (
        f"{table('split', heads, rows)}<h3>Frames by their most severe accident</h3>"
        f"{charts.stacked_bars(balance)}"
        f"<p><small>{_compared('Accident frames', report['published_split'])} "
        f"{_compared('Negatives', negative['split'])} Negatives: {negative['found']:,} found, "
        f"{negative['exact_duplicates']:,} exact duplicates removed, split by "
        f"{negative['split_by']}.</small></p>"
    )


def _compared(what: str, part: Mapping[str, Any]) -> str:
    counts, paper = split_counts(part)
    verdict = "as in the paper" if part["is_the_papers"] else f"the paper has {paper}"
    return f"{what} by split: {counts or 'no splits of their own'} ({verdict})."


def _overlays(folder: Path, shown: Shown) -> str:
    sheets = []
    for split in SPLITS:
        members = [frame for frame in shown.kept if frame.split == split]
        # A random choice, the same for the same set. Negatives come last: shown if frames are few.
        members.sort(key=lambda frame: (frame.negative, rank(frame.id, 0)))
        figures = pictures.grid(pictures.of_set(folder, frame) for frame in members[:_OVERLAYS])
        title = f"{split}: {min(len(members), _OVERLAYS):,} of {len(members):,} frames, at random"
        sheets.append(pictures.folded(title, figures))
    return _key() + "".join(sheets)


def _key() -> str:
    entries = []
    for severity in ("moderate", "severe"):
        colour = charts.COLOURS[severity]
        entries.append(f'<span style="background:{colour}"></span>{severity}')
    return f'<p class="key">Boxes:{"".join(entries)}</p>'


def _charts(folder: Path, shown: Shown) -> str:
    kept = shown.kept
    content = (
        distributions.per_frame(kept)
        + distributions.brightness(folder, kept)
        + distributions.picture_sizes(kept)
    )
    maps = f'<div class="charts">{distributions.boxes(kept)}</div>'
    places = pictures.folded("Where boxes lie, and how large they are", maps)
    return f'<div class="charts">{content}</div>{places}'


def _trace(folder: Path, report: Mapping[str, Any]) -> str:
    trace = report["trace"]
    if not trace:
        return "<p>The source has none.</p>"
    rows = (folder / "bandwidth.csv").read_text().splitlines()[1:]
    values = [float(row.partition(",")[2]) for row in rows]
    chart = charts.series(values, "bytes per second")
    return (
        f"<p><code>{escape(trace['file'])}</code> ({escape(trace['form'])}), scale "
        f"{trace['scale']:g}, {trace['seconds']:,} s, mean {trace['mean_bytes_per_s']:,.0f} bytes "
        f'per second.</p><div class="charts"><div>{chart}</div></div>'
    )


def _notes(report: Mapping[str, Any], shown: Shown) -> str:
    """What was found and needs nothing: by kind, each closed."""
    kinds = decisions.notes(report)
    sheets = decisions.fault_sheets(report, kinds, shown)
    title = f"{sum(kinds.values()):,} harmless notes on the source, of {len(kinds)} kinds"
    lead = "<p>Each fault by file and line: <code>report.json</code>.</p>"
    return lead + pictures.folded(title, sheets)
