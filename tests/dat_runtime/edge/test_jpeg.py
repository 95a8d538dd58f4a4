"""JPEG data byte by byte: its size, its scans, its end, and what is grey at a corner."""

import struct

import cv2
import numpy as np
import pytest

from dat_runtime.draw import Image
from dat_runtime.edge import jpeg
from dat_runtime.edge.jpeg import END, end_of_scans, is_suspect, size_in_header, takes_more_data
from dat_runtime.types import Size

START = b"\xff\xd8"
PICTURE = np.random.default_rng(3).integers(0, 256, (24, 40, 3), np.uint8)


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def frame(marker: int = 0xC0, width: int = 40, height: int = 24, components: int = 3) -> bytes:
    return segment(marker, struct.pack(">BHHB", 8, height, width, components) + bytes(3))


def scan(components: int = 3) -> bytes:
    return segment(0xDA, bytes([components]) + bytes(9))


@pytest.mark.parametrize("marker", sorted(set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}))
def test_the_size_stands_in_the_frame_of_any_kind(marker: int) -> None:
    content = START + segment(0xE0, b"JFIF") + frame(marker, 65_500, 40_001) + scan()
    assert size_in_header(content) == Size(65_500, 40_001)


@pytest.mark.parametrize("marker", [0xC4, 0xC8, 0xCC, 0xBF, 0xD0, 0xE1])
def test_other_segments_state_no_size(marker: int) -> None:
    content = START + frame(marker, 7, 7) + frame(0xC1, 40, 24) + scan()
    assert size_in_header(content) == Size(40, 24)


def test_fill_bytes_before_a_marker_mean_nothing() -> None:
    content = START + b"\xff\xff\xff" + segment(0xE0, b"") + b"\xff" + frame()
    assert size_in_header(content) == Size(40, 24)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        START,
        START + segment(0xE0, b"JFIF" * 9),
        START + b"\x00" + frame(),
        START + scan() + frame(),  # a size after the first scan is none
        START + frame()[:8],
        START + segment(0xE0, b"1") + b"no marker" + frame(),
    ],
)
def test_what_states_no_size_is_told(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^a JPEG without a size in its header$"):
        size_in_header(content)


def test_a_header_that_is_just_long_enough_is_read() -> None:
    whole = START + frame()
    assert size_in_header(whole[:11]) == Size(40, 24)
    with pytest.raises(ValueError, match="without a size"):
        size_in_header(whole[:10])


@pytest.mark.parametrize(("number", "found"), [(1_999, True), (2_000, False)])
def test_so_many_segments_are_looked_at(number: int, found: bool) -> None:
    content = START + segment(0xE0, b"") * number + frame()
    if found:
        assert size_in_header(content) == Size(40, 24)
    else:
        with pytest.raises(ValueError, match="without a size"):
            size_in_header(content)


BRIGHT: Image = np.full((24, 40, 3), 200, np.uint8)


@pytest.mark.parametrize(
    ("content", "suspect"),
    [
        (START + frame(0xC0) + scan(), False),
        (START + frame(0xC1, components=1) + scan(1), False),
        (START + frame(0xC0) + scan(1), True),  # a scan for each component
        (START + frame(0xC2) + scan(), True),  # progressive
        (START + frame(0xC0, components=4) + scan(4), True),  # CMYK
        (START + scan(1), True),  # no frame before it
        (START + scan(0), False),
        (START + frame(0xC0), True),
        (b"", True),
    ],
)
def test_whether_pixels_are_missing_is_asked_where_more_than_one_scan_may_be(
    content: bytes, suspect: bool
) -> None:
    assert is_suspect(content, BRIGHT) is suspect


@pytest.mark.parametrize("at", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
@pytest.mark.parametrize("shape", [(24, 40, 3), (2, 2, 3), (1, 5, 3), (5, 1, 3), (1, 1, 3)])
def test_a_corner_of_just_that_grey_is_suspect(
    at: tuple[int, int], shape: tuple[int, int, int]
) -> None:
    whole = START + frame() + scan()
    image = np.full(shape, 200, np.uint8)
    image[at] = 128
    assert is_suspect(whole, image)
    image[at] = (128, 128, 127)
    assert not is_suspect(whole, image)
    image[at] = 129
    assert not is_suspect(whole, image)


def test_grey_beside_the_corners_is_no_sign() -> None:
    image = BRIGHT.copy()
    image[1:-1] = 128
    image[:, 1:-1] = 128
    assert not is_suspect(START + frame() + scan(), image)


CODED = b"\x01\xff\x00\x02\xff\xd3\x03"
"""With a stuffed byte and a restart marker, which end nothing."""


@pytest.mark.parametrize(
    ("parts", "end"),
    [
        ([CODED, END, b"left by the camera"], 1),
        ([CODED, b"\xff", END], 2),  # a fill byte
        ([CODED], 1),
        ([CODED, segment(0xC4, b"\xff\xd9\xff\xd9"), scan(1), CODED, END], 4),
    ],
)
def test_the_end_is_the_mark_behind_the_last_scan(parts: list[bytes], end: int) -> None:
    head = START + frame() + scan()
    content = head + b"".join(parts)
    assert end_of_scans(content) == len(head) + len(b"".join(parts[:end]))


@pytest.mark.parametrize(("scans", "has_end"), [(63, True), (64, False)])
def test_more_scans_than_any_picture_has_are_not_decoded(scans: int, has_end: bool) -> None:
    content = START + frame() + scan() + (b"\x01" + scan()) * scans + END
    assert end_of_scans(content) == (len(content) - 2 if has_end else None)


def test_data_without_a_scan_ends_where_it_ends() -> None:
    content = START + frame()
    assert end_of_scans(content) == len(content)


def jpeg_of(image: Image, quality: int = 90) -> bytes:
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def test_only_a_picture_that_was_cut_takes_more_data() -> None:
    content = jpeg_of(PICTURE)
    end = end_of_scans(content)
    assert content[end:] == END
    image = jpeg.decoded(content)
    assert image is not None
    assert not takes_more_data(content[:end], image)
    assert not takes_more_data(content[:end] + b"\xff", image)
    cut = content[: end - 400]
    half = jpeg.decoded(cut + END)
    assert half is not None
    assert takes_more_data(cut, half)


def test_what_is_added_is_asked_of_the_decoder_that_made_the_picture() -> None:
    asked: list[bytes] = []

    def decode(content: bytes) -> Image | None:
        asked.append(content)
        return answers.pop(0)

    answers: list[Image | None] = [PICTURE, PICTURE + 1, None]
    assert not takes_more_data(b"coded\xff\xff", PICTURE, decode)
    assert takes_more_data(b"coded", PICTURE, decode)
    assert takes_more_data(b"coded", PICTURE, decode)
    restarts = [bytes([0xFF, 0xD0 + n]) for n in range(8)]
    assert all(content == asked[0] for content in asked)
    assert asked[0].startswith(b"coded\x0b")
    assert asked[0].endswith(END)
    assert all(restart in asked[0] for restart in restarts)
    assert len(asked[0]) == 5 + 9 * 256 + 8 * 2 + 2


def test_what_is_no_picture_decodes_to_nothing() -> None:
    assert jpeg.decoded(b"") is None
    assert jpeg.decoded(b"\xff\xd8\xff") is None
    colours = jpeg.decoded(jpeg_of(PICTURE))
    assert colours is not None
    assert colours.shape == (24, 40, 3)
    grey = jpeg.decoded(jpeg_of(PICTURE), cv2.IMREAD_GRAYSCALE)
    assert grey is not None
    assert grey.shape == (24, 40)
