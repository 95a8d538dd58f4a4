"""A running node follows its versions: gate and adapter change at once, and back where needed."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.adapter_swap import Running, is_mixed, run, running
from benchmarks.bundle_variants import tiny_bundle, variant
from benchmarks.lora_server import LoraServer, serving, weights_digest
from dat_runtime.edge.node_settings import MllmSettings, NodeSettings, SpoolSettings, UpdateSettings
from dat_runtime.edge.updates import switch
from dat_runtime.edge.updates.adapters import adapter_of
from dat_runtime.edge.updates.at_work import counted_start, first
from dat_runtime.edge.updates.probation import ENOUGH_ANSWERS
from dat_runtime.edge.updates.switch import MOST_STARTS
from dat_runtime.edge.updates.versions import Versions, version_of
from dat_runtime.errors import DatError
from dat_runtime.manifest import read


class Fleet:
    """A node's folder with two versions, the first one current, and its MLLM's server."""

    def __init__(self, folder: Path, url: str = "", **mllm: Any):
        self.bundle = tiny_bundle(folder / "bundle")
        self.versions = Versions(self.bundle)
        other = variant(self.bundle, folder / "other", 1)
        with self.versions.installing():
            self.old = self.versions.add(self.versions.bring(self.bundle))
            self.new = self.versions.add(self.versions.bring(other))
        served = adapter_of(read(self.bundle))
        self.versions.change(lambda state: switch.adopted(state, self.old, served))
        self.weights = {
            self.old: weights_digest(self.bundle / "adapter"),
            self.new: weights_digest(other / "adapter"),
        }
        self.settings = NodeSettings(
            "n1",
            self.bundle,
            (),
            (),
            SpoolSettings(folder / "spool.sqlite"),
            MllmSettings(url=url, model="dat", concurrency=4, **mllm),
            updates=UpdateSettings(
                "http://127.0.0.1:9", Path("root.json"), probation_minutes=0, probation_frames=20
            ),
        )

    def switch(self) -> None:
        self.versions.change(lambda state: switch.switched(state, self.new, time.time()))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[LoraServer, str]]:
    """It has the first version's adapter as `dat`."""
    state = LoraServer(plain=tiny_bundle(tmp_path / "plain") / "adapter", seconds=0.01)
    with serving(state) as url:
        yield state, url


def until(look: Callable[[], bool], node: Running) -> None:
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline, (node.follower.status(), len(node.offered.events))
        time.sleep(0.01)


def events_of(node: Running, version: str) -> int:
    return sum(e.alert.origin.versions["bundle"] == version for e in node.offered.events)


def test_versions_change_under_load_without_a_failed_question_or_a_mixed_answer(
    tmp_path: Path,
) -> None:
    swapped = run(tmp_path, swaps=3, answers=60)
    assert (swapped.failed, swapped.mixed, swapped.lost) == (0, 0, 0)
    assert swapped.answers >= 60


def test_an_adapter_that_is_loaded_under_an_old_name_or_unloaded_early_would_be_found(
    tmp_path: Path,
) -> None:
    bundle = tiny_bundle(tmp_path / "a")
    other = variant(bundle, tmp_path / "b", 1)
    state = LoraServer(seconds=0.3)
    for path in (bundle, other):
        assert state.load({"lora_name": "x", "lora_path": str(path / "adapter")})[0] == 200
        _, told = state.complete({"model": "x"})
        state.unload({"lora_name": "x"})
    summary = json.loads(told["choices"][0]["message"]["content"])["summary"]
    assert summary == f"x {weights_digest(bundle / 'adapter')}", "from the cache, so it is mixed"
    state.load({"lora_name": "y", "lora_path": str(bundle / "adapter")})
    early = threading.Timer(0.1, lambda: state.unload({"lora_name": "y"}))
    early.start()
    assert state.complete({"model": "y"})[0] == 500
    early.join()
    assert state.broken_off == 1


def test_the_adapter_of_the_version_before_is_unloaded_once_nobody_asks_it(
    tmp_path: Path, server: tuple[LoraServer, str]
) -> None:
    state, url = server
    fleet = Fleet(tmp_path, url)
    with running(fleet.settings, fleet.versions) as node:
        fleet.switch()
        node.follower.look()
        (name,) = set(state.adapters) - {"dat"}
        until(lambda: events_of(node, fleet.new) > 3, node)
        fleet.versions.change(lambda s: switch.returned(s, "by hand"))
        node.follower.look()
        assert list(state.adapters) == ["dat"]
        before = events_of(node, fleet.old)
        until(lambda: events_of(node, fleet.old) > before + 3, node)
        assert name.startswith("dat-")
    assert not any(is_mixed(event, fleet.weights) for event in node.offered.events)
    assert state.broken_off == state.failed == 0


def test_a_version_that_does_as_well_as_the_one_before_is_kept(
    tmp_path: Path, server: tuple[LoraServer, str]
) -> None:
    fleet = Fleet(tmp_path, server[1])
    with running(fleet.settings, fleet.versions) as node:
        fleet.switch()
        node.follower.look()
        assert fleet.versions.state().probation is not None
        until(lambda: events_of(node, fleet.new) > 20, node)
        node.follower.look()
    state = fleet.versions.state()
    assert (state.current, state.previous, state.probation) == (fleet.new, fleet.old, None)


def test_a_version_whose_answers_are_off_the_contract_is_given_back_and_stays_blocked(
    tmp_path: Path, server: tuple[LoraServer, str]
) -> None:
    state, url = server
    fleet = Fleet(tmp_path, url)
    with running(fleet.settings, fleet.versions) as node:
        until(lambda: events_of(node, fleet.old) > ENOUGH_ANSWERS, node)
        fleet.switch()
        state.garbage.add(fleet.weights[fleet.new])
        node.follower.look()
        until(lambda: events_of(node, fleet.new) > 2 * ENOUGH_ANSWERS, node)
        node.follower.look()  # gives it back
        node.follower.look()  # takes the one before
        assert node.follower.status()["version"] == fleet.old
        before = len(node.offered.events)
        until(lambda: len(node.offered.events) > before + 3, node)
    after = fleet.versions.state()
    assert (after.current, after.previous) == (fleet.old, None)
    assert "0% of" in after.blocked[fleet.new]
    assert "100% before" in after.blocked[fleet.new]


def test_an_adapter_that_the_server_does_not_take_leaves_the_node_with_the_version_before(
    tmp_path: Path, server: tuple[LoraServer, str]
) -> None:
    state, url = server
    fleet = Fleet(tmp_path, url)
    with running(fleet.settings, fleet.versions) as node:
        state.loads = False
        fleet.switch()
        node.follower.look()
        assert node.follower.status()["version"] == fleet.old
        before = len(node.offered.events)
        until(lambda: len(node.offered.events) > before + 3, node)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in fleet.versions.state().blocked[fleet.new]


def test_a_server_that_restarts_and_loses_the_adapter_gets_it_again(
    tmp_path: Path, server: tuple[LoraServer, str]
) -> None:
    state, url = server
    fleet = Fleet(tmp_path, url)
    with running(fleet.settings, fleet.versions) as node:
        fleet.switch()
        node.follower.look()
        state.restart()
        assert list(state.adapters) == ["dat"]
        node.follower._mend_at = 0.0
        node.follower.look()
        assert len(state.adapters) == 2


def test_a_server_that_is_away_costs_the_switch_nothing_and_gets_the_adapter_later(
    tmp_path: Path,
) -> None:
    state = LoraServer(plain=tiny_bundle(tmp_path / "plain") / "adapter")
    with serving(state) as url:
        pass  # nobody listens there any more
    fleet = Fleet(tmp_path, url)
    with running(fleet.settings, fleet.versions) as node:
        fleet.switch()
        node.follower.look()
        assert node.follower.status()["version"] == fleet.new
        assert node.follower.status()["problem"]
        until(lambda: events_of(node, fleet.new) > 0, node)
        assert node.offered.events[-1].source == "gate"
        with serving(state, port=int(url.split(":")[2].partition("/")[0])):
            node.follower._mend_at = 0.0
            node.follower.look()
            assert len(state.adapters) == 2
            assert node.follower.status()["problem"] is None
            until(lambda: node.offered.events[-1].source == "mllm", node)


def test_a_server_that_takes_no_adapters_is_started_again_by_the_stated_command(
    tmp_path: Path,
) -> None:
    link = tmp_path / "bundle.versions" / "current" / "adapter"
    fleet = Fleet(tmp_path)
    state = LoraServer(plain=link)
    state.loads = False
    with serving(state) as url:
        call = f"import httpx; httpx.post('{url.removesuffix('/v1')}/restart').raise_for_status()"
        mllm = MllmSettings(
            url=url, model="dat", concurrency=4, restart=(sys.executable, "-c", call)
        )
        object.__setattr__(fleet.settings, "mllm", mllm)
        with running(fleet.settings, fleet.versions) as node:
            until(lambda: events_of(node, fleet.old) > 3, node)
            fleet.switch()
            node.follower.look()
            until(lambda: events_of(node, fleet.new) > 3, node)
        assert state.adapters == {"dat": fleet.weights[fleet.new]}
        told = [event for event in node.offered.events if event.source == "mllm"]
        assert not any(is_mixed(event, fleet.weights) for event in told)
        reasons = {e.alert.degraded for e in node.offered.events if e.source == "gate"}
        assert reasons <= {"the MLLM takes another adapter"}
        assert state.failed == 0
        assert first(fleet.settings, fleet.versions).is_served


def test_a_node_that_ends_unasked_too_often_on_probation_starts_with_the_version_before(
    tmp_path: Path,
) -> None:
    fleet = Fleet(tmp_path)
    fleet.switch()
    for _ in range(MOST_STARTS):
        assert counted_start(fleet.versions).current == fleet.new
    assert counted_start(fleet.versions).current == fleet.old
    assert "ended 3 times unasked" in fleet.versions.state().blocked[fleet.new]


def test_a_node_that_ends_as_asked_may_start_as_often_as_it_likes(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.switch()
    for _ in range(MOST_STARTS + 2):
        assert counted_start(fleet.versions).current == fleet.new
        fleet.versions.change(switch.ended)


def test_a_version_that_is_damaged_on_the_disk_leaves_the_one_before_and_then_the_first_bundle(
    tmp_path: Path,
) -> None:
    fleet = Fleet(tmp_path, "http://127.0.0.1:9/v1")
    fleet.switch()
    (fleet.versions.folder_of(fleet.new) / "gate" / "gate.onnx").write_bytes(b"")
    assert first(fleet.settings, fleet.versions).version == fleet.old
    assert "cannot be used" in fleet.versions.state().blocked[fleet.new]
    (fleet.versions.folder_of(fleet.old) / "README.md").unlink()
    assert first(fleet.settings, fleet.versions).version == version_of(fleet.bundle)
    (fleet.versions.folder / "state.json").write_text("{")
    assert first(fleet.settings, fleet.versions).version == version_of(fleet.bundle)
    (fleet.bundle / "README.md").unlink()
    with pytest.raises(DatError, match=r"README.md"):
        first(fleet.settings, fleet.versions)
