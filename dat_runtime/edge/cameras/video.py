"""Video as a camera, by PyAV. Runs in the camera's process, the only place that imports it."""

import errno
import time
from collections.abc import Iterator

import av
import av.error
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from dat_runtime.edge.cameras.mailbox import Mailbox, SourceError
from dat_runtime.edge.cameras.pace import CatchUp, Playback, Throttle
from dat_runtime.edge.cameras.wire import MAX_FRAME_PIXELS, Word, is_too_large

_FILE = {
    "protocol_whitelist": "file",
    # What holds video, and no lists of other files and addresses.
    "format_whitelist": "mov,matroska,avi,mpegts,mpeg,flv,asf,h264,hevc,mjpeg,m4v,mxf,nut,ogg,dhav",
}
"""A file that only is named like a video cannot make the node fetch what it lists."""

_STREAM = {
    # Nor can a camera make the node read its own files.
    "protocol_whitelist": "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https,httpproxy,crypto",
    # Lost packets of UDP would smear pictures, and few networks let it through.
    "rtsp_transport": "tcp",
}

_UNKNOWN_RATE = 25
"""Frames a second of a file that does not state it."""


def play(path: str, fps: float, loop: bool, mailbox: Mailbox) -> None:
    """Show a video file in its own time, `fps` frames a second of it.

    Raises:
        SourceError: it cannot be opened or read, or gives no frame.
    """
    playback, throttle, convert = Playback(time.monotonic()), Throttle(fps), Converter()
    while True:
        shown = 0
        with _opened(path, None, _FILE) as container:
            stream = _video_of(container)
            step = 1 / float(stream.average_rate or _UNKNOWN_RATE)
            for packet in _packets(container, stream):
                for frame in _frames(packet, mailbox):
                    due = playback.due(frame.time, step, time.monotonic())
                    if throttle.wants(due):
                        mailbox.wait_until(due)
                        convert.show(frame, mailbox)
                        shown += 1
                    else:
                        mailbox.alive()
        if not shown:
            raise SourceError(Word.NO_FRAME)
        if not loop:
            return


def follow(source: str, fps: float, webcam: bool, mailbox: Mailbox) -> None:
    """Show a live stream or a webcam, `fps` frames a second of it, always the newest.

    Raises:
        SourceError: when it ends, for whatever reason.
    """
    with _opened(source, "v4l2" if webcam else None, {} if webcam else _STREAM) as container:
        stream = _video_of(container)
        throttle, convert = Throttle(fps), Converter()
        # Where every packet is a picture, as in motion JPEG, the others need not be decoded; one a
        # second is, as a sign of life.
        looks = Throttle(max(fps, 1.0)) if stream.codec_context.codec.intra_only else None
        for packet in _newest(_packets(container, stream), mailbox):
            now = time.monotonic()
            if looks is not None and not looks.wants(now):
                continue
            for frame in _frames(packet, mailbox):
                if throttle.wants(now):
                    convert.show(frame, mailbox)
                else:
                    mailbox.alive()
    raise SourceError(Word.STREAM_ENDED)


def _newest(packets: Iterator[Packet], mailbox: Mailbox) -> Iterator[Packet]:
    """The packets, without those that would only be late."""
    catch_up = CatchUp(time.monotonic())
    while True:
        asked_at = time.monotonic()
        packet = next(packets, None)
        if packet is None:
            return
        if catch_up.skips(asked_at, time.monotonic(), packet.is_keyframe):
            mailbox.lost(Word.LATE)
        else:
            yield packet


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """The packets of a stream up to its end.

    Raises:
        SourceError: it cannot be read any more.
    """
    try:
        yield from container.demux(stream)
    except av.error.InvalidDataError:
        return  # damaged beyond recognition: this is its end
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(_word(error)) from None


def _frames(packet: Packet, mailbox: Mailbox) -> Iterator[VideoFrame]:
    """The whole frames that a packet completes; damaged and oversized ones are counted."""
    try:
        frames = packet.decode()
    except (av.error.FFmpegError, ValueError):
        mailbox.lost(Word.DAMAGED)
        return
    for frame in frames:
        if not isinstance(frame, VideoFrame) or frame.is_corrupt:
            mailbox.lost(Word.DAMAGED)
        elif not frame.width * frame.height or is_too_large(frame.width, frame.height):
            mailbox.lost(Word.TOO_LARGE)
        else:
            yield frame


class Converter:
    """Shows decoded frames as BGR, made when somebody asks."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()  # keeps its tables from frame to frame

    def show(self, frame: VideoFrame, mailbox: Mailbox) -> None:
        mailbox.put(frame.width, frame.height, lambda: self._bgr(frame))

    def _bgr(self, frame: VideoFrame) -> memoryview:
        bgr = self._reformatter.reformat(frame, format="bgr24")
        plane, row = bgr.planes[0], 3 * frame.width
        pixels = memoryview(plane)
        if plane.line_size == row:
            return pixels[: row * frame.height]
        # Rows lie apart, for the processor's sake.
        at = range(0, plane.line_size * frame.height, plane.line_size)
        return memoryview(b"".join(pixels[start : start + row] for start in at))


def _opened(source: str, format: str | None, options: dict[str, str]) -> InputContainer:
    """Raises SourceError where it cannot be opened."""
    av.logging.set_level(av.logging.PANIC)  # its messages would hold the address
    try:
        return av.open(source, format=format, options=options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(_word(error)) from None


def _video_of(container: InputContainer) -> VideoStream:
    if not container.streams.video:
        raise SourceError(Word.NOT_A_VIDEO)
    stream = container.streams.video[0]
    # One thread: cameras share the cores, and frames would wait for the other threads' packets.
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
    return stream


def _word(error: Exception) -> Word:
    """Why a source gives nothing, without the library's words: they hold its address."""
    match error:
        case av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError() | PermissionError():
            return Word.NOT_ALLOWED
        case av.error.HTTPNotFoundError() | FileNotFoundError():
            return Word.NOT_FOUND
        case av.error.InvalidDataError() | av.error.DemuxerNotFoundError() | ValueError():
            return Word.NOT_A_VIDEO
        case ConnectionError() | TimeoutError() | av.error.HTTPError():
            return Word.UNREACHABLE
        case OSError(errno=errno.EIO):  # a connection or a disk
            return Word.BROKE_OFF
        case _:
            return Word.FAULT
