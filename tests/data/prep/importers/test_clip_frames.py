"""Frames of a clip at an even rate, whoever decodes how fast."""

import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

import av

from dat_runtime.errors import DataError
from data.prep.importers.clip_frames import ClipFrames
from tests.dat_runtime.edge.cameras.streams import number_of, render


@pytest.mark.parametrize(
    ("frames", "fps", "expected"),
    [
        (30, 10, [0, 5, 10, 15, 20, 25]),
        (50, 24, [0, 12, 24, 36, 48]),
        (3, 1, [0, 1, 2]),  # no more than there are
    ],
)
def test_two_frames_a_second_are_those_nearest_to_every_half_second(
    tmp_path: Path, frames: int, fps: int, expected: list[int]
) -> None:
    found = list(ClipFrames(render(tmp_path / "a.mp4", frames, fps), 2.0))
    assert [number_of(image) for _, image in found] == expected
    assert [at for at, _ in found] == pytest.approx([number / fps for number in expected])
    assert all(image.shape == (96, 160, 3) and image.dtype == np.uint8 for _, image in found)


def test_who_decodes_slower_than_the_clip_plays_gets_the_same_frames(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mp4", 20, 20)
    found = []
    for at, image in ClipFrames(path, 4.0):
        time.sleep(0.4)  # longer than the clip takes to the next of them
        found.append((round(at, 3), number_of(image)))
    assert found == [(0.0, 0), (0.25, 5), (0.5, 10), (0.75, 15)]


def test_a_clip_that_starts_late_counts_from_its_first_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((96, 160, 3), 99, np.uint8), format="bgr24")
            frame.pts = 70 + number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert [at for at, _ in ClipFrames(path, 2.0)] == pytest.approx([0.0, 0.5])


def test_what_is_damaged_is_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mp4", 30, 10, gop=5)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        hurt = packets[12]
    content = bytearray(path.read_bytes())
    content[hurt.pos : hurt.pos + hurt.size] = b"\xff" * hurt.size
    path.write_bytes(content)
    clip = ClipFrames(path, 10.0)
    assert 20 < len(list(clip)) < 30
    assert clip.damaged > 0
    whole = ClipFrames(render(tmp_path / "b.mp4", 30, 10, gop=5), 10.0)
    assert len(list(whole)) == 30
    assert whole.damaged == 0


def test_what_is_no_clip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("not a video")
    with pytest.raises(DataError, match=r"a\.mp4: is not a video that can be read"):
        list(ClipFrames(tmp_path / "a.mp4", 2.0))
    with av.open(str(tmp_path / "b.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match=r"b\.mp4: has no video in it"):
        list(ClipFrames(tmp_path / "b.mp4", 2.0))


def test_a_clip_without_one_whole_frame_is_refused(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mp4", 10, 10)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    for start, size in packets:
        content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mp4: gives no frame: get the clip anew"):
        list(ClipFrames(path, 2.0))


def test_a_clip_of_frames_that_are_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=10)
        stream.width, stream.height, stream.pix_fmt = 65_502, 2, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((2, 65_502, 3), np.uint8), format="bgr24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match="frames of 65502 x 2 pixels are too large"):
        list(ClipFrames(path, 2.0))


def test_a_list_of_addresses_that_is_named_like_a_clip_is_not_followed(tmp_path: Path) -> None:
    other = render(tmp_path / "other.mp4", 10, 10)
    listing = tmp_path / "a.mp4"
    listing.write_text(f"ffconcat version 1.0\nfile {other.name}\n")
    with av.open(str(listing)) as container:  # the library does follow it where it may
        assert container.streams.video
    with pytest.raises(DataError, match="is not a video that can be read"):
        list(ClipFrames(listing, 2.0))


def test_every_damaged_packet_is_counted_and_no_other_frame_is_lost(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mp4", 10, 10, gop=1)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    for start, size in (packets[3], packets[7], packets[8]):
        content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    clip = ClipFrames(path, 10.0)
    assert [number_of(image) for _, image in clip] == [0, 1, 2, 4, 5, 6, 9]
    assert clip.damaged == 3


def test_one_whole_frame_is_enough(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mp4", 2, 10, gop=1)
    with av.open(str(path)) as container:
        *_, (start, size) = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    ((at, image),) = ClipFrames(path, 10.0)
    assert (at, number_of(image)) == (0.0, 0)
