"""What a rehearsal tells of a whole run: its speed with an interval, and the page."""

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

LEVEL = 0.95

Rows = Sequence[tuple[str, str]]
"""What, and how much of it."""


def seconds_each(seconds: Sequence[float], amounts: Sequence[float]) -> tuple[float, float, float]:
    """Seconds that one of the amounts takes, with the bounds of a 95 % interval.

    Student's, of a ratio of means: what takes longer has more in it.

    Args:
        seconds: of each part, three or more.
        amounts: in each part, such as tokens of a step.
    """
    from scipy.stats import t

    taken, held = np.array(seconds), np.array(amounts)
    each = taken.sum() / held.sum()
    residuals = taken - each * held
    n = len(taken)
    error = math.sqrt((residuals**2).sum() / (n - 1) / n) / held.mean()
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * error
    return float(each), float(max(0.0, each - half)), float(each + half)


def in_hours(seconds: tuple[float, float, float]) -> str:
    """A duration with its bounds, in words."""
    hours, low, high = (value / 3600 for value in seconds)
    return f"{hours:.2f} hours, 95 % interval {low:.2f} to {high:.2f}"


def page(title: str, tables: Mapping[str, Rows]) -> str:
    """Tables with their headings as a page of HTML that stands alone."""
    parts = []
    for heading, rows in tables.items():
        cells = "".join(
            f"<tr><th>{html.escape(what)}</th><td>{html.escape(much)}</td></tr>"
            for what, much in rows
        )
        parts.append(f"<h2>{html.escape(heading)}</h2><table>{cells}</table>")
    style = (
        "body{font:16px sans-serif;margin:1em}h1{font-size:1.4em}h2{font-size:1.1em}"
        "table{border-collapse:collapse}th{text-align:left;font-weight:normal}"
        "th,td{padding:.3em 1em .3em 0;vertical-align:top;border-bottom:1px solid #ddd}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}'
        f'</title><meta name="viewport" content="width=device-width"><style>{style}</style>'
        f"<h1>{html.escape(title)}</h1>{''.join(parts)}"
        "<p>The hours hold while nothing else uses the machine.</p></html>\n"
    )
