"""A receiver that really listens, on SQLite and on PostgreSQL, and alerts to send to it."""

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("sqlalchemy")
pytest.importorskip("uvicorn")

import httpx
import uvicorn
from sqlalchemy import Connection, create_engine, insert, text

from benchmarks import private_postgresql
from dat_runtime.cloud.application import app, opened
from dat_runtime.cloud.protocol import BoundedProtocol
from dat_runtime.cloud.receiver import Receiver
from dat_runtime.cloud.settings import Settings
from dat_runtime.cloud.tables import metadata, store_state

BOTH = ("sqlite", "postgresql")

STATUS = {
    "schema": 1,
    "time": 1.0,
    "cameras": {"north": "online"},
    "uplink": {"bytes_per_s": None, "round_trip_s": 0.05},
    "waiting": {"alerts": 0, "visuals": 0},
    "dropped": {},
}
"""What a node tells of itself."""


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


class PromptServer(uvicorn.Server):
    """Ends at once: uvicorn looks ten times a second whether it is to, and waits for a tenth more.

    What ends with requests under way is uvicorn's own way still.
    """

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:
            await asyncio.sleep(0.01)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
            await server.wait_closed()
        await self.lifespan.shutdown()


@contextmanager
def running(
    store: str, folder: Path, tokens: Path | None = None, settings: Settings | None = None
) -> Iterator[Running]:
    """Let a receiver listen on a free port of loopback, in a thread."""
    inside = opened(store, folder, tokens)
    inside.settings = settings or Settings()
    server = PromptServer(
        uvicorn.Config(
            app(inside),
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=3,
            timeout_graceful_shutdown=3,
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
def postgresql() -> Iterator[str]:
    """The URL of a private PostgreSQL's databases, with {} for a database's name."""
    if reason := private_postgresql.missing():
        pytest.skip(reason)
    # Not pytest's folder: another user has to reach it, and a socket's path is short.
    with (
        TemporaryDirectory(prefix="dat-") as folder,
        private_postgresql.cluster(Path(folder)) as url,
    ):
        yield url


@pytest.fixture
def make_database(postgresql: str) -> Callable[[], str]:
    """Makes an empty database of PostgreSQL and returns its URL."""
    numbers = itertools.count()

    def make() -> str:
        # Those of earlier tests are emptied: a database is three hundred files to make and remove.
        name = f"t{next(numbers)}"
        with connected(postgresql.format("postgres")) as connection:
            query = f"SELECT 1 FROM pg_database WHERE datname = '{name}'"
            if connection.execute(text(query)).first() is None:
                connection.execute(text(f"CREATE DATABASE {name}"))
        url = postgresql.format(name)
        with connected(url) as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        return url

    return make


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection to a PostgreSQL, each statement a transaction."""
    engine = create_engine(
        url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def connection() -> Iterator[Connection]:
    """An empty store in memory, for what is asked of a connection."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        connection.execute(text("PRAGMA foreign_keys = ON"))
        metadata.create_all(connection)
        connection.execute(insert(store_state).values(name="numbers", value=0))
        yield connection
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


@pytest.fixture
def make_receiver(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts a receiver on SQLite; the argument is the text of its file of tokens."""
    with ExitStack() as stack:

        def make(tokens: str | None = None) -> Running:
            file = None
            if tokens is not None:
                file = tmp_path / "tokens"
                file.write_text(tokens)
            url = f"sqlite:///{tmp_path}/receiver.db"
            return stack.enter_context(running(url, tmp_path / "data", file))

        yield make


@pytest.fixture
def sqlite_receiver(make_receiver: Callable[..., Running]) -> Running:
    """A receiver without tokens, for what has nothing to do with the store."""
    return make_receiver()


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A receiver for all cases of a module that it refuses: they leave nothing behind."""
    folder = tmp_path_factory.mktemp("refusing")
    with running(f"sqlite:///{folder}/receiver.db", folder / "data") as receiver:
        yield receiver
