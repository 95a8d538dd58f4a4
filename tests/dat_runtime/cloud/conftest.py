"""A receiver that really listens, on SQLite and on PostgreSQL, and alerts to send to it."""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("sqlalchemy")
pytest.importorskip("uvicorn")

import httpx
import uvicorn
from sqlalchemy import create_engine, text

from dat_runtime.cloud.protocol import BoundedProtocol
from dat_runtime.cloud.receiver import Receiver, app, opened

BOTH = ("sqlite", "postgresql")


def alert(id: str = "n1-000001", node: str = "n1", **data: Any) -> dict[str, Any]:
    """An alert as a node sends it; keywords replace fields of its data."""
    return {
        "specversion": "1.0",
        "id": id,
        "source": f"/nodes/{node}/cameras/north",
        "type": "dat.alert.v1",
        "time": "2026-01-31T12:00:00Z",
        "data": {
            "schema": 1,
            "captured_at": 1_769_860_800.0,
            "priority": 0.9,
            "source": "mllm",
            "degraded": None,
            "conflict": False,
            "frame": {"width": 640, "height": 480},
            "roi": [10, 20, 110, 220],
            "answer": {
                "count": 1,
                "severity": "severe",
                "level": 1,
                "score": 0.8,
                "accidents": [{"bbox": [12, 24, 100, 200], "severity": "severe"}],
                "summary": "A car lies overturned.",
            },
            "versions": {"prompt": 1, "schema": 1, "drawing": 1},
            "revision": 0,
        }
        | data,
    }


@dataclass
class Running:
    """A receiver that listens.

    Attributes:
        url: http://127.0.0.1:PORT
        inside: what its parts share, for a look behind the wire.
        client: speaks to it; its address is `url`.
    """

    url: str
    inside: Receiver
    client: httpx.Client

    def post(self, event: Any, **headers: str) -> httpx.Response:
        """Send one alert, or a list of them."""
        kind = "cloudevents-batch" if isinstance(event, list) else "cloudevents"
        sent = {"content-type": f"application/{kind}+json"} | headers
        return self.client.post("/v1/events", json=event, headers=sent)


@contextmanager
def running(store: str, folder: Path, tokens: Path | None = None) -> Iterator[Running]:
    """Let a receiver listen on a free port of loopback, in a thread."""
    inside = opened(store, folder, tokens)
    server = uvicorn.Server(
        uvicorn.Config(
            app(inside),
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
        )
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.started
        with httpx.Client(base_url=url, timeout=20) as client:
            yield Running(url, inside, client)
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The folder of a private PostgreSQL's socket, as a URL without a database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb") or (str(programs[-1]) if programs else None)
    if found is None:
        pytest.skip("PostgreSQL is not installed: no initdb")
    binaries = Path(found).parent
    user = _unprivileged()
    home = tmp_path_factory.mktemp("pg")  # short: a socket's path has at most 107 characters
    data = home / "data"
    for folder in (home, *home.parents):
        if folder != Path("/tmp") and folder.is_relative_to("/tmp"):
            folder.chmod(0o755)
    if user is not None:
        shutil.chown(home, user)

    def run(program: str, *arguments: str) -> None:
        command = [str(binaries / program), *arguments]
        if user is not None:
            command = ["setpriv", f"--reuid={user}", "--clear-groups", *command]
        subprocess.run(command, check=True, cwd=home, capture_output=True, timeout=60)

    run("initdb", "-D", str(data), "-U", "dat", "-A", "trust", "-E", "UTF8", "--locale=C")
    options = f"-k {home} -c listen_addresses= -c shared_buffers=32MB -c max_connections=50"
    run("pg_ctl", "-D", str(data), "-w", "-l", str(home / "log"), "-o", options, "start")
    try:
        yield f"postgresql://dat@/{{}}?host={home}"
    finally:
        run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")


def _unprivileged() -> str | None:
    """The user that runs PostgreSQL, which refuses root; `None` is ourselves."""
    return "nobody" if os.geteuid() == 0 else None


@pytest.fixture
def make_database(postgresql: str) -> Iterator[Any]:
    """Makes an empty database of PostgreSQL and returns its URL."""
    engine = create_engine(
        postgresql.format("postgres").replace("postgresql:", "postgresql+psycopg:"),
        isolation_level="AUTOCOMMIT",
    )

    def make() -> str:
        name = f"t{time.monotonic_ns()}"
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return postgresql.format(name)

    yield make
    engine.dispose()


@pytest.fixture(params=BOTH)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/receiver.db"
    url: str = request.getfixturevalue("make_database")()
    return url


@pytest.fixture
def receiver(store_url: str, tmp_path: Path) -> Iterator[Running]:
    """A receiver without tokens, on each kind of store."""
    with running(store_url, tmp_path / "data") as receiver:
        yield receiver
