"""An encoder that cannot hang the node: its process is watched, killed and started again."""

import contextlib
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from dat_runtime import children
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.offloading.child import ANSWER, HEAD
from dat_runtime.edge.offloading.node_codec import NodeCodec
from dat_runtime.errors import ModelError, OffloadError, printable
from dat_runtime.offload import MAX_BYTES, unpack
from dat_runtime.offload_table import Row
from dat_runtime.types import Size

START_SECONDS = 120.0
"""Until all graphs are loaded."""

PAUSE, MAX_PAUSE = 1.0, 60.0
"""Seconds before another start after one that failed; doubled each time."""

LEAST_SECONDS, MOST_SECONDS = 5.0, 60.0
"""For a picture: on a machine that has other work too, and whatever a table says."""

THREADS = 1

log = logging.getLogger("dat_runtime.edge")


def patience(rows: Sequence[Row]) -> float:
    """Seconds that an encoder may take for a picture: several times what the table measured."""
    measured = max(row.edge_s + row.encode_s for row in rows if row.kind == "code")
    return min(max(LEAST_SECONDS, 4 * measured), MOST_SECONDS)


class Encoder:
    """The process; for one thread.

    Args:
        folder: of the codec, verified.
        seconds: for one picture; after that the process is killed.
    """

    def __init__(self, folder: Path, codec: NodeCodec, seconds: float, counts: Counts):
        self._folder, self._codec, self._seconds = folder, codec, seconds
        self._counts = counts
        self._child: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._not_before = 0.0

    def unit(self, jpeg: bytes) -> bytes:
        """The code unit of a picture at the model's size, all channels.

        Raises:
            ModelError: the encoder cannot take it, or does not run now. It is counted.
        """
        try:
            self.start()
            content = self._answer(HEAD.pack(len(jpeg)) + jpeg, self._seconds)
            if unpack(content, self._codec.description.id).channels != self._widest:
                raise OffloadError("a code unit of other channels than its codec has")
        except OffloadError as error:
            self._counts.add("encoder_failed", reason="no bits")
            raise ModelError(f"the encoder gives no code: {error}") from None
        self._failures = 0
        return content

    @property
    def sizes(self) -> Collection[Size]:
        """Of the pictures that it takes."""
        return self._codec.encoders.keys()

    @property
    def _widest(self) -> int:
        return self._codec.description.channels[-1]

    def start(self) -> None:
        """Start the process where it does not run, and wait until its graphs are loaded.

        Raises:
            ModelError: it cannot, or failed a moment ago.
        """
        if self._child is not None and self._child.poll() is None:
            return
        if time.monotonic() < self._not_before:
            raise ModelError("the encoder failed a moment ago")
        self.stop()
        try:
            self._child = self._process()
        except OSError as error:  # no memory, no descriptors, no more processes
            self._failed("no start")
            raise ModelError(f"the encoder's process cannot be started: {error}") from None
        self._answer(b"", START_SECONDS)

    def _process(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [
                *(sys.executable, "-PBm", "dat_runtime.edge.offloading.child"),
                *(str(self._folder.absolute()), str(self._codec.bytes), str(THREADS)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=children.environment(),
            start_new_session=True,
        )

    def _answer(self, asked: bytes, seconds: float) -> bytes:
        """What the process says to this.

        Raises:
            ModelError: it says that it cannot; or it ended or was late, and is killed.
        """
        deadline = time.monotonic() + seconds
        try:
            self._write(asked, deadline)
            good, length = ANSWER.unpack(self._read(ANSWER.size, deadline))
            if length > MAX_BYTES:
                raise ModelError(f"the encoder's process answers with {length:,} bytes")
            content = self._read(length, deadline)
        except (OSError, ModelError) as error:
            self._failed("it ended" if isinstance(error, OSError) else "it hangs")
            raise ModelError(str(error)) from None
        if not good:
            if not asked:
                self._failed("no start")
            else:
                self._counts.add("encoder_failed", reason="refused")
            # Words that a graph may have chosen, on their way to a log: in one line.
            words = " ".join(content.decode("utf-8", "replace").split())
            raise ModelError(f"the encoder: {printable(words)}")
        return content

    def _write(self, content: bytes, deadline: float) -> None:
        """Raises:
        ModelError: it did not take all of it in time.
        OSError: it ended.
        """
        assert self._child is not None
        assert self._child.stdin is not None
        file, left = self._child.stdin.fileno(), memoryview(content)
        while left:
            seconds = max(0.0, deadline - time.monotonic())
            if not select.select([], [file], [], seconds)[1]:
                raise ModelError("the encoder did not take a picture in time")
            left = left[os.write(file, left[: select.PIPE_BUF]) :]

    def _read(self, count: int, deadline: float) -> bytes:
        """So many bytes of its answer.

        Raises:
            ModelError: they did not come in time.
            OSError: it ended.
        """
        assert self._child is not None
        assert self._child.stdout is not None
        file, content = self._child.stdout.fileno(), b""
        while len(content) < count:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([file], [], [], left)[0]:
                raise ModelError("the encoder did not answer in time")
            piece = os.read(file, count - len(content))
            if not piece:
                raise OSError("the encoder's process ended")
            content += piece
        return content

    def _failed(self, reason: str) -> None:
        self._counts.add("encoder_failed", reason=reason)
        self._counts.add("encoder_restarts")
        self.stop()
        pause = min(MAX_PAUSE, PAUSE * 2.0 ** min(self._failures, 20))
        self._failures += 1
        self._not_before = time.monotonic() + pause
        log.warning("the encoder: %s; again in %g s", reason, pause)

    def stop(self) -> None:
        """End the process."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
