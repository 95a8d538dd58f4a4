"""`edge check`: what would keep a node from starting is named, each thing with its fix."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dat_runtime import files
from dat_runtime.edge.checkup import check
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.spool import LEAST_BYTES, Spool
from dat_runtime.offload_table import Row, Table
from tests.dat_runtime.edge.offloading.small_codec import write_codec

Checked = Callable[..., tuple[int, str]]


@pytest.fixture
def checked(tmp_path: Path, bundle_folder: Path, capfd: pytest.CaptureFixture[str]) -> Checked:
    """Checks a node.yaml with some of its parts replaced: the exit status, and what is printed."""
    (tmp_path / "frames").mkdir()
    document: dict[str, Any] = {
        "node": "n1",
        "bundle": str(bundle_folder),
        "cameras": [{"name": "north", "source": "frames"}],
        "uplink": {"url": "http://127.0.0.1:9"},
        "spool": {
            "path": "spool/s.sqlite",
            "max_bytes": LEAST_BYTES,
            "alert_reserve_bytes": 100_000,
        },
    }

    def run(**parts: object) -> tuple[int, str]:
        path = tmp_path / "node.yaml"
        path.write_text(yaml.safe_dump(document | parts))
        capfd.readouterr()
        return check(path), capfd.readouterr().out

    return run


def test_a_node_that_can_start_is_told_so_and_nothing_is_left_behind(
    tmp_path: Path, checked: Checked
) -> None:
    code, told = checked(metrics={"listen": "127.0.0.1:0"})
    assert code == 0
    assert told.endswith("the node can start\n")
    assert "ok    metrics: " in told
    assert not (tmp_path / "spool").exists()


def test_a_spool_that_cannot_be_is_named(tmp_path: Path, checked: Checked) -> None:
    (tmp_path / "file").touch()
    for path, named in (("frames", "is a folder"), ("file/s.sqlite", "is no folder")):
        code, told = checked(spool={"path": path, "max_bytes": 10_000_000 * LEAST_BYTES})
        assert code == 1
        assert f"WRONG spool: {tmp_path}" in told
        assert named in told
    code, told = checked(spool={"path": "s.sqlite", "max_bytes": 10_000_000 * LEAST_BYTES})
    assert (code, "the disk has" in told) == (1, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, checked: Checked) -> None:
    (tmp_path / "frames").chmod(0o500)
    code, told = checked(spool={"path": "frames/s.sqlite"})
    assert (code, "this user cannot write there" in told) == (1, True)


def test_a_running_node_can_be_checked(tmp_path: Path, checked: Checked) -> None:
    spool = Spool(tmp_path / "spool" / "s.sqlite", LEAST_BYTES, 100_000, Counts())
    try:
        assert checked()[0] == 0
    finally:
        spool.close()


def test_the_uplink_is_asked_what_it_would_refuse(tmp_path: Path, checked: Checked) -> None:
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "token").chmod(0o600)
    code, told = checked(uplink={"url": "http://192.0.2.1", "token_file": "token"})
    assert code == 1
    assert "WRONG uplink: a token goes to https and loopback addresses only" in told
    code, told = checked(uplink={"url": "https://127.0.0.1:9", "authorities": "token"})
    assert code == 1
    assert "holds no certificate that can be used" in told


def test_names_from_elsewhere_move_no_terminal(tmp_path: Path, checked: Checked) -> None:
    (tmp_path / "bundle" / "gate" / "gate\x1b[31m").mkdir()
    code, told = checked()
    assert code == 1
    assert "\x1b" not in told


def test_updates_need_a_root_of_trust_and_canary_frames(tmp_path: Path, checked: Checked) -> None:
    updates = {"url": "http://127.0.0.1:9", "root": "root.json"}
    code, told = checked(updates=updates)
    assert (code, "root.json: is missing" in told) == (1, True)
    (tmp_path / "root.json").write_text("{}")
    code, told = checked(updates=updates)
    assert code == 0
    assert "ok    updates: tried on 1 canary frames" in told
    assert "note  updates: 127.0.0.1:9 does not accept" in told
    code, told = checked(updates={**updates, "canary": "frames"})
    assert (code, "no JPEG or PNG" in told) == (1, True)


def test_a_weak_nodes_codec_and_table_are_verified_and_its_graphs_loaded(
    tmp_path: Path, checked: Checked
) -> None:
    codec = write_codec(tmp_path / "codec")
    rows = [
        Row("gate", "edge", 0, 0.2),
        Row("webp", "webp", 900, 0.5, quality=5),
        Row("code", "code", 60, 0.8, offload_point=1, channels=8),
    ]
    id = json.loads((codec / "codec.json").read_text())["id"]
    files.write_json(tmp_path / "table.json", Table("m", "n", tuple(rows), id).as_json())
    offload = {"codec": "codec", "table": "table.json", "max_latency": 2}
    code, told = checked(offload=offload)
    assert code == 0
    assert f"ok    offload: codec {id} for tiny, pictures of 56 x 56; 3 ways" in told
    # Of another model than the bundle: the node can start, and the operator is told.
    bundle = json.loads((tmp_path / "bundle/manifest.json").read_text())
    own = f"{bundle['config']['base']}@{bundle['config']['revision']}"
    assert f"note  offload: the codec is for base tiny@{'0' * 40}, the bundle has {own}: " in told
    assert "note  offload: the codec is for adapter None, the bundle has " in told
    assert "metered" not in told
    code, told = checked(offload=offload, uplink={"url": "http://127.0.0.1:9", "metered": True})
    assert (code, "note  offload: 1 of 1 ways metered: no question goes" in told) == (0, True)
    base, revision = bundle["config"]["base"], bundle["config"]["revision"]
    stated = {"base": base, "revision": revision, "adapter": bundle["inputs"]["adapter"]}
    write_codec(tmp_path / "same", **stated)
    same = json.loads((tmp_path / "same/codec.json").read_text())["id"]
    files.write_json(tmp_path / "same.json", Table("m", "n", tuple(rows), same).as_json())
    code, told = checked(offload=offload | {"codec": "same", "table": "same.json"})
    assert (code, "the codec is for" in told) == (0, False)
    (codec / "encoder-4x4.onnx").write_bytes(b"changed")
    code, told = checked(offload=offload)
    assert (code, "WRONG offload: " in told, "encoder-4x4.onnx" in told) == (1, True, True)
    write_codec(tmp_path / "broken", b"no graph")
    code, told = checked(offload=offload | {"codec": "broken"})
    assert (code, "WRONG offload: the encoder: " in told) == (1, True)
    (tmp_path / "table.json").write_text("{}")
    code, told = checked(offload=offload | {"codec": "broken"})
    assert (code, "table.json: " in told) == (1, True)
