"""What `receive` reads from its options, and how it watches over workers; none of them begins."""

import io
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")

import uvicorn

from dat_runtime.cloud import serve
from dat_runtime.cloud.guard import Guard
from dat_runtime.cloud.protocol import BoundedProtocol
from dat_runtime.cloud.serve import Options, receive
from dat_runtime.cloud.settings import Settings
from dat_runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:0", ("::1", 0)),
        ("host.example:65535", ("host.example", 65_535)),
        ("X.example.X:1", ("X.example.X", 1)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert serve._address(text) == address


@pytest.mark.parametrize("text", ["8080", ":8080", "h:", "h:x", "h:65536", "h:-1", "h:²", ""])
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(ConfigError) as told:
        serve._address(text)
    assert str(told.value) == f"--listen is {text!r}, expected ADDRESS:PORT"


def test_without_tokens_only_this_machine_is_listened_to() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        serve._require_safe(host, None)
    serve._require_safe("0.0.0.0", Path("tokens"))
    with pytest.raises(ConfigError) as told:
        serve._require_safe("0.0.0.0", None)
    assert str(told.value) == (
        "--listen 0.0.0.0 is reachable from elsewhere, where anyone could send and review: "
        "give --tokens FILE with NODE<TAB>TOKEN lines, or listen on 127.0.0.1"
    )


def test_pictures_lie_beside_an_sqlite_store() -> None:
    assert serve._beside("sqlite:///some/r.db") == Path("some").absolute()
    assert serve._beside("sqlite:////r.db") == Path("/")
    with pytest.raises(ConfigError) as told:
        serve._beside("postgresql://h/d")
    assert str(told.value) == (
        "--data FOLDER is needed when the store is no SQLite file: pictures lie there"
    )


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("events.db", "--store is not an address, expected sqlite:///PATH or postgresql://"),
        ("sqlite://", "--store is sqlite://, expected sqlite:///PATH or postgresql://"),
        ("mysql://u:p@h/d", "--store is mysql://u:***@h/d, expected sqlite:///PATH or postgresql:"),
    ],
)
@pytest.mark.parametrize("data", [None, Path("pictures")])
def test_what_is_no_store_is_told_whether_a_folder_is_named_or_not(
    store: str, words: str, data: Path | None
) -> None:
    with pytest.raises(ConfigError) as told:
        serve.receive("127.0.0.1:0", store, data=data)
    assert str(told.value).startswith(words)


def options(tmp_path: Path, **settings: Any) -> Options:
    return Options(f"sqlite:///{tmp_path}/s/t/r.db", tmp_path / "d/e", None, Settings(**settings))


def test_what_is_wrong_is_told_before_anyone_waits(tmp_path: Path) -> None:
    serve._require_openable(options(tmp_path))
    serve._require_openable(options(tmp_path))
    assert (tmp_path / "s/t/r.db").is_file()
    assert (tmp_path / "d/e").is_dir()
    for settings, words in (
        ({"webhook": "ftp://h/"}, "--webhook"),
        ({"mqtt_in": "http://h/"}, "expected mqtt"),
        ({"finish": "ftp://h/"}, "--finish"),
    ):
        with pytest.raises(ConfigError, match=words):
            serve._require_openable(options(tmp_path, **settings))
    (tmp_path / "file").write_text("")
    for wrong in (
        Options(f"sqlite:///{tmp_path}/file/s/r.db", tmp_path / "d", None, Settings()),
        Options(f"sqlite:///{tmp_path}/r.db", tmp_path / "file/d", None, Settings()),
    ):
        with pytest.raises(ConfigError) as told:
            serve._require_openable(wrong)
        assert str(told.value).startswith(f"the folder {tmp_path}/file/")
        assert str(told.value).endswith(": Not a directory")


def test_a_port_is_bound_and_listened_to_by_who_serves() -> None:
    with serve._listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
        assert (listener.family, listener.type) == (socket.AF_INET, socket.SOCK_STREAM)
        listener.listen()
        words = rf"^--listen 127\.0\.0\.1:{port}: Address already in use$"
        with pytest.raises(ConfigError, match=words), serve._listener("127.0.0.1", port):
            pass
    assert listener.fileno() == -1
    with pytest.raises(ConfigError, match=r"^--listen no\.such\.name\.invalid:0: "):
        serve._listener("no.such.name.invalid", 0).__enter__()


def test_as_many_files_are_opened_as_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    limits = {resource.RLIMIT_NOFILE: (10, 20)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", lambda *given: told.append(given))
    serve._allow_connections()
    assert told == [(resource.RLIMIT_NOFILE, (20, 20))]

    def refuse(*_: Any) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    serve._allow_connections()


def test_workers_count_together_in_a_folder_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    with serve._shared_metrics():
        folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        assert folder.is_dir()
        assert folder.parent == Path(tempfile.gettempdir())
        assert folder.name.startswith("dat-metrics-")
    assert not folder.exists()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `_serve` is called with, in its place."""
    calls: list[Any] = []

    def call(options: Options, listener: Any, ready: Callable[[], None], *more: Any) -> None:
        calls.append((options, listener.getsockname()[1]))
        ready()

    monkeypatch.setattr(serve, "_serve", call)
    return calls


class Out(io.StringIO):
    """What was printed and flushed, as another process sees it."""

    seen = ""

    def flush(self) -> None:
        self.seen = self.getvalue()


def test_one_process_serves_by_itself(
    tmp_path: Path, served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[Any] = []
    monkeypatch.setattr(logging, "basicConfig", lambda **given: logged.append(given))
    monkeypatch.setattr(sys, "stdout", out := Out())
    store = f"sqlite:///{tmp_path}/r.db"
    assert receive("127.0.0.1:0", store) == 0
    ((options, port),) = served
    assert options == Options(store, tmp_path, None, Settings())
    assert out.seen == f"listening on http://127.0.0.1:{port}\n"
    assert logged == [{"format": "%(levelname)s %(name)s: %(message)s"}]
    monkeypatch.setattr(sys, "stdout", out := Out())
    also = Settings(keep_days=1.0)
    (tmp_path / "tokens").write_text("n1\tone\n")
    receive("[::1]:0", store, tmp_path / "tokens", 1, tmp_path / "data", also)
    options, port = served[1]
    assert options == Options(store, tmp_path / "data", tmp_path / "tokens", also)
    assert out.seen == f"listening on http://[::1]:{port}\n"
    for workers in (0, 65):
        with pytest.raises(ConfigError, match=f"^--workers is {workers}, expected 1 to 64$"):
            receive("127.0.0.1:0", store, workers=workers)


def test_several_processes_are_watched_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    class Workers:
        def __init__(self, options: Options, listener: socket.socket, count: int):
            told.append((options.folder, count))

        def run(self, address: str) -> int:
            told.append((address, os.environ["PROMETHEUS_MULTIPROC_DIR"] != ""))
            return 7

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr(serve, "_Workers", Workers)
    for workers in (2, 64):
        assert receive("127.0.0.1:0", f"sqlite:///{tmp_path}/r.db", workers=workers) == 7
    assert [told[0], told[2]] == [(tmp_path, 2), (tmp_path, 64)]
    assert told[1][0].startswith("http://127.0.0.1:")
    assert told[1][1]


class Timer:
    """A timer that never comes to its end."""

    made: list["Timer"]

    def __init__(self, seconds: float, work: Any, given: Any):
        self.told = (seconds, work, given)
        self.daemon = self.started = False
        self.made.append(self)

    def start(self) -> None:
        self.started = True


@pytest.mark.parametrize("is_first", [True, False])
def test_a_server_is_bounded_and_told_to_end_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    servers: list[Any] = []
    receivers: list[Any] = []
    monkeypatch.setattr(Timer, "made", [], raising=False)
    monkeypatch.setattr(threading, "Timer", Timer)
    monkeypatch.setattr(serve, "_allow_connections", lambda: None)
    monkeypatch.setattr(
        uvicorn.Server, "run", lambda self, sockets: servers.append((self, sockets))
    )
    from dat_runtime.cloud import application

    original = application.opened

    def opened(*given: Any) -> Any:
        receivers.append(original(*given))
        return receivers[-1]

    monkeypatch.setattr(application, "opened", opened)
    (tmp_path / "tokens").write_text("n1\tone\n")
    mine = replace(options(tmp_path, keep_days=3.0), tokens=tmp_path / "tokens")
    serve._require_openable(mine)
    receivers.clear()
    listener: Any = object()
    serve._serve(mine, listener, lambda: None, is_first)
    ((server, sockets),) = servers
    (receiver,) = receivers
    assert sockets == [listener]
    assert (receiver.settings, receiver.runs_tasks) == (mine.settings, is_first)
    assert (receiver.folder, receiver.access.file) == (mine.folder, mine.tokens)
    config = server.config
    assert isinstance(config.app, Guard)
    assert (config.http, config.ws, config.lifespan) == (BoundedProtocol, "none", "on")
    assert (config.log_level, config.access_log, config.server_header) == ("error", False, False)
    bounds = (config.limit_concurrency, config.timeout_keep_alive, config.timeout_graceful_shutdown)
    assert bounds == (2_000, 75, 2)
    for _ in range(2):
        server.handle_exit(signal.SIGTERM, None)
        assert (server.should_exit, receiver.ending) == (True, True)
    (timer,) = Timer.made
    assert (timer.told, timer.daemon, timer.started) == ((3, os._exit, [0]), True, True)
    receiver.store.close()


NOW = [100.0]
"""The clock, while workers are told to end."""


class Process:
    """A worker's process: alive until a test lets it die."""

    def __init__(self, told: list[Any], name: str):
        self._told, self.pid, self.lives = told, name, True

    def is_alive(self) -> bool:
        return self.lives

    def terminate(self) -> None:
        self._told.append(f"terminate {self.pid}")

    def join(self, seconds: float) -> None:
        self._told.append(f"join {self.pid} {seconds}")
        NOW[0] += seconds

    def kill(self) -> None:
        self._told.append(f"kill {self.pid}")


@pytest.fixture
def signals() -> Iterator[None]:
    """The handlers of a process that ends are put back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def watched(
    monkeypatch: pytest.MonkeyPatch, told: list[Any], fails: set[int], dies: dict[int, int]
) -> list[Any]:
    """Watch over two workers for four rounds; the workers. `dies`: round -> which of them."""
    made: list[Any] = []

    class Worker:
        def __init__(self, options: Any, listener: Any, is_first: bool):
            assert (options, listener) == ("options", "listener")
            self.process = Process(told, str(len(made)))
            self.is_first = is_first
            made.append(self)

        def wait_until_ready(self) -> None:
            told.append(f"ready {self.process.pid}")
            if int(self.process.pid) in fails:
                self.process.lives = False
                raise ConfigError("a worker ended")

    rounds = iter(range(1, 9))

    def sleep(seconds: float) -> None:
        assert seconds == 0.1
        now = next(rounds)
        if now in dies:
            made[dies[now]].process.lives = False
        if now == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(serve, "_Worker", Worker)
    monkeypatch.setattr(serve, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: NOW[0]))
    workers: Any = serve._Workers("options", "listener", 2)  # type: ignore[arg-type]
    assert workers.run("http://h:1") == 0
    return made


def test_a_worker_that_dies_is_replaced_until_the_end(
    monkeypatch: pytest.MonkeyPatch,
    signals: None,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Any] = []
    made = watched(monkeypatch, told, fails={3}, dies={2: 1, 3: 0})
    assert [worker.is_first for worker in made] == [True, False, False, True]
    ends = ["join 3 3.0", "kill 3", "join 2 0.0", "kill 2"]
    begins = [f"ready {n}" for n in range(4)]
    assert told == [*begins, "terminate 3", "terminate 2", *ends]
    assert capsys.readouterr().out == "listening on http://h:1\n"
    assert [record.message for record in caplog.records] == [
        "worker 1 died, another begins",
        "worker 0 died, another begins",
    ]


def test_a_worker_that_never_serves_ends_all(
    monkeypatch: pytest.MonkeyPatch, signals: None, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[Any] = []
    with pytest.raises(ConfigError):
        watched(monkeypatch, told, fails={1}, dies={})
    assert told == [
        "ready 0",
        "ready 1",
        "terminate 0",
        "terminate 1",
        "join 0 3.0",
        "kill 0",
        "join 1 0.0",
        "kill 1",
    ]
    assert capsys.readouterr().out == ""


def test_a_worker_is_spawned_and_says_when_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class Context:
        def Pipe(self) -> Any:
            return multiprocessing.Pipe()

        def Process(self, **given: Any) -> Any:
            told.append(given)
            return SimpleNamespace(start=lambda: given["args"][2].send("ready"))

    def context(kind: str) -> Context:
        assert kind == "spawn"
        return Context()

    monkeypatch.setattr(multiprocessing, "get_context", context)
    worker = serve._Worker("options", "listener", True)  # type: ignore[arg-type]
    ((options, listener, theirs, is_first),) = [given["args"] for given in told]
    assert told[0]["target"] is serve._work
    assert (options, listener, is_first) == ("options", "listener", True)
    assert theirs.closed
    worker.wait_until_ready()
    with pytest.raises(ConfigError) as error:
        worker.wait_until_ready()
    assert str(error.value) == "a worker ended before it served; what it said is above"


def test_a_worker_tells_when_it_serves_and_ends_with_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = multiprocessing.Pipe()
    ended = threading.Event()
    told: list[Any] = []
    before = set(threading.enumerate())

    def kill(pid: int, number: int) -> None:
        told.append((pid, number))
        ended.set()

    def call(options: Any, listener: Any, ready: Callable[[], None], is_first: bool) -> None:
        told.append((options, listener, is_first))
        ready()
        assert ours.recv() == "ready"
        (watch,) = set(threading.enumerate()) - before
        assert watch.daemon
        ours.close()
        assert ended.wait(10)

    monkeypatch.setattr(serve, "_serve", call)
    monkeypatch.setattr(serve.os, "kill", kill)
    serve._work("options", "listener", theirs, False)  # type: ignore[arg-type]
    assert told == [("options", "listener", False), (os.getpid(), signal.SIGTERM)]
    theirs.close()


def test_a_worker_whose_parent_cannot_be_heard_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(serve.os, "kill", lambda *_: ended.set())
    monkeypatch.setattr(serve, "_serve", lambda *_: ended.wait(10))

    def broken() -> None:
        raise OSError("the pipe is broken")

    parent: Any = SimpleNamespace(recv=broken)
    serve._work("options", "listener", parent, False)  # type: ignore[arg-type]
    assert ended.is_set()
