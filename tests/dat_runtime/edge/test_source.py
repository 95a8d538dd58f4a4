import resource
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime.draw import encode_jpeg, encode_png, size_of
from dat_runtime.edge.source import PictureError, header_size, read_frame, read_picture
from dat_runtime.errors import DataError
from dat_runtime.types import Size

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
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


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "empty"),
        (b"<html>not found</html>", "not a picture"),
        (png_bomb(7_071), "too large"),
        (encode_png(IMAGE)[:-40], "damaged"),
        (None, "unreadable"),
    ],
)
def test_each_fault_has_a_name_to_count(tmp_path: Path, content: bytes | None, fault: str) -> None:
    path = tmp_path / "frame.jpg"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(PictureError) as refusal:
        read_frame(path)
    assert refusal.value.fault == fault


@pytest.mark.parametrize(
    ("size", "fault"),
    [
        ((8192, 4096), "damaged"),
        ((8192, 4097), "too large"),
        ((65_500, 20), "damaged"),
        ((65_501, 20), "too large"),
        ((20, 65_501), "too large"),
    ],
)
def test_8k_is_read_and_more_is_not_nor_what_no_jpeg_can_show(
    tmp_path: Path, size: tuple[int, int], fault: str
) -> None:
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", *size) + b"\x08\2\0\0\0"
    assert fault_of(tmp_path, header) == fault


def scene() -> np.ndarray:
    """Smooth, as frames of cameras are: each block takes few bytes."""
    noise = np.random.default_rng(5).integers(0, 256, (24, 40, 3), np.uint8)
    return cv2.resize(noise, (640, 384), interpolation=cv2.INTER_CUBIC)


END = b"\xff\xd9"
KINDS = {
    "baseline": (scene(), []),
    "grey": (scene()[:, :, 0], []),
    "own tables": (scene(), [cv2.IMWRITE_JPEG_OPTIMIZE, 1]),
    "restart markers": (scene(), [cv2.IMWRITE_JPEG_RST_INTERVAL, 4]),
    "progressive": (scene(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
}


def jpeg_of(kind: str) -> bytes:
    picture, parameters = KINDS[kind]
    return cv2.imencode(".jpg", picture, parameters)[1].tobytes()


def fault_of(folder: Path, content: bytes) -> str | None:
    try:
        read_frame(file_of(folder, content))
    except PictureError as error:
        return error.fault
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_jpeg_is_refused_closed_with_an_end_mark_or_not(tmp_path: Path, kind: str) -> None:
    content = jpeg_of(kind)
    assert fault_of(tmp_path, content) is None
    for percent in (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99):
        cut = content[: len(content) * percent // 100]
        assert fault_of(tmp_path, cut) == "damaged", percent
        assert fault_of(tmp_path, cut + END) == "damaged", percent


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_lacks_only_its_end_mark_is_whole(tmp_path: Path, kind: str) -> None:
    whole = read_frame(file_of(tmp_path, jpeg_of(kind)))
    assert (read_frame(file_of(tmp_path, jpeg_of(kind)[:-2])) == whole).all()


def test_without_an_end_mark_the_last_missing_blocks_are_found(tmp_path: Path) -> None:
    content = jpeg_of("baseline")
    assert read_picture(file_of(tmp_path, content)).bits == 8
    assert fault_of(tmp_path, content[:-2]) is None
    assert fault_of(tmp_path, content[:-60]) == "damaged"


def test_a_small_file_cannot_keep_the_decoder_busy(tmp_path: Path) -> None:
    content = jpeg_of("progressive")
    last_scan = content.rindex(b"\xff\xda")
    for comments, fault in ((10, None), (100, "damaged")):  # as many further scans take minutes
        between = b"\xff\xfe\0\2" * comments
        assert fault_of(tmp_path, content[:last_scan] + between + content[last_scan:]) == fault
    started = time.process_time()
    for endless in (content[:2] + b"\xff" * 10_000_000, content[:2] + b"\xff\xe0\0\2" * 2_500_000):
        assert fault_of(tmp_path, endless) == "not a picture"
    assert time.process_time() - started < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_cut_jpeg_is_found_however_it_is_turned(tmp_path: Path, orientation: int) -> None:
    content = jpeg_of("baseline")
    cut = content[:2] + exif(orientation) + content[2 : len(content) // 2]
    assert fault_of(tmp_path, cut + END) == "damaged"


def test_what_lies_behind_a_jpeg_neither_harms_nor_hides_a_cut(tmp_path: Path) -> None:
    content = jpeg_of("baseline")
    assert fault_of(tmp_path, content + bytes(100) + content) is None
    assert fault_of(tmp_path, content[:9_000] + END + bytes(100) + content) == "damaged"


def test_a_picture_may_end_in_the_grey_of_a_cut_one(tmp_path: Path) -> None:
    picture = scene()
    picture[-100:] = 128
    frame = read_frame(file_of(tmp_path, encode_jpeg(picture)))
    assert (frame[-1, -1] == 128).all()


def test_a_cmyk_jpeg_is_read_in_colour_and_refused_when_cut(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    path = tmp_path / "print.jpg"
    pillow.fromarray(scene()[:, :, ::-1]).convert("CMYK").save(path)
    assert np.abs(read_frame(path).astype(int) - scene()).mean() < 12
    content = path.read_bytes()
    assert fault_of(tmp_path, content[: len(content) * 6 // 10] + END) == "damaged"


@pytest.mark.parametrize("percent", [5, 30, 60, 90, 99])
def test_real_frames_are_whole_and_their_cut_copies_are_not(tmp_path: Path, percent: int) -> None:
    frames = sorted((SHARED / "accidents-detection" / "valid" / "images").glob("*.jpg"))[::6]
    if not frames:
        pytest.skip(f"no frames in {SHARED}")
    for frame in frames:
        content = frame.read_bytes()
        assert fault_of(tmp_path, content) is None, frame.name
        assert fault_of(tmp_path, content[: len(content) * percent // 100] + END) == "damaged", (
            frame.name
        )


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_sensor_of_fewer_than_16_bits_is_legible(tmp_path: Path, bits: int) -> None:
    samples = scene().astype(np.uint16) << (bits - 8)
    content = cv2.imencode(".png", samples)[1].tobytes()
    picture = read_picture(file_of(tmp_path, content))
    assert picture.bits == bits
    assert (picture.image == scene()).all()


def test_a_dark_16_bit_picture_with_one_light_keeps_its_scale(tmp_path: Path) -> None:
    samples = np.full((30, 40, 3), 900, np.uint16)
    samples[3, 4] = 60_000
    content = cv2.imencode(".png", samples)[1].tobytes()
    picture = read_picture(file_of(tmp_path, content))
    assert picture.bits == 16
    assert (picture.image[0, 0] == 900 >> 8).all()


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


def test_what_is_no_picture_and_what_is_empty_are_told_apart() -> None:
    for content, words in (
        (b"GIF89a", "neither a JPEG nor a PNG picture"),
        (b"", "neither a JPEG nor a PNG picture: it is empty"),
    ):
        with pytest.raises(ValueError, match="neither") as caught:
            header_size(content)
        assert str(caught.value) == words
