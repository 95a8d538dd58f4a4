"""The box around a mask in COCO's run lengths (cocodataset.org, `maskApi.c`).

`counts` holds the lengths of runs of 0 and 1 in turn, over the columns of the mask from left to
right: as a list, or packed into text, five bits a character, each run less the one two before it.
"""

from collections.abc import Sequence
from typing import Any

_MAX_COUNTS = 1_000_000
_FIRST = 48
"""The character code of zero."""


def box_of_mask(mask: Any) -> tuple[int, int, int, int] | None:
    """x, y, width and height of the box around a mask, in pixels; None if it is none or empty."""
    match mask:
        case {"size": [int() as height, int() as width], "counts": list() as counts}:
            runs = counts
        case {"size": [int() as height, int() as width], "counts": str() as text}:
            runs = _unpacked(text)
        case _:
            return None
    sound = height > 0 and width > 0 and len(runs) <= _MAX_COUNTS
    if not sound or not all(type(run) is int and run >= 0 for run in runs):
        return None
    if sum(runs) != height * width:
        return None
    return _around(runs, height)


def _around(runs: Sequence[int], height: int) -> tuple[int, int, int, int] | None:
    columns: list[int] = []
    rows: list[int] = []
    at = 0
    for place, run in enumerate(runs):
        if place % 2 and run:
            first, last = at, at + run - 1
            columns += [first // height, last // height]
            # A run that goes on in the next column reaches from the bottom of one to the top.
            one_column = first // height == last // height
            rows += [first % height, last % height] if one_column else [0, height - 1]
        at += run
    if not columns:
        return None
    x, y = min(columns), min(rows)
    return x, y, max(columns) - x + 1, max(rows) - y + 1


def _unpacked(text: str) -> list[int]:
    """The runs of packed text; a broken text gives runs that do not fill the mask."""
    runs: list[int] = []
    value, shift = 0, 0
    for character in text[: 6 * _MAX_COUNTS]:
        code = ord(character) - _FIRST
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20 and shift < 60:
            continue
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    return runs
