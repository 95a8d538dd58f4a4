"""With what a node works: gate and MLLM of the current version, or of one before it."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime import manifest
from dat_runtime.cascade import Band, Routing
from dat_runtime.edge.assess import EndpointAssessor, RecordedAssessor
from dat_runtime.edge.node_settings import MllmSettings
from dat_runtime.edge.updates import at_work, switch
from dat_runtime.edge.updates.at_work import AtWork, assessor, counted_start, first, given
from dat_runtime.edge.updates.switch import Probation, State
from dat_runtime.edge.updates.versions import Versions, VersionsError
from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.family import QWEN2_5_VL, QWEN3_VL
from dat_runtime.manifest import VERSIONS

OLD, NEW = "a" * 16, "b" * 16
UNKNOWN = State()
URL = "http://127.0.0.1:9/v1"


def bundle(**changes: Any) -> Any:
    """As `open_bundle` gives it, with an adapter whose digest follows from `weights`."""
    told = {"family": QWEN2_5_VL, "weights": "1", "not_fit": None} | changes
    outputs = {"adapter/a": told.pop("weights")}
    stated = manifest.Manifest("bundle", {}, {}, "", dict(VERSIONS) | {"other": 9}, outputs)
    detector = SimpleNamespace(settings=SimpleNamespace(routing=Routing(0.1, Band(0.2, None))))
    return SimpleNamespace(manifest=stated, detector=detector, max_pixels=12_544, **told)


ADAPTER = at_work.adapter_of(bundle().manifest)


def node(mllm: MllmSettings | None = None, **parts: object) -> Any:
    return SimpleNamespace(mllm=mllm, **({"offload": None, "bundle": Path("/node")} | parts))


class Opened:
    """What is found in folders, by their names."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {name: bundle() for name in (OLD, NEW, "node")}

    def __call__(self, folder: Path) -> Any:
        found = self.found[folder.name]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    found = Opened()
    monkeypatch.setattr(at_work, "open_bundle", found)
    monkeypatch.setattr(at_work, "version_of", lambda folder: folder.name)
    return found


def open_version(settings: Any, state: State = UNKNOWN) -> AtWork:
    return at_work.open_version(Path("/v") / NEW, settings, state)


def test_a_version_is_opened_with_its_gate(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    version = open_version(node())
    gate = opened.found[NEW]
    assert version == AtWork(NEW, ADAPTER, version.gate, None, None)
    assert version.gate.detector is gate.detector
    assert version.gate.routing == gate.detector.settings.routing
    assert version.gate.versions == {"bundle": NEW, **VERSIONS}
    assert (version.gate.max_pixels, version.gate.family) == (12_544, QWEN2_5_VL)
    assert caplog.messages == []
    opened.found[NEW] = bundle(family=QWEN3_VL, not_fit="made for tests")
    unfit = open_version(node())
    assert (unfit.gate.family, unfit.not_fit) == (QWEN3_VL, "made for tests")
    assert caplog.messages == [f"version {NEW} is NOT FIT FOR USE: made for tests"]
    assert open_version(node(MllmSettings(URL, "dat"))).not_fit == "made for tests"


def test_a_recorded_answer_is_that_of_every_version(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "answer").write_text("yes")
    version = open_version(node(MllmSettings(recorded=tmp_path / "answer")))
    assert (version.model, version.is_served) == (None, True)
    assert isinstance(version.assessor, RecordedAssessor)
    assert version.assessor.assess(b"", "", "") == "yes"
    assert version.gate.versions["mllm"] == "recorded"


@pytest.mark.parametrize(
    ("state", "restart", "model", "is_served"),
    [
        (State(), None, "dat", True),
        (State(), ("x",), "dat", True),
        (State(current=NEW), None, f"dat-{ADAPTER}", True),
        (State(current=NEW), ("x",), "dat", False),
        (State(current=NEW, served="other"), ("x",), "dat", False),
        (State(current=NEW, served=ADAPTER), None, "dat", True),
        (State(current=NEW, served=ADAPTER), ("x",), "dat", True),
    ],
)
def test_the_model_is_the_server_s_own_or_named_by_the_adapter(
    opened: Opened, state: State, restart: tuple[str, ...] | None, model: str, is_served: bool
) -> None:
    version = open_version(node(MllmSettings(URL, "dat", restart=restart)), state)
    assert (version.model, version.is_served) == (model, is_served)
    assert (version.version, version.adapter, version.not_fit) == (NEW, ADAPTER, None)
    assert isinstance(version.assessor, EndpointAssessor)
    assert version.assessor._model == model
    assert version.gate.versions == {"bundle": NEW, **VERSIONS, "mllm": model}


def test_a_weak_node_takes_no_other_family(opened: Opened) -> None:
    opened.found[NEW] = bundle(family=QWEN3_VL)
    words = (
        "the bundle is for Qwen3-VL; what a weak node sends (offload) is asked in Qwen2.5-VL's"
        " coordinates: name an MLLM beside the node (mllm)"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}$"):
        open_version(node(offload=object()))
    opened.found[NEW] = bundle()
    assert open_version(node(offload=object())).version == NEW


def test_a_gate_of_no_bundle_has_no_version() -> None:
    gate: Any = object()
    assert given(gate, node()) == AtWork("", "", gate, None, None)
    version = given(gate, node(MllmSettings(URL, "dat")))
    assert (version.version, version.adapter, version.model) == ("", "", "dat")
    assert isinstance(version.assessor, EndpointAssessor)


def test_a_server_is_asked_with_its_key_within_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[object, ...]] = []

    def endpoint(url: str, model: str, *, api_key: str | None, timeout: float) -> None:
        made.append((url, model, api_key, timeout))

    (tmp_path / "key").write_text(" secret\n")
    with monkeypatch.context() as patched:
        patched.setattr(at_work, "EndpointAssessor", endpoint)
        assessor(MllmSettings(URL, "dat", timeout=7.0), "dat-1")
        assessor(MllmSettings(URL, "dat", timeout=7.0, key_file=tmp_path / "key"), "dat-1")
    assert made == [(URL, "dat-1", None, 7.0), (URL, "dat-1", "secret", 7.0)]
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/none: cannot be read"):
        assessor(MllmSettings(URL, "dat", key_file=tmp_path / "none"), "dat")
    with pytest.raises(ConfigError, match=r"^mllm: an endpoint begins with http:// or https://"):
        assessor(MllmSettings("ftp://h", "dat"), "dat")


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path / "bundle")


def on_probation(versions: Versions, starts: int = 0, previous: str | None = OLD) -> State:
    state = State(current=NEW, previous=previous, probation=Probation(5.0, starts))
    return versions.change(lambda _: state)


def test_a_node_without_versions_counts_no_starts(versions: Versions) -> None:
    assert counted_start(versions) == State()
    assert not versions.folder.exists()


def test_three_starts_that_did_not_end_as_asked_are_borne_and_no_fourth(
    versions: Versions, caplog: pytest.LogCaptureFixture
) -> None:
    on_probation(versions, 2)
    state = counted_start(versions)
    assert (state.current, state.probation) == (NEW, Probation(5.0, 3))
    assert versions.state() == state
    back = counted_start(versions)
    words = "the node ended 3 times unasked while it was on probation"
    assert back == State(current=OLD, blocked={NEW: words}) == versions.state()
    assert caplog.messages == [f"version {NEW} is given back: {words}"]


def test_a_first_version_is_started_however_often_it_ended(versions: Versions) -> None:
    on_probation(versions, 8, previous=None)
    assert counted_start(versions).current == NEW
    versions.change(switch.kept)
    assert counted_start(versions) == State(current=NEW)


def test_a_disk_that_cannot_be_written_keeps_nothing_from_starting(
    versions: Versions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> State:
        raise VersionsError("no room")

    before = on_probation(versions, 3)
    with monkeypatch.context() as patched:
        patched.setattr(Versions, "change", full)
        assert counted_start(versions) == before
        assert caplog.messages == ["no room"]
        caplog.clear()
        back = at_work._returned(versions, before, "why")
        assert back == State(current=OLD, blocked={NEW: "why"})
        assert caplog.messages == [f"version {NEW} is given back: why", "no room"]
    (versions.folder / "state.json").write_text("{")
    assert counted_start(versions) == State()


def test_only_the_version_that_failed_is_given_back(versions: Versions) -> None:
    before = on_probation(versions)
    other = replace(before, current=OLD, previous=None)
    assert at_work._returned(versions, other, "why") == before


def test_a_node_starts_with_the_current_version_the_one_before_or_its_own(
    opened: Opened, versions: Versions, caplog: pytest.LogCaptureFixture
) -> None:
    settings = node()
    assert first(settings, versions).version == "node"
    on_probation(versions)
    assert first(settings, versions).version == NEW
    opened.found[NEW] = ModelError("broken", "gate.onnx")
    assert first(settings, versions).version == OLD
    reason = "it cannot be used: gate.onnx: broken"
    assert versions.state() == State(current=OLD, blocked={NEW: reason})
    assert caplog.messages == [
        f"version {NEW} cannot be used: gate.onnx: broken",
        f"version {NEW} is given back: {reason}",
    ]
    opened.found[OLD] = ModelError("gone")
    assert first(settings, versions).version == "node"
    on_probation(versions)
    assert first(settings, versions).version == "node"
    assert versions.state().current == OLD
    own = first(node(MllmSettings(URL, "dat")), versions)
    assert (own.version, own.model) == ("node", f"dat-{ADAPTER}")
    opened.found["node"] = ModelError("none left")
    with pytest.raises(ModelError, match="none left"):
        first(settings, versions)
