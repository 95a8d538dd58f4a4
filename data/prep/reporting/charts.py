"""Charts of the report as inline SVG: they need no library, no network and no script.

Every chart is 360 units wide, about the width of a phone, so its text is legible there and is only
enlarged elsewhere. Each has both axes with ticks.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = {"moderate": "#c77700", "severe": "#c0262d", "empty": "#8a8f98", "negative": "#3b7a57"}
"""The colour of each stratum of frames, and of boxes of that severity."""
_INK, _GREY, _BACKGROUND = "#1d3557", "#b9b9b4", "#f1f1ee"

_WIDTH = 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 8, 36
"""Margins for ticks and the names of the axes."""
_ACROSS = _WIDTH - _LEFT - _RIGHT
_BARS_HEIGHT, _MAP_HEIGHT = 150, _ACROSS
_TEXT_BELOW, _NAME_BELOW = 14, 30
"""From an axis to the baselines of its ticks and of its name."""
_LABELLED_SHARE = 0.2
"""A part of a stacked bar wider than this has room for its name."""
_MOST_POINTS = _ACROSS


def ticks(most: float) -> list[float]:
    """Three to six round numbers from 0 up to `most`: steps of 1, 2 or 5 times a power of ten."""
    if most <= 0:
        return [0.0]
    largest_step = most / 2
    power = 10.0 ** math.floor(math.log10(largest_step))
    step = max(power * factor for factor in (1, 2, 5) if power * factor <= largest_step)
    return [number * step for number in range(int(most / step + 1e-9) + 1)]


def stacked_bars(rows: Mapping[str, Mapping[str, int]]) -> str:
    """One bar for each row; its parts show their share by width, colour, name and count."""
    parts = []
    for name, counts in rows.items():
        total = sum(counts.values())
        present = {kind: count for kind, count in counts.items() if count}
        listed = ", ".join(f"{count:,} {kind}" for kind, count in present.items())
        bars = "".join(_part(kind, count, total) for kind, count in present.items())
        parts.append(f'<p class="stack"><b>{escape(name)}</b> {total:,}: {listed}</p>')
        parts.append(f'<div class="stack">{bars}</div>')
    return "".join(parts)


def _part(kind: str, count: int, total: int) -> str:
    label = f"{kind} {count / total:.0%}" if count / total > _LABELLED_SHARE else ""
    return f'<span style="flex:{count};background:{COLOURS[kind]}" title="{kind}">{label}</span>'


def bars(counts: Mapping[str, int], across: str, up: str, colour: str = _INK) -> str:
    """A bar for each name, in the order given; every second name is left out where they are many.

    Args:
        across: what the names are.
        up: what is counted.
    """
    most = max(counts.values(), default=0) or 1  # not 0, by which counts are divided
    parts = _grid(ticks(most), most, _BARS_HEIGHT, up)
    width = _ACROSS / max(len(counts), 1)
    named = math.ceil(len(counts) / 9)
    foot = _TOP + _BARS_HEIGHT
    for number, (name, count) in enumerate(counts.items()):
        height = _BARS_HEIGHT * count / most
        x = _LEFT + number * width
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{foot - height:.1f}" width="{max(width - 2, 1):.1f}" '
            f'height="{height:.1f}" fill="{colour}"><title>{escape(name)}: {count:,}</title></rect>'
        )
        if number % named == 0:
            parts.append(_text(x + width / 2, foot + _TEXT_BELOW, name, "middle"))
    return _chart(_BARS_HEIGHT, parts, across, f"{up} by {across}")


def heatmap(
    counts: Sequence[Sequence[int]],
    across: str,
    up: str,
    colour: str = _INK,
    from_top: bool = False,
) -> str:
    """A square grid of counts, darker where there are more; both axes are shares from 0 to 1.

    Args:
        counts: the rows from the top of the chart.
        from_top: the upright axis begins at the top, as the rows of a picture do.
    """
    cell = _ACROSS / len(counts)
    largest_of_rows = [max(row) for row in counts]
    most = max(largest_of_rows, default=0) or 1
    parts = [_rect(_LEFT, _TOP, _ACROSS, _MAP_HEIGHT, _BACKGROUND)]
    for row, line in enumerate(counts):
        for column, count in enumerate(line):
            if not count:
                continue
            # The square root keeps cells with few boxes visible beside one with very many.
            shade = 0.15 + 0.85 * (count / most) ** 0.5
            x, y = _LEFT + column * cell, _TOP + row * cell
            parts.append(_rect(x, y, cell, cell, colour, shade, f"{count:,}"))
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = _LEFT + share * _ACROSS
        y = _TOP + (share if from_top else 1 - share) * _MAP_HEIGHT
        parts.append(_text(x, _TOP + _MAP_HEIGHT + _TEXT_BELOW, f"{share:g}", "middle"))
        parts.append(_text(_LEFT - 5, y + 4, f"{share:g}", "end"))
    parts.append(_upright(up, _MAP_HEIGHT))
    name = f"{across} (darkest cell: {most:,})"
    return _chart(_MAP_HEIGHT, parts, name, f"{across} against {up}")


def series(values: Sequence[float], unit: str) -> str:
    """A line of at most 302 points, each the mean of as many seconds as needed."""
    step = max(1, math.ceil(len(values) / _MOST_POINTS))
    stretches = [values[start : start + step] for start in range(0, len(values), step)]
    means = [sum(stretch) / len(stretch) for stretch in stretches]
    most = max(means, default=0) or 1
    parts = _grid(ticks(most), most, _BARS_HEIGHT, unit)
    across = _ACROSS / max(len(means) - 1, 1)
    foot = _TOP + _BARS_HEIGHT
    points = " ".join(
        f"{_LEFT + across * i:.1f},{foot - _BARS_HEIGHT * mean / most:.1f}"
        for i, mean in enumerate(means)
    )
    parts.append(f'<polyline points="{points}" fill="none" stroke="{_INK}" stroke-width="1"/>')
    for second in ticks(len(values)):
        x = _LEFT + _ACROSS * second / max(len(values), 1)
        parts.append(_text(x, foot + _TEXT_BELOW, _short(second), "middle"))
    return _chart(_BARS_HEIGHT, parts, f"seconds (a point is {step:,} s)", "uplink over time")


def _grid(marks: Sequence[float], most: float, height: int, up: str) -> list[str]:
    """Lines across the chart with their numbers, and the name of the upright axis."""
    parts = []
    for mark in marks:
        y = _TOP + height * (1 - mark / most)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="{_GREY}" stroke-width="0.5"/>'
        )
        parts.append(_text(_LEFT - 5, y + 4, _short(mark), "end"))
    parts.append(_upright(up, height))
    return parts


def _short(number: float) -> str:
    """A number of few letters: 1500 is 1.5k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def _upright(name: str, height: int) -> str:
    middle = _TOP + height / 2
    return (
        f'<text transform="translate(11 {middle:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(name)}</text>"
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _rect(
    x: float, y: float, width: float, height: float, fill: str, shade: float = 1, title: str = ""
) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.2f}" height="{height:.2f}" fill="{fill}" '
        f'fill-opacity="{shade:.2f}"><title>{title}</title></rect>'
    )


def _chart(height: int, parts: Sequence[str], across: str, title: str) -> str:
    """The parts in an image, above the name of the axis across."""
    name = _text(_LEFT + _ACROSS / 2, _TOP + height + _NAME_BELOW, across, "middle")
    content = "".join(parts) + name
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_TOP + height + _BOTTOM}" role="img" '
        f'aria-label="{escape(title)}">{content}</svg>'
    )
