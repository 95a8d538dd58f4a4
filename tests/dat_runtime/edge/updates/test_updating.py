"""`dat-runtime install | rollback | status` on a node that does not run."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bundle_variants import tiny_bundle, variant
from benchmarks.lora_server import LoraServer, serving, weights_digest
from dat_runtime import manifest
from dat_runtime.cli import main
from dat_runtime.edge.updates.versions import Versions, version_of
from tests.conftest import constant_gate

WriteNode = Callable[..., Path]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def node_yaml(tmp_path: Path, bundle: Path) -> WriteNode:
    """Writes a node.yaml; keywords replace its parts, `None` leaves one out."""

    def write(**parts: object) -> Path:
        node = {
            "node": "n1",
            "bundle": str(bundle),
            "cameras": [{"name": "north", "source": str(tmp_path)}],
            "uplink": {"url": "http://127.0.0.1:9"},
            "spool": {"path": "spool.sqlite"},
        }
        told = {name: part for name, part in (node | parts).items() if part is not None}
        path = tmp_path / "node.yaml"
        path.write_text(json.dumps(told))
        return path

    return write


@contextmanager
def mllm(plain: Path, **settings: object) -> Iterator[tuple[LoraServer, dict[str, object]]]:
    """A server that has an adapter, and what node.yaml says of it."""
    state = LoraServer(plain=plain / "adapter")
    with serving(state) as url:
        yield state, {"url": url, "model": "dat", "timeout": 10, **settings}


def with_gate(bundle: Path, out: Path, gate: bytes) -> Path:
    """A bundle with another model, sealed anew."""
    variant(bundle, out, 1)
    (out / "gate" / "gate.onnx").write_bytes(gate)
    told = manifest.read(out)
    manifest.write(out, replace(told, outputs=manifest.file_digests(out)))
    return out


def test_a_folder_is_installed_and_taken_back(
    tmp_path: Path, bundle: Path, node_yaml: WriteNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node, versions = str(node_yaml()), Versions(bundle)
    new = variant(bundle, tmp_path / "new", 1)
    assert main(["status", node]) == 0
    assert "none installed" in capsys.readouterr().out
    assert main(["install", node, "--from", str(new)]) == 0
    state = versions.state()
    assert (state.current, state.previous) == (version_of(new), version_of(bundle))
    assert state.probation is not None
    assert (versions.folder / "current").resolve() == versions.folder_of(version_of(new))
    capsys.readouterr()
    assert main(["install", node, "--from", str(new)]) == 0
    assert "at work already" in capsys.readouterr().out
    assert main(["rollback", node]) == 0
    assert versions.state().current == version_of(bundle)
    capsys.readouterr()
    assert main(["status", node]) == 0
    assert f"blocked   {version_of(new)}: rolled back by hand" in capsys.readouterr().out
    assert main(["rollback", node]) == 1
    assert "no previous version" in capsys.readouterr().err
    assert main(["install", node, "--from", str(new)]) == 3
    assert "--unblock" in capsys.readouterr().out
    assert versions.state().current == version_of(bundle)
    unblocked = ["install", node, "--from", str(new), "--unblock", version_of(new)]
    assert main(unblocked) == 0
    assert versions.state().current == version_of(new)
    assert main(["install", node, "--unblock", version_of(new)]) == 1
    assert "is not blocked" in capsys.readouterr().err
    assert main(["status", node, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["versions"]["current"] == version_of(new)
    assert told["node"] is None


def test_a_gate_that_sees_less_on_the_canary_frames_is_refused_and_stays_blocked(
    tmp_path: Path, bundle: Path, node_yaml: WriteNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node, versions = str(node_yaml()), Versions(bundle)
    blind = with_gate(bundle, tmp_path / "blind", constant_gate([[32, 32, 16, 8, 0.0, 0.1]]))
    assert main(["install", node, "--from", str(blind)]) == 3
    assert "sees something on 0 canary frames, 1 before" in capsys.readouterr().out
    state = versions.state()
    assert state.current == version_of(bundle)
    assert "canary" in state.blocked[version_of(blind)]
    assert [f.name for f in (versions.folder / "bundles").iterdir()] == [version_of(bundle)]
    assert main(["install", node, "--from", str(blind)]) == 3
    assert "is blocked (" in capsys.readouterr().out


def test_a_gate_that_answers_with_nan_is_refused_and_the_node_stays_as_it_was(
    tmp_path: Path, bundle: Path, node_yaml: WriteNode, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = with_gate(bundle, tmp_path / "b", constant_gate([[32, 32, 16, 8, 0, np.nan]]))
    assert main(["install", str(node_yaml()), "--from", str(broken)]) == 3
    assert "NaN" in capsys.readouterr().out
    state = Versions(bundle).state()
    assert state.current == version_of(bundle)
    assert version_of(broken) in state.blocked


def test_an_adapter_whose_canary_answers_are_off_the_contract_is_refused_and_unloaded(
    tmp_path: Path, bundle: Path, node_yaml: WriteNode, capsys: pytest.CaptureFixture[str]
) -> None:
    new = variant(bundle, tmp_path / "new", 1)
    with mllm(bundle) as (server, settings):
        server.garbage.add(weights_digest(new / "adapter"))
        assert main(["install", str(node_yaml(mllm=settings)), "--from", str(new)]) == 3
        assert "0 of 1 canary answers were compliant, 1 of 1 before" in capsys.readouterr().out
        assert list(server.adapters) == ["dat"]
        assert len(server.loaded) == 1
    assert version_of(new) in Versions(bundle).state().blocked


def test_an_adapter_is_tried_under_a_name_of_its_own_and_stays_for_the_node(
    tmp_path: Path, bundle: Path, node_yaml: WriteNode
) -> None:
    new = variant(bundle, tmp_path / "new", 1)
    with mllm(bundle) as (server, settings):
        assert main(["install", str(node_yaml(mllm=settings)), "--from", str(new)]) == 0
        (name,) = server.loaded
        assert name.startswith("dat-")
        assert server.adapters[name] == weights_digest(new / "adapter")


def test_a_server_that_takes_no_adapters_or_is_away_blocks_nothing_and_says_what_to_do(
    tmp_path: Path, bundle: Path, node_yaml: WriteNode, capsys: pytest.CaptureFixture[str]
) -> None:
    new = variant(bundle, tmp_path / "new", 1)
    with mllm(bundle) as (server, settings):
        server.loads = False
    with serving(server) as url:
        node = str(node_yaml(mllm={**settings, "url": url}))
        assert main(["install", node, "--from", str(new)]) == 1
        assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in capsys.readouterr().err
    assert main(["install", node, "--from", str(new)]) == 1
    state = Versions(bundle).state()
    assert (state.current, dict(state.blocked)) == (version_of(bundle), {})


def test_a_bundle_for_another_base_is_refused_and_not_blocked(
    tmp_path: Path, bundle: Path, node_yaml: WriteNode, capsys: pytest.CaptureFixture[str]
) -> None:
    other = variant(bundle, tmp_path / "other", 1)
    config = json.loads((other / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "other"
    (other / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    told = manifest.read(other)
    outputs, named = manifest.file_digests(other), {**told.config, "base": "other"}
    manifest.write(other, replace(told, outputs=outputs, config=named))
    assert main(["install", str(node_yaml()), "--from", str(other)]) == 3
    assert "this node has base" in capsys.readouterr().out
    assert dict(Versions(bundle).state().blocked) == {}


def test_a_folder_without_signatures_is_not_taken_where_a_root_of_trust_is_named(
    tmp_path: Path, bundle: Path, node_yaml: WriteNode, capsys: pytest.CaptureFixture[str]
) -> None:
    new = str(variant(bundle, tmp_path / "new", 1))
    node = str(node_yaml(updates={"url": "http://127.0.0.1:9", "root": "root.json"}))
    assert main(["install", node, "--from", new]) == 1
    assert "--unsigned" in capsys.readouterr().err
    assert main(["install", node, "--from", new, "--unsigned"]) == 0
    assert main(["install", str(node_yaml()), "--from", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "holds no manifest.json" in told
    assert "names no root of trust" in told


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://h:99999", "https://", "http://u:secret@h", "https://h/?token=secret"],
)
def test_an_address_that_cannot_be_used_is_said_in_a_line_without_a_password(
    tmp_path: Path, node_yaml: WriteNode, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    (tmp_path / "root.json").write_text("{}")
    updates = {"url": "http://127.0.0.1:9", "root": "root.json"}
    node = str(node_yaml(bundle=str(tmp_path / "none-yet"), updates=updates))
    assert main(["install", node, "--from", url]) == 1
    error = capsys.readouterr().err
    assert "address" in error
    assert error.count("\n") == 1
    assert "secret" not in error


def test_the_first_bundle_of_a_node_may_come_by_installation(
    tmp_path: Path, bundle: Path, node_yaml: WriteNode
) -> None:
    node = str(node_yaml(bundle=str(tmp_path / "none-yet")))
    assert main(["install", node, "--from", str(bundle)]) == 0
    state = Versions(tmp_path / "none-yet").state()
    assert (state.current, state.previous) == (version_of(bundle), None)


def test_a_canary_frame_that_cannot_be_read_is_no_fault_of_the_version(
    tmp_path: Path, bundle: Path, node_yaml: WriteNode, capsys: pytest.CaptureFixture[str]
) -> None:
    new = str(variant(bundle, tmp_path / "new", 1))
    (tmp_path / "canary").mkdir()
    updates = {"url": "http://127.0.0.1:9", "root": "root.json", "canary": "canary"}
    node = str(node_yaml(updates=updates))
    assert main(["install", node, "--from", new, "--unsigned"]) == 1
    assert "no JPEG or PNG" in capsys.readouterr().err
    (tmp_path / "canary" / "a.jpg").write_bytes(b"<html>")
    assert main(["install", node, "--from", new, "--unsigned"]) == 1
    assert "updates.canary: " in capsys.readouterr().err
    assert dict(Versions(bundle).state().blocked) == {}


def test_without_the_packages_for_signatures_they_are_named_and_a_folder_still_installs(
    tmp_path: Path,
    bundle: Path,
    node_yaml: WriteNode,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "root.json").write_text("{}")
    node = str(node_yaml(updates={"url": "http://127.0.0.1:9", "root": "root.json"}))
    new = str(variant(bundle, tmp_path / "new", 1))
    # As where none of them is installed, whatever other tests have imported.
    for name in [name for name in sys.modules if re.match(r"tuf\b|.*updates\.repository$", name)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tuf", None)
    assert main(["install", node]) == 1
    assert "pip install 'dat-runtime[updates]'" in capsys.readouterr().err
    assert main(["install", node, "--from", new, "--unsigned"]) == 0
