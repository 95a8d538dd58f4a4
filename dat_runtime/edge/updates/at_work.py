"""The version of the bundle that a node works with: gate, adapter, and the MLLM to ask."""

import logging
from dataclasses import dataclass
from pathlib import Path

from dat_runtime.edge.assess import Assessor, EndpointAssessor, RecordedAssessor
from dat_runtime.edge.bundle import Bundle, open_bundle
from dat_runtime.edge.node import Gate
from dat_runtime.edge.node_settings import MllmSettings, NodeSettings
from dat_runtime.edge.updates import switch
from dat_runtime.edge.updates.adapters import adapter_of, name_of
from dat_runtime.edge.updates.switch import MOST_STARTS, State
from dat_runtime.edge.updates.versions import Versions, VersionsError, version_of
from dat_runtime.errors import ConfigError, DatError
from dat_runtime.family import QWEN2_5_VL
from dat_runtime.files import read_text
from dat_runtime.manifest import VERSIONS

log = logging.getLogger("dat_runtime.edge")


@dataclass(frozen=True)
class AtWork:
    """A version, opened.

    Attributes:
        model: the name to ask at the MLLM's server; `None` where nothing is asked there.
        assessor: of that name, or of the recorded answer; `None`: there is no MLLM.
        not_fit: why the bundle is not fit for use, where it says so.
        is_served: whether the server has the adapter, as far as is known: one that takes none while
            it runs has to be started again first.
    """

    version: str
    adapter: str
    gate: Gate
    model: str | None
    assessor: Assessor | None
    is_served: bool = True
    not_fit: str | None = None


def open_version(folder: Path, settings: NodeSettings, state: State) -> AtWork:
    """The version in a folder, after all of it was checked.

    Raises:
        DatError: it cannot be used.
    """
    bundle = open_bundle(folder)
    adapter = adapter_of(bundle.manifest)
    mllm = settings.mllm
    version = version_of(folder)
    demand_family(bundle, settings)
    not_fit = bundle.not_fit
    if not_fit is not None:
        log.warning("version %s is NOT FIT FOR USE: %s", version, not_fit)
    if mllm is None or mllm.url is None:
        asked = None if mllm is None else assessor(mllm, None)
        gate = gate_of(bundle, version, mllm, None)
        return AtWork(version, adapter, gate, None, asked, not_fit=not_fit)
    # Before anything is installed, the server has what node.yaml names.
    model = mllm.model if state.current is None else name_of(mllm, adapter, state.served)
    return AtWork(
        version,
        adapter,
        gate_of(bundle, version, mllm, model),
        model,
        assessor(mllm, model),
        mllm.restart is None or state.current is None or adapter == state.served,
        not_fit,
    )


def demand_family(bundle: Bundle, settings: NodeSettings) -> None:
    """Refuse a bundle of another family than Qwen2.5-VL on a weak node.

    Raises:
        ConfigError: says what to do.
    """
    if settings.offload is not None and bundle.family is not QWEN2_5_VL:
        raise ConfigError(
            f"the bundle is for {bundle.family.title}; what a weak node sends (offload) is asked "
            f"in {QWEN2_5_VL.title}'s coordinates: name an MLLM beside the node (mllm)"
        )


def given(gate: Gate, settings: NodeSettings) -> AtWork:
    """A gate that belongs to no bundle, with the MLLM of the settings.

    Raises:
        DatError: what the MLLM needs cannot be used.
    """
    mllm = settings.mllm
    if mllm is None:
        return AtWork("", "", gate, None, None)
    return AtWork("", "", gate, mllm.model, assessor(mllm, mllm.model))


def gate_of(bundle: Bundle, version: str, mllm: MllmSettings | None, model: str | None) -> Gate:
    """The gate of a bundle, and the versions that alerts state."""
    stated = bundle.manifest.versions
    versions: dict[str, str | int | None] = {"bundle": version, **{k: stated[k] for k in VERSIONS}}
    if mllm is not None:
        versions["mllm"] = model or "recorded"
    routing = bundle.detector.settings.routing
    return Gate(bundle.detector, routing, versions, bundle.max_pixels, bundle.family)


def assessor(mllm: MllmSettings, model: str | None) -> Assessor:
    """What is asked about frames.

    Args:
        model: its name at the server.

    Raises:
        DatError: the recorded answer cannot be read, or the address cannot be used.
    """
    if mllm.recorded is not None:
        return RecordedAssessor.from_file(mllm.recorded)
    assert mllm.url is not None  # the settings demand one of the two
    assert model is not None
    key = None if mllm.key_file is None else read_text(mllm.key_file, ConfigError).strip()
    try:
        return EndpointAssessor(mllm.url, model, api_key=key, timeout=mllm.timeout)
    except ValueError as error:
        raise ConfigError(f"mllm: {error}") from None


def first(settings: NodeSettings, versions: Versions) -> AtWork:
    """The version that a node starts with: the current one, the one before it, or node.yaml's.

    A start counts as a crash until the node ends as asked. A disk that cannot be written keeps
    nothing from starting.

    Raises:
        DatError: none of them can be used.
    """
    state = counted_start(versions)
    if state.current is not None:
        try:
            return open_version(versions.folder_of(state.current), settings, state)
        except DatError as error:
            log.error("version %s cannot be used: %s", state.current, error)
            reason = f"it cannot be used: {error}"
    if state.current is not None and state.previous is not None:
        state = _returned(versions, state, reason)
        assert state.current is not None
        try:
            return open_version(versions.folder_of(state.current), settings, state)
        except DatError as error:
            log.error("version %s cannot be used: %s", state.current, error)
    return open_version(settings.bundle, settings, state)


def counted_start(versions: Versions) -> State:
    """The state, with this start in it; a version that ended too often is given back."""
    if not versions.folder.is_dir():
        return State()
    try:
        state = versions.change(switch.started)
    except VersionsError as error:
        log.error("%s", error)
        try:
            return versions.state()
        except VersionsError:
            return State()
    probation = state.probation
    if probation is None or probation.starts <= MOST_STARTS or state.previous is None:
        return state
    words = f"the node ended {probation.starts - 1} times unasked while it was on probation"
    return _returned(versions, state, words)


def _returned(versions: Versions, state: State, reason: str) -> State:
    log.error("version %s is given back: %s", state.current, reason)

    def step(now: State) -> State:
        return switch.returned(now, reason) if now.current == state.current else now

    try:
        return versions.change(step)
    except VersionsError as error:  # the disk: this run has the version before all the same
        log.error("%s", error)
        return step(state)
