"""Where frames come from: one image file."""

import struct
from pathlib import Path

import cv2
import numpy as np

from dat_runtime.draw import Image
from dat_runtime.errors import DataError
from dat_runtime.files import read_bytes
from dat_runtime.types import Size

MAX_FRAME_PIXELS = 50_000_000
"""A larger picture is refused by its header, before it is decoded: a small file can decode to
gigabytes."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The markers SOF0 to SOF15 of ITU-T T.81, Table B.1, without DHT, JPG and DAC between them."""


def read_frame(path: Path) -> Image:
    """The frame in a JPEG or PNG file, turned as its EXIF orientation says.

    Raises:
        DataError: the file is missing, is not a JPEG or PNG, is cut off, or is too large.
    """
    content = read_bytes(path)
    try:
        size = header_size(content)
        if size.pixels > MAX_FRAME_PIXELS:
            raise ValueError(
                f"{size.width} x {size.height} pixels, at most {MAX_FRAME_PIXELS:,} are read"
            )
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except (ValueError, cv2.error) as error:
        raise DataError(str(error), path) from None
    if image is None:
        raise DataError("the picture is damaged or cut off", path)
    return np.asarray(image, dtype=np.uint8)


def header_size(content: bytes) -> Size:
    """The size that a JPEG or PNG states in its header, before EXIF turns it.

    Raises:
        ValueError: neither JPEG nor PNG, or a header without a size.
    """
    if content.startswith(_PNG) and content[12:16] == b"IHDR" and len(content) >= 24:
        return Size(*struct.unpack(">II", content[16:24]))
    if content.startswith(_JPEG):
        return _jpeg_size(content)
    raise ValueError("neither a JPEG nor a PNG picture")


def _jpeg_size(content: bytes) -> Size:
    """Walk the segments up to the start of frame (ITU-T T.81, B.1.1.3 and B.2.2)."""
    at = 2  # after the start-of-image marker
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _START_OF_FRAME:
            # Marker (2 bytes), segment length (2), sample precision (1), then height and width.
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return Size(width, height)
        (length,) = struct.unpack(">H", content[at + 2 : at + 4])
        at += 2 + int(length)  # the length counts itself, but not the marker
    raise ValueError("a JPEG without a size in its header")
