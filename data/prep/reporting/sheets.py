"""Contact sheets: pairs of frames of two splits that belong together, side by side."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dat_runtime.files import write_atomically
from data.prep.prepared.kept import Kept
from data.prep.splitting.leaks import KINDS, Link

_PAIRS = 12
"""Pairs on a sheet."""
_LISTED = 10_000
"""The most pairs in leaks.json: about a megabyte."""
_SIDE = 220
"""Side of a frame on a sheet, pixels."""
_CAPTION = 18
"""Height of a line of text, pixels."""
_COLUMNS = 2
_CAPTION_LETTERS = 36
"""About as many as fit above a frame in Pillow's default font."""
_PAPER, _INK = (250, 250, 248), (20, 20, 20)


def write_leaks(folder: Path, across: Sequence[Link], kept: Sequence[Kept]) -> None:
    """Write `leaks.json`, each frame's closest twin in another split, and `leaks/<kind>.jpg`.

    At most 10,000 pairs are listed.
    """
    rows = [_row(link, kept) for link in across[:_LISTED]]
    # Not `write_json`: people read and search one pair on each line, which it would spread out.
    content = "[\n" + ",\n".join(rows) + "\n]\n" if rows else "[]\n"
    write_atomically(folder / "leaks.json", content)
    for kind in KINDS:
        links = [link for link in across if link.kind == kind]
        if links:
            (folder / "leaks").mkdir(exist_ok=True)
            sheet = _contact_sheet(folder, _spread(links), kept)
            sheet.save(folder / "leaks" / f"{kind}.jpg", quality=80)


def _row(link: Link, kept: Sequence[Kept]) -> str:
    pair = kept[link.first], kept[link.second]
    names = [f"{frame.split}/{frame.id}" for frame in pair]
    return json.dumps({"kind": link.kind, "bits": link.distance, "frames": names})


def _spread(links: Sequence[Link]) -> list[Link]:
    """Up to twelve, from the nearest to the farthest: the farthest show if the radius is right."""
    if len(links) <= _PAIRS:
        return list(links)
    step = (len(links) - 1) / (_PAIRS - 1)
    return [links[round(i * step)] for i in range(_PAIRS)]


def _contact_sheet(folder: Path, links: Sequence[Link], kept: Sequence[Kept]) -> Image.Image:
    """The pairs, two to a row, each frame under its split and name."""
    width = 2 * _SIDE + 12
    height = _SIDE + 2 * _CAPTION + 10
    rows = math.ceil(len(links) / _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * width, rows * height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.font = ImageFont.load_default()
    for number, link in enumerate(links):
        row, column = divmod(number, _COLUMNS)
        x = column * width + 4
        y = row * height + 4
        draw.text((x, y), f"{link.kind}, {link.distance} of 256 bits differ", _INK)
        for left, index in ((x, link.first), (x + _SIDE + 2, link.second)):
            frame = kept[index]
            caption = f"{frame.split}: {frame.id}"[:_CAPTION_LETTERS]
            draw.text((left, y + _CAPTION), caption, _INK)
            sheet.paste(_thumbnail(folder / frame.image), (left, y + 2 * _CAPTION))
    return sheet


def _thumbnail(path: Path) -> Image.Image:
    """The picture stretched to a square."""
    with Image.open(path) as image:
        image.draft("RGB", (_SIDE, _SIDE))  # the JPEG decoder scales, which is faster
        return image.convert("RGB").resize((_SIDE, _SIDE))
