"""An OpenAI-compatible server on the loopback that holds adapters by name, as vLLM does; no model.

A stand-in for figures and tests of switching. What it keeps to, of vLLM's server:

- `POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`; a name that is loaded is refused with
  400, one that is not there with 404; `GET /v1/models` lists them.
- Each answer is made by the weights that its name stood for when the question came, read from the
  disk: its summary states the name and the sha256 of those weights.
- A name that is loaded again answers old questions from the cache of the first weights
  (vllm-project/vllm#42125).
- A question whose adapter is unloaded before its answer fails with 500: whoever unloads early loses
  it, and it is counted.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WEIGHTS = "adapter_model.safetensors"


def weights_digest(adapter: Path) -> str:
    """What an answer states of the weights that made it."""
    return hashlib.sha256((adapter / WEIGHTS).read_bytes()).hexdigest()[:16]


class LoraServer:
    """The server's state; `serving` runs it.

    Args:
        base: the name of the base model.
        seconds: that an answer takes.
        plain: an adapter that it has as `dat` from the start, as by `--lora-modules`.
        loads: whether adapters can be loaded while it runs.
    """

    def __init__(
        self,
        base: str = "base",
        seconds: float = 0.0,
        plain: Path | None = None,
        loads: bool = True,
    ):
        self.base = base
        self._plain = plain
        self.seconds = seconds
        self.loads = loads
        self.garbage: set[str] = set()
        """Digests of weights whose answers are no JSON."""
        self.lock = threading.Lock()
        self.adapters: dict[str, str] = {}
        self.cache: dict[str, str] = {}
        self.answered = self.failed = self.broken_off = 0
        self.loaded: list[str] = []
        self.restart()

    def restart(self) -> None:
        """As a process manager does: what was loaded is gone, `plain` is read again."""
        with self.lock:
            self.adapters, self.cache = {}, {}
            if self._plain is not None:
                self.adapters["dat"] = self.cache["dat"] = weights_digest(self._plain)

    def load(self, told: dict[str, Any]) -> tuple[int, Any]:
        name, path = told.get("lora_name"), told.get("lora_path")
        if not name or not path:
            return 400, _error("Both 'lora_name' and 'lora_path' must be provided.")
        if not (Path(path) / WEIGHTS).is_file():
            return 404, _error(f"No adapter found for {path}")
        with self.lock:
            if name in self.adapters:
                return 400, _error(f"The lora adapter '{name}' has already been loaded.")
            self.adapters[name] = weights_digest(Path(path))
            self.cache.setdefault(name, self.adapters[name])
            self.loaded.append(name)
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, told: dict[str, Any]) -> tuple[int, Any]:
        name = told.get("lora_name")
        with self.lock:
            if self.adapters.pop(str(name), None) is None:
                return 404, _error(f"The lora adapter '{name}' cannot be found.")
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def complete(self, told: dict[str, Any]) -> tuple[int, Any]:
        name = str(told.get("model"))
        with self.lock:
            if name not in self.adapters:
                self.failed += 1
                return 404, _error(f"The model `{name}` does not exist.")
            weights = self.cache[name]
        time.sleep(self.seconds)
        with self.lock:
            if name not in self.adapters:
                self.broken_off += 1
                return 500, _error(f"The lora adapter '{name}' was unloaded.")
            self.answered += 1
        text = "I see a car." if weights in self.garbage else _answer(f"{name} {weights}")
        return 200, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}

    def models(self) -> dict[str, Any]:
        with self.lock:
            return {"data": [{"id": name} for name in (self.base, *self.adapters)]}


def _answer(summary: str) -> str:
    """A compliant answer that no sure gate contradicts."""
    told = {"count": 1, "severity": "severe", "level": 1, "score": 0.9, "summary": summary}
    return json.dumps({**told, "accidents": [{"bbox": [0, 0, 9, 9], "severity": "severe"}]})


def _error(words: str) -> dict[str, Any]:
    return {"error": {"message": words, "type": "BadRequestError", "code": 400}}


@contextmanager
def serving(state: LoraServer, port: int = 0) -> Iterator[str]:
    """The server's address, `http://127.0.0.1:PORT/v1`, while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = self.path == "/v1/models"
            self._say(*((200, state.models()) if found else (404, {"detail": "Not Found"})))

        def do_POST(self) -> None:
            if self.path == "/restart":  # no part of vLLM's: what a restart command calls here
                state.restart()
                self._say(200, "restarted")
                return
            told = json.loads(self.rfile.read(int(self.headers["content-length"])))
            ways = {"/v1/chat/completions": state.complete}
            if state.loads:
                ways["/v1/load_lora_adapter"] = state.load
                ways["/v1/unload_lora_adapter"] = state.unload
            way = ways.get(self.path)
            self._say(*((404, {"detail": "Not Found"}) if way is None else way(told)))

        def _say(self, status: int, value: Any) -> None:
            content = (value if isinstance(value, str) else json.dumps(value)).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 64
        block_on_close = False

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
