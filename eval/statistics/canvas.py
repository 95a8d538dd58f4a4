"""Figures that can be read on a phone: panels below one another, no wider than a line of text.

A phone shows a figure 390 pixels wide. At `WIDTH` inches that is 78 pixels an inch, so that text of
`TEXT` points is 11 pixels high there, whatever the figure shows.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 5.0
"""Inches."""
TEXT = 10
"""Points of the smallest text."""
TITLE_LENGTH = 58
"""Characters of a line of `TEXT` + 1 points over the whole figure."""


def panels(heights: Sequence[float], title: str = "") -> tuple["Figure", list["Axes"]]:
    """A figure with one panel of each height, in inches, below one another."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    grid = {"height_ratios": list(heights)}
    axes = figure.subplots(len(heights), 1, squeeze=False, gridspec_kw=grid)[:, 0].tolist()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=TEXT)
    if title:
        lines = textwrap.fill(title, TITLE_LENGTH)
        figure.suptitle(lines, fontsize=TEXT + 1, x=0.01, ha="left")
    return figure, axes


def titled(axis: "Axes", title: str) -> None:
    """A panel's title, at its left."""
    axis.set_title(title, fontsize=TEXT, loc="left")


def beside(axis: "Axes", y: float, text: str, colour: str = "black") -> None:
    """A value in the column right of a panel, where no bar or mark reaches."""
    across = axis.get_yaxis_transform()
    axis.text(1.02, y, text, transform=across, va="center", fontsize=TEXT, color=colour)


def legend(axis: "Axes", **place: Any) -> None:
    """The panel's legend, without a frame."""
    axis.legend(frameon=False, fontsize=TEXT, **place)


def save(figure: "Figure", path: Path) -> None:
    """Write a PNG; the same figure gives the same bytes.

    Matplotlib's version in the metadata would make equal pictures different files.
    """
    figure.savefig(path, dpi=160, metadata={"Software": None})
