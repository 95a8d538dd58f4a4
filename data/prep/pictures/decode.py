"""Reading pictures of untrusted sources: dimensions from the header first, then one full decode."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dat_runtime.draw import is_too_long
from dat_runtime.edge import jpeg
from dat_runtime.edge.source import decode_png, significant_bits
from dat_runtime.types import Size

MAX_PIXELS = 40_000_000
MAX_BYTES = 64 * 1024 * 1024
MIN_SIDE = 10
"""Ultralytics skips smaller images."""

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
"""Pillow knows nearly forty further formats, and each is more code that meets untrusted bytes."""
# Registers the decoders before threads need them: Pillow does it lazily, without a lock.
Image.init()

_ORIENTATION = 0x0112
"""The tag of EXIF (and TIFF 6.0) that says how to turn the picture: 1 is upright, 2 to 8 are the
other ways to mirror and turn it."""
_JPEG_FORMATS = ("JPEG", "MPO")
_JPEG_QUALITY = 95
_PNG_DEPTH_AT = 24
"""Where IHDR states the bits of a sample (PNG specification, 11.2.2)."""


class UnreadableImage(Exception):
    """The file gives no picture; `kind` is the kind of its fault."""

    def __init__(self, kind: str, detail: str):
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True)
class Picture:
    """A decoded picture: upright, 8-bit RGB."""

    rgb: Image.Image
    jpeg: bytes | None
    """The file's own bytes if they are a sound, upright, 8-bit grey or RGB JPEG."""
    repairs: tuple[tuple[str, str], ...]
    """(kind of fault, detail) of each conversion."""

    @property
    def size(self) -> Size:
        """The size of the upright picture."""
        return Size(*self.rgb.size)

    @property
    def content(self) -> str:
        """A digest of the pixels: equal exactly for pictures that look exactly alike."""
        sha = hashlib.sha256(repr(self.rgb.size).encode())
        sha.update(self.rgb.tobytes())
        return sha.hexdigest()


def read_picture(path: Path) -> Picture:
    """Read and decode an image file; reads at most one byte more than 64 MiB."""
    return decoded(file_bytes(path))


def header_size(path: Path) -> Size:
    """The size of a picture upright, by its header alone.

    Raises:
        UnreadableImage: as `decoded`, as far as the header shows it.
    """
    try:
        data = file_bytes(path)
    except OSError as error:
        raise UnreadableImage("corrupt-image", f"cannot be read ({error.strerror})") from None
    image = _opened(data)
    width, height = image.size
    try:
        turned = image.getexif().get(_ORIENTATION, 1) in range(5, 9)
    except Exception as error:  # a broken EXIF block raises various errors
        raise UnreadableImage("corrupt-image", f"header: {_named(error)}") from None
    return Size(height, width) if turned else Size(width, height)


def decoded(data: bytes) -> Picture:
    """Decode the bytes of an image file.

    Raises:
        UnreadableImage: it is empty, not an image, too large by its header, or does not decode.
    """
    image = _opened(data)
    end = len(data)
    if image.format in _JPEG_FORMATS:
        end = _end_of_jpeg(data)
        if data[end : end + 2] != jpeg.END:
            # Whole but for its end mark, or cut: then it lacks pixels as well, see below.
            image = _opened(data[:end] + jpeg.END)
    try:
        image.load()
        rgb, repairs = _upright_rgb(image, data)
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
        raise UnreadableImage("corrupt-image", _named(error)) from None
    if image.format in _JPEG_FORMATS:
        _demand_all_pixels(data, end, image)
    # Pillow calls a JPEG that holds further images MPO; it is encoded anew, without them.
    if image.format != "JPEG":
        repairs.append(("not-jpeg", f"the content is {image.format}"))
    elif not data.endswith(jpeg.END) or end + 2 != len(data):
        repairs.append(("bad-jpeg-end", f"ends with {data[-4:].hex(' ')}"))
    return Picture(rgb, None if repairs else data, tuple(repairs))


def _end_of_jpeg(data: bytes) -> int:
    """Where the end mark of a JPEG stands, or should."""
    end = jpeg.end_of_scans(data)
    if end is None:
        raise UnreadableImage("corrupt-image", "more scans than a picture has")
    return end


def _demand_all_pixels(data: bytes, end: int, image: Image.Image) -> None:
    """Refuse a JPEG that was cut off, even one that was closed with an end mark since.

    It is asked as the node asks it (`dat_runtime.edge.source`), so what trains is what is seen.
    """
    has_end = data[end : end + 2] == jpeg.END
    if has_end and not jpeg.is_suspect(data, _corners(image)):
        return
    # Not by OpenCV, which prints a warning for each sound progressive picture.
    if jpeg.takes_more_data(data[:end], np.atleast_3d(np.asarray(image)), _pixels):
        raise UnreadableImage("corrupt-image", f"pixels are missing: cut off within {end:,} bytes")


def _corners(image: Image.Image) -> NDArray[Any]:
    """(2, 2, channels): the pixels in the corners, which are enough to suspect a picture."""
    right, bottom = image.width - 1, image.height - 1
    found = [image.getpixel((x, y)) for y in (0, bottom) for x in (0, right)]
    return np.array(found).reshape(2, 2, -1)


def _pixels(data: bytes) -> NDArray[Any] | None:
    try:
        return np.atleast_3d(np.asarray(_opened(data)))
    except (OSError, SyntaxError, ValueError, UnreadableImage):
        return None


def _opened(data: bytes) -> Image.Image:
    """The image with its header read and judged; no pixel is decoded yet."""
    if not data:
        raise UnreadableImage("empty-file", "0 bytes")
    if len(data) > MAX_BYTES:
        raise UnreadableImage("image-size", f"over {MAX_BYTES >> 20} MiB")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage("image-size", f"header: {error}") from None
    # Where Ultralytics was imported, its own `open` answers with the first picture that it does not
    # know by looking for a package.
    except (UnidentifiedImageError, ModuleNotFoundError):
        raise UnreadableImage("not-an-image", f"begins with {data[:16]!r}") from None
    except Exception as error:  # decoders raise various errors at a broken header
        raise UnreadableImage("corrupt-image", f"header: {_named(error)}") from None
    width, height = image.size
    too_small = min(width, height) < MIN_SIDE
    if too_small or width * height > MAX_PIXELS or is_too_long(Size(width, height)):
        raise UnreadableImage("image-size", f"header: {width} x {height} pixels")
    return image


def file_bytes(path: Path) -> bytes:
    """A file's content, cut off one byte beyond the most that an image may have."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _upright_rgb(image: Image.Image, data: bytes) -> tuple[Image.Image, list[tuple[str, str]]]:
    """The picture upright and in 8-bit RGB, and the repairs that this took."""
    repairs = []
    deep = _deep_rgb(image, data)
    if deep is not None:
        repairs.append(("colour-mode", f"mode {image.mode}, {deep[1]} of 16 bits a sample"))
        return deep[0], repairs
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation in range(2, 9):
        repairs.append(("rotated-image", f"EXIF orientation {orientation}"))
        image = ImageOps.exif_transpose(image)
    if image.mode not in ("RGB", "L"):
        repairs.append(("colour-mode", f"mode {image.mode}"))
    if image.mode != "RGB":
        image = image.convert("RGB")
    return image, repairs


def _deep_rgb(image: Image.Image, data: bytes) -> tuple[Image.Image, int] | None:
    """A picture of 16-bit samples in eight bits, with the bits that mean something; else None.

    Pillow's own conversion keeps the upper bits or clips: the 12 bits of a camera would be black or
    white. They are shifted as the node shifts them.
    """
    if image.format == "PNG" and data[_PNG_DEPTH_AT] == 16:
        picture = decode_png(data)
        if picture is None:
            raise OSError("a damaged PNG")
        return Image.fromarray(np.ascontiguousarray(picture.image[:, :, ::-1])), picture.bits
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return None
    samples = np.asarray(image).clip(0, 65535).astype(np.uint16)
    bits = significant_bits(int(samples.max()))
    return Image.fromarray((samples >> (bits - 8)).astype(np.uint8)).convert("RGB"), bits


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def write_jpeg(rgb: Image.Image, path: Path) -> None:
    """Encode as JPEG (quality 95), without metadata."""
    rgb.save(path, format="JPEG", quality=_JPEG_QUALITY)
