"""One frame from one picture file, or the reason why there is none.

Pictures in the field arrive damaged. What cannot be trusted is refused by name, what can be read is
read: turned as its EXIF says, CMYK and grey as colour, 10, 12 or 14 bits in a 16-bit file legibly.
"""

import struct
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np

from dat_runtime.draw import Image
from dat_runtime.edge import jpeg
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
    picture = decode_png(content) if content.startswith(_PNG) else _decode_jpeg(content)
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
    if content.startswith(jpeg.START):
        return jpeg.size_in_header(content)
    raise ValueError("neither a JPEG nor a PNG picture" + ("" if content else ": it is empty"))


# PNG

_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH_AT = 24
"""Where IHDR states the bits of a sample (PNG specification, 11.2.2)."""


def decode_png(content: bytes) -> Picture | None:
    """The frame in a PNG; `None` where it is damaged."""
    # A PNG that is cut off fails its own checksums: OpenCV refuses it, closed or not.
    if content[_DEPTH_AT : _DEPTH_AT + 1] != b"\x10":
        image = jpeg.decoded(content, cv2.IMREAD_COLOR)
        return None if image is None else Picture(image.astype(np.uint8, copy=False), 8)
    deep = jpeg.decoded(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if deep is None:
        return None
    deep = deep.astype(np.uint16, copy=False)
    bits = significant_bits(int(deep.max()))
    return Picture((deep >> (bits - 8)).astype(np.uint8), bits)


def significant_bits(brightest: int) -> int:
    """How deep the sensor was whose samples lie in the low bits of a 16-bit picture.

    Cameras of 10, 12 and 14 bits store them so, and few programs state it (`sBIT` would mean
    samples that were scaled already). Read as 16 bits such a picture is near black.
    """
    return next(bits for bits in (8, 10, 12, 14, 16) if brightest < 1 << bits)


def _decode_jpeg(content: bytes) -> Picture | None:
    end = jpeg.end_of_scans(content)
    if end is None:
        return None
    has_end = content[end : end + 2] == jpeg.END
    # A picture that lacks only the end mark is whole; OpenCV refuses it.
    image = jpeg.decoded(content if has_end else content + jpeg.END)
    if image is None:
        return None
    image = image.astype(np.uint8, copy=False)
    suspect = not has_end or jpeg.is_suspect(content, image)
    if suspect and jpeg.takes_more_data(content[:end], image):
        return None
    return Picture(image, 8)
