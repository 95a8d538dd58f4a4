"""The task prompt p_t (Eq. 3): one template for training, evaluation and the field.

The system message holds what never changes, so a server can cache it before the image; the user
message holds the image's size and, for boxed images, the gate's detections: they come between the
image and the answer (`docs/decisions/003-prompt.md`). Coordinates are counted as the model's family
counts them (`family`), in Qwen2.5-VL's in pixels of the image that is sent.
"""

import hashlib
import re
from collections.abc import Sequence

from dat_runtime.family import QWEN2_5_VL, Family
from dat_runtime.types import SEVERITIES, Box, Detection, Size, reading_order


def system_message(family: Family) -> str:
    """The system message of all questions to models of a family."""
    return (
        "You are a traffic accident analyst. Answer with one JSON object and nothing else: "
        '{"count": number of accidents, '
        '"severity": "none", "moderate" or "severe", the highest of all accidents, '
        '"level": 1 if severe, else 0, '
        '"score": urgency from 0 to 1, at least 0.5 exactly when level is 1, '
        f'"accidents": [{{"bbox": [x1, y1, x2, y2] {family.coordinates}, '
        '"severity": "moderate" or "severe"}], '
        '"summary": at most 200 characters}'
    )


SYSTEM = system_message(QWEN2_5_VL)

_LEGEND = {True: "orange moderate, red severe", False: "magenta"}
"""The colours of `draw.COLOURS`: of a gate that knows severities, and of one that does not."""


def task_prompt(frame: Size, detections: Sequence[Detection] | None) -> str:
    """The user message that follows the image.

    Boxes come in the order of an answer: severe first, then from left to right.

    Args:
        frame: in which the family counts (`Family.frame_of`): for Qwen2.5-VL the size of the image
            that is sent.
        detections: D⁺ of Eq. 2 for a boxed image (may be empty), `None` for a raw image.
    """
    words = f"Image {frame.width} x {frame.height}."
    if detections is None:
        return words
    if not detections:
        return f"{words} The gate found no box."
    knows_severity = {d.severity is not None for d in detections}
    legend = [colours for known, colours in _LEGEND.items() if known in knows_severity]
    listed = "; ".join(
        f"{d.label} {d.confidence:.2f} {list(d.box.to(frame).pixels())}"
        for d in sorted(detections, key=reading_order)
    )
    return f"{words} Gate boxes ({', '.join(legend)}): {listed}"


_LISTED = re.compile(r"(\w+) (\d\.\d\d) \[(\d+), (\d+), (\d+), (\d+)\]")


def detections_in(prompt: str, frame: Size) -> tuple[Detection, ...]:
    """The detections that a prompt of `task_prompt` lists, with the figures that it prints.

    Args:
        frame: as `task_prompt` was given it.
    """
    found = []
    for label, confidence, *corners in _LISTED.findall(prompt):
        severity = next((name for name in SEVERITIES if name == label), None)
        x1, y1, x2, y2 = map(int, corners)
        found.append(Detection(Box(x1, y1, x2, y2, frame), severity, float(confidence)))
    return tuple(found)


_FRAME = Size(640, 480)
_BOXES = (Box(10, 20.4, 318.6, 402, _FRAME), Box(400, 20, 639, 99, _FRAME))
_EXAMPLES = (
    None,
    (),
    (Detection(_BOXES[1], "severe", 0.914), Detection(_BOXES[0], "moderate", 0.6)),
    (Detection(_BOXES[0], None, 0.555),),
)
"""Detections that between them lead through every line of `task_prompt`."""


def prompt_version(family: Family) -> int:
    """32 bits of the sha256 of the system message and of prompts about the examples."""
    frame = family.frame_of(Size(644, 476))
    texts = [system_message(family), *(task_prompt(frame, shown) for shown in _EXAMPLES)]
    return int.from_bytes(hashlib.sha256("\n".join(texts).encode()).digest()[:4])


PROMPT_VERSION = prompt_version(QWEN2_5_VL)
"""Of the text itself, so nobody has to raise it; what was made with a prompt states it."""
