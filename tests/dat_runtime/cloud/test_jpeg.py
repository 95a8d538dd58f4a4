"""A JPEG is judged by its markers: whole ones pass, others are refused by what is wrong."""

import io
from contextlib import suppress

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.cloud.jpeg import jpeg_size
from dat_runtime.draw import encode_jpeg
from dat_runtime.types import Size

IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
JPEG = encode_jpeg(IMAGE)
FRAME_AT = JPEG.index(b"\xff\xc0")


def size_of(content: bytes) -> Size:
    return jpeg_size(io.BytesIO(content))


def replaced(at: int, content: bytes) -> bytes:
    return JPEG[:at] + content + JPEG[at + len(content) :]


def test_what_nodes_send_passes_with_its_size() -> None:
    assert size_of(JPEG) == Size(64, 48)
    grey = cv2.imencode(".jpg", IMAGE[..., 0])[1].tobytes()
    progressive = cv2.imencode(".jpg", IMAGE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert size_of(grey) == size_of(progressive) == Size(64, 48)


def test_segments_of_cameras_and_fill_bytes_are_passed_over() -> None:
    comment = b"\xff\xff\xff\xfe\x00\x0a<script>"
    assert size_of(JPEG[:2] + comment + JPEG[2:]) == Size(64, 48)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "^does not begin as a JPEG does$"),
        (b"<html>", "does not begin"),
        (b"\x89PNG\r\n\x1a\n" + JPEG, "does not begin"),
        (JPEG[:2], "^ends within its header$"),
        (JPEG[: FRAME_AT + 6], "ends within"),
        (JPEG[: len(JPEG) // 2], "cut off"),
        (JPEG[:-2], "^is cut off: no end marker$"),
        (JPEG + b"<html>", "cut off"),
        (JPEG[:2] + b"\xff\xd9", "^has the marker FFD9 in its header$"),
        (JPEG[:2] + b"abc" + JPEG[2:], "^has bytes between its segments$"),
        (JPEG[:2] + b"\xff" * 8_000_000 + JPEG[2:], "too many bytes between its segments"),
        (JPEG[:2] + b"\xff\xfe\x00\x01" + JPEG[2:], "^has a segment of negative length$"),
        (JPEG[:2] + b"\xff\xfe\x00\x02" * 300 + JPEG[2:], "more than 200 segments"),
        (replaced(FRAME_AT + 1, b"\xc3"), r"^is coded .* browsers do not show \(FFC3\)$"),
        (replaced(FRAME_AT + 4, b"\x0c"), "8 bits"),
        (replaced(FRAME_AT + 9, b"\x04"), "components"),
        (replaced(FRAME_AT + 5, b"\xff\xff\xff\xff"), "65535 x 65535"),
        (replaced(FRAME_AT + 5, b"\x00\x00"), "64 x 0"),
        (replaced(FRAME_AT + 1, b"\xfe"), "^states no size before its picture$"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # one file is of megabytes
)
def test_what_is_no_whole_jpeg_is_refused_by_what_is_wrong(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        size_of(content)


def frame_of(*, sides: bytes = b"\x00\x30\x00\x40", bits: int = 8, parts: int = 1) -> bytes:
    """A JPEG that is no more than a frame's header, an empty scan and the end."""
    head = bytes([bits]) + sides + bytes([parts])
    return b"\xff\xd8\xff\xc0\x00\x08" + head + b"\xff\xda\x00\x02" + b"\xff\xd9"


def test_the_bounds_of_what_passes() -> None:
    assert size_of(frame_of()) == Size(64, 48)
    assert size_of(frame_of(parts=3)) == Size(64, 48)
    for wrong in ({"parts": 2}, {"parts": 4}, {"parts": 0}, {"bits": 7}):
        with pytest.raises(ValueError, match=r"^is not of 8 bits in one or three components$"):
            size_of(frame_of(**wrong))
    short = b"\xff\xd8\xff\xc0\x00\x07\x08\x00\x30\x00\x40"
    with pytest.raises(ValueError, match=r"^is not of 8 bits"):
        size_of(short + JPEG)

    assert size_of(frame_of(sides=b"\x00\x01\x00\x01")) == Size(1, 1)
    assert size_of(frame_of(sides=b"\x13\x88\x27\x10")) == Size(10_000, 5_000)
    for sides, words in (
        (b"\x13\x89\x27\x10", "states 10000 x 5001 pixels, from 1 to 50,000,000 are taken"),
        (b"\x00\x30\x00\x00", "states 0 x 48 pixels, from 1 to 50,000,000 are taken"),
    ):
        with pytest.raises(ValueError, match=f"^{words}$"):
            size_of(frame_of(sides=sides))

    empty, fill = b"\xff\xfe\x00\x02", b"\xff"
    assert size_of(JPEG[:2] + empty * 198 + frame_of()[2:]) == Size(64, 48)
    with pytest.raises(ValueError, match=r"^has more than 200 segments before its picture$"):
        size_of(JPEG[:2] + empty * 199 + frame_of()[2:])
    assert size_of(JPEG[:2] + fill * 999 + frame_of()[2:]) == Size(64, 48)
    with pytest.raises(ValueError, match=r"^has too many bytes between its segments$"):
        size_of(JPEG[:2] + fill * 1_000 + frame_of()[2:])


def test_a_file_is_read_from_its_beginning_wherever_it_stands() -> None:
    file = io.BytesIO(JPEG)
    file.seek(9)
    assert jpeg_size(file) == Size(64, 48)


def test_two_frames_are_refused() -> None:
    (length,) = JPEG[FRAME_AT + 2 : FRAME_AT + 4][1:]
    frame = JPEG[FRAME_AT : FRAME_AT + 2 + length]
    with pytest.raises(ValueError, match=r"^states two frames$"):
        size_of(JPEG[:FRAME_AT] + frame + JPEG[FRAME_AT:])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_are_a_size_or_a_value_error(noise: bytes, at: int) -> None:
    for content in (noise, b"\xff\xd8" + noise, replaced(at, noise)):
        with suppress(ValueError):
            assert size_of(content).pixels > 0
