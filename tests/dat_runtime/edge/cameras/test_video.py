import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

import av

from dat_runtime.edge.cameras import child, video
from dat_runtime.edge.cameras.mailbox import Mailbox, SourceError
from dat_runtime.edge.cameras.settings import CameraSettings
from dat_runtime.edge.cameras.wire import HEADER_BYTES, Kind, Message, Word, unpacked
from tests.dat_runtime.edge.cameras.streams import render


@pytest.fixture
def line() -> tuple[Mailbox, socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Mailbox(theirs), ours


def told(ours: socket.socket) -> list[Message]:
    """What was said so far."""
    ours.setblocking(False)
    content = ours.recv(1 << 20)
    parts = range(0, len(content), HEADER_BYTES)
    return [unpacked(content[at : at + HEADER_BYTES]) for at in parts]


def test_without_the_library_a_video_says_what_to_install(
    line: tuple[Mailbox, socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").touch()
    monkeypatch.delitem(sys.modules, video.__name__)
    monkeypatch.delattr("dat_runtime.edge.cameras.video")
    monkeypatch.setitem(sys.modules, "av", None)
    settings = {"source": str(tmp_path / "a.mp4"), "fps": 5, "loop": False}
    with pytest.raises(SourceError) as failure:
        child._read(settings, line[0])
    assert "pip install dat-runtime[video]" in failure.value.word.text


class Packet:
    """Decodes to one frame of a size."""

    def __init__(self, width: int, height: int):
        self._frame = av.VideoFrame(width, height, "gray")

    def decode(self) -> list[object]:
        return [self._frame]


@pytest.mark.parametrize(("width", "height"), [(8192, 4097), (65_502, 2)])
def test_a_frame_of_too_many_pixels_is_counted_and_not_converted(
    line: tuple[Mailbox, socket.socket], width: int, height: int
) -> None:
    mailbox, ours = line
    assert list(video._frames(Packet(width, height), mailbox)) == []
    assert len(list(video._frames(Packet(8192, 4096), mailbox))) == 1
    mailbox.last_word(Kind.ENDED)
    assert Message(Kind.DROPPED, Word.TOO_LARGE, 1) in told(ours)


@pytest.mark.parametrize(("width", "height"), [(160, 96), (162, 98), (2, 2), (1000, 2)])
def test_a_frame_is_the_same_bgr_as_the_library_makes(
    line: tuple[Mailbox, socket.socket], width: int, height: int
) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb, format="bgr24").reformat(format="yuv420p")
    pixels = video.Converter()._bgr(frame)
    assert pixels.nbytes == 3 * width * height
    expected = frame.to_ndarray(format="bgr24")
    assert (np.frombuffer(pixels, np.uint8).reshape(height, width, 3) == expected).all()


def test_a_file_reads_no_address_that_it_lists(
    line: tuple[Mailbox, socket.socket], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/a.ts"
        playlist = tmp_path / "a.m3u8"
        playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n")
        with pytest.raises(SourceError):
            video.play(str(playlist), 25, False, line[0])
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_playlist_is_what_reads_addresses_where_it_may(tmp_path: Path) -> None:
    """The test above would notice: the library does follow a list that is given no rule."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/a.ts"
        playlist = tmp_path / "a.m3u8"
        playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n")
        options = {"protocol_whitelist": "file,http,tcp", "allowed_extensions": "ALL"}
        opening = threading.Thread(target=_open, args=(str(playlist), options))
        opening.start()
        connection, _ = listener.accept()
        connection.close()
        opening.join()


def _open(path: str, options: dict[str, str]) -> None:
    try:
        av.open(path, options=options, timeout=0.3)
    except (av.error.FFmpegError, OSError):
        return


def test_a_real_road_is_read(line: tuple[Mailbox, socket.socket]) -> None:
    road = Path(__file__).resolve().parents[5] / "shared" / "data" / "video"
    path = road / "road_no_accident.mp4"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with video._opened(str(path), None, {}) as container:
        frames = [
            f
            for p in video._packets(container, video._video_of(container))
            for f in video._frames(p, line[0])
        ]
    assert len(frames) == 905
    assert {(frame.width, frame.height) for frame in frames} == {(640, 352)}


def test_the_name_of_a_camera_may_be_shown_its_address_not(tmp_path: Path) -> None:
    render(tmp_path / "a.mp4", 2)
    with pytest.raises(SourceError) as failure:
        video._opened("rtsp://user:secret@127.0.0.1:9/", None, {"protocol_whitelist": "rtsp,tcp"})
    assert "secret" not in repr(failure.value)
    assert failure.value.__cause__ is None
    assert CameraSettings("c", str(tmp_path / "a.mp4"), 1).kind == "file"
