"""`report.html`: the prepared set to look at, in one file that needs no network."""

import base64
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from data.prep.importers.source_frame import SUFFIXES
from data.prep.importers.sources import SPLITS, Sources
from data.prep.pictures.decode import UnreadableImage, read_picture
from data.prep.prepared.writer import Entry, image_path
from data.prep.reporting import charts
from data.prep.splitting.by_groups import rank
from data.prep.splitting.leaks import KINDS

_OVERLAYS = 6
"""Of each split."""
_EXAMPLES = 3
"""Of each kind of fault."""
_SIDE = 360
_CELLS = 24

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
    folder: Path, report: dict[str, Any], entries: Sequence[Entry], sources: Sources
) -> None:
    """The same report for the same set; pictures are inside the file."""
    body = "".join(
        [
            _head(report),
            _splits(report, entries),
            _leaks(folder, report),
            _overlays(folder, entries),
            _boxes(entries),
            _faults(report, sources),
            _trace(folder, report),
        ]
    )
    (folder / "report.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Prepared data</title><style>{_STYLE}</style><body>{body}</body></html>\n"
    )


def _head(report: dict[str, Any]) -> str:
    frames = sum(s["frames"] for s in report["splits"].values())
    faults = sum(report["faults"]["counts"].values())
    test = report["leaks"]["frames_with_a_twin"]["test in train"]
    twins = sum(test.values())
    of = report["splits"]["test"]["frames"]
    verdict = (
        f'<span class="bad">{twins:,} of {of:,} test frames have a twin in train</span>'
        if twins
        else '<span class="good">no test frame has a twin in train</span>'
    )
    return (
        f"<h1>Prepared data: {escape(report['split'])} split</h1>"
        f'<p class="lead">{frames:,} frames, {faults:,} faults found and dealt with by rule; '
        f"{verdict}. A score on this set is a score on the {escape(report['split'])} split.</p>"
    )


def _splits(report: dict[str, Any], entries: Sequence[Entry]) -> str:
    columns = ("frames", "accident_set", "negatives", "moderate_boxes", "severe_boxes")
    head = "".join(f"<th>{c.replace('_', ' ')}</th>" for c in columns)
    rows = "".join(
        f"<tr><td>{split}</td>{''.join(f'<td>{c[k]:,}</td>' for k in columns)}</tr>"
        for split, c in report["splits"].items()
    )
    balance = {split: dict.fromkeys(charts.COLOURS, 0) for split in SPLITS}
    for entry in entries:
        balance[entry.split][entry.stratum] += 1
    negative = report["negatives"]
    return (
        f'<h2>Splits and classes</h2><div class="wide"><table><tr><th>split</th>{head}</tr>'
        f"{rows}</table></div><p>{_compared('Accident frames', report['published_split'])} "
        f"{_compared('Negatives', negative['split'])} Negatives: {negative['found']:,} found, "
        f"{negative['exact_duplicates']:,} exact duplicates removed, split by "
        f"{negative['split_by']}.</p><h3>Frames by their most severe accident</h3>"
        f"{charts.stacked_bars(balance)}"
    )


def _compared(what: str, part: dict[str, Any]) -> str:
    found, paper = ("/".join(f"{n:,}" for n in part[k].values()) for k in ("found", "paper"))
    told = "as in the paper" if part["is_the_papers"] else f"the paper has {paper}"
    return f"{what} by split: {found or 'no splits of their own'} ({told})."


def _leaks(folder: Path, report: dict[str, Any]) -> str:
    leaks = report["leaks"]
    head = "".join(f"<th>{kind}</th>" for kind in KINDS)
    rows = "".join(
        f"<tr><td>{where}</td>{''.join(f'<td>{kinds[k]:,}</td>' for k in KINDS)}</tr>"
        for where, kinds in leaks["frames_with_a_twin"].items()
    )
    parts = [
        "<h2>Leaks between splits</h2><p>Frames of one split with a twin in another, by the "
        "strongest kind. Near: the same picture, even if encoded anew, resized, mirrored, grey or "
        "noisy. Same-source: augmented copies by Roboflow's names. Same-clip: one clip by name and "
        f'one place by looks.</p><div class="wide"><table><tr><th>frames of</th>{head}</tr>{rows}'
        f"</table></div><p>{leaks['groups']:,} groups of frames that belong together, the largest "
        f"of {leaks['largest_group']:,}; {leaks['groups_across_splits']:,} lie in more than one "
        "split. All pairs: <code>leaks.json</code>.</p>"
    ]
    for kind in KINDS:
        sheet = folder / "leaks" / f"{kind}.jpg"
        if sheet.is_file():
            parts.append(
                f"<h3>{kind}, from the nearest pair to the farthest</h3>"
                f"{_inline(sheet.read_bytes(), kind)}"
            )
    return "".join(parts)


def _overlays(folder: Path, entries: Sequence[Entry]) -> str:
    parts = ["<h2>Frames with their boxes</h2>"]
    for split in SPLITS:
        members = [e for e in entries if e.split == split]
        chosen = sorted(members, key=lambda e: (e.negative, rank(e.id, 0)))[:_OVERLAYS]
        figures = "".join(_overlay(folder, entry) for entry in chosen)
        parts.append(f'<h3>{split}</h3><div class="grid">{figures}</div>')
    return "".join(parts)


def _overlay(folder: Path, entry: Entry) -> str:
    with Image.open(image_path(folder, entry.split, entry.id)) as opened:
        opened.draft("RGB", (_SIDE, _SIDE))
        image = opened.convert("RGB")
    image.thumbnail((_SIDE, _SIDE))
    draw = ImageDraw.Draw(image)
    for accident in entry.accidents:
        box = accident.box
        corners = (box.x1 * image.width, box.y1 * image.height,
                   box.x2 * image.width - 1, box.y2 * image.height - 1)  # fmt: skip
        draw.rectangle(corners, outline=charts.COLOURS[accident.severity], width=3)
    told = ", ".join(a.severity for a in entry.accidents) or "no accident"
    return _figure(image, f"{entry.id}: {told}")


def _boxes(entries: Sequence[Entry]) -> str:
    parts = ['<h2>Where boxes lie, and how large they are</h2><div class="two">']
    for severity in ("moderate", "severe"):
        where = [[0] * _CELLS for _ in range(_CELLS)]
        sizes = [[0] * _CELLS for _ in range(_CELLS)]
        boxes = [a.box for e in entries for a in e.accidents if a.severity == severity]
        for box in boxes:
            where[_cell((box.y1 + box.y2) / 2)][_cell((box.x1 + box.x2) / 2)] += 1
            sizes[_CELLS - 1 - _cell(box.y2 - box.y1)][_cell(box.x2 - box.x1)] += 1
        colour = charts.COLOURS[severity]
        parts.append(
            f"<div><h3>{severity}: centres of {len(boxes):,} boxes in the frame</h3>"
            f"{charts.heatmap(where, 'x', 'y downwards', colour)}</div>"
            f"<div><h3>{severity}: box width and height, in shares of the frame</h3>"
            f"{charts.heatmap(sizes, 'width', 'height upwards', colour)}</div>"
        )
    return "".join(parts) + "</div>"


def _cell(share: float) -> int:
    return min(max(int(share * _CELLS), 0), _CELLS - 1)


def _faults(report: dict[str, Any], sources: Sources) -> str:
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
        figures = "".join(_example(f, sources) for f in by_kind[kind][:_EXAMPLES])
        parts.append(
            f"<h3>{kind}: {count:,}</h3><p>{escape(faults['rules'][kind])}.</p>"
            f'<div class="grid">{figures}</div>'
        )
    return "".join(parts)


def _example(fault: dict[str, Any], sources: Sources) -> str:
    """The fault in words, with the source's picture where there is one; a row is drawn as given."""
    line = f":{fault['line']}" if fault["line"] else ""
    told = f"{fault['file']}{line}: {fault['detail']}"
    path = sources.path(fault["file"])
    picture = next(_pictures_of(path), None)
    if picture is None:
        return f"<figure><figcaption>{escape(told[:300])}</figcaption></figure>"
    picture.thumbnail((_SIDE, _SIDE))
    if path.suffix == ".txt" and fault["line"]:
        _draw_row(picture, path, fault["line"])
    return _figure(picture, told)


def _pictures_of(path: Path) -> Iterator[Image.Image]:
    """The picture that a fault's file is, or that a YOLO label file belongs to."""
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
    rows = path.read_text("utf-8-sig", errors="replace").split("\n")
    try:
        _, *values = (float(field) for field in rows[line - 1].split())
    except (ValueError, IndexError):
        return
    if len(values) == 4:
        x, y, width, height = values
        left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        values = [left, top, right, top, right, bottom, left, bottom]
    if len(values) >= 6 and len(values) % 2 == 0 and max(map(abs, values)) < 10:
        points = [
            (x * image.width, y * image.height)
            for x, y in zip(values[::2], values[1::2], strict=True)
        ]
        ImageDraw.Draw(image).line([*points, points[0]], fill="#ff00c8", width=3)


def _trace(folder: Path, report: dict[str, Any]) -> str:
    trace = report["trace"]
    if not trace:
        return "<h2>Uplink trace</h2><p>The source has none.</p>"
    rows = (folder / "bandwidth.csv").read_text().splitlines()[1:]
    values = [float(row.partition(",")[2]) for row in rows]
    return (
        f"<h2>Uplink trace</h2><p><code>{escape(trace['file'])}</code> ({trace['form']}), scale "
        f"{trace['scale']:g}, mean {trace['mean_bytes_per_s']:,.0f} bytes per second.</p>"
        f"{charts.series(values, 'B/s')}"
    )


def _figure(image: Image.Image, caption: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    told = escape(caption[:300])
    return f"<figure>{_inline(buffer.getvalue(), told)}<figcaption>{told}</figcaption></figure>"


def _inline(jpeg: bytes, alt: str) -> str:
    data = base64.b64encode(jpeg).decode()
    return f'<img loading="lazy" alt="{escape(alt)}" src="data:image/jpeg;base64,{data}">'
