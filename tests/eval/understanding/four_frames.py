"""Four frames and a row of answers: right, wrong in every way, without an answer, quiet."""

from pathlib import Path

from dat_runtime.answer import dump, target
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Severity, Size
from eval.understanding.metrics import Measures, measure

SIZE = Size(200, 100)


def accident(x: int, severity: Severity, side: int = 40) -> Accident:
    return Accident(Box(x, 10, x + side, 10 + side, SIZE), severity)


FRAMES = [
    Frame("right", "", SIZE, (accident(10, "severe"),)),
    Frame("wrong", "", SIZE, (accident(10, "moderate"), accident(150, "severe", 20))),
    Frame("<missing>", "", SIZE, (accident(10, "moderate"),)),
    Frame("quiet", "", SIZE, ()),
]

EVIL = '{"<b>": "</pre>"}'

TEXTS: list[str | None] = [
    dump(target([accident(10, "severe")])),
    dump(target([accident(20, "moderate")])),  # 1200 of 2000 pixels in common with the first
    None,
    EVIL,
]

QUIET: list[str | None] = [dump(target([])) for _ in FRAMES]


def measures(texts: list[str | None] = TEXTS, times: int = 1) -> Measures:
    """Of the frames, so many times over."""
    return measure(FRAMES * times, texts)


NOWHERE = Path("/nowhere")
