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
        (b"", "does not begin"),
        (b"<html>", "does not begin"),
        (b"\x89PNG\r\n\x1a\n" + JPEG, "does not begin"),
        (JPEG[:2], "ends within"),
        (JPEG[: FRAME_AT + 6], "ends within"),
        (JPEG[: len(JPEG) // 2], "cut off"),
        (JPEG[:-2], "cut off"),
        (JPEG + b"<html>", "cut off"),
        (JPEG[:2] + b"\xff\xd9", "marker FFD9"),
        (JPEG[:2] + b"abc" + JPEG[2:], "between its segments"),
        (JPEG[:2] + b"\xff" * 8_000_000 + JPEG[2:], "too many bytes between its segments"),
        (JPEG[:2] + b"\xff\xfe\x00\x01" + JPEG[2:], "negative"),
        (JPEG[:2] + b"\xff\xfe\x00\x02" * 300 + JPEG[2:], "more than 200 segments"),
        (replaced(FRAME_AT + 1, b"\xc3"), "browsers do not show"),
        (replaced(FRAME_AT + 4, b"\x0c"), "8 bits"),
        (replaced(FRAME_AT + 9, b"\x04"), "components"),
        (replaced(FRAME_AT + 5, b"\xff\xff\xff\xff"), "65535 x 65535"),
        (replaced(FRAME_AT + 5, b"\x00\x00"), "64 x 0"),
        (replaced(FRAME_AT + 1, b"\xfe"), "no size"),
    ],
)
def test_what_is_no_whole_jpeg_is_refused_by_what_is_wrong(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        size_of(content)


def test_two_frames_are_refused() -> None:
    (length,) = JPEG[FRAME_AT + 2 : FRAME_AT + 4][1:]
    frame = JPEG[FRAME_AT : FRAME_AT + 2 + length]
    with pytest.raises(ValueError, match="two frames"):
        size_of(JPEG[:FRAME_AT] + frame + JPEG[FRAME_AT:])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_are_a_size_or_a_value_error(noise: bytes, at: int) -> None:
    for content in (noise, b"\xff\xd8" + noise, replaced(at, noise)):
        with suppress(ValueError):
            assert size_of(content).pixels > 0
