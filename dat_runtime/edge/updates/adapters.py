"""Adapters at the MLLM's server, under names that say their content.

vLLM takes adapters while it runs (`--enable-lora`, `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True`). One
that is loaded again under the same name may answer from the cache of the old one
(vllm-project/vllm#42125), so each adapter has a name of its own: the served model's, and a digest.
"""

import hashlib
import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dat_runtime.edge.node_settings import MllmSettings
from dat_runtime.endpoint import without_userinfo
from dat_runtime.errors import ConfigError, DatError, printable
from dat_runtime.files import parse, read_text
from dat_runtime.manifest import Manifest
from dat_runtime.network import is_loopback

SECONDS = 60.0
"""For a server to load an adapter of some hundred megabytes."""

LIST_SECONDS = 5.0
RESTART_SECONDS = 900.0
"""For a restart command and the server's start: a 7B loads for minutes."""

MOST_BYTES = 1 << 20
"""Of a server's reply."""

MOST_NAME = 180
"""Characters of the served model's in a name: an alert states at most 200."""

_MOST_WORDS = 200


class AdapterRefused(DatError):
    """The server works, and does not take this adapter: its rank or its base does not fit."""


class ServerAway(DatError):
    """The server does not answer now."""


class NoRuntimeLoading(DatError):
    """The server takes no adapters while it runs."""


def adapter_of(bundle: Manifest) -> str:
    """A digest of the adapter in a bundle: 16 digits, the same for the same weights."""
    files = {name: sha for name, sha in bundle.outputs.items() if name.startswith("adapter/")}
    files.pop("adapter/README.md", None)
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]


def name_of(mllm: MllmSettings, adapter: str, served: str | None) -> str:
    """The model to ask for an adapter.

    Args:
        served: the adapter that the server has under its plain name.
    """
    plain = mllm.model or ""
    if adapter == served or mllm.restart is not None:
        return plain
    return f"{plain[:MOST_NAME]}-{adapter}"


class Server:
    """An OpenAI-compatible server with vLLM's two requests for adapters.

    Raises:
        ConfigError: its key cannot be read.
    """

    def __init__(self, mllm: MllmSettings):
        assert mllm.url is not None  # whoever has a recorded answer has no adapters
        self._url = mllm.url.rstrip("/")
        self._restart = mllm.restart
        self._headers = {"accept-encoding": "identity"}
        if mllm.key_file is not None:
            key = read_text(mllm.key_file, ConfigError).strip()
            self._headers["authorization"] = f"Bearer {key}"

    def names(self) -> frozenset[str]:
        """What can be asked there now.

        Raises:
            ServerAway: it does not answer.
        """
        status, value = self._ask("GET", "/models", None, LIST_SECONDS)
        models = value.get("data") if isinstance(value, dict) else None
        if status != 200 or not isinstance(models, list):
            raise ServerAway(f"{self._shown}/models: status {status}, {_words(value)}")
        return frozenset(str(m["id"]) for m in models if isinstance(m, dict) and "id" in m)

    def load(self, name: str, adapter: Path) -> None:
        """Have an adapter under a name; nothing is done where it is there.

        Raises:
            AdapterRefused, ServerAway, NoRuntimeLoading: it cannot be loaded.
        """
        if name in self.names():
            return
        told = {"lora_name": name, "lora_path": str(adapter.resolve())}
        status, value = self._ask("POST", "/load_lora_adapter", told, SECONDS)
        if status == 200 or "already been loaded" in _words(value):
            return
        self._refuse(status, value, name)

    def unload(self, name: str) -> None:
        """Forget an adapter; one that is not there is as good.

        Raises:
            ServerAway, NoRuntimeLoading: it does not answer.
        """
        status, value = self._ask("POST", "/unload_lora_adapter", {"lora_name": name}, SECONDS)
        if status != 200 and name in self.names():
            self._refuse(status, value, name)

    def restart(self) -> None:
        """Run the stated command and wait until the server answers again.

        Raises:
            ServerAway: the command fails, or the server does not come.
        """
        assert self._restart is not None
        deadline = time.monotonic() + RESTART_SECONDS
        try:
            subprocess.run(
                self._restart,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=RESTART_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ServerAway(f"mllm.restart: {error}") from None
        while True:
            try:
                self.names()
                return
            except ServerAway:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)

    @property
    def _shown(self) -> str:
        return without_userinfo(self._url)

    def _refuse(self, status: int, value: Any, name: str) -> None:
        words = _words(value)
        if status in (404, 405, 501) and words in ("Not Found", "Method Not Allowed", ""):
            raise NoRuntimeLoading(
                f"{self._shown} takes no adapters while it runs: start vLLM with "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or state mllm.restart in node.yaml"
            )
        if status >= 500 or status in (408, 429):
            raise ServerAway(f"{self._shown}: status {status} to adapter {name}: {words}")
        raise AdapterRefused(f"{self._shown} refuses adapter {name}: status {status}, {words}")

    def _ask(self, method: str, path: str, body: Any, seconds: float) -> tuple[int, Any]:
        """The status of one request and what its body holds; text where it is not JSON."""
        import httpx

        url = httpx.URL(self._url + path)
        content = bytearray()
        deadline = time.monotonic() + seconds  # httpx's own limit is of each piece
        try:
            with (
                httpx.Client(trust_env=not is_loopback(url.host), timeout=seconds) as client,
                client.stream(method, url, headers=self._headers, json=body) as response,
            ):
                for chunk in response.iter_raw():
                    content += chunk
                    if len(content) > MOST_BYTES:
                        raise ServerAway(f"{self._shown}{path}: more than {MOST_BYTES} bytes")
                    if time.monotonic() > deadline:
                        raise ServerAway(f"{self._shown}{path}: no whole answer in {seconds:g} s")
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
            raise ServerAway(f"{self._shown}{path}: {said}") from None
        text = content.decode("utf-8", "replace")
        try:
            return response.status_code, parse(text)
        except ValueError:
            return response.status_code, text


def _words(value: Any) -> str:
    """What an error says: vLLM's `error.message`, FastAPI's `detail`, or plain text."""
    for key in ("error", "message", "detail"):
        if isinstance(value, Mapping) and value.get(key):
            value = value[key]
    return printable(value[:_MOST_WORDS]) if isinstance(value, str) else ""
