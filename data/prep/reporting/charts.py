"""Charts of the report as inline SVG: they need no library, no network and no script."""

from collections.abc import Mapping, Sequence
from html import escape

COLOURS = {"moderate": "#c77700", "severe": "#c0262d", "empty": "#8a8f98", "negative": "#3b7a57"}
_INK = "#1d3557"


def stacked_bars(rows: Mapping[str, Mapping[str, int]]) -> str:
    """One bar a row, its parts by share, each part told by colour, name and count."""
    parts = []
    for y, (name, counts) in enumerate(rows.items()):
        total = sum(counts.values()) or 1
        x = 0.0
        top = y * 46
        told = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
        parts.append(f'<text x="0" y="{top + 13}">{escape(name)} {total:,}: {told}</text>')
        for kind, count in counts.items():
            width = 600 * count / total
            parts.append(
                f'<rect x="{x:.1f}" y="{top + 18}" width="{width:.1f}" height="20" '
                f'fill="{COLOURS[kind]}"/>'
            )
            if width > 100:
                told = f"{kind} {count / total:.0%}"
                parts.append(f'<text x="{x + 5:.1f}" y="{top + 33}" fill="#fff">{told}</text>')
            x += width
    return _svg(600, 46 * len(rows), parts, "class balance of each split")


def heatmap(counts: Sequence[Sequence[int]], across: str, down: str, colour: str = _INK) -> str:
    """A square grid of counts, darker where there are more; `across` and `down` name the axes."""
    side = len(counts)
    cell = 300 / side
    most = max(map(max, counts), default=0) or 1
    parts = ['<rect x="0" y="0" width="300" height="300" fill="#f1f1ee"/>']
    for row, line in enumerate(counts):
        for column, count in enumerate(line):
            if count:
                shade = 0.15 + 0.85 * (count / most) ** 0.5
                parts.append(
                    f'<rect x="{column * cell:.2f}" y="{row * cell:.2f}" width="{cell:.2f}" '
                    f'height="{cell:.2f}" fill="{colour}" fill-opacity="{shade:.2f}">'
                    f"<title>{count}</title></rect>"
                )
    parts.append(f'<text x="0" y="316">{escape(across)} &#8594;, {escape(down)}</text>')
    parts.append(f'<text x="300" y="316" text-anchor="end">darkest: {most:,}</text>')
    return _svg(300, 322, parts, f"{across} against {down}")


def series(values: Sequence[float], unit: str) -> str:
    """A line of at most 600 points, each the mean of its stretch."""
    step = max(1, -(-len(values) // 600))
    means = [sum(values[i : i + step]) / len(values[i : i + step]) for i in
             range(0, len(values), step)]  # fmt: skip
    most = max(means, default=0) or 1
    points = " ".join(
        f"{600 * i / max(len(means) - 1, 1):.1f},{100 - 95 * v / most:.1f}"
        for i, v in enumerate(means)
    )
    line = f'<polyline points="{points}" fill="none" stroke="{_INK}" stroke-width="1"/>'
    told = f"{len(values):,} s, a point is {step:,} s; highest point {most:,.0f} {unit}"
    return _svg(600, 120, [line, f'<text x="0" y="116">{told}</text>'], "uplink over time")


def _svg(width: int, height: int, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
