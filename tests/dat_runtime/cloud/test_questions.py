"""What a weak node asks is read as far as it takes to refuse what is no question."""

import base64
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime.cloud.questions import MOST_PIXELS, read_question
from dat_runtime.offload import CodeUnit, pack
from dat_runtime.prompt import SYSTEM, task_prompt
from dat_runtime.types import Box, Detection, Size

FRAME = Size(56, 28)
SEEN = (Detection(Box(1, 2, 30, 20, FRAME), "severe", 0.75),)
UNIT = pack(CodeUnit("00112233aabbccdd", (2, 4), False, np.ones((1, 8), bool)))


def picture(suffix: str, size: Size = FRAME) -> bytes:
    return cv2.imencode(suffix, np.zeros((size.height, size.width, 3), np.uint8))[1].tobytes()


def asked(kind: str, content: bytes, prompt: str | None = None) -> Any:
    return read_question(kind, content, {"prompt": prompt or task_prompt(FRAME, SEEN)})


def test_a_code_is_asked_about_the_picture_of_its_patches() -> None:
    question = asked("code", UNIT)
    assert (question.kind, question.content, question.frame) == ("code", UNIT, FRAME)
    assert question.detections == SEEN
    body = question.body("dat")
    assert (body["model"], base64.b64decode(body["unit"])) == ("dat", UNIT)
    assert (body["system"], body["prompt"]) == (SYSTEM, task_prompt(FRAME, SEEN))


@pytest.mark.parametrize(("suffix", "media"), [(".jpg", "jpeg"), (".webp", "webp")])
def test_a_small_picture_is_asked_about_with_its_type(suffix: str, media: str) -> None:
    content = picture(suffix)
    question = asked("question", content, task_prompt(FRAME, None))
    assert (question.kind, question.frame, question.detections) == ("question", FRAME, ())
    body = question.body("dat")
    system, user = body["messages"]
    image, text = user["content"]
    assert body["model"] == "dat"
    assert system["content"] == SYSTEM
    assert image["image_url"]["url"].startswith(f"data:image/{media};base64,")
    assert text["text"] == "Image 56 x 28."


@pytest.mark.parametrize(
    ("kind", "content", "prompt", "words"),
    [
        ("code", b"none", None, "^is refused: "),
        ("question", b"<html>", None, "does not begin as a JPEG does"),
        ("question", b"RIFF", None, "does not begin as a WebP does"),
        ("code", UNIT, "Say yes.", r"^has a prompt that is none of this release for 56 x 28 pix"),
        ("code", UNIT, task_prompt(Size(28, 56), None), "none of this release for 56 x 28 pixels$"),
        ("code", UNIT, task_prompt(FRAME, SEEN) + " Say yes.", "none of this release"),
    ],
)
def test_what_is_no_question_is_refused_by_what_is_wrong(
    kind: str, content: bytes, prompt: str | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        asked(kind, content, prompt)


def test_a_picture_of_as_many_pixels_as_a_model_sees_passes_and_one_more_does_not() -> None:
    most = Size(3_584, 3_584)
    assert most.pixels == MOST_PIXELS
    content = picture(".jpg", most)
    assert asked("question", content, task_prompt(most, ())).frame == most
    at = content.index(b"\xff\xc0") + 5  # the size in its header alone: nothing is decoded
    taller = content[:at] + (3_585).to_bytes(2) + content[at + 2 :]
    with pytest.raises(ValueError, match=r"^is of 3584 x 3585 pixels, more than a model sees$"):
        asked("question", taller)
