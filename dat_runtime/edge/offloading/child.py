"""The process in which a codec's encoders run: little time, little memory, the lowest priority.

    parent -> child   4 bytes length, and a JPEG as the model sees it
    child -> parent   1 byte, 0 or 1; 4 bytes length; the unit of all channels, or words

Graphs come from outside and are programs. A gate's runs for every frame and so in the node itself,
after its operators were looked at; an encoder runs for news only, and a process of its own that
may be killed bounds whatever it does (docs/decisions/030-weak-nodes.md).
"""

import os
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from dat_runtime.codec_folder import encoder_file, read_description
from dat_runtime.draw import Image
from dat_runtime.edge.engines import silent_onnxruntime
from dat_runtime.edge.offloading.pixels import patches_of
from dat_runtime.offload import PATCH, CodeUnit, pack

try:
    import resource
except ImportError:  # not on this system: its time is limited by the parent, its memory is not
    resource = None  # type: ignore[assignment]

MAX_JPEG = 64_000_000
HEAD = struct.Struct(">I")
ANSWER = struct.Struct(">?I")

NICE = 19
"""The gate goes before: on one core this process gets a sixtieth of the time beside it."""

MEMORY = 2 << 30
"""Bytes of address space beyond what the libraries took, and beyond three times the graphs."""


class Encoders:
    """All graphs of a codec, loaded."""

    def __init__(self, folder: Path, threads: int):
        self._description = read_description(folder)
        stated = self._description.fields
        self._mean = np.array(stated["mean"], np.float32)
        self._std = np.array(stated["std"], np.float32)
        self._sessions = {
            grid: _session(folder / encoder_file(grid), threads) for grid in self._description.grids
        }

    def unit(self, jpeg: bytes) -> bytes:
        """The code unit of a picture, all channels.

        Raises:
            DatError, ValueError: no encoder takes it, or what comes out are no bits.
        """
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError("no picture")
        seen: Image = np.asarray(image, np.uint8)
        grid = (seen.shape[0] // PATCH, seen.shape[1] // PATCH)
        session = self._sessions.get(grid)
        if session is None:
            raise ValueError(f"no encoder for {seen.shape[1]} x {seen.shape[0]} pixels")
        patches = patches_of(seen, self._mean, self._std)
        found = np.asarray(session.run(None, {session.get_inputs()[0].name: patches})[0])
        if found.ndim != 2 or len(found) != self._description.channels[-1] or found.max() > 1:
            raise ValueError(f"the encoder gives {found.dtype} of {found.shape}, no bits")
        bits = found.astype(np.bool_)
        return pack(CodeUnit(self._description.id, grid, self._description.spatial, bits))


def _session(path: Path, threads: int) -> Any:
    onnxruntime = silent_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def serve(encoders: Encoders, asked: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the parent is gone."""
    while head := asked.read(HEAD.size):
        (length,) = HEAD.unpack(head)
        jpeg = asked.read(min(length, MAX_JPEG))
        try:
            good, content = True, encoders.unit(jpeg)
        except Exception as error:  # onnxruntime's errors share no base class
            good, content = False, str(error).encode()[:500]
        answers.write(ANSWER.pack(good, len(content)) + content)
        answers.flush()


def main(argv: list[str]) -> int:
    """The child: told the codec's folder, its bytes and threads. Says when it is ready."""
    folder, size, threads = Path(argv[0]), int(argv[1]), int(argv[2])
    # Whatever a library prints must not look like an answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    silent_onnxruntime()
    _limit(size)
    try:
        encoders = Encoders(folder, threads)
    except Exception as error:  # onnxruntime's errors share no base class
        words = str(error).encode()[:500] or b"out of memory"
        answers.write(ANSWER.pack(False, len(words)) + words)
        answers.flush()
        return 1
    answers.write(ANSWER.pack(True, 0))
    answers.flush()
    serve(encoders, sys.stdin.buffer, answers)
    return 0


def _end_with(parent: int) -> None:
    """End when the parent is gone: a graph that hangs would go on without anybody to kill it."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _limit(size: int) -> None:
    os.nice(NICE)
    if resource is None:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = taken + MEMORY + 3 * size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
