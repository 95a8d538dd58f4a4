"""A real mosquitto for tests: an own port, an own folder, persistent, stopped and started again."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from export.live.processes import free_port

_PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
PROGRAM = shutil.which("mosquitto", path=_PLACES)

needed = pytest.mark.skipif(PROGRAM is None, reason="mosquitto is not installed")


class Broker:
    """One mosquitto on loopback. Its queues live in its folder, so that a restart keeps them."""

    def __init__(self, folder: Path, lines: Sequence[str] = ("allow_anonymous true",)):
        self.port = free_port()
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(
            "\n".join(
                (
                    f"listener {self.port} 127.0.0.1",
                    "persistence true",
                    f"persistence_location {folder}/",
                    # A write after every message: what is acknowledged survives SIGKILL.
                    "autosave_on_changes true",
                    "autosave_interval 1",
                    "max_queued_messages 0",
                    "user root",
                    *lines,
                    "",
                )
            )
        )

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert PROGRAM is not None
        log = (self.folder / "mosquitto.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [PROGRAM, "-c", str(self._settings), "-v"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, self.log
                time.sleep(0.02)
        raise AssertionError(f"mosquitto does not listen: {self.log}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text(errors="replace")


@contextmanager
def running(folder: Path, lines: Sequence[str] = ("allow_anonymous true",)) -> Iterator[Broker]:
    """A broker that listens; the lines are added to its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    broker = Broker(folder, lines)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
