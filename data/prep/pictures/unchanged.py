"""Whether two pictures that look alike are unchanged where it matters, in whichever orientation.

Looks (`pictures.looks`) see a scene, not its details: two moments of one still camera may have the
same look while a car drives through. Before two labels are called contradictory, the pixels that
they are about are compared: small grey views of both pictures, by zero-normalised cross-correlation
(ZNCC), which brightness and contrast do not change.

docs/decisions/019-one-picture-one-truth.md gives the measures behind the bounds.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dat_runtime.types import Box
from data.prep.importers.labels import UNIT
from data.prep.pictures import looks

SIDE = looks.THUMBNAIL
"""Side of a view, pixels."""
SAME_PIXELS = 0.99
"""The least ZNCC inside the boxes of a copy. Copies of real frames: 0.994 and more; an accident
that moves falls below it."""
_LARGEST_CHANGE = 10.0
"""The most that a cell of a copy's view may differ, in grey levels of a picture of contrast 32."""
_CONTRAST = 32.0
_CELLS = 32
"""Cells of a view in each direction, of 2 x 2 pixels: noise averages out, a moved car does not."""
_LEAST_REGION = 8
"""Pixels: a smaller region has too few for a correlation."""

View = NDArray[np.uint8]
"""`looks.view_of`."""


class Turn(NamedTuple):
    """One of the eight orientations of a picture: transposed first, then mirrored."""

    transposed: bool
    mirrored: bool
    upside_down: bool

    def of_view(self, view: View) -> View:
        """The view as it looks after the turn."""
        if self.transposed:
            view = view.T
        if self.mirrored:
            view = view[:, ::-1]
        return view[::-1] if self.upside_down else view

    def of_box(self, box: Box) -> Box:
        """A box in `UNIT` after the turn."""
        x1, y1, x2, y2, _ = box
        if self.transposed:
            x1, y1, x2, y2 = y1, x1, y2, x2
        return self._flipped(x1, y1, x2, y2)

    def back(self, box: Box) -> Box:
        """The box before the turn: the inverse of `of_box`."""
        x1, y1, x2, y2, _ = self._flipped(*box[:4])
        if self.transposed:
            x1, y1, x2, y2 = y1, x1, y2, x2
        return Box(x1, y1, x2, y2, UNIT)

    def _flipped(self, x1: float, y1: float, x2: float, y2: float) -> Box:
        if self.mirrored:
            x1, x2 = 1 - x2, 1 - x1
        if self.upside_down:
            y1, y2 = 1 - y2, 1 - y1
        return Box(x1, y1, x2, y2, UNIT)


TURNS = tuple(Turn(*flags) for flags in product((False, True), repeat=3))
"""All orientations, the straight one first."""
STRAIGHT = TURNS[0]


def turn_between(view: View, other: View) -> Turn:
    """The turn after which `other` fits `view` best."""
    fits = [correlation(view, turn.of_view(other)) for turn in TURNS]
    return TURNS[int(np.argmax(fits))]


def correlation(view: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """ZNCC of two views or equal parts of them, in [-1, 1]; 0 where one has no contrast."""
    one, two = _centred(view), _centred(other)
    norm = float(np.sqrt((one * one).sum() * (two * two).sum()))
    return float((one * two).sum()) / norm if norm else 0.0


def _centred(part: NDArray[np.uint8]) -> NDArray[np.float32]:
    values = part.astype(np.float32)
    values -= values.mean()
    return values


def unchanged(view: View, other: View, boxes: Sequence[Box]) -> bool:
    """Whether two views show the same inside the boxes; without boxes, everywhere."""
    if not boxes:
        return _largest_change(view, other) <= _LARGEST_CHANGE
    rows, columns = region(boxes)
    return correlation(view[rows, columns], other[rows, columns]) >= SAME_PIXELS


def region(boxes: Iterable[Box]) -> tuple[slice, slice]:
    """Rows and columns of a view that the boxes together cover."""
    x1, y1, x2, y2, _ = zip(*boxes, strict=True)
    return _stretch(min(y1), max(y2)), _stretch(min(x1), max(x2))


def _stretch(low: float, high: float) -> slice:
    start = min(int(low * SIDE), SIDE - _LEAST_REGION)
    end = max(int(np.ceil(high * SIDE)), start + _LEAST_REGION)
    return slice(start, end)


def _largest_change(view: View, other: View) -> float:
    return float(np.abs(_cells(view) - _cells(other)).max())


def _cells(view: View) -> NDArray[np.float32]:
    """(32, 32): mean grey levels, brought to mean 0 and one contrast."""
    width = SIDE // _CELLS
    centred = _centred(view)
    cells: NDArray[np.float32] = centred.reshape(_CELLS, width, _CELLS, width).mean(axis=(1, 3))
    # A picture without contrast has nothing to compare: its noise is not blown up.
    cells *= _CONTRAST / max(float(centred.std()), 1.0)
    return cells
