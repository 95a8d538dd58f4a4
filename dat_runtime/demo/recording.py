"""The packaged frame, and what a gate and an MLLM said about it."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from dat_runtime.files import read_json
from dat_runtime.types import Box, Detection, Size

FRAME = Path(str(resources.files("dat_runtime.demo") / "frame.jpg"))
RECORDING = FRAME.with_name("recording.json")
WAITING = Path(str(resources.files("dat_runtime.demo") / "waiting.jsonl"))


@dataclass(frozen=True)
class Recording:
    """What was said about the packaged frame.

    Attributes:
        by: what the recording was made with, in words.
        frame: the size of the packaged frame.
        detections: of the gate.
        threshold: of the gate, τ_g.
        max_pixels: the limit at which the MLLM saw the frame.
        answer: of the MLLM, its boxes in pixels of the packaged frame.
    """

    by: str
    frame: Size
    detections: tuple[Detection, ...]
    threshold: float
    max_pixels: int
    answer: str


def read_recording() -> Recording:
    """The packaged recording."""
    value = read_json(RECORDING)
    width, height = value["frame"]
    frame = Size(width, height)
    detections = []
    for recorded in value["detections"]:
        x1, y1, x2, y2 = recorded["bbox"]
        box = Box(x1, y1, x2, y2, frame)
        detections.append(Detection(box, recorded["severity"], recorded["confidence"]))
    return Recording(
        by=value["by"],
        frame=frame,
        detections=tuple(detections),
        threshold=value["threshold"],
        max_pixels=value["max_pixels"],
        answer=value["answer"],
    )
