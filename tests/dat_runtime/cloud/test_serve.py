"""`dat-runtime receive` as a process: it begins, ends, is killed, runs out of disk, has workers."""

import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks import private_postgresql
from dat_runtime.cloud.serve import receive
from dat_runtime.cloud.store import StoreError
from dat_runtime.errors import ConfigError
from export.live.processes import ROOT, Process, receiver
from tests.dat_runtime.cloud.conftest import alert

HEAD = {"content-type": "application/cloudevents+json"}


def post(process: Process, id: str, **data: Any) -> int:
    url = f"{process.url}/v1/events"
    return httpx.post(url, json=alert(id, **data), headers=HEAD, timeout=20).status_code


def ids(process: Process) -> list[str]:
    told = httpx.get(f"{process.url}/v1/events?limit=1000", timeout=20).json()
    return [event["id"] for event in told["events"]]


def eventually(holds: Callable[[], bool], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.05)
    return False


def test_told_to_end_it_ends_soon_with_all_committed_whoever_holds_it(tmp_path: Path) -> None:
    """A reader waits, a body is half there, a connection is idle."""
    store = f"sqlite:///{tmp_path}/new/folder/receiver.db"
    with receiver(store) as process:
        address = ("127.0.0.1", process.port)
        with socket.create_connection(address), socket.create_connection(address) as half:
            half.sendall(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n")
            half.sendall(b"Content-Type: application/cloudevents+json\r\n\r\n{")
            waits = f"{process.url}/v1/events?after=999&wait=20"
            told: list[int] = []
            reader = threading.Thread(
                target=lambda: told.append(httpx.get(waits, timeout=30).status_code)
            )
            reader.start()
            assert [post(process, f"e{n}") for n in range(5)] == [201] * 5
            time.sleep(0.3)
            assert process.end(15) == 0
            reader.join(10)
            assert told == [200]
            assert "Traceback" not in process.said
    assert (tmp_path / "new/folder/visuals").is_dir()
    with closing(sqlite3.connect(tmp_path / "new/folder/receiver.db")) as kept:
        rows = kept.execute("SELECT id FROM events ORDER BY cursor").fetchall()
    assert [id for (id,) in rows] == [f"e{n}" for n in range(5)]


def test_a_store_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """It took 20 s. Who waits for a commit is told that there was none."""
    file = tmp_path / "receiver.db"
    with receiver(f"sqlite:///{file}") as process:
        assert post(process, "before") == 201
        told: list[int] = []
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            sender = threading.Thread(target=lambda: told.append(post(process, "late")))
            sender.start()
            time.sleep(0.3)
            assert process.end(15) == 0
            sender.join(10)
        assert told == [503]


@pytest.mark.slow
def test_killed_again_and_again_under_load_it_keeps_what_it_acknowledged() -> None:
    """SIGKILL ten times on each store; `benchmarks.receiver_load --kills 200` for more."""
    stores = "sqlite" if private_postgresql.missing() else "sqlite,postgresql"
    command = [
        sys.executable,
        "-m",
        "benchmarks.receiver_load",
        "--kills",
        "10",
        "--stores",
        stores,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == stores.split(",")
    assert all(int(row[1]) > 20 for row in rows), "hardly anything was acknowledged"


@pytest.mark.slow
def test_workers_share_the_store_and_a_dead_one_is_replaced(store_url: str, tmp_path: Path) -> None:
    options = ("--workers", "2", "--data", str(tmp_path / "data"))
    with receiver(store_url, *options) as process:
        parent, *workers = process.family()
        assert len(workers) >= 2
        assert [post(process, f"e{n}") for n in range(10)] == [201] * 10
        assert [post(process, f"e{n}") for n in range(10)] == [200] * 10
        assert ids(process) == [f"e{n}" for n in range(10)]
        counted = httpx.get(f"{process.url}/metrics").text
        assert 'dat_receiver_alerts_total{outcome="created"} 10.0' in counted
        assert 'dat_receiver_alerts_total{outcome="unchanged"} 10.0' in counted

        os.kill(_serving(process)[0], signal.SIGKILL)
        assert eventually(lambda: _answers(process, "after"))
        assert process.family()[0] == parent

        process.kill()
        assert eventually(lambda: not any(map(_lives, workers)))


def _serving(process: Process) -> list[int]:
    """The workers: multiprocessing's own helper is a child too."""
    return [pid for pid in process.family()[1:] if b"spawn_main" in _command(pid)]


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _answers(process: Process, id: str) -> bool:
    try:
        return post(process, id) in (200, 201)
    except httpx.TransportError:
        return False


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_disk_that_takes_no_more_is_told_and_what_comes_later_is_kept(tmp_path: Path) -> None:
    """No write gets past a limit on the size of files: SQLite sees a failed write, as on a full
    disk."""
    with receiver(f"sqlite:///{tmp_path}/receiver.db") as process:
        assert post(process, "before") == 201
        limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        full = (tmp_path / "receiver.db-wal").stat().st_size
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (full, limits[1]))
        answers = [
            httpx.post(f"{process.url}/v1/events", json=alert(f"full{n}"), headers=HEAD)
            for n in range(20)
        ]
        refused = [n for n, answer in enumerate(answers) if answer.status_code == 503]
        assert refused
        assert int(answers[refused[0]].headers["retry-after"]) > 0
        ready = httpx.get(f"{process.url}/readyz")
        assert ready.status_code == 503
        assert "keeps nothing" in ready.text
        assert httpx.get(f"{process.url}/healthz").status_code == 200

        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
        assert post(process, "after") == 201
        assert eventually(lambda: httpx.get(f"{process.url}/readyz").status_code == 200)
        acknowledged = [f"full{n}" for n in range(20) if n not in refused]
        assert ids(process) == ["before", *acknowledged, "after"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"listen": "0.0.0.0:0"}, "--tokens"),
        ({"listen": "[::]:0"}, "--tokens"),
        ({"listen": "example.org:0"}, "--tokens"),
        ({"listen": "8080"}, "ADDRESS:PORT"),
        ({"listen": "127.0.0.1:99999"}, "ADDRESS:PORT"),
        ({"workers": 0}, "--workers"),
        ({"store": "postgresql://x/y"}, "--data"),
        ({"store": "nothing"}, "--store"),
        ({"store": "nothing", "data": Path("x")}, "--store"),
        ({"store": "mysql://x/y", "data": Path("x")}, "--store"),
        ({"tokens": Path("/nowhere")}, "/nowhere"),
        ({"data": Path("/proc/nowhere")}, "the folder /proc/nowhere"),
        ({"data": Path("/proc/version")}, "the folder /proc/version"),
    ],
)
def test_what_cannot_be_done_is_said_before_it_listens(
    tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    asked: dict[str, Any] = {"listen": "127.0.0.1:0", "store": f"sqlite:///{tmp_path}/a.db"}
    with pytest.raises((ConfigError, StoreError), match=named):
        receive(**(asked | changed))


def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=listen):
            receive(listen, f"sqlite:///{tmp_path}/a.db")


def test_with_tokens_it_listens_elsewhere_too(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("n1\tsecret-one\n")
    store = f"sqlite:///{tmp_path}/receiver.db"
    with receiver(store, "--tokens", str(tokens), listen="0.0.0.0:0") as process:
        url = process.url.replace("0.0.0.0", "127.0.0.1")
        sent = HEAD | {"Authorization": "Bearer secret-one", "Host": "receiver.example"}
        assert httpx.post(f"{url}/v1/events", json=alert(), headers=sent).status_code == 201
        assert httpx.get(f"{url}/v1/events").status_code == 401
