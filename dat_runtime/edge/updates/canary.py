"""Whether canary frames speak against a version, with the MLLM that a node would ask."""

from pathlib import Path

from dat_runtime import manifest
from dat_runtime.edge.node_settings import NodeSettings
from dat_runtime.edge.updates.adapters import AdapterRefused, Server, adapter_of, name_of
from dat_runtime.edge.updates.trial import TrialError, Tried, canary_frames, refusal, try_version
from dat_runtime.edge.updates.versions import Versions
from dat_runtime.errors import ManifestError, printable


class Canary:
    """Tries versions of a node that may run meanwhile.

    Raises:
        ConfigError: there are no canary frames, or the server's key cannot be read.
    """

    def __init__(self, settings: NodeSettings, versions: Versions):
        self._settings = settings
        self._versions = versions
        self._state = versions.state()
        self._frames = canary_frames(settings)
        mllm = settings.mllm
        self._server = Server(mllm) if mllm is not None and mllm.url is not None else None

    def objection(self, version: str, adapter: str) -> str | None:
        """Why a version is not to be taken, in words; its adapter stays loaded where it may be.

        Raises:
            ServerAway, NoRuntimeLoading: the MLLM cannot be asked now.
            ConfigError: a canary frame cannot be read.
        """
        mllm = self._settings.mllm
        if mllm is not None and mllm.restart is not None and adapter != self._state.served:
            # Only a restart would bring the new adapter: the gate alone is tried, the rest at work.
            self._server = None
        old = self._at_work()
        folder = self._versions.folder_of(version)
        try:
            model = self._loaded(folder, adapter)
        except AdapterRefused as error:
            return str(error)
        words = self._against(version, folder, model, old)
        if words is not None and self._server is not None and self._is_extra(model):
            assert model is not None
            self._server.unload(model)
        return words

    def _against(
        self, version: str, folder: Path, model: str | None, old: Tried | None
    ) -> str | None:
        print(f"trying    {version} on {len(self._frames)} canary frames", flush=True)
        try:
            new = try_version(folder, self._frames, self._settings, model)
        except TrialError as error:
            return str(error)
        return refusal(new, old)

    def _at_work(self) -> Tried | None:
        """What the version at work does on the same frames; `None` where it does nothing."""
        current = self._state.current
        if current is None:
            return None
        folder = self._versions.folder_of(current)
        try:
            model = self._loaded(folder, adapter_of(manifest.read(folder)))
            return try_version(folder, self._frames, self._settings, model)
        except (TrialError, ManifestError, AdapterRefused) as error:
            print(printable(f"note      {current} cannot be tried beside it: {error}"), flush=True)
            return None

    def _loaded(self, folder: Path, adapter: str) -> str | None:
        """The model to ask for a version, at the server now; `None`: nobody is asked."""
        mllm = self._settings.mllm
        if self._server is None or mllm is None:
            return None
        model = name_of(mllm, adapter, self._state.served)
        if self._is_extra(model):
            self._server.load(model, folder / "adapter")
        return model

    def _is_extra(self, model: str | None) -> bool:
        """Whether a name is not the one that the server was started with."""
        return self._settings.mllm is not None and model not in (None, self._settings.mllm.model)
