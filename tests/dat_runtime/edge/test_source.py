import resource
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime.draw import encode_jpeg, encode_png, size_of
from dat_runtime.edge.source import header_size, read_frame
from dat_runtime.errors import DataError
from dat_runtime.types import Size

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def file_of(folder: Path, content: bytes, name: str = "frame.jpg") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def png_bomb(side: int) -> bytes:
    """A small, valid PNG of side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    packer = zlib.compressobj(9)
    row = b"\0" + bytes((side + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def exif(orientation: int) -> bytes:
    """A JPEG segment that states an orientation."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def test_jpeg_and_png_are_read_whatever_the_name(tmp_path: Path) -> None:
    assert (read_frame(file_of(tmp_path, encode_png(IMAGE))) == IMAGE).all()
    jpeg = encode_jpeg(IMAGE)
    expected = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert (read_frame(file_of(tmp_path, jpeg, "frame.png")) == expected).all()


def test_headers_state_the_size() -> None:
    assert header_size(encode_png(IMAGE)) == header_size(encode_jpeg(IMAGE)) == Size(64, 48)


def test_a_frame_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    jpeg = encode_jpeg(IMAGE)
    turned = read_frame(file_of(tmp_path, jpeg[:2] + exif(6) + jpeg[2:]))
    assert size_of(turned) == Size(48, 64)


def test_grey_and_16_bit_pictures_become_8_bit_colour(tmp_path: Path) -> None:
    for picture in (IMAGE[:, :, 0], IMAGE.astype(np.uint16) * 257):
        content = cv2.imencode(".png", picture)[1].tobytes()
        frame = read_frame(file_of(tmp_path, content))
        assert (frame.shape, frame.dtype) == ((48, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "neither a JPEG nor a PNG"),
        (b"<html>not found</html>", "neither a JPEG nor a PNG"),
        (b"\xff\xd8\xff", "without a size"),
        (b"\xff\xd8\xff\xe0\x00\x00" + bytes(40), "without a size"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(8), "must be positive"),
        (encode_jpeg(IMAGE)[:400], "damaged or cut off"),
        (encode_png(IMAGE)[:60], "damaged or cut off"),
    ],
)
def test_what_is_no_whole_picture_is_refused_by_name(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = file_of(tmp_path, content)
    with pytest.raises(DataError, match=words) as refusal:
        read_frame(path)
    assert str(refusal.value).startswith(f"{path}: ")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jpg: cannot be read"):
        read_frame(tmp_path / "none.jpg")


def test_a_huge_picture_is_refused_from_its_header(tmp_path: Path) -> None:
    path = file_of(tmp_path, png_bomb(12_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    with pytest.raises(DataError, match="12000 x 12000 pixels, at most"):
        read_frame(path)
    refusing = time.process_time() - started
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000

    sixteenth = file_of(tmp_path, png_bomb(3_000), "sixteenth.png")
    started = time.process_time()
    read_frame(sixteenth)
    decoding = time.process_time() - started
    assert refusing < decoding
