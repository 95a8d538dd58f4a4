"""`dat-runtime receive`: a receiver that listens, in one process or in several workers.

The workers share one listening socket and the store; the process that started them watches over
them, and ends when it is told to. A worker whose parent is gone ends by itself.
"""

import contextlib
import logging
import multiprocessing
import os
import resource
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from sqlalchemy.engine import URL

from dat_runtime.cloud.database import checked_url
from dat_runtime.cloud.settings import Settings
from dat_runtime.errors import ConfigError
from dat_runtime.network import is_loopback

log = logging.getLogger("dat_runtime.cloud")

MAX_CONNECTIONS = 2_000
"""Of one worker; a further one is answered 503."""

IDLE_SECONDS = 75
"""An idle connection stays open so long: a node's next alert needs no new one."""

NOTHING_MORE = Settings()
"""Receive, keep all, send nothing on."""

END_SECONDS = 2
"""For requests that are under way when the receiver is told to end."""

HANGS_SECONDS = 1
"""For the rest of the end: a store that hangs does not hold it up. Nothing is lost that was
acknowledged, as when the process is killed."""


@dataclass(frozen=True)
class Options:
    """What `receive` was asked for; its arguments."""

    store: str
    folder: Path
    tokens: Path | None
    settings: Settings


def receive(
    listen: str,
    store: str,
    tokens: Path | None = None,
    workers: int = 1,
    data: Path | None = None,
    also: Settings = NOTHING_MORE,
) -> int:
    """Receive until SIGTERM or SIGINT; prints the address once connections are accepted.

    Args:
        listen: ADDRESS:PORT; port 0 takes a free one.
        store: `sqlite:///PATH` or `postgresql://...`.
        tokens: a file as `access.read_tokens` reads it; without it, loopback only.
        workers: processes.
        data: the folder in which `visuals` lies; that of an SQLite store by default.
        also: where alerts go on to, what comes by MQTT, who finishes, what is kept.

    Raises:
        ConfigError: an option is wrong.
        StoreError: the store cannot be opened.
    """
    if not 1 <= workers <= 64:
        raise ConfigError(f"--workers is {workers}, expected 1 to 64")
    host, port = _address(listen)
    _require_safe(host, tokens)
    options = Options(store, data or _beside(store), tokens, also)
    _require_openable(options)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    with _listener(host, port) as listener:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listener.getsockname()[1]}"
        if workers == 1:
            _serve(options, listener, lambda: print(f"listening on {address}", flush=True))
            return 0
        with _shared_metrics():
            return _Workers(options, listener, workers).run(address)


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ConfigError(f"--listen is {listen!r:.80}, expected ADDRESS:PORT")
    return host.strip("[]"), int(port)


def _require_safe(host: str, tokens: Path | None) -> None:
    if tokens is None and not is_loopback(host):
        raise ConfigError(
            f"--listen {host} is reachable from elsewhere, where anyone could send and review: "
            "give --tokens FILE with NODE<TAB>TOKEN lines, or listen on 127.0.0.1"
        )


def _url(store: str) -> URL:
    try:
        return checked_url(store)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _beside(store: str) -> Path:
    url = _url(store)
    if url.get_backend_name() == "sqlite" and url.database:
        return Path(url.database).absolute().parent
    raise ConfigError(
        "--data FOLDER is needed when the store is no SQLite file: pictures lie there"
    )


def _require_openable(options: Options) -> None:
    """Look at what goes on, and open and close the store once: what is wrong is told at once."""
    from dat_runtime.cloud.application import opened
    from dat_runtime.cloud.finishing import servers_of
    from dat_runtime.cloud.targets import require_usable

    require_usable(options.settings)
    servers_of(options.settings)
    url = _url(options.store)
    try:
        if url.get_backend_name() == "sqlite" and url.database:
            Path(url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
        options.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the folder {error.filename}: {error.strerror}") from None
    opened(options.store, options.folder, options.tokens).store.close()


@contextlib.contextmanager
def _listener(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that is bound; who serves listens, so that nobody waits for a worker that begins."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ConfigError(f"--listen {host}:{port}: {error.strerror or error}") from None
        yield listener


def _serve(
    options: Options, listener: socket.socket, ready: Callable[[], None], is_first: bool = True
) -> None:
    """Serve in this process until it is told to end."""
    import uvicorn

    from dat_runtime.cloud.application import app, opened
    from dat_runtime.cloud.protocol import BoundedProtocol

    _allow_connections()
    receiver = opened(options.store, options.folder, options.tokens)
    receiver.settings = options.settings
    receiver.runs_tasks = is_first

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # Not the original's: it raises the signal again at the end, as if we had failed.
            if not receiver.ending:
                hangs = threading.Timer(END_SECONDS + HANGS_SECONDS, os._exit, [0])
                hangs.daemon = True
                hangs.start()
            receiver.ending = True
            self.should_exit = True

    settings = uvicorn.Config(
        app(receiver),
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_level="error",  # below it is what clients do wrong: theirs to fill the log with
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=END_SECONDS,
    )
    Server(settings).run([listener])


def _allow_connections() -> None:
    """Open files up to what the system allows: a connection is one."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def _shared_metrics() -> Iterator[None]:
    """A folder in which the workers count together, for as long as they run."""
    from dat_runtime.cloud.metrics import SHARED_FOLDER

    with tempfile.TemporaryDirectory(prefix="dat-metrics-") as folder:
        os.environ[SHARED_FOLDER] = folder
        yield


class _Workers:
    """The processes that serve, and who watches over them."""

    def __init__(self, options: Options, listener: socket.socket, count: int):
        self._options = options
        self._listener = listener
        self._count = count
        self._end = False

    def run(self, address: str) -> int:
        """Until SIGTERM or SIGINT. A worker that dies is replaced, as often as it takes.

        Raises:
            ConfigError: a worker ended before it served for the first time.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_end)
        workers = [_Worker(self._options, self._listener, n == 0) for n in range(self._count)]
        try:
            for worker in workers:
                worker.wait_until_ready()
            print(f"listening on {address}", flush=True)
            while not self._end:
                time.sleep(0.1)
                for n, worker in enumerate(workers):
                    if not worker.process.is_alive() and not self._end:
                        log.error("worker %s died, another begins", worker.process.pid)
                        workers[n] = _Worker(self._options, self._listener, n == 0)
                        # Where the store is away it ends too, and the next one is tried.
                        with contextlib.suppress(ConfigError):
                            workers[n].wait_until_ready()
        finally:
            for worker in workers:
                worker.process.terminate()
            until = time.monotonic() + END_SECONDS + HANGS_SECONDS
            for worker in workers:
                worker.process.join(max(0.0, until - time.monotonic()))
                worker.process.kill()
        return 0

    def _told_to_end(self, number: int, frame: FrameType | None) -> None:
        self._end = True


class _Worker:
    def __init__(self, options: Options, listener: socket.socket, is_first: bool):
        # Spawned, not forked: it shares no thread, lock or connection with us.
        context = multiprocessing.get_context("spawn")
        self.ours, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(options, listener, theirs, is_first))
        self.process.start()
        theirs.close()

    def wait_until_ready(self) -> None:
        try:
            self.ours.recv()
        except EOFError:
            raise ConfigError("a worker ended before it served; what it said is above") from None


def _work(options: Options, listener: socket.socket, parent: Connection, is_first: bool) -> None:
    """A worker's life."""

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            parent.recv()  # nothing is ever sent: it returns when the parent is gone
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    _serve(options, listener, lambda: parent.send("ready"), is_first)
