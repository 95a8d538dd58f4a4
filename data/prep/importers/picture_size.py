"""The size of the picture that a label is about; labelling tools also write none, or 0."""

from pathlib import Path

from dat_runtime.fields import is_finite
from dat_runtime.types import Size
from data.prep.pictures.decode import UnreadableImage, header_size


def stated_or_own(
    stated: tuple[object, object], path: Path
) -> tuple[Size | None, list[tuple[str, str]]]:
    """The size that a label states, else the picture's own, with (kind, detail) of the faults.

    None where the label states none and the picture has none either.
    """
    size = _size(stated)
    if size is not None:
        return size, []
    try:
        own = header_size(path)
    except UnreadableImage as error:
        return None, [(error.kind, error.detail)]
    says = f"{stated[0]!r:.20} x {stated[1]!r:.20}"
    detail = f"states {says}, the picture is {own.width} x {own.height}"
    return own, [("no-size", detail)]


def _size(stated: tuple[object, object]) -> Size | None:
    """A stated size of whole, positive pixels: `640`, `640.0` or `"640"`."""
    sides = []
    for value in stated:
        try:
            number = float(value) if isinstance(value, (int, float, str)) else 0.0
        except (ValueError, OverflowError):
            return None
        if not is_finite(number) or number < 1 or number != int(number):
            return None
        sides.append(int(number))
    return Size(*sides)
