"""Golden prompts: a changed character is a new PROMPT_VERSION."""

import hashlib

from dat_runtime.prompt import PROMPT_VERSION, SYSTEM, task_prompt
from dat_runtime.types import Box, Detection, Size

FRAME = Size(640, 640)
SENT = Size(644, 644)
DETECTIONS = (
    Detection(Box(100, 220.4, 318, 402, FRAME), "severe", 0.914),
    Detection(Box(398, 180, 471, 240, FRAME), "moderate", 0.6),
)


def test_the_prompts_are_those_of_version_1() -> None:
    assert PROMPT_VERSION == 1
    digest = hashlib.sha256(SYSTEM.encode()).hexdigest()
    assert digest == "2e1dfa731bf2d7cba033faf147a59c2d918a404358dc0f1f90ad359ff55dcff7"
    assert SYSTEM.startswith("You are a traffic accident analyst. Answer with one JSON object")


def test_a_boxed_image_is_described_in_pixels_of_the_image_that_is_sent() -> None:
    assert task_prompt(SENT, DETECTIONS) == (
        "Image 644 x 644. Gate boxes (orange moderate, red severe): "
        "severe 0.91 [101, 222, 320, 405]; moderate 0.60 [400, 181, 474, 242]"
    )


def test_boxes_are_listed_in_the_order_of_an_answer() -> None:
    assert task_prompt(SENT, DETECTIONS[::-1]) == task_prompt(SENT, DETECTIONS)


def test_a_gate_of_one_class_tells_boxes_without_a_severity() -> None:
    accidents = [Detection(d.box, None, d.confidence) for d in DETECTIONS]
    assert task_prompt(SENT, accidents) == (
        "Image 644 x 644. Gate boxes (magenta): "
        "accident 0.91 [101, 222, 320, 405]; accident 0.60 [400, 181, 474, 242]"
    )


def test_a_raw_image_and_a_boxed_one_without_box_differ() -> None:
    assert task_prompt(SENT, None) == "Image 644 x 644."
    assert task_prompt(SENT, ()) == "Image 644 x 644. The gate found no box."
