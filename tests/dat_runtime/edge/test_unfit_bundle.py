"""A bundle that is not fit for use says so wherever it is shown, installed, or at work."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from dat_runtime.cli import main
from dat_runtime.edge.node import Node
from dat_runtime.edge.node_file import read_node
from dat_runtime.edge.spool import LEAST_BYTES
from dat_runtime.edge.status import lines
from dat_runtime.edge.updates.at_work import first
from dat_runtime.edge.updates.serving import Follower
from dat_runtime.edge.updates.versions import Versions, version_of
from export.bundle import make_bundle

SAID = "NOT FIT FOR USE: never an alert does as well"


@pytest.fixture
def unfit(
    tmp_path: Path, gate_folder: Path, base_folder: Path, make_lora: Callable[..., Path]
) -> Path:
    out = tmp_path / "unfit"
    why = SAID.partition(": ")[2]
    make_bundle(gate_folder, make_lora(), str(base_folder), out, not_fit=why)
    return out


@pytest.fixture
def node(tmp_path: Path, unfit: Path) -> str:
    (tmp_path / "frames").mkdir()
    settings = {
        "node": "n1",
        "bundle": str(unfit),
        "cameras": [{"name": "north", "source": str(tmp_path / "frames")}],
        "uplink": {"url": "http://127.0.0.1:9"},
        "spool": {"path": "s.sqlite", "max_bytes": LEAST_BYTES, "alert_reserve_bytes": 100_000},
    }
    path = tmp_path / "node.yaml"
    path.write_text(json.dumps(settings))
    return str(path)


def test_it_is_said_by_verify_check_status_and_demo_and_stands_in_its_card(
    unfit: Path, node: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = ["demo", "--bundle", str(unfit)]
    for command in (["verify", str(unfit)], ["edge", "check", node], ["status", node], shown):
        assert main(command) == 0
        assert SAID in capsys.readouterr().out, command
    assert "**Not fit for use**: never an alert" in (unfit / "README.md").read_text()


def test_a_fit_one_is_shown_without_a_warning(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--bundle", str(bundle_folder)]) == 0
    assert "NOT FIT" not in capsys.readouterr().out


def test_it_is_said_at_installation(
    unfit: Path,
    bundle_folder: Path,
    node: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit = Path(node).read_text().replace(str(unfit), str(bundle_folder))
    Path(node).write_text(fit)
    assert main(["status", node]) == 0
    assert "NOT FIT" not in capsys.readouterr().out
    assert main(["install", node, "--from", str(unfit)]) == 0
    assert f"{version_of(unfit)} is {SAID}" in capsys.readouterr().out
    assert Versions(bundle_folder).state().current == version_of(unfit)
    assert main(["status", node]) == 0
    assert SAID in capsys.readouterr().out


def test_it_is_said_when_a_node_returns_to_it(
    unfit: Path, bundle_folder: Path, node: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install", node, "--from", str(bundle_folder)]) == 0
    capsys.readouterr()
    assert main(["rollback", node]) == 0
    assert f"{version_of(unfit)} is {SAID}" in capsys.readouterr().out


def test_a_node_that_starts_with_it_warns_and_tells_it_of_itself(
    node: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = read_node(Path(node))
    versions = Versions(settings.bundle)
    with caplog.at_level(logging.WARNING, "dat_runtime.edge"):
        at_work = first(settings, versions)
    assert SAID in caplog.text
    follower = Follower(settings, versions, cast(Node, None), None, at_work)
    told = {"node": "n1", "version": "1", "problems": [], "bundle": follower.status()}
    link = {"url": "", "connected": False, "problem": None, "last_acknowledged_at": None}
    told |= {"cameras": {}, "uplink": {**link, "bytes_per_s": None}, "dropped": {}}
    told |= {"waiting": {"alerts": 0, "visuals": 0}, "spool": {"bytes": 0, "max_bytes": 1}}
    assert any(SAID in line for line in lines(told))
