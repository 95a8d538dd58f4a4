"""Commands of the wheel as processes: started, awaited, watched, ended and killed.

The demonstration, the benchmarks and the tests start receivers and nodes by it.
"""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from dat_runtime.errors import DatError

ROOT = Path(__file__).resolve().parents[2]

PATIENCE = 60.0
"""Seconds for a process to say that it is ready."""

LOOK = 0.02
"""Seconds between two looks at what is awaited."""

TOKEN = "0123456789abcdef0123456789abcdef"
"""Of the node n1, where `write_tokens` wrote it; backwards it is the operator's."""


class Process:
    """A command that runs. What it says goes to a file, so that nothing waits for a reader."""

    def __init__(self, running: "subprocess.Popen[bytes]", words: int):
        self._running = running
        self._words = words
        self.pid = running.pid

    @property
    def said(self) -> str:
        """All that it has said so far, errors too."""
        # Not `read`: the process writes where the file's one position stands.
        return os.pread(self._words, os.fstat(self._words).st_size, 0).decode(errors="replace")

    def line(self, pattern: str, seconds: float = PATIENCE) -> re.Match[str]:
        """The first match in what it says.

        Raises:
            DatError: it ended or the time was over before; the message has its last words.
        """
        deadline = time.monotonic() + seconds
        while True:
            has_ended = self._running.poll() is not None
            if found := re.search(pattern, self.said.rpartition("\n")[0]):
                return found
            if has_ended or time.monotonic() > deadline:
                how = f"ended with {self._running.returncode}" if has_ended else "is silent"
                last = self.said[-500:].strip()
                raise DatError(f"a process {how} before it said {pattern!r}: {last}")
            time.sleep(LOOK)

    @cached_property
    def url(self) -> str:
        """Where it listens, once it does."""
        return self.line(r" on (https?://\S+)")[1]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def family(self) -> list[int]:
        """The process and its workers."""
        return family(self.pid)

    def peak_bytes(self) -> int:
        """The most memory that any of its processes held so far."""
        return max(status_bytes(pid, "VmHWM") for pid in self.family())

    def signal(self, number: signal.Signals) -> None:
        self._running.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Its exit status, once it has ended by itself."""
        return self._running.wait(seconds)

    def kill(self) -> None:
        """As the kernel does when memory is short."""
        self._running.kill()
        self._running.wait(10)

    def end(self, seconds: float = 5) -> int:
        """Tell it to end; its exit status."""
        self.signal(signal.SIGTERM)
        return self._running.wait(seconds)


def command_line(*arguments: str | Path) -> list[str]:
    """`dat-runtime` with these arguments, as this checkout has it; to be run in `ROOT`."""
    return [sys.executable, "-m", "dat_runtime.cli", *map(str, arguments)]


@contextmanager
def running(*arguments: str | Path) -> Iterator[Process]:
    """`dat-runtime` with these arguments; killed at the end if it has not ended by then."""
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            command_line(*arguments),
            cwd=ROOT,
            stdout=words,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the others
        )
        try:
            yield Process(process, words.fileno())
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its workers and cameras too
            process.wait(10)


@contextmanager
def receiver(store: str, *options: str | Path, listen: str = "127.0.0.1:0") -> Iterator[Process]:
    """`dat-runtime receive`, once it accepts connections."""
    with running("receive", "--listen", listen, "--store", store, *options) as process:
        assert process.url
        yield process


def write_tokens(folder: Path) -> Path:
    """Tokens of the node n1 and of an operator for a receiver; the node's own in `token`."""
    tokens = folder / "tokens"
    tokens.write_text(f"n1\t{TOKEN}\noperator\t{TOKEN[::-1]}\n")
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "token").chmod(0o600)
    return tokens


def write_node(folder: Path, bundle: Path, url: str, **parts: object) -> Path:
    """A node.yaml of n1 that sends to `url`, in a folder with `write_tokens`.

    `parts` are its other keys (`cameras` at least), or replace those that are here.
    """
    settings = {
        "node": "n1",
        "bundle": str(bundle.resolve()),
        "uplink": {"url": url, "token_file": "token", "initial_bytes_per_s": 100_000},
        "spool": {
            "path": "spool.sqlite",
            "max_bytes": 50_000_000,
            "alert_reserve_bytes": 5_000_000,
        },
    }
    path = folder / "node.yaml"
    path.write_text(json.dumps(settings | parts))  # JSON is YAML
    return path


def operator(url: str) -> httpx.Client:
    """Who may read what a receiver with `write_tokens` has."""
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN[::-1]}"})


def spooled(spool: Path) -> set[str]:
    """Ids of the events that a spool holds, looked at from beside it."""
    if not spool.is_file():
        return set()
    with closing(sqlite3.connect(spool)) as connection:
        try:
            return {id for (id,) in connection.execute("SELECT id FROM events")}
        except sqlite3.OperationalError:  # it is being made
            return set()


def until(look: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `look` gives once it is true.

    Raises:
        DatError: it never was.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise DatError(f"it did not come about in {seconds:g} s")
        time.sleep(LOOK)
    return found


def free_port() -> int:
    """A port of loopback that nobody listens at now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def family(pid: int) -> list[int]:
    """A process and its children, and theirs."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def status_bytes(pid: int, name: str) -> int:
    """A size of /proc/PID/status, such as VmHWM."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))
