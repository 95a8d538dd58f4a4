"""JPEG data (ITU-T T.81): its size, where it ends, and whether all of the picture is there.

libjpeg fills what is missing with grey, and most programs take that for a picture: a file that was
cut off and then closed with an end mark is silently accepted. One that lacks only the end mark is
whole, but OpenCV and Pillow both refuse it.
"""

import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dat_runtime.draw import Image
from dat_runtime.types import Size

START = b"\xff\xd8\xff"
END = b"\xff\xd9"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The markers SOF0 to SOF15 of Table B.1, without DHT, JPG and DAC between them."""

_START_OF_SCAN = 0xDA
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What ends coded data: no stuffed byte, restart marker or fill byte (B.1.1.5)."""

_MOST_SEGMENTS = 2_000
"""Before the first scan. A large colour profile takes some dozens."""

_MOST_SCANS = 64
"""With the tables between them. A progressive picture has about ten scans."""

_GREY = 128
"""What libjpeg shows, exactly, where coded data is missing."""

_CODED = bytes((37 * i + 11) % 251 for i in range(256))
_MORE_DATA = _CODED + b"".join(b"\xff%c" % restart + _CODED for restart in range(0xD0, 0xD8))
"""Coded data that means something in any Huffman table, then as much behind each restart marker:
a decoder that waits for one takes no other data."""


def decoded(content: bytes, flags: int = cv2.IMREAD_COLOR) -> NDArray[Any] | None:
    """What OpenCV decodes; `None` where it cannot."""
    try:
        image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        return None
    return image


def is_suspect(content: bytes, image: Image) -> bool:
    """Whether it has to be asked if pixels of the picture are missing (`takes_more_data`).

    Args:
        content: with its end mark.
        image: what it decodes to, of any order of channels and turned or not.
    """
    return not _has_one_scan(content) or _has_grey_corner(image)


def takes_more_data(
    coded: bytes, image: Image, decode: Callable[[bytes], NDArray[Any] | None] = decoded
) -> bool:
    """Whether a picture whose coded data is `coded` had ended before its last block was known.

    A decoder that has all blocks never looks at what follows. So the data is continued: where that
    changes a pixel, pixels were missing, closed by an end mark or not. It costs a second decoding,
    which is why only a suspect is asked.

    Args:
        decode: what decoded `image`; `None` where it cannot.
    """
    # A last 0xff would turn what follows into a marker.
    longer = decode(coded.rstrip(b"\xff") + _MORE_DATA + END)
    return longer is None or not np.array_equal(longer, image)


def _has_grey_corner(image: Image) -> bool:
    """The last block of a cut picture is grey; where it lies depends on the EXIF orientation."""
    return bool(
        (image[:: image.shape[0] - 1 or 1, :: image.shape[1] - 1 or 1] == _GREY).all(2).any()
    )


def _has_one_scan(content: bytes) -> bool:
    """Whether all of the picture comes in one scan of one or three components, as cameras send it.

    A progressive picture that is cut is coarse, not grey, and a CMYK one has another grey.
    """
    components = 0
    for marker, at in _segments(content):
        if marker in _START_OF_FRAME:
            components = content[at + 7]
            if marker == 0xC2 or components == 4:
                return False
        if marker == _START_OF_SCAN:
            return content[at + 2] == components
    return False


def end_of_scans(content: bytes) -> int | None:
    """Where the end mark stands, or should: behind it a camera may have left other data.

    `None` where there are more scans than any picture has: each is decoded over the whole picture,
    so that a small file could take minutes.
    """
    at = next((at for marker, at in _segments(content) if marker == _START_OF_SCAN), len(content))
    for _ in range(_MOST_SCANS):
        found = _MARKER.search(content, at)
        if found is None:
            return len(content)
        if found[0] == END:
            return found.start()
        length = content[found.end() : found.end() + 2]
        at = found.end() + int.from_bytes(length, "big")  # a further scan, or its tables
    return None


def _segments(content: bytes) -> Iterator[tuple[int, int]]:
    """The markers up to the first scan (B.1.1.3), each with where its segment's length stands."""
    at = 2  # after the start-of-image marker
    for _ in range(_MOST_SEGMENTS):
        if at + 9 > len(content) or content[at] != 0xFF:
            return
        marker = content[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        yield marker, at + 2
        if marker == _START_OF_SCAN:
            return
        (length,) = struct.unpack(">H", content[at + 2 : at + 4])
        at += 2 + int(length)  # the length counts itself, but not the marker


def size_in_header(content: bytes) -> Size:
    """The size that a JPEG states, before EXIF turns it.

    Raises:
        ValueError: it states none.
    """
    for marker, at in _segments(content):
        if marker in _START_OF_FRAME:
            # Segment length (2 bytes), sample precision (1), then height and width (B.2.2).
            height, width = struct.unpack(">HH", content[at + 3 : at + 7])
            return Size(width, height)
    raise ValueError("a JPEG without a size in its header")
