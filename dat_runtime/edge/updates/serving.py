"""The version that a running node works with, and its change to another without a pause.

A thread looks every second at which version the state names. Another one is opened beside the one
at work; the MLLM's server gets its adapter under a new name; then gate and MLLM change between two
frames. Questions under way end with the name that they began with, and only then is it unloaded.
"""

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from dat_runtime.edge.asking import Asking
from dat_runtime.edge.node import Node
from dat_runtime.edge.node_settings import PROBATION_FRAMES, PROBATION_MINUTES, NodeSettings
from dat_runtime.edge.updates import switch
from dat_runtime.edge.updates.adapters import (
    AdapterRefused,
    NoRuntimeLoading,
    Server,
    ServerAway,
)
from dat_runtime.edge.updates.at_work import AtWork, open_version
from dat_runtime.edge.updates.probation import complaint
from dat_runtime.edge.updates.switch import State
from dat_runtime.edge.updates.versions import Versions, VersionsError
from dat_runtime.errors import DatError

LOOK_SECONDS = 1.0
"""Between two looks at the state."""

MEND_SECONDS = 10.0
"""Between two looks at whether the MLLM's server has the adapter: its own restart loses it."""

RESTART_AGAIN_SECONDS = 60.0
"""Until a restart that failed is tried again."""

TAKE_SECONDS = 30.0
"""For the gate's thread to come round to a change; it does so twice a second."""

log = logging.getLogger("dat_runtime.edge")


class Follower:
    """Keeps a running node on the version that the state names.

    Args:
        at_work: what the node started with.
    """

    def __init__(
        self,
        settings: NodeSettings,
        versions: Versions,
        node: Node,
        asking: Asking | None,
        at_work: AtWork,
    ):
        self._settings = settings
        self._versions = versions
        self._node = node
        self._asking = asking
        self._at_work = at_work
        mllm = settings.mllm
        self._server = Server(mllm) if mllm is not None and mllm.url is not None else None
        self._since = time.monotonic()
        self._mend_at = 0.0
        self._given_up: str | None = None
        self._problem: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="versions", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float = 0.5) -> None:
        """The node ends as it was asked to."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        if self._versions.folder.is_dir():
            try:
                self._versions.change(switch.ended)
            except VersionsError as error:
                log.error("%s", error)

    def status(self) -> dict[str, Any]:
        """What the node says of its version."""
        try:
            state, problem = self._versions.state(), self._problem
        except VersionsError as error:
            state, problem = State(), str(error)
        looked = state.looked
        return {
            "version": self._at_work.version,
            "not_fit": self._at_work.not_fit,
            "model": self._at_work.model,
            "previous": state.previous,
            "probation": state.probation is not None,
            "blocked": len(state.blocked),
            "checked_at": None if looked is None else looked.at,
            "stale": looked is not None and looked.stale,
            "problem": problem or (None if looked is None else looked.problem),
        }

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except VersionsError as error:
                self._tell(str(error))
            except Exception:  # a defect, and no reason to follow nothing from now on
                log.exception("the versions could not be followed")

    def look(self) -> None:
        """One look at the state, and what follows from it."""
        state = self._versions.state()
        if state.current is None:
            return
        if state.current not in (self._at_work.version, self._given_up):
            self._change(state)
        elif state.probation is not None and state.current == self._at_work.version:
            self._judge(state)
        if self._server is not None and time.monotonic() >= self._mend_at:
            self._mend(self._server, self._versions.state())

    def _change(self, state: State) -> None:
        """Work with the current version from the next frame on."""
        assert state.current is not None
        before = self._at_work
        try:
            folder = self._versions.folder_of(state.current)
            coming = open_version(folder, self._settings, state)
            if coming.adapter == before.adapter and coming.model == before.model:
                # The same name at the server: its connections and questions stay.
                coming = replace(coming, assessor=before.assessor)
            elif self._server is not None:
                self._bring_adapter(self._server, coming, folder)
        except DatError as error:
            self._give_back(state.current, str(error))
            return
        baseline = before.gate.tally.measured()
        if not self._take(coming):
            return
        self._versions.change(lambda now: switch.measured(now, baseline))
        log.info("version %s is at work, after %s", coming.version, before.version)
        self._retire(before)

    def _bring_adapter(self, server: Server, coming: AtWork, folder: Path) -> None:
        """Have the coming version's adapter at the server."""
        mllm = self._settings.mllm
        assert mllm is not None
        if mllm.restart is not None:
            self._restart(server, coming.adapter)
            return
        if coming.model == mllm.model:  # the server was started with it
            return
        assert coming.model is not None
        try:
            server.load(coming.model, folder / "adapter")
        except ServerAway as error:  # no fault of the version's; `_mend` goes on trying
            self._tell(str(error))
            self._mend_at = time.monotonic() + LOOK_SECONDS

    def _restart(self, server: Server, adapter: str) -> None:
        """Start the server with the current adapter; the gate tells every event meanwhile.

        Raises:
            ServerAway: it does not come.
        """
        before = self._at_work
        self._node.take(before.gate, None).wait(TAKE_SECONDS)
        self._wait_until_free(before)
        log.info("the MLLM's server is started again, for adapter %s", adapter)
        self._versions.change(lambda now: switch.served(now, None))
        server.restart()
        self._versions.change(lambda now: switch.served(now, adapter))

    def _take(self, coming: AtWork) -> bool:
        """Whether the node works with it now."""
        taken = self._node.take(coming.gate, coming.assessor)
        while not taken.wait(LOOK_SECONDS):
            if self._stop.is_set():
                return False
        self._at_work = coming
        self._since = time.monotonic()
        return True

    def _retire(self, before: AtWork) -> None:
        """Unload what nobody asks any more."""
        mllm, server = self._settings.mllm, self._server
        if mllm is None or server is None or before.model in (None, mllm.model):
            return
        if before.model == self._at_work.model or not self._wait_until_free(before):
            return
        assert before.model is not None
        try:
            server.unload(before.model)
        except (ServerAway, NoRuntimeLoading, AdapterRefused) as error:
            log.warning("adapter %s stays loaded: %s", before.model, error)

    def _wait_until_free(self, before: AtWork) -> bool:
        mllm = self._settings.mllm
        if self._asking is None or before.assessor is None or mllm is None:
            return True
        # The assessor keeps its own time; a second more for a machine that is short of it.
        return self._asking.wait_until_free(before.assessor, mllm.timeout + 2)

    def _judge(self, state: State) -> None:
        """Keep the version on probation, give it back, or wait."""
        assert state.probation is not None
        now = self._at_work.gate.tally.measured()
        words = complaint(now, state.probation.baseline)
        if words is not None:
            self._give_back(self._at_work.version, words)
            return
        updates = self._settings.updates
        minutes = PROBATION_MINUTES if updates is None else updates.probation_minutes
        frames = PROBATION_FRAMES if updates is None else updates.probation_frames
        # By the monotonic clock, and of this run: a clock that jumps proves nothing.
        if now.frames >= frames and time.monotonic() - self._since >= 60 * minutes:
            version = self._at_work.version
            self._versions.change(lambda s: switch.kept(s) if s.current == version else s)
            log.info("version %s is kept", version)

    def _give_back(self, version: str, reason: str) -> None:
        """Return to the previous version; the next look takes it."""
        log.error("version %s is given back: %s", version, reason)

        def step(state: State) -> State:
            return switch.returned(state, reason) if state.current == version else state

        try:
            self._versions.change(step)
        except ValueError:  # there is none: this run goes on with what it has
            self._given_up = version
            log.error("version %s is not taken, there is none before it", version)

    def _mend(self, server: Server, state: State) -> None:
        """Have the adapter at work at the server, whatever became of it there."""
        self._mend_at = time.monotonic() + MEND_SECONDS
        at_work, mllm = self._at_work, self._settings.mllm
        assert mllm is not None
        if at_work.model is None or state.current != at_work.version:
            return
        try:
            if mllm.restart is not None:
                if state.served != at_work.adapter:
                    self._restart(server, at_work.adapter)
                    self._take(at_work)
            elif at_work.model != mllm.model:
                server.load(at_work.model, self._versions.folder_of(at_work.version) / "adapter")
            self._problem = None
        except (ServerAway, AdapterRefused, NoRuntimeLoading) as error:
            self._tell(str(error))
            if mllm.restart is not None:
                self._mend_at = time.monotonic() + RESTART_AGAIN_SECONDS

    def _tell(self, problem: str) -> None:
        """Once for each problem; it stands in the status until it is over."""
        if problem != self._problem:
            log.error("%s", problem)
        self._problem = problem
