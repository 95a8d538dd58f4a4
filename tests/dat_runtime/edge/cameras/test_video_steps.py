"""How a video is played and followed, over packets and a clock that the test makes."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")

import av
import av.error

from dat_runtime.edge.cameras import video as module
from dat_runtime.edge.cameras.mailbox import SourceError
from dat_runtime.edge.cameras.wire import MAX_FRAME_PIXELS, Word
from tests.dat_runtime.edge.cameras.streams import render


class Box:
    """In the place of a mailbox and a clock."""

    def __init__(self) -> None:
        self.now = 50.0
        self.said: list[Any] = []
        self.most = 99

    def monotonic(self) -> float:
        return self.now

    def wait_until(self, moment: float) -> None:
        self.now = max(self.now, moment)

    def alive(self) -> None:
        self.said.append("alive")
        assert len(self.said) < 1_000, "it goes on without end"

    def lost(self, why: Word) -> None:
        self.said.append(why)

    def put(self, width: int, height: int, pixels: Any) -> None:
        self.said.append((round(self.now, 3), width, height, pixels()))
        if sum(isinstance(one, tuple) for one in self.said) == self.most:
            raise KeyboardInterrupt


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Box:
    made = Box()
    monkeypatch.setattr(module, "time", made)
    return made


class Frame(SimpleNamespace):
    """A decoded frame at a time of its file."""


class Packet:
    def __init__(self, *frames: Frame, key: bool = True, took: float = 0.0):
        self.frames, self.is_keyframe, self.took = frames, key, took


class Videos:
    """In the place of the library: what was opened, and its packets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, box: Box, *packets: Packet):
        self.opened: list[Any] = []
        self.packets, self.box, self.closed = packets, box, 0
        self.stream = SimpleNamespace(
            average_rate=4, codec_context=SimpleNamespace(codec=SimpleNamespace(intra_only=False))
        )

        @contextmanager
        def opened(*about: Any) -> Iterator[str]:
            self.opened.append(about)
            assert len(self.opened) < 20, "it is opened without end"
            yield "container"
            self.closed += 1

        monkeypatch.setattr(module, "_opened", opened)
        monkeypatch.setattr(module, "_video_of", lambda container: self.stream)
        monkeypatch.setattr(module, "_packets", self._packets)
        monkeypatch.setattr(
            module, "_frames", lambda packet, mailbox: iter(packet.frames if mailbox is box else ())
        )
        monkeypatch.setattr(module.Converter, "_bgr", lambda self, frame: frame.name)

    def _packets(self, container: str, stream: Any) -> Iterator[Packet]:
        assert (container, stream) == ("container", self.stream)
        for packet in self.packets:
            self.box.now += packet.took
            yield packet


def frames(*times: float | None) -> list[Packet]:
    return [Packet(Frame(time=at, width=6, height=4, name=f"f{n}")) for n, at in enumerate(times)]


def shown(box: Box) -> list[tuple[float, str]]:
    return [(one[0], one[3]) for one in box.said if isinstance(one, tuple)]


def test_a_file_is_played_in_its_own_time_and_thinned_out(
    monkeypatch: pytest.MonkeyPatch, box: Box
) -> None:
    videos = Videos(monkeypatch, box, *frames(0.0, 0.5, 1.0, 1.25, 2.0))
    module.play("a.mp4", 1.0, False, box)  # type: ignore[arg-type]
    assert shown(box) == [(50.0, "f0"), (51.0, "f2"), (52.0, "f4")]
    assert box.said.count("alive") == 2
    assert box.said[0] == (50.0, 6, 4, "f0")
    assert videos.opened == [("a.mp4", None, module._FILE)]
    assert videos.closed == 1


@pytest.mark.parametrize(("rate", "step"), [(4, 0.25), (None, 0.04), (0, 0.04)])
def test_a_file_without_times_plays_by_its_rate(
    monkeypatch: pytest.MonkeyPatch, box: Box, rate: int | None, step: float
) -> None:
    Videos(monkeypatch, box, *frames(None, None)).stream.average_rate = rate
    module.play("a.mp4", 1000.0, False, box)  # type: ignore[arg-type]
    assert shown(box) == [(50.0, "f0"), (50.0 + step, "f1")]


def test_a_loop_opens_the_file_again_and_goes_on_in_time(
    monkeypatch: pytest.MonkeyPatch, box: Box
) -> None:
    videos = Videos(monkeypatch, box, *frames(0.0, 0.5))
    box.most = 4
    with pytest.raises(KeyboardInterrupt):
        module.play("a.mp4", 1000.0, True, box)  # type: ignore[arg-type]
    assert [at for at, _ in shown(box)] == [50.0, 50.5, 50.75, 51.25]
    assert len(videos.opened) == 2


@pytest.mark.parametrize("loop", [False, True])
def test_a_file_without_a_frame_fails(
    monkeypatch: pytest.MonkeyPatch, box: Box, loop: bool
) -> None:
    Videos(monkeypatch, box)
    with pytest.raises(SourceError) as caught:
        module.play("a.mp4", 5.0, loop, box)  # type: ignore[arg-type]
    assert caught.value.word is Word.NO_FRAME


@pytest.mark.parametrize(("webcam", "format"), [(False, None), (True, "v4l2")])
def test_a_stream_is_followed_until_it_ends(
    monkeypatch: pytest.MonkeyPatch, box: Box, webcam: bool, format: str | None
) -> None:
    packets = frames(*[None] * 5)
    for packet in packets:
        packet.took = 0.5
    videos = Videos(monkeypatch, box, *packets)
    with pytest.raises(SourceError) as caught:
        module.follow("rtsp://h/1", 1.0, webcam, box)  # type: ignore[arg-type]
    assert caught.value.word is Word.STREAM_ENDED
    assert shown(box) == [(50.5, "f0"), (51.5, "f2"), (52.5, "f4")]
    assert box.said.count("alive") == 2
    options = {} if webcam else module._STREAM
    assert videos.opened == [("rtsp://h/1", format, options)]


@pytest.mark.parametrize(
    ("fps", "intra", "decoded"), [(0.5, True, 3), (2.0, True, 5), (0.5, False, 5)]
)
def test_of_motion_jpeg_no_more_is_decoded_than_is_wanted_and_one_a_second(
    monkeypatch: pytest.MonkeyPatch, box: Box, fps: float, intra: bool, decoded: int
) -> None:
    packets = frames(*[None] * 5)
    for packet in packets:
        packet.took = 0.5
    videos = Videos(monkeypatch, box, *packets)
    videos.stream.codec_context.codec.intra_only = intra
    looked: list[Any] = []
    monkeypatch.setattr(
        module, "_frames", lambda packet, mailbox: looked.append(packet) or iter(packet.frames)
    )
    with pytest.raises(SourceError):
        module.follow("http://h/1", fps, False, box)  # type: ignore[arg-type]
    assert len(looked) == decoded


def test_what_would_only_be_late_is_left_out_and_counted(
    monkeypatch: pytest.MonkeyPatch, box: Box
) -> None:
    def work(packet: Packet) -> None:
        box.now += 0.6

    packets = [Packet(key=n == 5) for n in range(8)]
    packets[5].took = 0.1  # waited for: it is at its newest
    videos = Videos(monkeypatch, box, *packets)
    given = []
    for packet in module._newest(videos._packets("container", videos.stream), box):  # type: ignore[arg-type]
        given.append(packets.index(packet))
        work(packet)
    assert given == [0, 1, 5, 6]
    assert box.said == [Word.LATE] * 4


class Decoding:
    """A packet that decodes to these, or fails."""

    def __init__(self, *found: Any):
        self.found = found

    def decode(self) -> Any:
        if isinstance(self.found[0], Exception):
            raise self.found[0]
        return self.found


@pytest.mark.parametrize(
    ("error", "word"),
    [(ValueError(), Word.DAMAGED), (av.error.InvalidDataError(1, ""), Word.DAMAGED)],
)
def test_a_packet_that_cannot_be_decoded_is_damaged(box: Box, error: Exception, word: Word) -> None:
    assert list(module._frames(Decoding(error), box)) == []  # type: ignore[arg-type]
    assert box.said == [word]


def test_only_whole_frames_of_a_size_are_shown(box: Box) -> None:
    good, none = av.VideoFrame(16, 16, "gray"), SimpleNamespace(is_corrupt=False)
    found = list(module._frames(Decoding(none, good, good), box))  # type: ignore[arg-type]
    assert found == [good, good]
    assert box.said == [Word.DAMAGED]
    empty = av.VideoFrame(0, 0, "gray")
    assert list(module._frames(Decoding(empty), box)) == []  # type: ignore[arg-type]
    assert box.said[-1] is Word.TOO_LARGE


class Ending:
    """A container whose packets end with an error."""

    def __init__(self, error: Exception):
        self.error = error

    def demux(self, stream: str) -> Iterator[str]:
        assert stream == "stream"
        yield "packet"
        raise self.error


def test_a_file_that_is_damaged_beyond_recognition_ends_there() -> None:
    found = module._packets(Ending(av.error.InvalidDataError(1, "")), "stream")  # type: ignore[arg-type]
    assert list(found) == ["packet"]


def http(number: int) -> Exception:
    kinds = {
        401: av.error.HTTPUnauthorizedError,
        403: av.error.HTTPForbiddenError,
        404: av.error.HTTPNotFoundError,
        500: av.error.HTTPServerError,
    }
    return kinds[number](1, "rtsp://user:secret@h")


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (http(401), Word.NOT_ALLOWED),
        (http(403), Word.NOT_ALLOWED),
        (PermissionError(), Word.NOT_ALLOWED),
        (http(404), Word.NOT_FOUND),
        (FileNotFoundError(), Word.NOT_FOUND),
        (av.error.DemuxerNotFoundError(1, ""), Word.NOT_A_VIDEO),
        (ValueError(), Word.NOT_A_VIDEO),
        (ConnectionRefusedError(), Word.UNREACHABLE),
        (TimeoutError(), Word.UNREACHABLE),
        (http(500), Word.UNREACHABLE),
        (OSError(errno.EIO, "broke"), Word.BROKE_OFF),
        (OSError(errno.ENODEV, "none"), Word.FAULT),
        (av.error.PatchWelcomeError(1, ""), Word.FAULT),
    ],
)
def test_why_a_source_gives_nothing_is_said_in_our_words(error: Exception, word: Word) -> None:
    assert module._word(error) is word
    with pytest.raises(SourceError) as caught:
        list(module._packets(Ending(error), "stream"))  # type: ignore[arg-type]
    assert caught.value.word is word
    assert caught.value.__cause__ is None


def test_a_source_is_opened_as_it_was_said_and_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    levels: list[int] = []

    def opened(source: str, **options: Any) -> str:
        asked.append((source, options))
        if source == "bad":
            raise FileNotFoundError
        return "container"

    monkeypatch.setattr(module.av, "open", opened)
    monkeypatch.setattr(module.av.logging, "set_level", levels.append)
    assert module._opened("a", "v4l2", {"x": "y"}) == "container"
    with pytest.raises(SourceError) as caught:
        module._opened("bad", None, {})
    assert caught.value.word is Word.NOT_FOUND
    assert asked[0] == ("a", {"format": "v4l2", "options": {"x": "y"}})
    assert levels == [av.logging.PANIC] * 2


def test_a_file_and_a_stream_may_open_nothing_else() -> None:
    assert module._FILE["protocol_whitelist"] == "file"
    assert "concat" not in module._FILE["format_whitelist"]
    assert "file" not in module._STREAM["protocol_whitelist"].split(",")
    assert module._STREAM["rtsp_transport"] == "tcp"


def test_the_first_video_is_decoded_by_one_thread_and_no_larger_than_may_be() -> None:
    first = SimpleNamespace(codec_context=SimpleNamespace())
    streams = SimpleNamespace(video=[first, "another"])
    assert module._video_of(SimpleNamespace(streams=streams)) is first  # type: ignore[arg-type]
    assert first.codec_context.thread_count == 1
    assert first.codec_context.options == {"max_pixels": str(MAX_FRAME_PIXELS)}
    streams.video = []
    with pytest.raises(SourceError) as caught:
        module._video_of(SimpleNamespace(streams=streams))  # type: ignore[arg-type]
    assert caught.value.word is Word.NOT_A_VIDEO


def test_rows_that_lie_apart_are_put_together() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    stored = np.zeros((4, 32), np.uint8)
    stored[:, :18] = rgb.reshape(4, 18)

    class Plane(bytes):
        line_size = 32

    converter = module.Converter()
    converter._reformatter = SimpleNamespace(  # type: ignore[assignment]
        reformat=lambda frame, format: {"bgr24": SimpleNamespace(planes=[Plane(stored.tobytes())])}[
            format
        ]
    )
    frame = SimpleNamespace(width=6, height=4)
    assert bytes(converter._bgr(frame)) == rgb.tobytes()  # type: ignore[arg-type]
    Plane.line_size = 18
    stored = rgb.reshape(4, 18)
    assert bytes(converter._bgr(frame)) == rgb.tobytes()  # type: ignore[arg-type]


def test_a_real_file_is_shown_with_its_pixels(tmp_path: Path) -> None:
    render(tmp_path / "a.mp4", 3)
    box = Box()
    module.play(str(tmp_path / "a.mp4"), 1000.0, False, box)  # type: ignore[arg-type]
    pictures = [one for one in box.said if isinstance(one, tuple)]
    assert len(pictures) == 3
    assert {len(one[3]) for one in pictures} == {3 * pictures[0][1] * pictures[0][2]}


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        module.play(str(tmp_path / "none.mp4"), 5.0, False, Box())  # type: ignore[arg-type]
    assert caught.value.word is Word.NOT_FOUND
