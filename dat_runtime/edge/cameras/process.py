"""A camera's process as the node sees it: started, asked, read without waiting, and killed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

import dat_runtime
from dat_runtime.draw import Image
from dat_runtime.edge.cameras.settings import CameraSettings
from dat_runtime.edge.cameras.wire import ASK, HEADER_BYTES, Message, unpacked

_READS_AT_ONCE = 32
"""After so many reads another camera has its turn."""

_KEPT = ("PATH", "LD_LIBRARY_PATH", "http_proxy", "https_proxy", "no_proxy")
"""Of the environment. A process that decodes what strangers send gets no key of the node's."""

_SET = {
    "PYTHONPATH": str(Path(dat_runtime.__file__).resolve().parent.parent),
    # One thread each: cameras share the cores.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Frames come and go: glibc is to keep their memory. Given back, it is cleared for the next one,
    # which takes longer than to convert it.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 26),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 26),
}

_MODULE = "dat_runtime.edge.cameras.child"


Answer = tuple[Message, Image | None]
"""A message, a frame's with its image."""


class CameraProcess:
    """Raises OSError where the system can start no process."""

    def __init__(self, settings: CameraSettings):
        self._line, theirs = socket.socketpair()
        try:
            # The address goes by the socket: everyone can read the arguments of a process.
            self._line.sendall(_told(settings))
            self._line.setblocking(False)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,  # a group of its own, which no Ctrl-C reaches
            )
        except BaseException:
            self._line.close()
            raise
        finally:
            theirs.close()
        self._header = memoryview(bytearray(HEADER_BYTES))
        self._message: Message | None = None
        self._image: Image | None = None
        self._rest = self._header

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        return self._line.fileno()

    def ask(self) -> None:
        """Ask for its newest frame."""
        with contextlib.suppress(OSError):  # it has died, which reading will tell
            self._line.send(ASK)

    def read(self) -> list[Answer]:
        """The messages that have come whole, a frame's with its image.

        Raises:
            EOFError: the process has ended.
            ValueError: it sends what no process of ours does.
        """
        whole: list[Answer] = []
        for _ in range(_READS_AT_ONCE):
            try:
                got = self._line.recv_into(self._rest)
            except BlockingIOError:
                break
            except OSError:
                got = 0
            if got == 0:
                if whole:
                    break  # it will be noticed again
                raise EOFError
            self._rest = self._rest[got:]
            if not self._rest and (message := self._completed()):
                whole.append(message)
        return whole

    def _completed(self) -> Answer | None:
        """The message, when what was to be read next has come: its header, or its pixels."""
        message, image = self._message, self._image
        if message is None:
            message = unpacked(self._header)
            if message.pixel_bytes:
                self._message = message
                self._image = np.empty((message.height, message.width, 3), np.uint8)
                self._rest = self._image.data.cast("B")
                return None
        self._message, self._image, self._rest = None, None, self._header
        return message, image

    def kill(self) -> None:
        """Kill it and whatever it started, and close the line; `has_ended` says when it is gone."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._line.close()

    def has_ended(self) -> bool:
        return self._process.poll() is not None


def _told(settings: CameraSettings) -> bytes:
    told = {
        "source": settings.source,
        "fps": settings.fps,
        "loop": settings.loop,
        "parent": os.getpid(),
    }
    return json.dumps(told).encode() + b"\n"


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | _SET
