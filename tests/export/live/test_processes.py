"""Processes that are started, awaited and ended; a shell stands for the wheel's commands."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dat_runtime import __version__
from dat_runtime.errors import DatError
from export.live import processes
from export.live.processes import (
    ROOT,
    TOKEN,
    Process,
    command_line,
    family,
    free_port,
    operator,
    receiver,
    running,
    spooled,
    status_bytes,
    until,
    write_node,
    write_tokens,
)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    """Starts a shell's script as a `Process`."""
    started: list[subprocess.Popen[bytes]] = []
    words = []

    def start(script: str) -> Process:
        file = (tmp_path / f"{len(words)}").open("w+b")
        words.append(file)
        one = subprocess.Popen(["/bin/sh", "-c", script], stdout=file, stderr=subprocess.STDOUT)
        started.append(one)
        return Process(one, file.fileno())

    yield start
    for one in started:
        one.kill()
        one.wait(10)
    for file in words:
        file.close()


def test_what_a_process_says_is_awaited_line_by_line(shell: Callable[[str], Process]) -> None:
    process = shell("echo it listens on http://127.0.0.1:123; echo more >&2; sleep 60")
    assert process.line(r"lis(\w+)")[1] == "tens"
    assert (process.url, process.port) == ("http://127.0.0.1:123", 123)
    until(lambda: "more" in process.said)
    assert process.said == "it listens on http://127.0.0.1:123\nmore\n"
    assert process.url == "http://127.0.0.1:123"


def test_half_a_line_is_none_and_a_silent_process_is_told(shell: Callable[[str], Process]) -> None:
    process = shell("printf 'half a line'; sleep 60")
    until(lambda: process.said)
    with pytest.raises(DatError, match=r"^a process is silent before it said 'half': half a line$"):
        process.line("half", 0.05)


def test_a_process_that_ended_is_told_with_its_last_words(shell: Callable[[str], Process]) -> None:
    process = shell(f"echo {'x' * 600}; exit 3")
    assert process.wait(10) == 3
    words = rf"^a process ended with 3 before it said 'ready': {'x' * 499}$"
    with pytest.raises(DatError, match=words):
        process.line("ready", 10)
    assert process.line("x+")[0] == "x" * 600  # what it said it said


def test_a_process_is_ended_killed_and_signalled(shell: Callable[[str], Process]) -> None:
    tells = "trap 'echo told; exit 5' TERM; trap 'echo usr' USR1; echo ready"
    asked = shell(f"{tells}; while :; do sleep 0.01; done")
    asked.line("ready")
    asked.signal(signal.SIGUSR1)
    asked.line("usr")
    assert asked.end(20) == 5
    assert "told" in asked.said
    stubborn = shell("trap '' TERM; echo ready; sleep 60")
    stubborn.line("ready")
    stubborn.kill()
    assert stubborn.wait(10) == -signal.SIGKILL


def test_a_process_s_family_is_it_and_all_below_it(shell: Callable[[str], Process]) -> None:
    process = shell("sh -c 'sleep 60; :' & echo $!; wait")
    child = int(process.line(r"\d+")[0])
    found = until(lambda: found if len(found := process.family()) == 3 else None)
    assert found[:2] == [process.pid, child]
    assert family(child) == found[1:]
    peaks = [status_bytes(pid, "VmHWM") for pid in found]
    assert process.peak_bytes() == max(peaks)
    assert status_bytes(os.getpid(), "VmHWM") % 1024 == 0
    assert status_bytes(os.getpid(), "VmHWM") > 1 << 20


def test_the_command_is_this_checkout_s() -> None:
    assert command_line("edge", Path("a")) == [sys.executable, "-m", "dat_runtime.cli", "edge", "a"]
    assert (ROOT / "dat_runtime" / "cli.py").is_file()


def test_a_command_runs_in_the_checkout_and_ends_with_its_block(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def script(*arguments: object) -> list[str]:
        return ["/bin/sh", "-c", "pwd; sleep 60 & echo $!; echo bad >&2; wait"]

    monkeypatch.setattr(processes, "command_line", script)
    monkeypatch.chdir(tmp_path)
    with running() as process:
        child = int(process.line(r"(?m)^\d+$")[0])
        process.line("bad")
        assert process.said.startswith(f"{ROOT}\n")
        assert os.getsid(process.pid) == process.pid
    until(lambda: not is_there(child))
    assert not is_there(process.pid)
    monkeypatch.setattr(processes, "command_line", lambda *_: ["/bin/true"])
    with running() as process:
        assert process.wait(10) == 0


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_command_of_the_wheel_runs() -> None:
    with running("--version") as process:
        assert process.line("dat-runtime (.*)", 60)[1] == __version__


def test_a_receiver_is_there_once_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    @contextmanager
    def started(*arguments: object) -> Iterator[Any]:
        asked.append(arguments)

        class Listening:
            @property
            def url(self) -> str:
                asked.append(("url",))
                return "http://h"

        yield Listening()

    monkeypatch.setattr(processes, "running", started)
    with receiver("sqlite:///a", "--workers", "2") as process:
        assert len(asked) == 2
        assert process.url == "http://h"
    with receiver("sqlite:///a", listen="0.0.0.0:7"):
        pass
    receive = ("receive", "--listen")
    assert asked[0] == (*receive, "127.0.0.1:0", "--store", "sqlite:///a", "--workers", "2")
    assert asked[3] == (*receive, "0.0.0.0:7", "--store", "sqlite:///a")


def test_tokens_are_the_node_s_and_the_operator_s(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path)
    assert tokens.read_text() == f"n1\t{TOKEN}\noperator\t{TOKEN[::-1]}\n"
    own = tmp_path / "token"
    assert (own.read_text(), own.stat().st_mode & 0o777) == (f"{TOKEN}\n", 0o600)
    client = operator("http://h:7")
    assert str(client.base_url) == "http://h:7"
    assert client.headers["authorization"] == f"Bearer {TOKEN[::-1]}"


def test_a_node_s_settings_are_written_with_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_node(tmp_path, Path("bundle"), "http://h", cameras=[], spool={"path": "x"})
    assert path == tmp_path / "node.yaml"
    assert json.loads(path.read_text()) == {
        "node": "n1",
        "bundle": str(tmp_path / "bundle"),
        "uplink": {"url": "http://h", "token_file": "token", "initial_bytes_per_s": 100_000},
        "spool": {"path": "x"},
        "cameras": [],
    }
    told = json.loads(write_node(tmp_path, Path("b"), "http://h").read_text())
    assert told["spool"] == {
        "path": "spool.sqlite",
        "max_bytes": 50_000_000,
        "alert_reserve_bytes": 5_000_000,
    }


def test_what_waits_in_a_spool_is_read_from_beside_it(tmp_path: Path) -> None:
    spool = tmp_path / "spool.sqlite"
    assert spooled(spool) == set()
    with sqlite3.connect(spool) as connection:
        assert spooled(spool) == set()
        connection.execute("CREATE TABLE events (id TEXT)")
        connection.executemany("INSERT INTO events VALUES (?)", [("a",), ("b",)])
    connection.close()
    assert spooled(spool) == {"a", "b"}


def test_what_is_awaited_is_given_once_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([0, None, "", "there"])
    assert until(lambda: next(seen)) == "there"
    with pytest.raises(DatError, match=r"^it did not come about in 0\.05 s$"):
        until(lambda: None, 0.05)


def test_a_free_port_is_of_loopback_and_can_be_taken() -> None:
    import socket

    port = free_port()
    assert 1024 <= port < 65_536
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_look_is_taken_every_fiftieth_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    seen = iter([None, None, 1])
    until(lambda: next(seen))
    assert naps == [0.02, 0.02]
    assert re.fullmatch("[0-9a-f]{32}", TOKEN)
