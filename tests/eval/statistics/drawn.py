"""What a figure shows, as text that a test can compare."""

from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure


def described(figure: Figure) -> str:
    """Title, then each panel: its words, scales and ends, and everything in it with its places."""
    size = " x ".join(f"{inches:g}" for inches in figure.get_size_inches())
    lines = [f"{size}: {figure.get_suptitle()!r}"]
    for axis in figure.axes:
        lines += ["", *_panel(axis)]
    return "\n".join(lines)


def _panel(axis: Axes) -> Iterator[str]:
    yield f"panel {axis.get_title(loc='left')!r}: {axis.get_xlabel()!r}, {axis.get_ylabel()!r}"
    ends = (axis.get_xscale(), axis.get_xlim(), axis.get_yscale(), axis.get_ylim())
    yield "{} {}, {} {}".format(*(end if isinstance(end, str) else _numbers(end) for end in ends))
    for name, ticks in (("x", axis.get_xticklabels()), ("y", axis.get_yticklabels())):
        words = [tick.get_text() for tick in ticks if any(map(str.isalpha, tick.get_text()))]
        if words:
            yield f"{name} ticks {words}"
    for line in axis.lines:
        yield (
            f"line {line.get_label()!r} {to_hex(line.get_color())} {line.get_linestyle()} "
            f"{line.get_marker()} {line.get_linewidth():g} {line.get_drawstyle()}: "
            f"{_numbers(line.get_xdata())} / {_numbers(line.get_ydata())}"
        )
    for points in axis.collections:
        colour = [to_hex(c) for c in points.get_edgecolor()[:1]]
        if isinstance(points, PathCollection):
            places = " ".join(_numbers(place) for place in points.get_offsets())
            yield f"points {points.get_label()!r} {colour}: {places}"
        elif isinstance(points, LineCollection):
            segments = " ".join(_numbers(segment.ravel()) for segment in points.get_segments())
            yield f"deviations {colour}: {segments}"
    for bars in axis.containers:
        if isinstance(bars, BarContainer):
            for bar in bars:
                place = (bar.get_x(), bar.get_width(), bar.get_y(), bar.get_height())
                yield f"bar {to_hex(bar.get_facecolor())}: {_numbers(place)}"
    for text in axis.texts:
        yield f"text {text.get_text()!r} at {_numbers(text.get_position())}"
    legend = axis.get_legend()
    if legend:
        yield f"legend {[text.get_text() for text in legend.get_texts()]}"


def _numbers(values: Any) -> str:
    return "(" + ", ".join(v if isinstance(v, str) else f"{v:.4g}" for v in values) + ")"
