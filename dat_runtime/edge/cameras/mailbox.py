"""A camera's process: its end of the socket, and the newest frame, which waits to be asked for."""

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from dat_runtime.edge.cameras.wire import ASK, Kind, Message, Word

_TELL_EVERY = 1.0
"""Seconds: signs of life and numbers of lost frames are told at most so often."""


class SourceError(Exception):
    """The source gives no frames (any more)."""

    def __init__(self, word: Word):
        super().__init__(word.text)
        self.word = word


class Newest(NamedTuple):
    """A frame that nobody has asked for yet, and how to make its pixels: most are never made."""

    message: Message
    pixels: Callable[[], memoryview]


class Mailbox:
    """Holds the newest frame only, and tells the node that it is there.

    What is lost is told too. Pixels are made when they are asked for: a camera whose frames nobody
    takes costs its decoding, no conversion and no copy.
    """

    def __init__(self, line: socket.socket):
        self._line = line
        self._writing = threading.Lock()
        self._newest: Newest | None = None
        self._came = threading.Condition()
        self._number = 0
        self._lost: Counter[tuple[Kind, Word]] = Counter()
        self._counting = threading.Lock()
        self._told_at = 0.0

    def put(self, width: int, height: int, pixels: Callable[[], memoryview]) -> None:
        """The newest frame: `pixels` gives `3 * width * height` bytes of BGR."""
        self._number += 1
        moment = (time.time(), time.monotonic())
        with self._came:
            self._newest = Newest(
                Message(Kind.FRAME, Word.NOTHING, self._number, width, height, *moment), pixels
            )
            self._came.notify()
        self._tell_lost()
        self.tell(Message(Kind.OFFER, number=self._number))
        self._told_at = moment[1]

    def alive(self) -> None:
        """Say that frames come, or that a file waits for the next one's time."""
        if time.monotonic() >= self._told_at + _TELL_EVERY:
            self._tell_lost()
            self.tell(Message(Kind.ALIVE))
            self._told_at = time.monotonic()

    def lost(self, why: Word, number: int = 1) -> None:
        """Count frames that are lost; this is no sign of life."""
        self._count(Kind.DROPPED, why, number)

    def rescaled(self) -> None:
        self._count(Kind.RESCALED, Word.NOTHING, 1)

    def _count(self, kind: Kind, word: Word, number: int) -> None:
        with self._counting:
            self._lost[kind, word] += number
        if time.monotonic() >= self._told_at + _TELL_EVERY:
            self._tell_lost()
            self._told_at = time.monotonic()

    def wait_until(self, moment: float) -> None:
        """Wait for a moment of `time.monotonic`, with signs of life."""
        while (rest := moment - time.monotonic()) > 0:
            time.sleep(min(rest, _TELL_EVERY / 2))
            self.alive()

    def last_word(self, kind: Kind, word: Word = Word.NOTHING) -> None:
        self._tell_lost()
        self.tell(Message(kind, word))

    def _tell_lost(self) -> None:
        with self._counting:
            lost, self._lost = self._lost, Counter()
        for (kind, word), number in lost.items():
            self.tell(Message(kind, word, number))

    def tell(self, message: Message, pixels: bytes | memoryview = b"") -> None:
        with self._writing:
            self._line.sendall(message.packed())
            if message.pixel_bytes:
                self._line.sendall(pixels)

    def serve(self) -> None:
        """Answer whoever asks, until the node closes its end: then this process ends at once.

        Runs in a thread of its own: reading a source can hang for ever inside a library.
        """
        try:
            while self._line.recv(1) == ASK:
                frame = self._take()
                while (pixels := _made(frame.pixels)) is None:
                    self.lost(Word.DAMAGED)
                    frame = self._take()
                self.tell(frame.message, pixels)
        finally:
            os._exit(0)

    def _take(self) -> Newest:
        with self._came:
            self._came.wait_for(lambda: self._newest is not None)
            frame, self._newest = self._newest, None
        assert frame is not None
        return frame


def _made(pixels: Callable[[], memoryview]) -> memoryview | None:
    try:
        return pixels()
    except (ValueError, OSError, MemoryError):  # a frame that its library cannot convert
        return None
