"""How the boxes and pictures of a set are distributed, as charts."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dat_runtime.types import SEVERITIES
from data.prep.pictures import records, tones
from data.prep.prepared.kept import Kept
from data.prep.reporting import charts
from data.prep.splitting.by_groups import rank

_CELLS = 24
"""Cells of a heat map in each direction."""
_MOST_BOXES = 6
"""Frames with this many boxes and more are counted together."""
_MOST_SIZES = 8
"""Sizes that are named; the rest are counted together."""
_MEASURED = 10_000
"""Pictures whose brightness is measured: more would not change the chart."""
_STEPS = 16
"""Bars of the brightness chart."""


def boxes(kept: Sequence[Kept]) -> str:
    """Where the boxes of each severity lie, and how large they are."""
    parts = []
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
        where = charts.heatmap(centres, "x of the centre", "y, downwards", colour, from_top=True)
        how_large = charts.heatmap(sizes, "width", "height", colour)
        parts.append(_titled(f"{severity}: where {count:,} boxes lie in the frame", where))
        parts.append(_titled(f"{severity}: box sizes, in shares of the frame", how_large))
    return "".join(parts)


def _cell(share: float) -> int:
    return min(max(int(share * _CELLS), 0), _CELLS - 1)


def per_frame(kept: Sequence[Kept]) -> str:
    """How many boxes a frame has."""
    found = Counter(min(len(frame.accidents), _MOST_BOXES) for frame in kept)
    most = max(found, default=0)
    counts = {_boxes_name(number): found[number] for number in range(most + 1)}
    return _titled("Boxes per frame", charts.bars(counts, "boxes", "frames"))


def _boxes_name(number: int) -> str:
    return f"{number}+" if number == _MOST_BOXES else str(number)


def picture_sizes(kept: Sequence[Kept]) -> str:
    """The commonest sizes of the pictures, as a table with bars."""
    found = Counter((frame.size.width, frame.size.height) for frame in kept)
    named = found.most_common(_MOST_SIZES)
    rows = {f"{width} x {height}": count for (width, height), count in named}
    others = len(found) - len(named)
    if others:
        rows[f"{others:,} other sizes"] = len(kept) - sum(rows.values())
    lines = []
    for name, count in rows.items():
        share = 100 * count / len(kept)
        bar = f'<i style="width:{share:.1f}%"></i>'
        lines.append(f"<tr><td>{name}</td><td>{count:,}</td><td>{bar}</td></tr>")
    head = "<tr><th>pixels</th><th>frames</th><th>share</th></tr>"
    return _titled("Picture sizes", f'<table class="shares">{head}{"".join(lines)}</table>')


def brightness(folder: Path, kept: Sequence[Kept]) -> str:
    """The mean grey levels of the pictures, of at most 10,000 drawn at random."""
    drawn = sorted(kept, key=lambda frame: rank(frame.id, 0))[:_MEASURED]
    views = records.read_all(folder / records.NAME)["view"]
    found: Counter[int] = Counter()
    for frame in drawn:
        view = views[frame.position]
        grey = float((tones.of_grey(view) if frame.negative else view).mean())
        found[int(grey * _STEPS / 256)] += 1
    counts = {str(step * 256 // _STEPS): found[step] for step in range(_STEPS)}
    of = f" of {len(drawn):,} drawn at random" if len(drawn) < len(kept) else ""
    chart = charts.bars(counts, "mean grey level, 0 black to 255 white", "frames")
    return _titled(f"Brightness{of}", chart)


def _titled(title: str, chart: str) -> str:
    return f"<div><h3>{title}</h3>{chart}</div>"
