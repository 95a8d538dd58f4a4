"""Pictures of the report, small and with their boxes, inside the file."""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

from PIL import Image, ImageDraw

from dat_runtime.types import Accident
from data.prep.importers.source_frame import SUFFIXES
from data.prep.pictures.decode import UnreadableImage, read_picture
from data.prep.prepared.kept import Kept
from data.prep.reporting import charts

SIDE = 320
"""The longer side of a shown picture, pixels."""
_CAPTION_LETTERS = 300
"""File names and fault details come from the source and may be of any length."""
_ROW_COLOUR = "#ff00c8"
_QUALITY = 70


def folded(title: str, content: str) -> str:
    """A sheet that is closed until it is opened; no sheet where there is no content."""
    if not content:
        return ""
    return f'<details><summary>{title}</summary><div class="sheet">{content}</div></details>'


def grid(figures: Iterable[str]) -> str:
    content = "".join(figures)
    return f'<div class="grid">{content}</div>' if content else ""


def pairs(content: Iterable[str]) -> str:
    joined = "".join(content)
    return f'<div class="pairs">{joined}</div>' if joined else ""


def pair(words: str, first: str, second: str) -> str:
    """Two figures side by side, also on a phone, under what they have in common."""
    return f'<div class="pair"><p>{escape(words)}</p><div>{first}{second}</div></div>'


def figure(image: Image.Image, caption: str, name: str = "") -> str:
    """A picture above its caption and the name of its frame or file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode()
    told = f"<b>{_shown(caption)}</b><br>{_shown(name)}" if name else _shown(caption)
    picture = f'<img loading="lazy" alt="{_shown(caption)}" src="data:image/jpeg;base64,{data}">'
    return f"<figure>{picture}<figcaption>{told}</figcaption></figure>"


def _shown(text: str) -> str:
    return escape(text[:_CAPTION_LETTERS])


def without_picture(caption: str) -> str:
    return f"<figure><figcaption>{_shown(caption)}</figcaption></figure>"


def of_set(folder: Path, frame: Kept, place: str = "") -> str:
    """A frame of the set with its boxes."""
    with Image.open(folder / frame.image) as image:
        image.thumbnail((SIDE, SIDE), reducing_gap=1.0)  # mostly by the JPEG decoder, which is fast
        image = image.convert("RGB")
    return _with_boxes(image, frame.accidents, f"{place}{said(frame.accidents)}", frame.id)


def of_source(frame: Kept, caption: str) -> str:
    """A frame of the source with its boxes: for those that are no part of the set."""
    image = read_picture(frame.source.path).rgb
    return _with_boxes(image, frame.accidents, caption, frame.source.file)


def said(accidents: Sequence[Accident]) -> str:
    """The severities of a frame's boxes, in words."""
    return ", ".join(accident.severity for accident in accidents) or "no box"


def _with_boxes(image: Image.Image, accidents: Iterable[Accident], caption: str, name: str) -> str:
    image.thumbnail((SIDE, SIDE), reducing_gap=1.0)  # by whole pixels first, which is fast
    draw = ImageDraw.Draw(image)
    for accident in accidents:
        box = accident.box
        left, top = box.x1 * image.width, box.y1 * image.height
        # Pillow's rectangle includes its right and bottom edge, a box does not.
        right, bottom = box.x2 * image.width - 1, box.y2 * image.height - 1
        colour = charts.COLOURS[accident.severity]
        draw.rectangle((left, top, right, bottom), outline=colour, width=4)
    return figure(image, caption, name)


def of_fault(path: Path, line: int | None, caption: str) -> str:
    """A fault in words, with its picture if there is one, and a faulty row drawn on it."""
    image = next(_pictures_of(path), None)
    if image is None:
        return without_picture(caption)
    image.thumbnail((SIDE, SIDE))
    if path.suffix == ".txt" and line:
        _draw_row(image, path, line)
    return figure(image, caption)


def _pictures_of(path: Path) -> Iterator[Image.Image]:
    """The picture that a fault is about: its file, or the image of its YOLO label file."""
    candidates = [path]
    if "labels" in path.parts and path.suffix == ".txt":
        images = Path(*("images" if part == "labels" else part for part in path.parent.parts))
        candidates = [images / (path.stem + suffix) for suffix in sorted(SUFFIXES)]
    for candidate in candidates:
        if candidate.suffix.lower() in SUFFIXES and candidate.is_file():
            try:
                yield read_picture(candidate).rgb
            except UnreadableImage:
                continue


def _draw_row(image: Image.Image, path: Path, line: int) -> None:
    """Draw the box or polygon of one row of a YOLO label file, if it can be drawn.

    The row is read again here, leniently: the importer keeps only repaired boxes.
    """
    rows = path.read_text("utf-8-sig", errors="replace").split("\n")
    try:
        _, *values = (float(field) for field in rows[line - 1].split())
    except (ValueError, IndexError):
        return
    if len(values) == 4:
        x, y, width, height = values
        left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        values = [left, top, right, top, right, bottom, left, bottom]
    # Points more than ten frames away were not meant as fractions of this frame.
    if len(values) >= 6 and len(values) % 2 == 0 and max(map(abs, values)) < 10:
        points = [
            (x * image.width, y * image.height)
            for x, y in zip(values[::2], values[1::2], strict=True)
        ]
        ImageDraw.Draw(image).line([*points, points[0]], fill=_ROW_COLOUR, width=3)
