"""A folder of pictures as a camera. Runs in the camera's process; needs no video library."""

import time
from pathlib import Path

import cv2

from dat_runtime.edge.cameras.mailbox import Mailbox, SourceError
from dat_runtime.edge.cameras.wire import Word
from dat_runtime.edge.source import Picture, PictureError, PictureFault, read_picture

SUFFIXES = (".jpg", ".jpeg", ".png")

_WORDS: dict[PictureFault, Word] = {
    "unreadable": Word.UNREADABLE,
    "empty": Word.EMPTY,
    "not a picture": Word.NOT_A_PICTURE,
    "too large": Word.TOO_LARGE,
    "damaged": Word.DAMAGED,
}


def show_pictures(folder: Path, fps: float, loop: bool, mailbox: Mailbox) -> None:
    """Show the pictures of a folder in the order of their names, `fps` of them a second.

    A picture that gives no frame is counted, and takes its time as the others do.

    Raises:
        SourceError: the folder cannot be read, or no picture in it gives a frame.
    """
    cv2.setNumThreads(1)  # as many cameras as cores, rather than threads of each
    due = time.monotonic()
    while True:
        shown = 0
        for path in pictures_in(folder):
            picture = _read(path, mailbox)
            mailbox.wait_until(due)
            due = max(due + 1 / fps, time.monotonic())
            if picture is not None:
                _show(picture, mailbox)
                shown += 1
        if not shown:
            raise SourceError(Word.NO_FRAME)
        if not loop:
            return


def pictures_in(folder: Path) -> list[Path]:
    """The JPEG and PNG files that lie in a folder, by name; what is no file would block."""
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
        return sorted(path for path in found if path.is_file())
    except FileNotFoundError:
        raise SourceError(Word.NOT_FOUND) from None
    except PermissionError:
        raise SourceError(Word.NOT_ALLOWED) from None
    except OSError:
        raise SourceError(Word.UNREADABLE) from None


def _read(path: Path, mailbox: Mailbox) -> Picture | None:
    try:
        picture = read_picture(path)
    except PictureError as error:
        mailbox.lost(_WORDS[error.fault])
        return None
    if picture.bits not in (8, 16):
        mailbox.rescaled()
    return picture


def _show(picture: Picture, mailbox: Mailbox) -> None:
    height, width = picture.image.shape[:2]
    mailbox.put(width, height, lambda: picture.image.data)
