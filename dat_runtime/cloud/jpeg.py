"""What a JPEG file says of itself: its markers are read, nothing is decoded.

The node's pictures come from outside, and a decoder is a large surface; the browser that shows them
has one in a sandbox. Here a picture only has to be what it says it is: a JPEG, whole, of a size
that can be shown.
"""

import os
from typing import BinaryIO

from dat_runtime.types import Size

MAX_PIXELS = 50_000_000
"""A small file can decode to gigabytes in whoever shows it."""

_MAX_SEGMENTS = 200
"""Before the picture itself; cameras write a dozen."""

_MAX_FILL = 1_000
"""Bytes FF before a marker, which may be there: eight million of them took seconds to read."""

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SHOWN = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive DCT with Huffman codes: what browsers show."""
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})
"""TEM, RST0 to RST7, SOI and EOI (ITU-T T.81, Table B.1)."""


def jpeg_size(file: BinaryIO) -> Size:
    """Width and height of a whole JPEG, from its markers (ITU-T T.81, B.1.1 and B.2.2).

    Raises:
        ValueError: says in what the file is not a JPEG that a browser can be given.
    """
    file.seek(0)
    if file.read(2) != b"\xff\xd8":
        raise ValueError("does not begin as a JPEG does")
    size = None
    for _ in range(_MAX_SEGMENTS):
        marker = _marker(file)
        if marker in _WITHOUT_LENGTH:
            raise ValueError(f"has the marker FF{marker:02X} in its header")
        length = int.from_bytes(_exactly(file, 2), "big") - 2  # it counts itself
        if length < 0:
            raise ValueError("has a segment of negative length")
        if marker == _START_OF_SCAN:
            return _whole(file, size)
        if marker in _START_OF_FRAME:
            if size is not None:
                raise ValueError("states two frames")
            size = _frame(marker, _exactly(file, length))
        else:
            file.seek(length, os.SEEK_CUR)
    raise ValueError(f"has more than {_MAX_SEGMENTS} segments before its picture")


def _marker(file: BinaryIO) -> int:
    if _exactly(file, 1) != b"\xff":
        raise ValueError("has bytes between its segments")
    for _ in range(_MAX_FILL):
        if (marker := _exactly(file, 1)[0]) != 0xFF:
            return marker
    raise ValueError("has too many bytes between its segments")


def _exactly(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise ValueError("ends within its header")
    return content


def _frame(marker: int, segment: bytes) -> Size:
    if marker not in _SHOWN:
        raise ValueError(f"is coded in a way that browsers do not show (FF{marker:02X})")
    if len(segment) < 6 or segment[0] != 8 or segment[5] not in (1, 3):
        raise ValueError("is not of 8 bits in one or three components")
    width, height = int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[1:3], "big")
    if not (width and height and width * height <= MAX_PIXELS):
        raise ValueError(f"states {width} x {height} pixels, from 1 to {MAX_PIXELS:,} are taken")
    return Size(width, height)


def _whole(file: BinaryIO, size: Size | None) -> Size:
    """The size, when it was stated and the file ends as a JPEG does."""
    if size is None:
        raise ValueError("states no size before its picture")
    end = file.seek(-2, os.SEEK_END)
    if end < 4 or file.read(2) != b"\xff\xd9":
        raise ValueError("is cut off: no end marker")
    return size
