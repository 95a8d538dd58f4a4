"""What a weak node asks instead of showing: a code or a small picture, and the prompt with it.

Both come from outside. Here they are only read as far as it takes to refuse what is no question;
what decodes them is a model's server, where an operator has named one (`finishing`).
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dat_runtime import chat
from dat_runtime.cloud.jpeg import jpeg_size
from dat_runtime.cloud.webp import webp_size
from dat_runtime.errors import OffloadError
from dat_runtime.offload import PATCH, unpack
from dat_runtime.prompt import SYSTEM, detections_in, task_prompt
from dat_runtime.types import Detection, Size

MOST_PIXELS = 12_845_056
"""As a bundle may state: the most that Qwen2.5-VL's own processor takes."""


@dataclass(frozen=True)
class Asked:
    """A question that can be asked.

    Attributes:
        kind: "code" or "question", a small picture.
        frame: the size of what the model sees; prompt and answer are in its pixels.
        detections: D⁺, as the prompt lists them.
    """

    kind: str
    content: bytes
    prompt: str
    frame: Size
    detections: tuple[Detection, ...]

    def body(self, model: str) -> dict[str, Any]:
        """The request that asks it, as `endpoint` takes it."""
        if self.kind == "code":
            return chat.code_request(model, self.content, SYSTEM, self.prompt)
        media = "webp" if self.content.startswith(b"RIFF") else "jpeg"
        return chat.request(model, self.content, SYSTEM, self.prompt, media)


def read_question(kind: str, content: bytes, told: Mapping[str, str]) -> Asked:
    """The question in an upload of kind "code" or "question".

    Args:
        told: what `Upload-Metadata` stated.

    Raises:
        ValueError: says in what it is none.
    """
    frame = _code_frame(content) if kind == "code" else _picture_size(content)
    # A megabyte may state a picture of 200 million pixels, which a server would make room for.
    if frame.pixels > MOST_PIXELS:
        raise ValueError(f"is of {frame.width} x {frame.height} pixels, more than a model sees")
    prompt = told["prompt"]
    detections = detections_in(prompt, frame)
    # Whatever else a node writes there would be read to the model as ours.
    if prompt not in (task_prompt(frame, detections), task_prompt(frame, None)):
        raise ValueError(
            f"has a prompt that is none of this release for {frame.width} x {frame.height} pixels"
        )
    return Asked(kind, content, prompt, frame, detections)


def _code_frame(content: bytes) -> Size:
    try:
        rows, columns = unpack(content).grid
    except OffloadError as error:
        raise ValueError(f"is refused: {error}") from None
    return Size(columns * PATCH, rows * PATCH)


def _picture_size(content: bytes) -> Size:
    if content.startswith(b"RIFF"):
        return webp_size(content)
    return jpeg_size(io.BytesIO(content))
