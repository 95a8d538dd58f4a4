"""One frame from one picture file, or the reason why there is none.

Pictures in the field arrive damaged. What cannot be trusted is refused by name, what can be read is
read: turned as its EXIF says, CMYK and grey as colour, 10, 12 or 14 bits in a 16-bit file legibly.
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dat_runtime.draw import Image
from dat_runtime.edge.cameras.wire import MAX_FRAME_PIXELS, MAX_FRAME_SIDE, is_too_large
from dat_runtime.errors import DataError
from dat_runtime.files import read_bytes
from dat_runtime.types import Size

MAX_FILE_BYTES = 1 << 28
"""More than `MAX_FRAME_PIXELS` of 16-bit colour without compression."""

PictureFault = Literal["unreadable", "empty", "not a picture", "too large", "damaged"]


class PictureError(DataError):
    """A file that gives no frame; `fault` says why, in words that can be counted."""

    def __init__(self, fault: PictureFault, message: str, path: Path):
        super().__init__(message, path)
        self.fault: PictureFault = fault


class Picture(NamedTuple):
    """What a file holds.

    Attributes:
        image: the frame, turned as the EXIF orientation says.
        bits: how many bits of each sample mean something: 8, or 10 to 16 of a 16-bit picture.
    """

    image: Image
    bits: int


def read_frame(path: Path) -> Image:
    """The frame in a JPEG or PNG file, turned as its EXIF orientation says.

    Raises:
        PictureError: the file is missing, is not a JPEG or PNG, is damaged, cut off or too large.
    """
    return read_picture(path).image


def read_picture(path: Path) -> Picture:
    """The frame in a JPEG or PNG file, with the number of bits that it was made from.

    Raises:
        PictureError: as `read_frame`.
    """
    try:
        content = read_bytes(path, most_bytes=MAX_FILE_BYTES)
    except DataError as error:
        raise PictureError("unreadable", str(error).removeprefix(f"{path}: "), path) from None
    try:
        size = header_size(content)
    except ValueError as error:
        raise PictureError("not a picture" if content else "empty", str(error), path) from None
    if is_too_large(size.width, size.height):
        most = f"at most {MAX_FRAME_PIXELS:,}, and {MAX_FRAME_SIDE:,} a side, are read"
        raise PictureError("too large", f"{size.width} x {size.height} pixels, {most}", path)
    picture = _png(content) if content.startswith(_PNG) else _jpeg(content)
    if picture is None:
        raise PictureError("damaged", "the picture is damaged or cut off", path)
    return picture


def header_size(content: bytes) -> Size:
    """The size that a JPEG or PNG states in its header, before EXIF turns it.

    Raises:
        ValueError: neither JPEG nor PNG, or a header without a size.
    """
    if content.startswith(_PNG) and content[12:16] == b"IHDR" and len(content) >= 24:
        return Size(*struct.unpack(">II", content[16:24]))
    if content.startswith(_JPEG):
        return _jpeg_size(content)
    raise ValueError("neither a JPEG nor a PNG picture" + ("" if content else ": it is empty"))


def _decoded(content: bytes, flags: int) -> NDArray[Any] | None:
    """`None` where OpenCV cannot decode the content."""
    try:
        image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        return None
    return image


# PNG

_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH_AT = 24
"""Where IHDR states the bits of a sample (PNG specification, 11.2.2)."""


def _png(content: bytes) -> Picture | None:
    # A PNG that is cut off fails its own checksums: OpenCV refuses it, closed or not.
    if content[_DEPTH_AT : _DEPTH_AT + 1] != b"\x10":
        image = _decoded(content, cv2.IMREAD_COLOR)
        return None if image is None else Picture(image.astype(np.uint8, copy=False), 8)
    deep = _decoded(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if deep is None:
        return None
    deep = deep.astype(np.uint16, copy=False)
    bits = _significant_bits(int(deep.max()))
    return Picture((deep >> (bits - 8)).astype(np.uint8), bits)


def _significant_bits(brightest: int) -> int:
    """How deep the sensor was whose samples lie in the low bits of a 16-bit picture.

    Cameras of 10, 12 and 14 bits store them so, and few programs state it (`sBIT` would mean
    samples that were scaled already). Read as 16 bits such a picture is near black.
    """
    return next(bits for bits in (8, 10, 12, 14, 16) if brightest < 1 << bits)


# JPEG (ITU-T T.81)

_JPEG = b"\xff\xd8\xff"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The markers SOF0 to SOF15 of Table B.1, without DHT, JPG and DAC between them."""

_START_OF_SCAN = 0xDA
_END = b"\xff\xd9"
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


def _jpeg(content: bytes) -> Picture | None:
    end = _end_of_scans(content)
    if end is None:
        return None
    has_end = content[end : end + 2] == _END
    # A picture that lacks only the end mark is whole; OpenCV refuses it.
    image = _decoded(content if has_end else content + _END, cv2.IMREAD_COLOR)
    if image is None:
        return None
    image = image.astype(np.uint8, copy=False)
    suspect = not has_end or not _has_one_scan(content) or _has_grey_corner(image)
    if suspect and _takes_more_data(content[:end], image):
        return None
    return Picture(image, 8)


def _takes_more_data(coded: bytes, image: Image) -> bool:
    """Whether a picture whose coded data is `coded` had ended before its last block was known.

    A decoder that has all blocks never looks at what follows. So the data is continued: where that
    changes a pixel, pixels were missing, closed by an end mark or not. It costs a second decoding,
    which is why only a suspect is asked.
    """
    # A last 0xff would turn what follows into a marker.
    longer = _decoded(coded.rstrip(b"\xff") + _MORE_DATA + _END, cv2.IMREAD_COLOR)
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


def _end_of_scans(content: bytes) -> int | None:
    """Where the end mark stands, or should: behind it a camera may have left other data.

    `None` where there are more scans than any picture has: each is decoded over the whole picture,
    so that a small file could take minutes.
    """
    at = next((at for marker, at in _segments(content) if marker == _START_OF_SCAN), len(content))
    for _ in range(_MOST_SCANS):
        found = _MARKER.search(content, at)
        if found is None:
            return len(content)
        if found[0] == _END:
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


def _jpeg_size(content: bytes) -> Size:
    for marker, at in _segments(content):
        if marker in _START_OF_FRAME:
            # Segment length (2 bytes), sample precision (1), then height and width (B.2.2).
            height, width = struct.unpack(">HH", content[at + 3 : at + 7])
            return Size(width, height)
    raise ValueError("a JPEG without a size in its header")
