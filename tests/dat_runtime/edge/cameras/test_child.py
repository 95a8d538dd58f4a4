"""A camera's process from within: what it is told, what it gives up, and its last word."""

import ctypes
import json
import os
import resource
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime.edge.cameras import child as module
from dat_runtime.edge.cameras import pictures
from dat_runtime.edge.cameras.mailbox import Mailbox, SourceError
from dat_runtime.edge.cameras.wire import HEADER_BYTES, Kind, Message, Word, unpacked


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


def test_settings_are_one_line_that_may_come_in_parts(pair: Pair) -> None:
    ours, theirs = pair
    told = {"source": "a" * 4096, "fps": 5.5, "loop": True, "parent": 7}
    content = json.dumps(told).encode() + b"\n"
    writing = threading.Thread(
        target=lambda: [ours.sendall(content[:10]), ours.sendall(content[10:])]
    )
    writing.start()
    assert module._settings(theirs) == told
    writing.join()
    ours.sendall(content[:10])
    ours.close()
    with pytest.raises(SystemExit) as caught:  # the node ended before it had told all
        module._settings(theirs)
    assert caught.value.code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux")
@pytest.mark.parametrize(("parent", "ends"), [(0, False), (1, True)])
def test_the_kernel_ends_it_with_its_node(
    monkeypatch: pytest.MonkeyPatch, parent: int, ends: bool
) -> None:
    asked: list[tuple[Any, ...]] = []
    library = SimpleNamespace(prctl=lambda *about: asked.append(about))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: {None: library}[name])
    if ends:
        with pytest.raises(SystemExit) as caught:
            module._end_with(os.getppid() + 1)
        assert caught.value.code == 0
    else:
        module._end_with(os.getppid())
    assert asked == [(1, 9)]  # PR_SET_PDEATHSIG, SIGKILL
    monkeypatch.setattr(sys, "platform", "darwin")
    module._end_with(-1)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("most", "limit"),
    [(resource.RLIM_INFINITY, 4 << 30), (5 << 30, 4 << 30), (3 << 30, 3 << 30)],
)
def test_its_memory_is_bounded_and_never_raised(
    monkeypatch: pytest.MonkeyPatch, most: int, limit: int
) -> None:
    limits: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1, {resource.RLIMIT_AS: most}[which]))
    monkeypatch.setattr(resource, "setrlimit", lambda *about: limits.append(about))
    module._bound_memory()
    assert limits == [(resource.RLIMIT_AS, (limit, most))]


def test_a_system_without_limits_sets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    module._bound_memory()


class Alive:
    """A mailbox of which only that it stands ready is looked at."""

    said = 0

    def alive(self) -> None:
        self.said += 1


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Who read what, in the place of those that do."""
    calls: list[Any] = []
    video = SimpleNamespace(
        play=lambda *about: calls.append(("play", *about)),
        follow=lambda *about: calls.append(("follow", *about)),
    )
    monkeypatch.setitem(sys.modules, "dat_runtime.edge.cameras.video", video)  # type: ignore[arg-type]
    monkeypatch.setattr(pictures, "show_pictures", lambda *about: calls.append(("show", *about)))
    return calls


def test_each_kind_of_source_has_its_reader(readers: list[Any], tmp_path: Path) -> None:
    (tmp_path / "road.mp4").touch()
    box: Any = Alive()
    rtsp, webcam = "rtsp://h/1", "/dev/video0"
    for source in (str(tmp_path), str(tmp_path / "road.mp4"), rtsp, webcam):
        module._read({"source": source, "fps": 5.5, "loop": True}, box)
    assert readers == [
        ("show", tmp_path, 5.5, True, box),
        ("play", str(tmp_path / "road.mp4"), 5.5, True, box),
        ("follow", rtsp, 5.5, False, box),
        ("follow", webcam, 5.5, True, box),
    ]
    assert box.said == 4
    with pytest.raises(SourceError) as caught:
        module._read({"source": str(tmp_path / "none.mp4"), "fps": 5, "loop": True}, box)
    assert caught.value.word is Word.NOT_FOUND


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (SourceError(Word.BROKE_OFF), Message(Kind.FAILED, Word.BROKE_OFF)),
        (MemoryError(), Message(Kind.FAILED, Word.NO_MEMORY)),
        (None, Message(Kind.ENDED)),
    ],
)
def test_its_last_word_says_how_its_source_ended(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, error: Exception | None, last: Message
) -> None:
    ours, theirs = pair
    steps: list[Any] = []

    def read(settings: dict[str, Any], mailbox: Mailbox) -> None:
        steps.append(settings["source"])
        assert isinstance(mailbox, Mailbox)
        if error is not None:
            raise error

    def serve(mailbox: Mailbox) -> None:
        steps.append(threading.current_thread().daemon)

    kept = os.dup(0)
    os.dup2(theirs.fileno(), 0)
    try:
        monkeypatch.setattr(module, "_end_with", lambda parent: steps.append(parent))
        monkeypatch.setattr(module, "_bound_memory", lambda: steps.append("bound"))
        monkeypatch.setattr(module, "_read", read)
        monkeypatch.setattr(Mailbox, "serve", serve)
        ours.sendall(b'{"source": "a.mp4", "parent": 7}\n')
        opened = []
        real = socket.socket
        monkeypatch.setattr(
            module.socket, "socket", lambda **how: opened.append(real(**how)) or opened[-1]
        )
        assert module.main() == 0
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        for line in opened:
            line.close()
    assert steps[:2] == [7, "bound"]
    assert sorted(map(str, steps[2:])) == ["True", "a.mp4"]
    ours.setblocking(False)
    assert unpacked(ours.recv(HEADER_BYTES)) == last
