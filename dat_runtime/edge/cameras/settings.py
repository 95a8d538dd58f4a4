"""What a camera is, and what it gives."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # a camera's process reads video without OpenCV and NumPy
    from dat_runtime.draw import Image

Kind = Literal["stream", "webcam", "folder", "file"]

STREAMS = ("rtsp://", "rtsps://", "http://", "https://")
MAX_FPS = 1000.0
MAX_SOURCE = 4096
_WEBCAM = re.compile(r"/dev/video\d+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True)
class CameraSettings:
    """One camera of a node.

    Attributes:
        name: of the camera, unique at its node.
        source: an `rtsp://`, `rtsps://`, `http://` or `https://` address, a webcam such as
            `/dev/video0`, a video file, or a folder of JPEG and PNG pictures. An address may hold
            `user:password@`, so it is never shown, logged or counted, here or elsewhere.
        fps: how many frames a second are wanted; a source that has more is thinned out, and the
            pictures of a folder follow each other at this rate.
        loop: whether a file or folder starts again at its end.

    Raises:
        ValueError: the source is of no such kind, or `fps` is no rate.
    """

    name: str
    source: str
    fps: float
    loop: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and 0 < self.fps <= MAX_FPS):
            raise ValueError(f"fps is above 0, at most {MAX_FPS:g}, got {self.fps}")
        scheme = _SCHEME.match(self.source)
        if scheme and not self.source.startswith(STREAMS):
            # Only the scheme is shown: what follows may hold a password.
            raise ValueError(f"no source begins with {scheme[0]} (known: {', '.join(STREAMS)})")
        if not 1 <= len(self.source) <= MAX_SOURCE or not self.source.isprintable():
            raise ValueError("a source is an address, a webcam, a video file or a folder")

    @property
    def kind(self) -> Kind:
        """What the source is; a file that is not there may come yet."""
        return kind_of(self.source)

    def __repr__(self) -> str:
        return f"CameraSettings(name={self.name!r}, source=..., fps={self.fps}, loop={self.loop})"


def kind_of(source: str) -> Kind:
    if source.startswith(STREAMS):
        return "stream"
    if _WEBCAM.fullmatch(source):
        return "webcam"
    return "folder" if Path(source).is_dir() else "file"


@dataclass(frozen=True)
class CameraFrame:
    """One frame of a camera.

    Attributes:
        camera: its name.
        image: uint8 BGR of shape (height, width, 3); nobody else holds it.
        captured_at: seconds since 1970 by the node's clock, when the frame came or was due.
        taken: the same moment by `time.monotonic`.
    """

    camera: str
    image: "Image"
    captured_at: float
    taken: float
