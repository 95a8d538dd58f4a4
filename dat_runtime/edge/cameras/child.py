"""The process that reads one camera: `python -m dat_runtime.edge.cameras.child`, socket on stdin.

It decodes what strangers send, so it is given nothing that it does not need: its settings come by
the socket, its environment is all but empty, its memory is bounded, and the node may kill it at any
moment. It ends when the node does, killed or not.
"""

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from dat_runtime.edge.cameras.mailbox import Mailbox, SourceError
from dat_runtime.edge.cameras.settings import kind_of
from dat_runtime.edge.cameras.wire import Kind, Word

MAX_MEMORY = 4 << 30
"""Bytes of address space. The largest frame takes 0.1 GB, and its decoder several such."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> int:
    line = socket.socket(fileno=os.dup(0))
    settings = _settings(line)
    _end_with(settings["parent"])
    _bound_memory()
    mailbox = Mailbox(line)
    # Whoever asks is answered, and the node's end is noticed, while the source is being read.
    serving = threading.Thread(target=mailbox.serve, daemon=True)
    serving.start()
    try:
        _read(settings, mailbox)
    except SourceError as error:
        mailbox.last_word(Kind.FAILED, error.word)
    except MemoryError:
        mailbox.last_word(Kind.FAILED, Word.NO_MEMORY)
    else:
        mailbox.last_word(Kind.ENDED)
    serving.join()  # the last frame may still be asked for; the node closes the line
    return 0


def _read(settings: dict[str, Any], mailbox: Mailbox) -> None:
    source, fps, loop = settings["source"], settings["fps"], settings["loop"]
    kind = kind_of(source)
    if kind == "folder":
        from dat_runtime.edge.cameras.pictures import show_pictures

        mailbox.alive()
        show_pictures(Path(source), fps, loop, mailbox)
        return
    if kind == "file" and not os.path.exists(source):
        raise SourceError(Word.NOT_FOUND)
    try:
        from dat_runtime.edge.cameras.video import follow, play
    except ImportError:
        raise SourceError(Word.NO_PYAV) from None
    mailbox.alive()
    if kind == "file":
        play(source, fps, loop, mailbox)
    else:
        follow(source, fps, kind == "webcam", mailbox)


def _settings(line: socket.socket) -> dict[str, Any]:
    text = b""
    while not text.endswith(b"\n"):
        if not (part := line.recv(4096)):
            raise SystemExit(0)
        text += part
    settings: dict[str, Any] = json.loads(text)
    return settings


def _end_with(parent: int) -> None:
    """Let the kernel kill this process when the node dies, even while it is stopped."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        raise SystemExit(0)


def _bound_memory() -> None:
    try:
        import resource
    except ImportError:  # not on every system
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MAX_MEMORY if most == resource.RLIM_INFINITY else min(MAX_MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


if __name__ == "__main__":
    raise SystemExit(main())
