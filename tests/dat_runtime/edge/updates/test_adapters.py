"""What is said to an MLLM's server about adapters, and what its answers mean."""

import hashlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from dat_runtime.edge.node_settings import MllmSettings
from dat_runtime.edge.updates import adapters
from dat_runtime.edge.updates.adapters import (
    MOST_BYTES,
    AdapterRefused,
    NoRuntimeLoading,
    Server,
    ServerAway,
    adapter_of,
    name_of,
)
from dat_runtime.errors import ConfigError
from dat_runtime.manifest import Manifest

OFF = (
    " takes no adapters while it runs: start vLLM with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or"
    " state mllm.restart in node.yaml"
)


def test_an_adapter_s_digest_is_of_its_files_but_its_words() -> None:
    outputs = {"adapter/a": "1", "adapter/b": "2", "adapter/README.md": "3", "gate/a": "4"}
    told = Manifest("bundle", {}, {}, "", {}, outputs)
    content = b'{"adapter/a": "1", "adapter/b": "2"}'
    assert adapter_of(told) == hashlib.sha256(content).hexdigest()[:16]
    turned = Manifest("bundle", {}, {}, "", {}, {"adapter/b": "2", "adapter/a": "1"})
    assert adapter_of(turned) == adapter_of(told)


def test_each_adapter_has_a_name_of_its_own_but_the_one_that_the_server_began_with() -> None:
    mllm = MllmSettings("http://h", "dat")
    assert name_of(mllm, "a1", "a1") == "dat"
    assert name_of(mllm, "a1", None) == "dat-a1"
    assert name_of(mllm, "a1", "b2") == "dat-a1"
    assert name_of(MllmSettings("http://h", "dat", restart=("x",)), "a1", "b2") == "dat"
    assert name_of(MllmSettings("http://h"), "a1", "b2") == "-a1"
    assert name_of(MllmSettings("http://h", "m" * 181), "a1", None) == "m" * 180 + "-a1"


@dataclass
class Said:
    """What the server was asked, and what it answers: method and path -> status and body."""

    answers: dict[str, tuple[int, object]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], object]] = field(default_factory=list)
    url: str = ""

    def models(self, *names: str) -> None:
        self.answers["GET /v1/models"] = (200, {"data": [{"id": name} for name in names]})


@pytest.fixture
def said() -> Iterator[Said]:
    told = Said()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = f"{self.command} {self.path}"
            told.asked.append((asked, headers, json.loads(body) if body else None))
            status, answer = told.answers[asked]
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}/v1"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield told
        server.shutdown()


def server(said: Said, **settings: Any) -> Server:
    return Server(MllmSettings(said.url + "/", "dat", **settings))


def test_the_names_are_the_ids_that_the_server_lists(said: Said, tmp_path: Path) -> None:
    listed = {"data": [{"id": "dat"}, {"id": 7}, {"name": "x"}, "y"]}
    said.answers["GET /v1/models"] = (200, listed)
    assert server(said).names() == {"dat", "7"}
    (asked, headers, body) = said.asked[0]
    assert (asked, body) == ("GET /v1/models", None)
    assert headers["accept-encoding"] == "identity"
    assert "authorization" not in headers
    (tmp_path / "key").write_text(" secret\n")
    server(said, key_file=tmp_path / "key").names()
    assert said.asked[1][1]["authorization"] == "Bearer secret"
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/none: cannot be read"):
        server(said, key_file=tmp_path / "none")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (503, {"error": {"message": "loading"}}, "status 503, loading"),
        (200, [], "status 200, "),
        (200, {"data": {}}, "status 200, "),
        (200, b"<html>\x1b", "status 200, <html>\\x1b"),
        (401, b"x" * 201, f"status 401, {'x' * 200}"),
    ],
)
def test_a_list_that_is_none_is_told_by_its_status(
    said: Said, status: int, body: object, words: str
) -> None:
    said.answers["GET /v1/models"] = (status, body)
    with pytest.raises(ServerAway, match=f"^{re.escape(f'{said.url}/models: {words}')}$"):
        server(said).names()


def test_a_reply_may_have_a_megabyte_and_no_more(said: Said) -> None:
    said.answers["GET /v1/models"] = (200, b'{"data": []}'.ljust(MOST_BYTES))
    assert server(said).names() == frozenset()
    said.answers["GET /v1/models"] = (200, b'{"data": []}'.ljust(MOST_BYTES + 1))
    with pytest.raises(ServerAway, match=rf"^{said.url}/models: more than 1048576 bytes$"):
        server(said).names()


def test_a_server_that_is_not_there_is_told_without_its_password(said: Said) -> None:
    url = said.url.replace("http://127.0.0.1", "http://ann:secret@127.0.0.1")
    said.answers["GET /v1/models"] = (503, b"")
    with pytest.raises(ServerAway, match=f"^{said.url}/models: status 503, $"):
        Server(MllmSettings(url, "dat")).names()
    with pytest.raises(ServerAway, match=r"^http://127\.0\.0\.1:1/models: .*refused"):
        Server(MllmSettings("http://ann:secret@127.0.0.1:1", "dat")).names()


def test_an_adapter_is_loaded_once_by_its_whole_path(
    said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said.models("dat")
    said.answers["POST /v1/load_lora_adapter"] = (200, b"Success")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("adapter")
    server(said).load("dat-1", Path("link"))
    assert [(asked, body) for asked, _, body in said.asked] == [
        ("GET /v1/models", None),
        (
            "POST /v1/load_lora_adapter",
            {"lora_name": "dat-1", "lora_path": str((tmp_path / "adapter").resolve())},
        ),
    ]
    said.models("dat", "dat-1")
    server(said).load("dat-1", Path("link"))
    assert len(said.asked) == 3
    said.models("dat")  # another one was quicker
    told = {"error": {"message": "The lora adapter 'dat-1' has already been loaded."}}
    said.answers["POST /v1/load_lora_adapter"] = (400, told)
    server(said).load("dat-1", Path("link"))


class Scripted(Server):
    """Asks nobody: the answers are there."""

    def __init__(self, said: Said):
        said.url = "http://h/v1"
        super().__init__(MllmSettings("http://ann:secret@h/v1", "dat"))
        self._said = said

    def _ask(self, method: str, path: str, body: Any, seconds: float) -> tuple[int, Any]:
        self._said.asked.append((f"{method} {path} {seconds:g} s", {}, body))
        return self._said.answers[f"{method} /v1{path}"]


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (404, {"detail": "Not Found"}, NoRuntimeLoading, OFF),
        (405, {"detail": "Method Not Allowed"}, NoRuntimeLoading, OFF),
        (501, "", NoRuntimeLoading, OFF),
        (404, {"message": "No adapter found"}, AdapterRefused, "status 404, No adapter found"),
        (400, {"error": "rank 64"}, AdapterRefused, "status 400, rank 64"),
        (400, "Not Found", AdapterRefused, "status 400, Not Found"),
        (500, {"error": {"message": "x"}}, ServerAway, ": status 500 to adapter dat-1: x"),
        (408, {"error": {}}, ServerAway, ": status 408 to adapter dat-1: "),
        (429, {"detail": ["x"]}, ServerAway, ": status 429 to adapter dat-1: "),
        (499, "x", AdapterRefused, "status 499, x"),
    ],
)
def test_a_refusal_is_of_the_adapter_of_the_moment_or_of_all(
    status: int, body: object, kind: type[Exception], words: str
) -> None:
    said = Said()
    scripted = Scripted(said)
    said.models("dat")
    for call in ("load", "unload"):
        said.answers[f"POST /v1/{call}_lora_adapter"] = (status, body)
    if kind is AdapterRefused:
        words = f" refuses adapter dat-1: {words}"
    with pytest.raises(kind, match=f"^{re.escape(said.url + words)}$"):
        scripted.load("dat-1", Path("a"))
    scripted.unload("dat-1")  # it is not there, which is as good
    said.models("dat", "dat-1")
    with pytest.raises(kind, match=f"^{re.escape(said.url + words)}$"):
        scripted.unload("dat-1")


def test_requests_are_given_the_time_that_they_need() -> None:
    said = Said()
    said.models("dat")
    for call in ("load", "unload"):
        said.answers[f"POST /v1/{call}_lora_adapter"] = (200, "Success")
    Scripted(said).load("dat-1", Path("/a"))
    Scripted(said).unload("dat-1")
    assert [(asked, body) for asked, _, body in said.asked] == [
        ("GET /models 5 s", None),
        ("POST /load_lora_adapter 60 s", {"lora_name": "dat-1", "lora_path": "/a"}),
        ("POST /unload_lora_adapter 60 s", {"lora_name": "dat-1"}),
    ]


def restarted(said: Said, command: tuple[str, ...]) -> None:
    server(said, restart=command).restart()


def test_a_restart_runs_the_command_and_waits_until_the_server_answers(
    said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            said.models("dat")

    said.answers["GET /v1/models"] = (503, b"")
    monkeypatch.setattr(adapters, "time", SimpleNamespace(sleep=nap, monotonic=time.monotonic))
    shell = f"cat; echo words; echo more >&2; echo x >> {tmp_path}/ran"
    restarted(said, ("/bin/sh", "-c", shell))
    assert (naps, (tmp_path / "ran").read_text()) == ([1.0, 1.0], "x\n")
    assert capfd.readouterr() == ("", "")


def test_a_command_that_fails_or_a_server_that_does_not_come_is_away(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServerAway, match=r"^mllm\.restart: .*returned non-zero exit status 3"):
        restarted(said, ("/bin/sh", "-c", "exit 3"))
    with pytest.raises(ServerAway, match=r"^mllm\.restart: .*No such file"):
        restarted(said, ("/nowhere/at-all",))
    times: list[float] = []

    def late(*_: object, timeout: float, **__: object) -> None:
        times.append(timeout)
        raise subprocess.TimeoutExpired(["x"], timeout)

    with monkeypatch.context() as patched:
        patched.setattr(adapters.subprocess, "run", late)
        with pytest.raises(ServerAway, match=r"^mllm\.restart: .*timed out after 900"):
            restarted(said, ("x",))
    assert times == [900.0]
    clock = iter([100.0, 100.0, 1000.0, 1000.0, 1000.1])  # each request reads it once too
    fake = SimpleNamespace(sleep=lambda _: None, monotonic=lambda: next(clock))
    monkeypatch.setattr(adapters, "time", fake)
    said.answers["GET /v1/models"] = (503, b"")
    with pytest.raises(ServerAway, match=f"^{said.url}/models: status 503, $"):
        restarted(said, ("/bin/true",))
    assert len(said.asked) == 2


class Client:
    """In the place of `httpx.Client`: keeps how it is made and asked, and gives one body."""

    made: list[tuple[object, ...]]
    said: bytes | Exception

    def __init__(self, **options: object):
        Client.made.append(("client", options))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @contextmanager
    def stream(self, method: str, url: object, **options: object) -> Iterator[object]:
        Client.made.append((method, str(url), options))
        if isinstance(Client.said, Exception):
            raise Client.said
        yield SimpleNamespace(status_code=200, iter_raw=lambda: [Client.said[:3], Client.said[3:]])


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    Client.made, Client.said = [], b'{"data": []}'
    monkeypatch.setattr(httpx, "Client", Client)
    return Client


@pytest.mark.parametrize(("host", "proxies"), [("127.0.0.1", False), ("h.example", True)])
def test_a_server_is_asked_with_its_headers_and_never_through_a_proxy_on_this_machine(
    client: type[Client], host: str, proxies: bool
) -> None:
    Server(MllmSettings(f"http://{host}/v1/", "dat"))._ask("POST", "/x", {"a": 1}, 7.0)
    assert client.made == [
        ("client", {"trust_env": proxies, "timeout": 7.0}),
        (
            "POST",
            f"http://{host}/v1/x",
            {"headers": {"accept-encoding": "identity"}, "json": {"a": 1}},
        ),
    ]


def test_an_answer_that_comes_byte_by_byte_is_given_up_in_time(
    client: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(MllmSettings("http://h/v1", "dat"))
    passed = iter([100.0, 104.0, 107.0, 100.0, 104.0, 107.1])
    monkeypatch.setattr(adapters, "time", SimpleNamespace(monotonic=lambda: next(passed)))
    assert server._ask("GET", "/x", None, 7.0) == (200, {"data": []})
    with pytest.raises(ServerAway, match=r"^http://h/v1/x: no whole answer in 7 s$"):
        server._ask("GET", "/x", None, 7.0)


def test_what_is_no_text_is_read_as_far_as_it_is_and_a_failure_has_words(
    client: type[Client],
) -> None:
    server = Server(MllmSettings("http://h/v1", "dat"))
    client.said = b"no \xff text"
    assert server._ask("GET", "/x", None, 1.0) == (200, "no \ufffd text")
    client.said = httpx.ReadTimeout("")
    with pytest.raises(ServerAway, match=r"^http://h/v1/x: ReadTimeout$"):
        server._ask("GET", "/x", None, 1.0)
