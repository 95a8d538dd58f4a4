import io
import resource
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from dat_runtime.types import Size
from data.prep.pictures import decode
from data.prep.pictures.decode import UnreadableImage, header_size, read_picture, write_jpeg
from tests.data.prep.source_builder import jpeg, picture


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def read(tmp_path, content, name="a.jpg"):
    path = tmp_path / name
    path.write_bytes(content)
    return read_picture(path)


def png_header(width, height):
    """A PNG that claims a size and holds a few bytes only."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def test_a_sound_jpeg_keeps_its_own_bytes(tmp_path):
    content = jpeg(picture(0))
    found = read(tmp_path, content)
    assert found.jpeg == content
    assert found.repairs == ()
    assert (found.size.width, found.size.height) == (64, 48)


def test_a_grey_jpeg_is_sound(tmp_path):
    assert read(tmp_path, jpeg(picture(0).convert("L"))).repairs == ()


@pytest.mark.parametrize("side", [7_000, 12_000, 30_000, 2**31 - 1])
def test_an_image_bomb_is_refused_from_its_header(tmp_path, side):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bomb = png_header(side, side)
    refusals = []
    for _ in range(3):
        started = time.perf_counter()
        with pytest.raises(UnreadableImage) as caught:
            read(tmp_path, bomb, "bomb.png")
        refusals.append(time.perf_counter() - started)
        assert caught.value.kind == "image-size"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    sound = encoded(picture(0, 2000, 2000), "PNG")
    started = time.perf_counter()
    read(tmp_path, sound, "sound.png")
    assert min(refusals) < time.perf_counter() - started


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.95, 0.999])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_found_at_every_length(tmp_path, share, progressive):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    content = jpeg(Image.fromarray(noise), progressive=progressive)
    with pytest.raises(UnreadableImage) as caught:
        read(tmp_path, content[: int(len(content) * share)])
    assert caught.value.kind == "corrupt-image"


NO_PICTURE = b"<!DOCTYPE html><html><body>Not found</body></html>"
NO_EXIF = encoded(picture(0), "PNG", exif=b"Exif\0\0" + b"X" * 16)
SCANS = jpeg(picture(0))[:-2] + b"\xff\xda\0\x02\x11" * 70 + b"\xff\xd9"


@pytest.mark.parametrize(
    ("content", "kind", "detail"),
    [
        (b"", "empty-file", "0 bytes"),
        (NO_PICTURE, "not-an-image", "begins with b'<!DOCTYPE html><'"),
        (b"GIF89a" + b"\0" * 40, "not-an-image", f"begins with {b'GIF89a' + bytes(10)!r}"),
        (jpeg(picture(0, 9, 48)), "image-size", "header: 9 x 48 pixels"),
        (jpeg(picture(0, 820, 40)), "image-size", "header: 820 x 40 pixels"),
        (png_header(8_000, 5_001), "image-size", "header: 8000 x 5001 pixels"),
        (encoded(picture(0), "PNG")[:20], "corrupt-image", "header: OSError: "),
    ],
    ids=["empty", "html", "gif", "narrow", "long", "large", "cut"],
)
def test_an_unusable_picture_is_named_by_its_kind(tmp_path, content, kind, detail):
    for read_it in (read_picture, header_size):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(UnreadableImage) as caught:
            read_it(tmp_path / "a.jpg")
        assert (caught.value.kind, caught.value.detail[: len(detail)]) == (kind, detail)
        assert kind == "corrupt-image" or caught.value.detail == detail


def test_what_only_decoding_shows_is_named_too(tmp_path):
    broken = "SyntaxError: not a TIFF file"
    for content, detail in (
        (encoded(picture(0), "PNG")[:50], "OSError: image file is truncated"),
        (NO_EXIF, broken),
        (SCANS, "more scans than a picture has"),
    ):
        with pytest.raises(UnreadableImage) as caught:
            read(tmp_path, content)
        assert caught.value.kind == "corrupt-image"
        assert caught.value.detail.startswith(detail)
    (tmp_path / "a.png").write_bytes(NO_EXIF)
    for name, detail in (
        ("a.png", f"header: {broken}"),
        ("gone", "cannot be read (No such file or directory)"),
    ):
        with pytest.raises(UnreadableImage) as caught:
            header_size(tmp_path / name)
        assert caught.value.kind == "corrupt-image"
        assert caught.value.detail.startswith(detail)


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_BYTES", 2 << 20)
    (tmp_path / "a").write_bytes(bytes(3 << 20))
    content = decode.file_bytes(tmp_path / "a")
    assert len(content) == (2 << 20) + 1
    for length, kind in ((len(content), "image-size"), (2 << 20, "not-an-image")):
        with pytest.raises(UnreadableImage) as caught:
            decode.decoded(content[:length])
        assert caught.value.kind == kind
        assert kind != "image-size" or caught.value.detail == "over 2 MiB"


def test_the_largest_and_the_smallest_picture_are_taken(tmp_path):
    assert decode._opened(png_header(8_000, 5_000)).size == (8_000, 5_000)
    assert read(tmp_path, jpeg(picture(0, 10, 12))).size == Size(10, 12)


@pytest.mark.parametrize("orientation", range(10))
def test_a_header_tells_the_size_of_the_picture_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = read(tmp_path, jpeg(picture(0), exif=exif if orientation else b""))
    assert header_size(tmp_path / "a.jpg") == upright.size
    assert upright.size == (Size(48, 64) if 5 <= orientation <= 8 else Size(64, 48))
    turned = (("rotated-image", f"EXIF orientation {orientation}"),)
    assert upright.repairs == (turned if 2 <= orientation <= 8 else ())


def test_it_is_named_the_same_where_ultralytics_was_imported(tmp_path, monkeypatch):
    patches = pytest.importorskip("ultralytics.utils.patches")
    monkeypatch.setattr(Image, "open", patches.image_open)
    with pytest.raises(UnreadableImage) as caught:
        read(tmp_path, b"GIF89a" + b"\0" * 40)
    assert caught.value.kind == "not-an-image"


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_rotated_jpeg_is_turned_as_opencv_turns_it(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read(tmp_path, jpeg(picture(3), exif=exif, quality=95))
    shown = cv2.cvtColor(cv2.imread(str(tmp_path / "a.jpg")), cv2.COLOR_BGR2RGB)
    assert shown.shape == (found.size.height, found.size.width, 3)
    assert np.abs(np.asarray(found.rgb).astype(int) - shown).mean() < 2
    assert [kind for kind, _ in found.repairs] == ["rotated-image"]
    write_jpeg(found.rgb, tmp_path / "upright.jpg")
    assert read_picture(tmp_path / "upright.jpg").repairs == ()


def test_cmyk_becomes_rgb_of_the_same_colours(tmp_path):
    found = read(tmp_path, jpeg(picture(4).convert("CMYK"), quality=95))
    assert [kind for kind, _ in found.repairs] == ["colour-mode"]
    assert np.abs(np.asarray(found.rgb).astype(int) - np.asarray(picture(4))).mean() < 4


def test_sixteen_bits_become_eight_of_the_same_brightness(tmp_path):
    grey = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    found = read(tmp_path, encoded(Image.fromarray(grey), "PNG"), "a.png")
    assert {kind for kind, _ in found.repairs} == {"colour-mode", "not-jpeg"}
    assert (np.asarray(found.rgb)[:, :, 0] == grey >> 8).all()


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "colour PNG"])
def test_the_bits_of_a_camera_in_a_file_of_sixteen_are_not_near_black(tmp_path, bits, form):
    samples = np.linspace(0, (1 << bits) - 1, 64 * 48).reshape(48, 64).astype(np.uint16)
    if form == "colour PNG":
        colour = np.stack([samples, samples // 2, samples // 4], axis=2)
        cv2.imwrite(str(tmp_path / "a.png"), colour[:, :, ::-1])
        found = read_picture(tmp_path / "a.png")
        expected = colour >> (bits - 8)
    else:
        found = read(tmp_path, encoded(Image.fromarray(samples), form), "a.png")
        expected = np.repeat((samples >> (bits - 8))[:, :, None], 3, axis=2)
    assert (np.asarray(found.rgb) == expected).all()
    assert f"{bits} of 16 bits" in dict(found.repairs)["colour-mode"]


def test_samples_beyond_sixteen_bits_are_the_brightest_and_below_none_the_darkest(tmp_path):
    for samples, expected, bits in (
        (
            [-5, 0, 1, 4000, 65_535, 65_536, 70_000, 2**31 - 1],
            [0, 0, 0, 15, 255, 255, 255, 255],
            16,
        ),
        ([-5, 0, 1, 2, 50, 100, 200, 255], [0, 0, 1, 2, 50, 100, 200, 255], 8),
    ):
        deep = Image.fromarray(np.array([samples] * 10, np.int32).repeat(2, axis=1))
        found = read(tmp_path, encoded(deep, "TIFF"))
        assert np.asarray(found.rgb)[0, ::2].tolist() == [[value] * 3 for value in expected]
        assert found.repairs[0] == ("colour-mode", f"mode I, {bits} of 16 bits a sample")


def street(seed=0):
    """A picture with detail everywhere, as a photograph has."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (120, 160, 3), np.uint8))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 40}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_that_lacks_only_its_end_mark_is_repaired(tmp_path, options, mode):
    content = jpeg(street().convert(mode), **options)
    found = read(tmp_path, content[:-2])
    assert [kind for kind, _ in found.repairs] == ["bad-jpeg-end"]
    assert found.content == read(tmp_path, content).content


@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_cut_jpeg_that_was_closed_with_an_end_mark_is_corrupt(tmp_path, share, options):
    content = jpeg(street(), **options)
    with pytest.raises(UnreadableImage) as caught:
        read(tmp_path, content[: int(len(content) * share)] + b"\xff\xd9")
    assert caught.value.kind == "corrupt-image"


def test_a_grey_corner_alone_is_no_fault(tmp_path):
    canvas = np.asarray(street()).copy()
    canvas[-32:, -32:] = 128
    assert read(tmp_path, jpeg(Image.fromarray(canvas), quality=95)).repairs == ()


def test_a_strip_that_no_mllm_can_be_asked_about_is_refused_at_import(tmp_path):
    assert read(tmp_path, jpeg(picture(0, 800, 40))).repairs == ()
    with pytest.raises(UnreadableImage) as caught:
        read(tmp_path, jpeg(picture(0, 820, 40)))
    assert caught.value.kind == "image-size"


@pytest.mark.parametrize("form", ["PNG", "BMP", "WEBP", "TIFF"])
def test_another_format_named_jpg_is_encoded_anew(tmp_path, form):
    found = read(tmp_path, encoded(picture(5), form))
    assert found.jpeg is None
    assert found.repairs == (("not-jpeg", f"the content is {form}"),)


def test_a_phones_picture_with_a_second_image_gives_the_first(tmp_path):
    content = encoded(picture(5), "MPO", save_all=True, append_images=[picture(6)])
    found = read(tmp_path, content)
    assert found.repairs == (("not-jpeg", "the content is MPO"),)
    assert np.abs(np.asarray(found.rgb).astype(int) - np.asarray(picture(5))).mean() < 4


@pytest.mark.parametrize("more", [b"<script>", jpeg(picture(7))])
def test_bytes_after_the_end_of_a_jpeg_do_not_travel(tmp_path, more):
    found = read(tmp_path, jpeg(picture(6)) + more)
    assert found.jpeg is None
    assert found.repairs == (("bad-jpeg-end", f"ends with {more[-4:].hex(' ')}"),)


def test_content_is_that_of_the_pixels_not_of_the_file(tmp_path):
    lossless = picture(7)
    png = read(tmp_path, encoded(lossless, "PNG"), "a.png")
    bmp = read(tmp_path, encoded(lossless, "BMP"), "b.bmp")
    other = read(tmp_path, encoded(picture(8), "PNG"), "c.png")
    assert png.content == bmp.content != other.content
