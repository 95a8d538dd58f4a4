"""Pictures of the report: their boxes at the right pixels, their captions as text."""

import base64
import io
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dat_runtime.types import Size
from data.prep.reporting import pictures
from tests.data.prep.reporting.small_set import MODERATE, SEVERE, kept

GREY = 90


def write(path: Path, width: int = 64, height: int = 48) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), GREY, np.uint8))
    return path


def shown(figure: str) -> Image.Image:
    (data,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', figure)
    return Image.open(io.BytesIO(base64.b64decode(data)))


def coloured(image: Image.Image) -> tuple[int, int, int, int] | None:
    """The box around what is not grey: left, top, right and bottom, both ends included."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    ys, xs = np.nonzero((pixels.max(axis=2) - pixels.min(axis=2)) > 40)
    return (xs.min(), ys.min(), xs.max(), ys.max()) if len(xs) else None


def near(found: tuple[int, int, int, int] | None, wanted: tuple[int, ...]) -> bool:
    """JPEG blurs colours, and corners of lines stick out, by a few pixels."""
    return found is not None and max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= 5


def test_sheets_and_grids_of_nothing_are_nothing() -> None:
    assert pictures.folded("a", "") == pictures.grid([]) == pictures.pairs([]) == ""
    assert pictures.folded("a", "b") == (
        '<details><summary>a</summary><div class="sheet">b</div></details>'
    )
    assert pictures.grid(["a", "b"]) == '<div class="grid">ab</div>'
    assert pictures.pairs(["a", "b"]) == '<div class="pairs">ab</div>'
    assert pictures.pair("<", "a", "b") == '<div class="pair"><p>&lt;</p><div>ab</div></div>'


def test_a_caption_is_text_of_at_most_300_letters() -> None:
    image = Image.new("RGB", (8, 8))
    text = pictures.figure(image, "<" * 301, "n" * 301)
    start = '<figure><img loading="lazy" alt="' + "&lt;" * 300 + '" src="data:image/jpeg;base64,'
    assert text.startswith(start)
    told = f"<b>{'&lt;' * 300}</b><br>{'n' * 300}"
    assert text.endswith(f'"><figcaption>{told}</figcaption></figure>')
    assert pictures.figure(image, "a").endswith("><figcaption>a</figcaption></figure>")
    assert pictures.without_picture("<a>") == (
        "<figure><figcaption>&lt;a&gt;</figcaption></figure>"
    )


@pytest.mark.parametrize("scale", [1, 10])
def test_a_frame_of_the_set_has_its_boxes_and_is_small(tmp_path: Path, scale: int) -> None:
    frame = kept(0, "val", SEVERE, size=Size(64 * scale, 48 * scale))
    write(tmp_path / "images" / "val" / "f0.jpg", 64 * scale, 48 * scale)
    text = pictures.of_set(tmp_path, frame, "val: ")
    assert text.endswith("<figcaption><b>val: severe</b><br>f0</figcaption></figure>")
    image = shown(text)
    width, height = image.size
    assert (width, height) == ((64, 48) if scale == 1 else (320, 240))
    # From a quarter to three quarters across, the lower half.
    edges = (width // 4, height // 2, 3 * width // 4 - 1, height - 1)
    assert near(coloured(image), edges)
    red, green, blue = image.convert("RGB").getpixel((width // 4 + 1, 3 * height // 4))  # type: ignore[misc]
    assert red > 130
    assert green < 90 > blue


def test_a_frame_of_the_source_has_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "source" / "f1.jpg")
    text = pictures.of_source(kept(1, "train", SEVERE), "what <it> is")
    assert text.endswith("<b>what &lt;it&gt; is</b><br>f1.jpg</figcaption></figure>")
    assert near(coloured(shown(text)), (16, 24, 47, 47))


def test_severities_are_told_in_words() -> None:
    assert pictures.said([SEVERE, MODERATE]) == "severe, moderate"
    assert pictures.said([]) == "no box"


def label(root: Path, text: str, suffix: str = ".png") -> Path:
    write(root / "images" / "inner" / f"a{suffix}", 320, 240)
    path = root / "labels" / "inner" / "a.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "edges"),
    [
        ("1 0.5 0.5 0.5 0.25", (80, 90, 240, 150)),
        ("1 0.25 0.25 0.75 0.25 0.75 0.75", (80, 60, 240, 180)),
        ("1 0.25 0.25 0.75 9.9 0.75 0.75", (80, 60, 240, 239)),
        ("1 0.5 0.5 0.5", None),
        ("1 0.5 0.5 0.5 10 0.5 0.5", None),
        ("1 0.1 0.2 0.3 0.4 0.5", None),
        ("1 a b c d", None),
        ("", None),
    ],
)
def test_a_faulty_row_is_drawn_where_it_can_be(
    tmp_path: Path, row: str, edges: tuple[int, ...] | None
) -> None:
    path = label(tmp_path, f"0 0.1 0.1 0.1 0.1\n{row}\n")
    text = pictures.of_fault(path, 2, "faulty")
    assert text.endswith("<figcaption>faulty</figcaption></figure>")
    found = coloured(shown(text))
    assert near(found, edges) if edges else found is None


def test_without_a_line_or_beyond_the_last_nothing_is_drawn(tmp_path: Path) -> None:
    path = label(tmp_path, "\ufeff1 0.5 0.5 0.5 0.25")
    assert coloured(shown(pictures.of_fault(path, None, ""))) is None
    assert coloured(shown(pictures.of_fault(path, 9, ""))) is None
    assert coloured(shown(pictures.of_fault(path, 1, ""))) is not None


def test_a_fault_of_a_picture_shows_it_and_one_without_is_words(tmp_path: Path) -> None:
    image = write(tmp_path / "a.PNG")
    assert shown(pictures.of_fault(image, None, "a")).size == (64, 48)
    wide = write(tmp_path / "wide.jpg", 640, 48)
    assert shown(pictures.of_fault(wide, 1, "a")).size == (320, 24)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    words = "<figure><figcaption>a</figcaption></figure>"
    assert pictures.of_fault(broken, None, "a") == words
    assert pictures.of_fault(tmp_path / "gone.jpg", None, "a") == words
    beside = tmp_path / "other" / "a.txt"
    beside.parent.mkdir()
    beside.write_text("1 0.5 0.5 0.5 0.5")
    assert pictures.of_fault(beside, 1, "a") == words  # no label file
    yaml = write(tmp_path / "labels" / "b.jpg").with_suffix(".yaml")
    yaml.write_text("")
    assert pictures.of_fault(yaml, 1, "a") == words


def test_a_broken_picture_of_a_label_is_passed_over(tmp_path: Path) -> None:
    path = label(tmp_path, "1 0.5 0.5 0.5 0.25", ".png")
    (tmp_path / "images" / "inner" / "a.jpg").write_bytes(b"no picture")
    assert shown(pictures.of_fault(path, 1, "a")).size == (320, 240)
