"""Single frames of an evaluation as HTML: the picture, both sets of boxes, the answer."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dat_runtime.schema import check, judge
from dat_runtime.types import Box
from eval.understanding.metrics import FAILED, OVERALL, Frame, Measures

PICTURE_WIDTH = 420
"""Pixels; pictures inlined in a page are shrunk to it."""
TEXT_LENGTH = 700


def ranked(measures: Measures) -> list[int]:
    """Frames from worst to best: failed, wrong severity, wrong count, little overlap."""
    boxes = np.bincount(measures.box_frame, minlength=len(measures))
    overlap = np.bincount(measures.box_frame, weights=measures.iou, minlength=len(measures))
    lost = np.where(boxes > 0, 1 - overlap / np.maximum(boxes, 1), 0)
    fault = (
        4.0 * (measures.severity == FAILED)
        + 2.0 * (measures.severity != measures.true_severity)
        + np.minimum(measures.count_error, 3) / 2
        + lost
    )
    return [int(i) for i in np.argsort(-fault, kind="stable")]


def case(frame: Frame, text: str | None, measures: Measures, index: int, folder: Path) -> str:
    """One frame: picture with true (white) and answered (dashed) boxes, verdict, answer."""
    overlaps = measures.iou[measures.box_frame == index]
    said = measures.severity[index]
    facts = [
        f"true: {OVERALL[measures.true_severity[index]]}, accidents: {len(frame.accidents)}",
        "answer failed" if said == FAILED else f"answer: {OVERALL[said]}",
    ]
    if len(overlaps):
        facts.append("IoU " + ", ".join(f"{v:.2f}" for v in overlaps))
    return (
        f'<article class="case"><h4>{html.escape(frame.image_id)}</h4>'
        f"{_picture(frame, text, folder)}<p>{html.escape(' · '.join(facts))}</p>"
        f"{quoted(text)}</article>"
    )


def failure(frame: Frame, text: str) -> str:
    """One answer that is not compliant: what is wrong, and the offending text."""
    problems = check(text, frame.size.width, frame.size.height).problems
    words = "; ".join(problems[:5]) + ("; …" if len(problems) > 5 else "")
    return (
        f'<article class="failure"><h4>{html.escape(frame.image_id)}</h4>'
        f"<p>{html.escape(words)}</p>{quoted(text)}</article>"
    )


def quoted(text: str | None) -> str:
    """The answer as harmless text, its end left off when it is long."""
    if text is None:
        return "<p><em>no answer</em></p>"
    rest = len(text) - TEXT_LENGTH
    more = f" … and {rest} more characters" if rest > 0 else ""
    return f"<pre>{html.escape(text[:TEXT_LENGTH])}{more}</pre>"


def _picture(frame: Frame, text: str | None, folder: Path) -> str:
    answer = None if text is None else judge(text, frame.size.width, frame.size.height).answer
    rectangles = [_rectangle(_corners(a.box), "true") for a in frame.accidents]
    for accident in answer["accidents"] if answer else []:
        rectangles.append(_rectangle(accident["bbox"], f"said {accident['severity']}"))
    return (
        f'<svg viewBox="0 0 {frame.size.width} {frame.size.height}" role="img" '
        f'aria-label="frame {html.escape(frame.image_id)} with true and answered boxes">'
        f"{_image(frame, folder)}{''.join(rectangles)}</svg>"
    )


def _corners(box: Box) -> tuple[float, ...]:
    return box.x1, box.y1, box.x2, box.y2


def _rectangle(box: Sequence[Any], kind: str) -> str:
    x1, y1, x2, y2 = (max(-(10**5), min(float(min(v, 10**5)), 10**5)) for v in box)
    return (
        f'<rect class="{kind}" x="{x1:g}" y="{y1:g}" '
        f'width="{max(0, x2 - x1):g}" height="{max(0, y2 - y1):g}"/>'
    )


def _image(frame: Frame, folder: Path) -> str:
    """The raw frame as the model saw it, inlined; a grey field where it is not there."""
    import cv2

    from dat_runtime.draw import encode_jpeg, resize
    from dat_runtime.types import Size

    path = folder / "images" / "raw" / "test" / f"{frame.image_id}.png"
    inside = path.resolve().is_relative_to(folder.resolve())
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR) if inside and path.is_file() else None
    if pixels is None:
        return f'<rect class="none" width="{frame.size.width}" height="{frame.size.height}"/>'
    height, width = pixels.shape[:2]
    if width > PICTURE_WIDTH:
        pixels = resize(pixels, Size(PICTURE_WIDTH, max(1, height * PICTURE_WIDTH // width)))
    data = base64.b64encode(encode_jpeg(pixels, 70)).decode("ascii")
    return (
        f'<image href="data:image/jpeg;base64,{data}" width="{frame.size.width}" '
        f'height="{frame.size.height}" preserveAspectRatio="none"/>'
    )
