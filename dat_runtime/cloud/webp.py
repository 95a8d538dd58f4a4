"""What a WebP file says of itself: its first header is read, nothing is decoded (as in `jpeg`).

https://developers.google.com/speed/webp/docs/riff_container
"""

from dat_runtime.types import Size

MAX_PIXELS = 50_000_000
"""As of a JPEG."""


def webp_size(content: bytes) -> Size:
    """Width and height of a whole still picture, lossy or not.

    Raises:
        ValueError: says in what it is not one.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        raise ValueError("does not begin as a WebP does")
    if int.from_bytes(content[4:8], "little") + 8 != len(content):
        raise ValueError("is cut off, or has bytes after its end")
    kind, header = content[12:16], content[20:30]
    if len(header) < 10:
        raise ValueError("ends within its header")
    if kind == b"VP8 " and header[3:6] == b"\x9d\x01\x2a":
        width = int.from_bytes(header[6:8], "little") & 0x3FFF  # above are bits of scaling
        height = int.from_bytes(header[8:10], "little") & 0x3FFF
    elif kind == b"VP8L" and header[0] == 0x2F:
        both = int.from_bytes(header[1:5], "little")
        width, height = (both & 0x3FFF) + 1, (both >> 14 & 0x3FFF) + 1
    else:
        raise ValueError(f"begins with {kind!r}, no plain still picture")
    if not (width and height and width * height <= MAX_PIXELS):
        raise ValueError(f"states {width} x {height} pixels, from 1 to {MAX_PIXELS:,} are taken")
    return Size(width, height)
