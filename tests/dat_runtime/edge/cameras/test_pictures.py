"""A folder of pictures as a camera, at times that the test sets."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime.edge.cameras import pictures as module
from dat_runtime.edge.cameras.mailbox import SourceError
from dat_runtime.edge.cameras.pictures import pictures_in, show_pictures
from dat_runtime.edge.cameras.wire import Word


class Box:
    """In the place of a mailbox: notes what it is told."""

    def __init__(self) -> None:
        self.now = 50.0
        self.said: list[Any] = []
        self.shown: list[tuple[float, int, int, bytes]] = []
        self.most = 99
        self.slow = 0.0

    def monotonic(self) -> float:
        return self.now

    def wait_until(self, moment: float) -> None:
        self.said.append(moment)
        self.now = max(self.now, moment)

    def lost(self, why: Word) -> None:
        self.said.append(why)

    def rescaled(self) -> None:
        self.said.append("rescaled")

    def put(self, width: int, height: int, pixels: Any) -> None:
        self.shown.append((self.now, width, height, bytes(pixels())))
        self.now += self.slow
        if len(self.shown) == self.most:
            raise KeyboardInterrupt


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Box:
    made = Box()
    monkeypatch.setattr(module, "time", made)
    return made


def picture(path: Path, value: int, width: int = 6, height: int = 4, **how: Any) -> bytes:
    image = np.full((height, width, 3), value, how.get("type", np.uint8))
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return image.astype(np.uint8).tobytes()


def test_pictures_follow_each_other_by_name_at_their_rate(box: Box, tmp_path: Path) -> None:
    cv2.setNumThreads(3)
    contents = [picture(tmp_path / name, n + 1) for n, name in enumerate(["a.png", "b.PNG"])]
    (tmp_path / "0.txt").write_text("no picture")
    show_pictures(tmp_path, 4.0, False, box)  # type: ignore[arg-type]
    assert box.shown == [(50.0, 6, 4, contents[0]), (50.25, 6, 4, contents[1])]
    assert cv2.getNumThreads() == 1
    assert box.said == [50.0, 50.25]


def test_one_that_is_late_does_not_hurry_the_others(box: Box, tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / f"{name}.png", 1)
    box.slow = 1.0
    show_pictures(tmp_path, 4.0, False, box)  # type: ignore[arg-type]
    assert [at for at, *_ in box.shown] == [50.0, 51.0, 52.0]
    assert box.said == [50.0, 50.25, 51.0]


def test_a_loop_begins_again_and_finds_what_came_meanwhile(box: Box, tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    box.most = 3
    with pytest.raises(KeyboardInterrupt):
        show_pictures(tmp_path, 2.0, True, box)  # type: ignore[arg-type]
    assert [at for at, *_ in box.shown] == [50.0, 50.5, 51.0]


def test_what_gives_no_frame_is_counted_by_its_fault_and_takes_its_time(
    box: Box, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.jpg").write_bytes(b"<html>")
    picture(tmp_path / "c.png", 1)
    show_pictures(tmp_path, 2.0, False, box)  # type: ignore[arg-type]
    assert box.said == [Word.EMPTY, 50.0, Word.NOT_A_PICTURE, 50.5, 51.0]
    assert [at for at, *_ in box.shown] == [51.0]


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("unreadable", Word.UNREADABLE),
        ("empty", Word.EMPTY),
        ("not a picture", Word.NOT_A_PICTURE),
        ("too large", Word.TOO_LARGE),
        ("damaged", Word.DAMAGED),
    ],
)
def test_each_fault_has_its_word(fault: str, word: Word) -> None:
    assert module._WORDS[fault] is word  # type: ignore[index]


@pytest.mark.parametrize(
    ("bits", "rescaled"), [(8, False), (16, False), (12, True), (10, True), (1, True)]
)
def test_a_picture_that_does_not_fill_its_bits_is_told(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int, rescaled: bool
) -> None:
    from dat_runtime.edge.source import Picture

    made = Picture(np.zeros((4, 6, 3), np.uint8), bits)
    monkeypatch.setattr(module, "read_picture", lambda path: made)
    assert module._read(tmp_path / "a.png", box) is made  # type: ignore[arg-type]
    assert box.said == (["rescaled"] if rescaled else [])


def test_a_folder_without_a_picture_that_gives_a_frame_fails(box: Box, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(SourceError) as caught:
            show_pictures(tmp_path, 2.0, True, box)  # type: ignore[arg-type]
        assert caught.value.word is Word.NO_FRAME
        (tmp_path / "a.png").write_bytes(b"")


def test_only_files_of_pictures_are_listed(tmp_path: Path) -> None:
    for name in ("b.jpeg", "a.JPG", "c.png", "d.gif", "jpg"):
        (tmp_path / name).touch()
    (tmp_path / "e.png").mkdir()
    assert [path.name for path in pictures_in(tmp_path)] == ["a.JPG", "b.jpeg", "c.png"]


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (FileNotFoundError, Word.NOT_FOUND),
        (PermissionError, Word.NOT_ALLOWED),
        (NotADirectoryError, Word.UNREADABLE),
    ],
)
def test_a_folder_that_cannot_be_listed_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError], word: Word
) -> None:
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(SourceError) as caught:
        pictures_in(tmp_path)
    assert caught.value.word is word
