from pathlib import Path

import pytest

from dat_runtime.edge.cameras.settings import CameraSettings


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("rtsp://host/stream", "stream"),
        ("rtsps://user:secret@host:322/1", "stream"),
        ("http://host/mjpeg", "stream"),
        ("https://host/live.m3u8", "stream"),
        ("/dev/video0", "webcam"),
        ("/dev/video12", "webcam"),
        ("/dev/video", "file"),
        ("/videos/road.mp4", "file"),
        ("road.mp4", "file"),
        ("./odd:name.mp4", "file"),
    ],
)
def test_what_a_source_is_shows_in_it(source: str, kind: str) -> None:
    assert CameraSettings("c", source, 5).kind == kind


def test_a_folder_is_a_folder(tmp_path: Path) -> None:
    assert CameraSettings("c", str(tmp_path), 5).kind == "folder"


@pytest.mark.parametrize(
    "source",
    ["ftp://host/a.mp4", "concat:a.ts|b.ts", "data:video/mp4;base64,AAAA", "RTSP://h/1", "pipe:0"],
)
def test_no_other_scheme_reaches_the_video_library(source: str) -> None:
    with pytest.raises(ValueError, match="no source begins with"):
        CameraSettings("c", source, 5)


@pytest.mark.parametrize("source", ["", "a\0b", "rtsp://host/\n", "rtsp://host/" + "a" * 4085])
def test_what_is_no_source_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="a source is"):
        CameraSettings("c", source, 5)


def test_a_long_address_is_a_source() -> None:
    assert CameraSettings("c", "rtsp://host/" + "a" * 4084, 5).kind == "stream"
    assert CameraSettings("c", "a", 5).kind == "file"


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1001])
def test_a_rate_must_be_one(fps: float) -> None:
    with pytest.raises(ValueError, match="fps"):
        CameraSettings("c", "road.mp4", fps)


def test_a_password_is_not_shown() -> None:
    settings = CameraSettings("c", "rtsp://user:secret@host/1", 5)
    assert "secret" not in repr(settings)
    assert "secret" not in f"{settings}"
    with pytest.raises(ValueError, match="no source begins with") as refusal:
        CameraSettings("c", "rtps://user:secret@host/1", 5)
    assert "secret" not in str(refusal.value)


def test_the_highest_rate_is_one_and_what_is_wrong_is_told() -> None:
    assert CameraSettings("c", "a", 1000.0).fps == 1000
    schemes = "rtsp://, rtsps://, http://, https://"
    for source, fps, words in (
        ("a", 1000.1, "fps is above 0, at most 1000, got 1000.1"),
        ("ftp://h", 5, f"no source begins with ftp: (known: {schemes})"),
        ("", 5, "a source is an address, a webcam, a video file or a folder"),
    ):
        with pytest.raises(ValueError, match=r"source|fps") as caught:
            CameraSettings("c", source, fps)
        assert str(caught.value) == words
