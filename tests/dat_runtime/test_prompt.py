"""Golden prompts: a changed character is a new PROMPT_VERSION, and nobody has to raise it."""

import runpy
from pathlib import Path

import pytest

import dat_runtime.prompt
from dat_runtime.family import QWEN2_5_VL
from dat_runtime.prompt import (
    PROMPT_VERSION,
    SYSTEM,
    detections_in,
    prompt_version,
    system_message,
    task_prompt,
)
from dat_runtime.types import Box, Detection, Size

FRAME = Size(640, 640)
SENT = Size(644, 644)
DETECTIONS = (
    Detection(Box(100, 220.4, 318, 402, FRAME), "severe", 0.914),
    Detection(Box(398, 180, 471, 240, FRAME), "moderate", 0.6),
)


def test_the_prompts_are_those_that_shipped_adapters_were_tuned_with() -> None:
    assert SYSTEM.startswith("You are a traffic accident analyst. Answer with one JSON object")
    assert PROMPT_VERSION == 254074097  # another number: all adapters have to be tuned again
    assert system_message(QWEN2_5_VL) == SYSTEM
    assert prompt_version(QWEN2_5_VL) == PROMPT_VERSION


def version_with(tmp_path: Path, old: str, new: str) -> int:
    """The version of a copy of the module in which a text stands for another."""
    source = Path(dat_runtime.prompt.__file__).read_text("utf-8")
    assert old in source
    copy = tmp_path / "changed.py"
    copy.write_text(source.replace(old, new), "utf-8")
    version: int = runpy.run_path(str(copy))["PROMPT_VERSION"]
    return version


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("traffic accident analyst", "road accident analyst"),
        ('"Image {frame.width} x', '"Picture {frame.width} x'),
        ("found no box.", "found nothing."),
        ("orange moderate", "amber moderate"),
        ('"magenta"', '"pink"'),
        ("confidence:.2f", "confidence:.1f"),
        ("d.box.to(frame).pixels()", "d.box.pixels()"),
        (", key=reading_order", ", key=lambda d: d.confidence"),
        ('"; ".join', '", ".join'),
        ("({', '.join(legend)})", "[{', '.join(legend)}]"),
    ],
)
def test_each_part_of_the_text_changes_the_version(tmp_path: Path, old: str, new: str) -> None:
    assert version_with(tmp_path, old, new) != PROMPT_VERSION


def test_a_comment_does_not_change_the_version(tmp_path: Path) -> None:
    assert version_with(tmp_path, "Boxes come in the order", "They come in") == PROMPT_VERSION


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


def test_of_boxes_with_and_without_a_severity_all_colours_are_told() -> None:
    mixed = (DETECTIONS[0], Detection(DETECTIONS[1].box, None, 0.6))
    assert task_prompt(SENT, mixed).startswith(
        "Image 644 x 644. Gate boxes (orange moderate, red severe, magenta): severe 0.91 ["
    )


def test_a_raw_image_and_a_boxed_one_without_box_differ() -> None:
    assert task_prompt(SENT, None) == "Image 644 x 644."
    assert task_prompt(SENT, ()) == "Image 644 x 644. The gate found no box."


@pytest.mark.parametrize(
    "detections", [None, (), DETECTIONS, (Detection(Box(1, 2, 9, 9, FRAME), None, 1.0),)]
)
def test_what_a_prompt_lists_is_read_back(detections: tuple[Detection, ...] | None) -> None:
    prompt = task_prompt(SENT, detections)
    found = detections_in("<image>" + prompt, SENT)
    assert len(found) == len(detections or ())
    if found:
        assert task_prompt(SENT, found) == prompt
