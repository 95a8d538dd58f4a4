"""Single frames of an evaluation as HTML: the picture, both sets of boxes, the answer."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dat_runtime.schema import check, judge
from dat_runtime.truth import Frame
from dat_runtime.types import Size
from eval.understanding.metrics import FAILED, OVERALL, Measures
from eval.understanding.pictures import picture_of

PICTURE_WIDTH = 420
"""Pixels; pictures inlined in a page are shrunk to it."""
JPEG_QUALITY = 70
TEXT_LENGTH = 700
"""Characters of an answer that are shown."""
PROBLEMS = 5
"""Problems of an answer that are named."""
_FAR = 10**5
"""Coordinates in a drawing are clipped to it: an answer may hold any number."""


def ranked(measures: Measures) -> list[int]:
    """Frames from worst to best: failed, wrong severity, wrong count, little overlap."""
    n = len(measures)
    boxes = np.bincount(measures.box_frame, minlength=n)
    overlap = np.bincount(measures.box_frame, weights=measures.iou, minlength=n)
    lost_overlap = np.where(boxes > 0, 1 - overlap / np.maximum(boxes, 1), 0)
    # At most 4, 2, 3 / 2 and 1, in this order of weight.
    fault = (
        4.0 * (measures.severity == FAILED)
        + 2.0 * (measures.severity != measures.true_severity)
        + np.minimum(measures.count_error, 3) / 2
        + lost_overlap
    )
    return [int(i) for i in np.argsort(-fault, kind="stable")]


def case(frame: Frame, text: str | None, measures: Measures, index: int, folder: Path) -> str:
    """One frame: picture with true (white) and answered (dashed) boxes, verdict, answer.

    Args:
        index: the frame's place in `measures`.
        folder: the instructions.
    """
    overlaps = measures.iou[measures.box_frame == index]
    true_severity, severity = measures.true_severity[index], measures.severity[index]
    facts = [f"true: {OVERALL[true_severity]}, accidents: {len(frame.accidents)}"]
    if severity == FAILED:
        facts.append("answer failed")
    else:
        facts.append(f"answer: {OVERALL[severity]}")
    if len(overlaps):
        facts.append("IoU " + ", ".join(f"{overlap:.2f}" for overlap in overlaps))
    return (
        f'<article class="case"><h4>{html.escape(frame.image_id)}</h4>'
        f"{_picture(frame, text, folder)}<p>{html.escape(' · '.join(facts))}</p>"
        f"{quoted(text)}</article>"
    )


def failure(frame: Frame, text: str) -> str:
    """One answer that is not compliant: what is wrong, and the offending text."""
    problems = check(text, frame.size.width, frame.size.height).problems
    words = "; ".join(problems[:PROBLEMS])
    if len(problems) > PROBLEMS:
        words += "; …"
    return (
        f'<article class="failure"><h4>{html.escape(frame.image_id)}</h4>'
        f"<p>{html.escape(words)}</p>{quoted(text)}</article>"
    )


def quoted(text: str | None) -> str:
    """The answer as harmless text, its end left off when it is long."""
    if text is None:
        return "<p><em>no answer</em></p>"
    shown = html.escape(text[:TEXT_LENGTH])
    rest = len(text) - TEXT_LENGTH
    if rest > 0:
        shown += f" … and {rest} more characters"
    return f"<pre>{shown}</pre>"


def _picture(frame: Frame, text: str | None, folder: Path) -> str:
    rectangles = []
    for accident in frame.accidents:
        rectangles.append(_rectangle(accident.box[:4], "true"))
    for stated in _stated_accidents(frame, text):
        rectangles.append(_rectangle(stated["bbox"], f"said {stated['severity']}"))
    return (
        f'<svg viewBox="0 0 {frame.size.width} {frame.size.height}" role="img" '
        f'aria-label="frame {html.escape(frame.image_id)} with true and answered boxes">'
        f"{_image(frame, folder)}{''.join(rectangles)}</svg>"
    )


def _stated_accidents(frame: Frame, text: str | None) -> list[dict[str, Any]]:
    """The accidents of an answer that meets the schema; its boxes may lie anywhere."""
    if text is None:
        return []
    answer = judge(text, frame.size.width, frame.size.height).answer
    return answer["accidents"] if answer else []


def _rectangle(bbox: Sequence[float], kind: str) -> str:
    # Clipped before it becomes a float: an integer of a thousand digits has none.
    x1, y1, x2, y2 = (float(max(-_FAR, min(value, _FAR))) for value in bbox)
    return (
        f'<rect class="{kind}" x="{x1:g}" y="{y1:g}" '
        f'width="{max(0, x2 - x1):g}" height="{max(0, y2 - y1):g}"/>'
    )


def _image(frame: Frame, folder: Path) -> str:
    """The raw frame as the model saw it, inlined; a grey field where it is not there."""
    import cv2

    from dat_runtime.draw import encode_jpeg, resize

    path = picture_of(frame, folder)
    pixels = None if path is None else cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        return f'<rect class="none" width="{frame.size.width}" height="{frame.size.height}"/>'
    height, width = pixels.shape[:2]
    if width > PICTURE_WIDTH:
        pixels = resize(pixels, Size(PICTURE_WIDTH, max(1, height * PICTURE_WIDTH // width)))
    data = base64.b64encode(encode_jpeg(pixels, JPEG_QUALITY)).decode("ascii")
    return (
        f'<image href="data:image/jpeg;base64,{data}" width="{frame.size.width}" '
        f'height="{frame.size.height}" preserveAspectRatio="none"/>'
    )
