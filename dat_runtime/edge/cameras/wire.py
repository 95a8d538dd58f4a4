"""What a camera's process and the node say to each other, over one socket.

The process is told its settings in one line of JSON, then only `ASK`: give me your newest frame.
It answers in messages of one fixed form; a frame's pixels follow theirs. It can say no word that is
not listed here: nothing of a source's address, of a library's message or of a hostile stream gets
into the node's states, counts and logs.
"""

import enum
import struct
from typing import Final, NamedTuple

MAX_FRAME_PIXELS: Final = 1 << 25
"""No larger frame is read: a few bytes can decode to gigabytes. 8K (7,680 x 4,320) fits."""

MAX_FRAME_SIDE: Final = 65_500
"""The longest that a JPEG can be made of: no alert could show a longer one."""

ASK: Final = b"?"


def is_too_large(width: int, height: int) -> bool:
    """Whether no frame of that size is read."""
    return width * height > MAX_FRAME_PIXELS or max(width, height) > MAX_FRAME_SIDE


class Kind(enum.IntEnum):
    """What a message says.

    ALIVE: frames come, though none was wanted yet; or the process stands ready.
    OFFER: there is frame `number`, from 1, for whoever asks; it replaces the one before.
    FRAME: the answer to `ASK`: frame `number`, its pixels behind it.
    DROPPED: `number` frames were lost, and why (`word`).
    RESCALED: `number` frames held less than 16 bits in 16.
    FAILED: the source gives no frames (any more), and why (`word`). The last message.
    ENDED: a file or folder is at its end. The last offer still stands.
    """

    ALIVE = enum.auto()
    OFFER = enum.auto()
    FRAME = enum.auto()
    DROPPED = enum.auto()
    RESCALED = enum.auto()
    FAILED = enum.auto()
    ENDED = enum.auto()


class Word(enum.IntEnum):
    """Why frames were lost, or a source failed."""

    NOTHING = enum.auto()
    # Of a frame.
    DAMAGED = enum.auto()
    LATE = enum.auto()
    UNREADABLE = enum.auto()
    EMPTY = enum.auto()
    NOT_A_PICTURE = enum.auto()
    TOO_LARGE = enum.auto()
    # Of a source.
    UNREACHABLE = enum.auto()
    NOT_FOUND = enum.auto()
    NOT_ALLOWED = enum.auto()
    NOT_A_VIDEO = enum.auto()
    NO_FRAME = enum.auto()
    STREAM_ENDED = enum.auto()
    BROKE_OFF = enum.auto()
    NO_PYAV = enum.auto()
    NO_MEMORY = enum.auto()
    FAULT = enum.auto()

    @property
    def text(self) -> str:
        """As states and counts show it."""
        return _TEXTS.get(self, self.name.lower().replace("_", " "))


_TEXTS = {
    Word.UNREACHABLE: "cannot be reached",
    Word.NOT_ALLOWED: "user or password refused, or no permission",
    Word.NO_FRAME: "no frame in it",
    Word.NO_PYAV: "video needs PyAV: pip install dat-runtime[video]",
    Word.NO_MEMORY: "not enough memory",
    Word.FAULT: "cannot be read",
}

_HEADER = struct.Struct("!BBIIIdd")
HEADER_BYTES: Final = _HEADER.size


class Message(NamedTuple):
    """One message; what a kind does not use is 0."""

    kind: Kind
    word: Word = Word.NOTHING
    number: int = 0
    width: int = 0
    height: int = 0
    captured_at: float = 0.0
    taken: float = 0.0

    @property
    def pixel_bytes(self) -> int:
        """How many bytes of BGR pixels follow."""
        return 3 * self.width * self.height if self.kind == Kind.FRAME else 0

    def packed(self) -> bytes:
        return _HEADER.pack(*self)


def unpacked(header: bytes | memoryview) -> Message:
    """The message in `HEADER_BYTES` bytes.

    Raises:
        ValueError: no process of ours sends this.
    """
    kind, word, number, width, height, captured_at, taken = _HEADER.unpack(header)
    message = Message(Kind(kind), Word(word), number, width, height, captured_at, taken)
    is_sized = 1 <= width * height <= MAX_FRAME_PIXELS
    is_dated = abs(captured_at) < 1e11 and abs(taken) < 1e11  # false for NaN too
    if message.kind == Kind.FRAME and not (is_sized and is_dated):
        raise ValueError(f"a frame of {width} x {height} pixels at {captured_at}")
    return message
