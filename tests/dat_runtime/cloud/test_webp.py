"""A WebP is judged by its first header: whole still ones pass, others are refused in words."""

import cv2
import numpy as np
import pytest

from dat_runtime.cloud.webp import webp_size
from dat_runtime.types import Size

IMAGE = np.random.default_rng(0).integers(0, 255, (48, 300, 3), np.uint8)


@pytest.mark.parametrize("quality", [10, 101])  # 101 is without loss
def test_what_nodes_send_passes_with_its_size(quality: int) -> None:
    content = cv2.imencode(".webp", IMAGE, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
    assert content[12:16] == (b"VP8 " if quality == 10 else b"VP8L")
    assert webp_size(content) == Size(300, 48)


def file_of(chunk: bytes) -> bytes:
    return b"RIFF" + (len(chunk) + 4).to_bytes(4, "little") + b"WEBP" + chunk


def lossy(width: int, height: int, mark: bytes = b"\x9d\x01\x2a") -> bytes:
    sides = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    return file_of(b"VP8 \x0a\0\0\0" + b"\0\0\0" + mark + sides)


def lossless(width: int, height: int, mark: bytes = b"\x2f") -> bytes:
    sides = (width - 1 | height - 1 << 14 | 5 << 28).to_bytes(4, "little")  # above: alpha, version
    return file_of(b"VP8L\x0a\0\0\0" + mark + sides + bytes(5))


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (lossy(1, 1), Size(1, 1)),
        (lossy(0x4000 | 300, 0xC000 | 200), Size(300, 200)),  # above 14 bits: scaling
        (lossy(10_000, 5_000), Size(10_000, 5_000)),
        (lossless(1, 1), Size(1, 1)),
        (lossless(300, 16_384), Size(300, 16_384)),
    ],
)
def test_the_size_is_the_stated_one(content: bytes, size: Size) -> None:
    assert webp_size(content) == size


GOOD = lossy(3, 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not begin as a WebP does"),
        (b"RIFX" + GOOD[4:], "does not begin as a WebP does"),
        (GOOD[:8] + b"WEBQ" + GOOD[12:], "does not begin as a WebP does"),
        (GOOD[:-1], "is cut off, or has bytes after its end"),
        (GOOD + b"\0", "is cut off, or has bytes after its end"),
        (file_of(GOOD[12:29]), "ends within its header"),
        (lossy(3, 2, b"\x9d\x01\x2b"), "begins with b'VP8 ', no plain still picture"),
        (lossless(3, 2, b"\x2e"), "begins with b'VP8L', no plain still picture"),
        (file_of(b"VP8X" + GOOD[16:]), "begins with b'VP8X', no plain still picture"),
        (lossy(0, 2), "states 0 x 2 pixels, from 1 to 50,000,000 are taken"),
        (lossy(3, 0), "states 3 x 0 pixels, from 1 to 50,000,000 are taken"),
        (lossy(10_000, 5_001), "states 10000 x 5001 pixels, from 1 to 50,000,000 are taken"),
    ],
)
def test_what_is_no_whole_still_picture_is_refused_by_what_is_wrong(
    content: bytes, words: str
) -> None:
    with pytest.raises(ValueError, match=f"^{words}$"):
        webp_size(content)
