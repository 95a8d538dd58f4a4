import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.edge import source
from dat_runtime.edge.cameras.wire import (
    HEADER_BYTES,
    MAX_FRAME_PIXELS,
    Kind,
    Message,
    Word,
    is_too_large,
    unpacked,
)


@pytest.mark.parametrize(
    "message",
    [
        Message(Kind.ALIVE),
        Message(Kind.OFFER, number=7),
        Message(Kind.FRAME, Word.NOTHING, 3, 640, 352, 1.7e9, 12.5),
        Message(Kind.FRAME, Word.NOTHING, 1, 8192, 4096, 99_999_999_999.0, 0.0),
        Message(Kind.FRAME, Word.NOTHING, 1, 1, 1, 0.0, 99_999_999_999.0),
        Message(Kind.DROPPED, Word.DAMAGED, 12),
        Message(Kind.FAILED, Word.NO_PYAV),
    ],
)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    assert unpacked(message.packed()) == message


def test_only_a_frame_is_followed_by_pixels() -> None:
    assert Message(Kind.FRAME, width=4, height=2).pixel_bytes == 24
    assert Message(Kind.OFFER, width=4, height=2).pixel_bytes == 0


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_any_bytes_are_a_bounded_message_or_refused(header: bytes) -> None:
    try:
        message = unpacked(header)
    except ValueError:
        return
    assert message.pixel_bytes <= 3 * MAX_FRAME_PIXELS


@pytest.mark.parametrize(
    "broken",
    [
        Message(Kind.FRAME, width=0, height=5),
        Message(Kind.FRAME, width=8192, height=4097),
        Message(Kind.FRAME, width=1, height=1, captured_at=float("nan")),
        Message(Kind.FRAME, width=1, height=1, captured_at=1e11),
        Message(Kind.FRAME, width=1, height=1, taken=1e11),
        Message(Kind.FRAME, width=1, height=1, taken=float("inf")),
    ],
)
def test_a_frame_of_no_size_or_time_is_refused(broken: Message) -> None:
    with pytest.raises(ValueError, match="a frame of"):
        unpacked(broken.packed())


def test_an_unknown_kind_or_word_is_refused() -> None:
    header = bytearray(Message(Kind.ALIVE).packed())
    struct.pack_into("B", header, 0, 99)
    with pytest.raises(ValueError, match="99"):
        unpacked(header)
    struct.pack_into("BB", header, 0, Kind.ALIVE, 200)
    with pytest.raises(ValueError, match="200"):
        unpacked(header)


def test_every_word_has_a_text_of_its_own() -> None:
    texts = [word.text for word in Word]
    assert len(set(texts)) == len(texts)
    assert Word.NOT_A_PICTURE.text == "not a picture"


def test_pictures_and_video_share_one_limit() -> None:
    assert source.MAX_FRAME_PIXELS == MAX_FRAME_PIXELS


def test_the_largest_frames_that_are_read() -> None:
    for size in ((65_500, 1), (1, 65_500), (8192, 4096)):
        assert not is_too_large(*size)
    for size in ((65_501, 1), (1, 65_501), (8192, 4097)):
        assert is_too_large(*size)
