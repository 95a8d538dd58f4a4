"""Charts of the report as inline SVG: they need no library, no network and no script.

Lengths are in units of the view box, which the page scales to the available width.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = {"moderate": "#c77700", "severe": "#c0262d", "empty": "#8a8f98", "negative": "#3b7a57"}
"""The colour of each stratum of frames, and of boxes of that severity."""
_INK = "#1d3557"
_BACKGROUND = "#f1f1ee"

_WIDTH = 600
_ROW, _BAR, _BAR_TOP = 46, 20, 18
"""Stacked bars: height of a row, height of its bar, and from the row's top to the bar."""
_LABELLED_WIDTH = 100
"""A part of a bar wider than this has room for its name and share."""
_GRID = 300
"""Side of a heat map."""
_SERIES_HEIGHT, _SERIES_TOP = 100, 5
_TEXT_BELOW = 16
"""From the end of a chart to the baseline of the text below it."""


def stacked_bars(rows: Mapping[str, Mapping[str, int]]) -> str:
    """One bar for each row; its parts show their share by width, colour, name and count."""
    parts = []
    for number, (name, counts) in enumerate(rows.items()):
        top = number * _ROW
        total = sum(counts.values())
        present = {kind: count for kind, count in counts.items() if count}
        listed = ", ".join(f"{count:,} {kind}" for kind, count in present.items())
        parts.append(f'<text x="0" y="{top + 13}">{escape(name)} {total:,}: {listed}</text>')
        x = 0.0
        for kind, count in present.items():
            width = _WIDTH * count / total
            parts.append(
                f'<rect x="{x:.1f}" y="{top + _BAR_TOP}" width="{width:.1f}" height="{_BAR}" '
                f'fill="{COLOURS[kind]}"/>'
            )
            if width > _LABELLED_WIDTH:
                label = f"{kind} {count / total:.0%}"
                parts.append(f'<text x="{x + 5:.1f}" y="{top + 33}" fill="#fff">{label}</text>')
            x += width
    return _svg(_WIDTH, _ROW * len(rows), parts, "class balance of each split")


def heatmap(counts: Sequence[Sequence[int]], across: str, down: str, colour: str = _INK) -> str:
    """A square grid of counts, darker where there are more; `across` and `down` name the axes."""
    cell = _GRID / len(counts)
    largest_of_rows = [max(row) for row in counts]
    most = max(largest_of_rows, default=0) or 1  # not 0, by which counts are divided
    parts = [f'<rect x="0" y="0" width="{_GRID}" height="{_GRID}" fill="{_BACKGROUND}"/>']
    for row, line in enumerate(counts):
        for column, count in enumerate(line):
            if not count:
                continue
            # The square root keeps cells with few boxes visible beside one with very many.
            shade = 0.15 + 0.85 * (count / most) ** 0.5
            parts.append(
                f'<rect x="{column * cell:.2f}" y="{row * cell:.2f}" width="{cell:.2f}" '
                f'height="{cell:.2f}" fill="{colour}" fill-opacity="{shade:.2f}">'
                f"<title>{count}</title></rect>"
            )
    foot = _GRID + _TEXT_BELOW
    parts.append(f'<text x="0" y="{foot}">{escape(across)} &#8594;, {escape(down)}</text>')
    parts.append(f'<text x="{_GRID}" y="{foot}" text-anchor="end">darkest: {most:,}</text>')
    return _svg(_GRID, foot + 6, parts, f"{across} against {down}")


def series(values: Sequence[float], unit: str) -> str:
    """A line of at most 600 points, each the mean of as many seconds as needed."""
    step = max(1, math.ceil(len(values) / _WIDTH))
    stretches = [values[start : start + step] for start in range(0, len(values), step)]
    means = [sum(stretch) / len(stretch) for stretch in stretches]
    most = max(means, default=0) or 1
    across = _WIDTH / max(len(means) - 1, 1)
    upwards = (_SERIES_HEIGHT - _SERIES_TOP) / most
    points = " ".join(
        f"{across * i:.1f},{_SERIES_HEIGHT - upwards * mean:.1f}" for i, mean in enumerate(means)
    )
    line = f'<polyline points="{points}" fill="none" stroke="{_INK}" stroke-width="1"/>'
    caption = f"{len(values):,} s, a point is {step:,} s; highest point {most:,.0f} {unit}"
    foot = _SERIES_HEIGHT + _TEXT_BELOW
    text = f'<text x="0" y="{foot}">{caption}</text>'
    return _svg(_WIDTH, foot + 4, [line, text], "uplink over time")


def _svg(width: int, height: int, parts: Sequence[str], title: str) -> str:
    content = "".join(parts)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"{content}</svg>"
    )
