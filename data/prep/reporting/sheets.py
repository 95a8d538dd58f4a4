"""Contact sheets: pairs of frames of two splits that belong together, side by side."""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from data.prep.splitting.leaks import KINDS, Link

PAIRS = 12
_LISTED = 10_000
_SIDE = 220
_CAPTION = 18
_COLUMNS = 2
_PAPER, _INK = (250, 250, 248), (20, 20, 20)


def write_leaks(folder: Path, across: Sequence[Link], frames: Sequence[tuple[str, str]]) -> None:
    """`leaks.json`, each frame's closest twin in another split, and `leaks/<kind>.jpg`.

    At most 10,000 pairs are listed. `frames` gives split and id of each frame.
    """
    rows = [
        {
            "kind": link.kind,
            "bits": link.distance,
            "frames": ["/".join(frames[link.first]), "/".join(frames[link.second])],
        }
        for link in across[:_LISTED]
    ]
    lines = ",\n".join(json.dumps(row) for row in rows)
    (folder / "leaks.json").write_text(f"[\n{lines}\n]\n" if rows else "[]\n")
    for kind in KINDS:
        of_kind = [link for link in across if link.kind == kind]
        if of_kind:
            (folder / "leaks").mkdir(exist_ok=True)
            sheet = contact_sheet(folder, _spread(of_kind), frames)
            sheet.save(folder / "leaks" / f"{kind}.jpg", quality=80)


def _spread(links: Sequence[Link]) -> list[Link]:
    """A dozen from the nearest to the farthest: the farthest show whether the radius is right."""
    if len(links) <= PAIRS:
        return list(links)
    return [links[round(i * (len(links) - 1) / (PAIRS - 1))] for i in range(PAIRS)]


def contact_sheet(
    folder: Path, links: Sequence[Link], frames: Sequence[tuple[str, str]]
) -> Image.Image:
    """The pairs, two to a row, each frame under its split and name."""
    width, height = 2 * _SIDE + 12, _SIDE + 2 * _CAPTION + 10
    rows = -(-len(links) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * width, rows * height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.font = ImageFont.load_default()
    for n, link in enumerate(links):
        x, y = n % _COLUMNS * width + 4, n // _COLUMNS * height + 4
        draw.text((x, y), f"{link.kind}, {link.distance} of 256 bits differ", _INK)
        for k, frame in enumerate((link.first, link.second)):
            split, name = frames[frame]
            left = x + k * (_SIDE + 2)
            with Image.open(folder / "images" / split / f"{name}.jpg") as image:
                image.draft("RGB", (_SIDE, _SIDE))
                sheet.paste(image.convert("RGB").resize((_SIDE, _SIDE)), (left, y + 2 * _CAPTION))
            draw.text((left, y + _CAPTION), f"{split}: {name}"[:36], _INK)
    return sheet
