"""Rendered scenes as the cameras of a demo: stills with known accidents, and videos of them."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from dat_runtime.draw import Image, resize, size_of
from dat_runtime.edge.source import read_frame
from dat_runtime.errors import DataError
from dat_runtime.types import SEVERITIES, Accident, Box, Size

FPS = 5
SECONDS_EACH = 4
"""For which a video shows a still."""

_SIDE = 16
"""Of the grey thumbnail by which a picture is known again."""

_NEAREST = 12.0
"""Mean difference of grey values up to which two thumbnails show one still. Drawn boxes and a
video's losses stay below 6; different stills differ by 20 and more."""

_UNIT = Size(1, 1)


@dataclass(frozen=True)
class Still:
    """A rendered frame, and the accidents in it; boxes in shares of its sides."""

    image: Image
    accidents: tuple[Accident, ...]


def render(folder: Path, cameras: int) -> list[list[Still]]:
    """The stills of each camera, as `data.prep.scenes` renders them: quiet, accident, in turn.

    Raises:
        DataError: nothing was rendered.
    """
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "data.prep.scenes",
            "--out",
            str(folder),
            "--val",
            "1",
            "--test",
            "1",
            "--train",
            str(3 * cameras),
            "--negatives",
            str(3 * cameras),
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise DataError(f"the scenes cannot be rendered: {done.stderr.strip()[-300:]}", folder)
    frames = sorted((folder / "accidents-detection/train/images").glob("*.jpg"))
    quiet = sorted(folder.glob("*/data/*/Non Accident/*.jpg"))
    stills = [Still(read_frame(frame), _accidents(frame)) for frame in frames]
    stills = [still for still in stills if still.accidents]
    pauses = [Still(read_frame(frame), ()) for frame in quiet]
    turns = []
    for camera in range(cameras):
        shown = []
        for accident, pause in zip(stills[camera::cameras], pauses[camera::cameras], strict=False):
            # Half of the cameras begin in the middle of an accident.
            shown += [pause, accident] if camera % 2 else [accident, pause]
        turns.append(shown)
    return turns


def _accidents(frame: Path) -> tuple[Accident, ...]:
    """What the label file beside a rendered frame says: rows of `class cx cy w h`."""
    label = frame.parent.parent / "labels" / f"{frame.stem}.txt"
    found = []
    for row in label.read_text("utf-8").splitlines():
        class_id, cx, cy, width, height = row.split()
        x, y, half_width, half_height = float(cx), float(cy), float(width) / 2, float(height) / 2
        box = Box(x - half_width, y - half_height, x + half_width, y + half_height, _UNIT)
        found.append(Accident(box, SEVERITIES[int(class_id)]))
    return tuple(found)


def write_video(path: Path, stills: Sequence[Still], rng: np.random.Generator) -> None:
    """A video that shows the stills one after the other, with a sensor's noise."""
    size = size_of(stills[0].image)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
        for still in stills:
            image = resize(still.image, size).astype(np.int16)
            for _ in range(FPS * SECONDS_EACH):
                noise = rng.integers(-3, 4, (*image.shape[:2], 1), np.int16)
                frame = np.clip(image + noise, 0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode())


class Album:
    """Knows which still a picture shows, however it was resized, packed or drawn into."""

    def __init__(self, stills: Sequence[Still]):
        self._stills = list(stills)
        self._looks = np.stack([_look(still.image) for still in stills])

    def accidents(self, image: Image) -> tuple[Accident, ...]:
        """Of the still that the picture shows; none of one that is not known."""
        differences = np.abs(self._looks - _look(image)).mean(axis=(1, 2))
        nearest = int(differences.argmin())
        return self._stills[nearest].accidents if differences[nearest] <= _NEAREST else ()


def _look(image: Image) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
