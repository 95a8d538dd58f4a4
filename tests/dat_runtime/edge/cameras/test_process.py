"""A camera's process as the node starts it, hears it, and kills it; none is started here."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dat_runtime
from dat_runtime.edge.cameras import process as module
from dat_runtime.edge.cameras.process import CameraProcess
from dat_runtime.edge.cameras.settings import CameraSettings
from dat_runtime.edge.cameras.wire import Kind, Message, Word

SETTINGS = CameraSettings("north", "rtsp://user:secret@h/1", 5.5, True)


class Started:
    """In the place of a process: keeps its end of the line."""

    pid = 4_000_000

    def __init__(self, command: list[str], **options: Any):
        self.command, self.options = command, options
        self.line = socket.socket(fileno=os.dup(options["stdin"]))
        self.ended: int | None = None

    def poll(self) -> int | None:
        return self.ended


Made = Callable[..., tuple[CameraProcess, Started]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    processes: list[CameraProcess] = []
    monkeypatch.setattr(module.subprocess, "Popen", Started)

    def make() -> tuple[CameraProcess, Started]:
        processes.append(CameraProcess(SETTINGS))
        started: Any = processes[-1]._process
        return processes[-1], started

    yield make
    for process in processes:
        process._line.close()
        process._process.line.close()  # type: ignore[attr-defined]


def test_it_is_told_its_source_by_the_line_and_nothing_else_of_the_node(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LD_LIBRARY_PATH", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy")
    monkeypatch.setenv("DAT_TOKEN", "secret")
    process, started = made()
    assert started.command == [sys.executable, "-P", "-m", "dat_runtime.edge.cameras.child"]
    environment = started.options.pop("env")
    assert environment == {
        "PATH": os.environ["PATH"],
        "http_proxy": "http://proxy",
        "PYTHONPATH": str(Path(dat_runtime.__file__).resolve().parent.parent),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": "67108864",
        "MALLOC_TRIM_THRESHOLD_": "67108864",
    }
    del started.options["stdin"]
    silent = subprocess.DEVNULL
    assert started.options == {"stdout": silent, "stderr": silent, "start_new_session": True}
    told = {"source": "rtsp://user:secret@h/1", "fps": 5.5, "loop": True, "parent": os.getpid()}
    assert started.line.recv(9_999) == json.dumps(told).encode() + b"\n"
    assert (process.pid, process.fileno()) == (4_000_000, process._line.fileno())
    process.ask()
    assert started.line.recv(9_999) == b"?"


def said(line: socket.socket, *messages: Message, pixels: bytes = b"") -> None:
    for message in messages:
        line.sendall(message.packed() + (pixels if message.pixel_bytes else b""))


FRAME = Message(Kind.FRAME, Word.NOTHING, 7, 3, 2, 1.8e9, 5.0)


def test_messages_come_whole_and_a_frame_with_its_image(made: Made) -> None:
    process, started = made()
    assert process.read() == []
    pixels = bytes(range(18))
    said(started.line, Message(Kind.OFFER, number=7), FRAME, Message(Kind.ENDED), pixels=pixels)
    offer, frame, ended = process.read()
    assert offer == (Message(Kind.OFFER, number=7), None)
    assert frame[0] == FRAME
    assert frame[1] is not None
    assert np.array_equal(frame[1], np.arange(18, dtype=np.uint8).reshape(2, 3, 3))
    assert ended == (Message(Kind.ENDED), None)
    # The next image is another one: nobody else holds it.
    said(started.line, FRAME, pixels=bytes(18))
    ((_, other),) = process.read()
    assert other is not frame[1]
    assert frame[1].max() == 17


def test_a_message_in_parts_waits_for_the_rest(made: Made) -> None:
    process, started = made()
    content = FRAME.packed() + bytes(range(18))
    for part in (content[:5], content[5:20], content[20:40]):
        started.line.sendall(part)
        assert process.read() == []
    started.line.sendall(content[40:])
    ((message, image),) = process.read()
    assert message == FRAME
    assert image is not None
    assert image[1, 2, 2] == 17


def test_after_many_reads_another_camera_has_its_turn(made: Made) -> None:
    process, started = made()
    said(started.line, *[Message(Kind.OFFER, number=n) for n in range(40)])
    numbers = [[message.number for message, _ in process.read()] for _ in range(3)]
    assert numbers == [list(range(32)), list(range(32, 40)), []]


def test_one_that_has_ended_is_told_after_its_last_message(made: Made) -> None:
    process, started = made()
    said(started.line, Message(Kind.ENDED))
    started.line.close()
    assert process.read() == [(Message(Kind.ENDED), None)]
    for _ in range(2):
        with pytest.raises(EOFError):
            process.read()
    process.ask()  # it has died: nothing is said of it here
    process._line.close()
    with pytest.raises(EOFError):
        process.read()
    process.ask()


def test_what_no_process_of_ours_sends_is_an_error(made: Made) -> None:
    process, started = made()
    started.line.sendall(b"\xff" * 34)
    with pytest.raises(ValueError, match="not a valid Kind"):
        process.read()


def test_it_is_killed_with_all_that_it_started(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(module.os, "killpg", lambda *about: killed.append(about))
    process, started = made()
    assert not process.has_ended()
    process.kill()
    assert killed == [(4_000_000, signal.SIGKILL)]
    assert process._line.fileno() == -1
    other, started = made()
    started.ended = 0
    assert other.has_ended()
    other.kill()
    assert len(killed) == 1  # its number may be another's by now
    assert other._line.fileno() == -1


def test_a_system_that_starts_no_process_leaves_no_line_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[socket.socket] = []
    pair = socket.socketpair

    def noted() -> tuple[socket.socket, socket.socket]:
        lines.extend(pair())
        return lines[0], lines[1]

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(module.socket, "socketpair", noted)
    monkeypatch.setattr(module.subprocess, "Popen", fail)
    with pytest.raises(OSError, match="no more processes"):
        CameraProcess(SETTINGS)
    assert [line.fileno() for line in lines] == [-1, -1]
