"""Frames of a video clip at an even rate, in the clip's own time, as fast as they decode.

Times and choice are those of a camera that plays the file (`dat_runtime.edge.cameras.video`), but
nobody waits for them.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import av.logging
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dat_runtime.draw import Image
from dat_runtime.edge.cameras.pace import Playback, Throttle
from dat_runtime.edge.cameras.wire import MAX_FRAME_PIXELS, is_too_large
from dat_runtime.errors import DataError

_FILE = {"protocol_whitelist": "file", "format_whitelist": "mov,matroska,avi"}
"""A file that only is named like a clip cannot make the reader fetch what it lists."""

_UNKNOWN_RATE = 25
"""Frames a second of a clip that does not state it, as for a camera."""


class ClipFrames:
    """The frames of a clip, to be gone through once.

    Attributes:
        damaged: packets and frames so far that could not be decoded; they are left out.
    """

    def __init__(self, path: Path, fps: float):
        self._path = path
        self._fps = fps
        self.damaged = 0

    def __iter__(self) -> Iterator[tuple[float, Image]]:
        """(seconds from the first frame, the BGR image) of `fps` frames a second.

        Raises:
            DataError: the file is no video, or gives no frame, or one that is too large.
        """
        playback, throttle, decoded = Playback(0.0), Throttle(self._fps), 0
        with self._opened() as container:
            if not container.streams.video:
                raise DataError("has no video in it", self._path)
            stream = container.streams.video[0]
            stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
            step = 1 / float(stream.average_rate or _UNKNOWN_RATE)
            for frame in self._decoded(container, stream):
                decoded += 1
                # No clock: whoever decodes slowly gets the same frames.
                at = playback.due(frame.time, step, now=-math.inf)
                if throttle.wants(at):
                    yield at, np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
        if not decoded:
            raise DataError("gives no frame: get the clip anew", self._path)

    def _opened(self) -> InputContainer:
        av.logging.set_level(av.logging.PANIC)  # its errors are told here
        try:
            return av.open(str(self._path), options=_FILE)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise DataError(f"is not a video that can be read ({error})", self._path) from None

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        for packet in self._packets(container, stream):
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError):
                self.damaged += 1
                continue
            for frame in frames:
                if not isinstance(frame, VideoFrame) or frame.is_corrupt:
                    self.damaged += 1
                elif is_too_large(frame.width, frame.height):
                    size = f"{frame.width} x {frame.height}"
                    raise DataError(f"frames of {size} pixels are too large", self._path)
                else:
                    yield frame

    def _packets(self, container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
        try:
            yield from container.demux(stream)
        except (av.error.FFmpegError, OSError, ValueError):
            self.damaged += 1  # damaged beyond recognition: this is its end
