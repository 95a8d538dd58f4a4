"""`report.html`: a view of the prepared set, in one file that needs no network."""

import base64
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from dat_runtime.truth import SPLITS
from dat_runtime.types import SEVERITIES
from data.prep.importers.source_frame import SUFFIXES
from data.prep.importers.sources import Sources
from data.prep.pictures.decode import UnreadableImage, read_picture
from data.prep.prepared.kept import Kept
from data.prep.reporting import charts
from data.prep.reporting.summaries import COLUMNS, split_counts
from data.prep.splitting.by_groups import rank
from data.prep.splitting.leaks import KINDS

_OVERLAYS = 6
"""Frames shown of each split."""
_EXAMPLES = 3
"""Examples shown of each kind of fault."""
_SIDE = 360
"""The longer side of a shown picture, pixels."""
_CELLS = 24
"""Cells of a heat map in each direction."""
_CAPTION_LETTERS = 300
"""File names and fault details come from the source and may be of any length."""

_STYLE = """
:root{color-scheme:light}*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:16px;font:16px/1.5 system-ui,sans-serif;color:#1c1e21;
background:#fcfcfa}
h1{font-size:1.5rem;margin:.2em 0}h2{font-size:1.15rem;margin:2em 0 .5em;border-top:1px solid #ddd;
padding-top:1em}h3{font-size:1rem;margin:1.2em 0 .3em}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{padding:4px 8px;text-align:right;border-bottom:1px solid #e5e5e0}
td:first-child,th:first-child{text-align:left}
.wide{overflow-x:auto}.grid{display:grid;gap:10px;grid-template-columns:repeat(auto-fill,
minmax(210px,1fr))}.two{display:grid;gap:20px;grid-template-columns:repeat(auto-fit,
minmax(260px,1fr))}figure{margin:0}img,svg{max-width:100%;height:auto;display:block}
img{border-radius:3px}svg text{font:13px system-ui,sans-serif}figcaption,small{font-size:.82rem;
color:#555;overflow-wrap:anywhere}.lead{font-size:1.05rem}.bad{color:#a3161d;font-weight:600}
.good{color:#22613f;font-weight:600}code{background:#f0f0ec;padding:0 3px;overflow-wrap:anywhere}
"""


def write_report(
    folder: Path, report: Mapping[str, Any], kept: Sequence[Kept], sources: Sources
) -> None:
    """Write the page, its pictures inside the file; the same set gives the same page."""
    body = "".join(
        [
            _head(report),
            _splits(report, kept),
            _leaks(folder, report),
            _overlays(folder, kept),
            _boxes(kept),
            _faults(report, sources),
            _trace(folder, report),
        ]
    )
    (folder / "report.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Prepared data</title><style>{_STYLE}</style><body>{body}</body></html>\n"
    )


def _head(report: Mapping[str, Any]) -> str:
    frames = sum(counts["frames"] for counts in report["splits"].values())
    faults = sum(report["faults"]["counts"].values())
    test_frames = report["splits"]["test"]["frames"]
    twins = sum(report["leaks"]["frames_with_a_twin"]["test in train"].values())
    if twins:
        verdict = (
            f'<span class="bad">{twins:,} of {test_frames:,} test frames have a twin in train'
            "</span>"
        )
    else:
        verdict = '<span class="good">no test frame has a twin in train</span>'
    split = escape(report["split"])
    return (
        f"<h1>Prepared data: {split} split</h1>"
        f'<p class="lead">{frames:,} frames, {faults:,} faults found and dealt with by rule; '
        f"{verdict}. A score on this set is a score on the {split} split.</p>"
    )


def _splits(report: Mapping[str, Any], kept: Sequence[Kept]) -> str:
    balance = {split: dict.fromkeys(charts.COLOURS, 0) for split in SPLITS}
    for frame in kept:
        balance[frame.split][frame.stratum] += 1
    heads = [column.replace("_", " ") for column in COLUMNS]
    counts = report["splits"]
    rows = {split: [counts[split][column] for column in COLUMNS] for split in counts}
    negative = report["negatives"]
    return (
        f"<h2>Splits and classes</h2>{_table('split', heads, rows)}"
        f"<p>{_compared('Accident frames', report['published_split'])} "
        f"{_compared('Negatives', negative['split'])} Negatives: {negative['found']:,} found, "
        f"{negative['exact_duplicates']:,} exact duplicates removed, split by "
        f"{negative['split_by']}.</p><h3>Frames by their most severe accident</h3>"
        f"{charts.stacked_bars(balance)}"
    )


def _table(corner: str, heads: Iterable[str], rows: Mapping[str, Iterable[int]]) -> str:
    """A table of counts, one named row each; it scrolls on a narrow screen."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    lines = [f"<tr><th>{corner}</th>{head}</tr>"]
    for name, counts in rows.items():
        cells = "".join(f"<td>{count:,}</td>" for count in counts)
        lines.append(f"<tr><td>{name}</td>{cells}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _compared(what: str, part: Mapping[str, Any]) -> str:
    counts, paper = split_counts(part)
    verdict = "as in the paper" if part["is_the_papers"] else f"the paper has {paper}"
    return f"{what} by split: {counts or 'no splits of their own'} ({verdict})."


def _leaks(folder: Path, report: Mapping[str, Any]) -> str:
    leaks = report["leaks"]
    twins = leaks["frames_with_a_twin"]
    rows = {where: [twins[where][kind] for kind in KINDS] for where in twins}
    parts = [
        "<h2>Leaks between splits</h2><p>Frames of one split with a twin in another, by the "
        "strongest kind. Near: the same picture, even if encoded again, resized, mirrored, grey or "
        "noisy. Same-source: augmented copies by Roboflow's names. Same-clip: one clip by name and "
        f"one place by looks.</p>{_table('frames of', KINDS, rows)}"
        f"<p>{leaks['groups']:,} groups of frames that belong together, the largest of "
        f"{leaks['largest_group']:,} frames; {leaks['groups_across_splits']:,} lie in more than "
        "one split. Each frame's closest twin: <code>leaks.json</code>.</p>"
    ]
    for kind in KINDS:
        sheet = folder / "leaks" / f"{kind}.jpg"
        if sheet.is_file():
            parts.append(
                f"<h3>{kind}, from the nearest pair to the farthest</h3>"
                f"{_inline(sheet.read_bytes(), kind)}"
            )
    return "".join(parts)


def _overlays(folder: Path, kept: Sequence[Kept]) -> str:
    parts = ["<h2>Frames with their boxes</h2>"]
    for split in SPLITS:
        members = [frame for frame in kept if frame.split == split]
        # A random choice, the same for the same set. Negatives come last: shown if frames are few.
        members.sort(key=lambda frame: (frame.negative, rank(frame.id, 0)))
        figures = "".join(_overlay(folder, frame) for frame in members[:_OVERLAYS])
        parts.append(f'<h3>{split}</h3><div class="grid">{figures}</div>')
    return "".join(parts)


def _overlay(folder: Path, frame: Kept) -> str:
    with Image.open(folder / frame.image) as opened:
        opened.draft("RGB", (_SIDE, _SIDE))  # the JPEG decoder scales, which is faster
        image = opened.convert("RGB")
    image.thumbnail((_SIDE, _SIDE))
    draw = ImageDraw.Draw(image)
    for accident in frame.accidents:
        box = accident.box
        left, top = box.x1 * image.width, box.y1 * image.height
        # Pillow's rectangle includes its right and bottom edge, a box does not.
        right, bottom = box.x2 * image.width - 1, box.y2 * image.height - 1
        colour = charts.COLOURS[accident.severity]
        draw.rectangle((left, top, right, bottom), outline=colour, width=3)
    severities = ", ".join(accident.severity for accident in frame.accidents)
    return _figure(image, f"{frame.id}: {severities or 'no accident'}")


def _boxes(kept: Sequence[Kept]) -> str:
    parts = ['<h2>Where boxes lie, and how large they are</h2><div class="two">']
    for severity in SEVERITIES:
        centres = [[0] * _CELLS for _ in range(_CELLS)]
        sizes = [[0] * _CELLS for _ in range(_CELLS)]
        count = 0
        for frame in kept:
            for accident in frame.accidents:
                if accident.severity != severity:
                    continue
                box = accident.box
                count += 1
                row, column = _cell((box.y1 + box.y2) / 2), _cell((box.x1 + box.x2) / 2)
                centres[row][column] += 1
                # Row 0 is at the top, but heights grow upwards.
                row, column = _CELLS - 1 - _cell(box.y2 - box.y1), _cell(box.x2 - box.x1)
                sizes[row][column] += 1
        colour = charts.COLOURS[severity]
        parts.append(
            f"<div><h3>{severity}: centres of {count:,} boxes in the frame</h3>"
            f"{charts.heatmap(centres, 'x', 'y downwards', colour)}</div>"
            f"<div><h3>{severity}: box width and height, in shares of the frame</h3>"
            f"{charts.heatmap(sizes, 'width', 'height upwards', colour)}</div>"
        )
    return "".join(parts) + "</div>"


def _cell(share: float) -> int:
    return min(max(int(share * _CELLS), 0), _CELLS - 1)


def _faults(report: Mapping[str, Any], sources: Sources) -> str:
    faults = report["faults"]
    by_kind = defaultdict(list)
    for fault in faults["list"]:
        by_kind[fault["kind"]].append(fault)
    parts = [
        "<h2>Faults of the source, and what was done</h2><p>At most three examples of each kind; "
        "all of them, by file and line: <code>report.json</code>.</p>"
    ]
    if not by_kind:
        parts.append('<p class="good">None was found.</p>')
    for kind, count in faults["counts"].items():
        examples = by_kind[kind][:_EXAMPLES]
        figures = "".join(_example(fault, sources) for fault in examples)
        parts.append(
            f"<h3>{kind}: {count:,}</h3><p>{escape(faults['rules'][kind])}.</p>"
            f'<div class="grid">{figures}</div>'
        )
    return "".join(parts)


def _example(fault: Mapping[str, Any], sources: Sources) -> str:
    """The fault in words, with the picture if there is one, and a faulty row drawn on it."""
    line = f":{fault['line']}" if fault["line"] else ""
    caption = f"{fault['file']}{line}: {fault['detail']}"
    path = sources.path(fault["file"])
    picture = next(_pictures_of(path), None)
    if picture is None:
        return f"<figure><figcaption>{escape(caption[:_CAPTION_LETTERS])}</figcaption></figure>"
    picture.thumbnail((_SIDE, _SIDE))
    if path.suffix == ".txt" and fault["line"]:
        _draw_row(picture, path, fault["line"])
    return _figure(picture, caption)


def _pictures_of(path: Path) -> Iterator[Image.Image]:
    """The picture that a fault is about: its file, or the image of its YOLO label file."""
    candidates = [path]
    if path.parent.name == "labels" and path.suffix == ".txt":
        images = path.parent.with_name("images")
        candidates = [images / (path.stem + suffix) for suffix in sorted(SUFFIXES)]
    for candidate in candidates:
        if candidate.suffix.lower() in SUFFIXES and candidate.is_file():
            try:
                yield read_picture(candidate).rgb
            except UnreadableImage:
                continue


def _draw_row(image: Image.Image, path: Path, line: int) -> None:
    """Draw the box or polygon of one row of a YOLO label file, if it can be drawn.

    The row is read again here, leniently: the importer keeps only repaired boxes.
    """
    rows = path.read_text("utf-8-sig", errors="replace").split("\n")
    try:
        _, *values = (float(field) for field in rows[line - 1].split())
    except (ValueError, IndexError):
        return
    if len(values) == 4:
        x, y, width, height = values
        left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        values = [left, top, right, top, right, bottom, left, bottom]
    # Points more than ten frames away were not meant as fractions of this frame.
    if len(values) >= 6 and len(values) % 2 == 0 and max(map(abs, values)) < 10:
        points = [
            (x * image.width, y * image.height)
            for x, y in zip(values[::2], values[1::2], strict=True)
        ]
        ImageDraw.Draw(image).line([*points, points[0]], fill="#ff00c8", width=3)


def _trace(folder: Path, report: Mapping[str, Any]) -> str:
    trace = report["trace"]
    if not trace:
        return "<h2>Uplink trace</h2><p>The source has none.</p>"
    rows = (folder / "bandwidth.csv").read_text().splitlines()[1:]
    values = [float(row.partition(",")[2]) for row in rows]
    return (
        f"<h2>Uplink trace</h2><p><code>{escape(trace['file'])}</code> ({trace['form']}), scale "
        f"{trace['scale']:g}, mean {trace['mean_bytes_per_s']:,.0f} bytes per second"
        f"{escape(''.join('; ' + note for note in trace['notes']))}.</p>"
        f"{charts.series(values, 'B/s')}"
    )


def _figure(image: Image.Image, caption: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    text = caption[:_CAPTION_LETTERS]
    picture = _inline(buffer.getvalue(), text)
    return f"<figure>{picture}<figcaption>{escape(text)}</figcaption></figure>"


def _inline(jpeg: bytes, alt: str) -> str:
    data = base64.b64encode(jpeg).decode()
    return f'<img loading="lazy" alt="{escape(alt)}" src="data:image/jpeg;base64,{data}">'
