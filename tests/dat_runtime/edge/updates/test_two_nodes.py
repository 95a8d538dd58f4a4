"""An update served over loopback to two running nodes, one of which fails its canary."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from benchmarks.bundle_variants import BASE, tiny_bundle, variant
from benchmarks.lora_server import LoraServer, serving, weights_digest
from dat_runtime import manifest
from dat_runtime.cli import main
from dat_runtime.edge.updates.versions import Versions, version_of
from export.live.processes import free_port, running, until
from tests.dat_runtime.edge.updates.lying_server import LyingServer
from tests.export.repository.small_repository import SmallRepository


class RunningNode:
    """`dat-runtime edge run` in a process, its MLLM's server and its settings."""

    def __init__(self, folder: Path, name: str, updates: dict[str, Any], stack: ExitStack):
        folder.mkdir()
        self.bundle = tiny_bundle(folder / "bundle")
        self.mllm = LoraServer(plain=self.bundle / "adapter")
        frames = folder / "frames"
        frames.mkdir()
        picture = np.random.default_rng(1).integers(0, 256, (90, 160, 3), np.uint8)
        cv2.imwrite(str(frames / "0.png"), picture)
        url = stack.enter_context(serving(self.mllm))
        settings = {
            "node": name,
            "bundle": str(self.bundle),
            "cameras": [{"name": "a", "source": str(frames), "fps": 20, "loop": True}],
            "mllm": {"url": url, "model": "dat", "timeout": 10},
            "uplink": {"url": "http://127.0.0.1:9"},
            "spool": {"path": "spool.sqlite", "max_bytes": 10_000_000, "alert_reserve_bytes": 0},
            "metrics": {"listen": f"127.0.0.1:{free_port()}"},
            "updates": updates,
        }
        self.yaml = folder / "node.yaml"
        self.yaml.write_text(json.dumps(settings))
        self.address = stack.enter_context(_process(self.yaml))

    def status(self) -> dict[str, Any]:
        told: dict[str, Any] = httpx.get(self.address + "/status").json()
        return told

    @property
    def version(self) -> str:
        return str(self.status()["bundle"]["version"])


@contextmanager
def _process(yaml: Path) -> Iterator[str]:
    """The address of the metrics of a node that runs; it ends as asked."""
    with running("edge", "run", yaml) as process:
        yield process.url
        assert process.end(30) == 0


@pytest.mark.slow
def test_a_node_takes_the_update_while_the_other_one_fails_its_canary_and_stays_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = SmallRepository(tmp_path / "repository")
    (tmp_path / "root.json").write_bytes(repository.first_root)
    new = variant(tiny_bundle(tmp_path / "tiny"), tmp_path / "new", 1)
    files = {p.relative_to(new).as_posix(): p.read_bytes() for p in new.rglob("*") if p.is_file()}
    told = {"base": BASE["base"], "base_revision": BASE["revision"], "rank": 2}
    repository.publish("1.0.0", files, **told, **manifest.VERSIONS)
    with ExitStack() as stack:
        web = stack.enter_context(LyingServer(repository.store.folder))
        updates = {
            "url": web.url,
            "root": str(tmp_path / "root.json"),
            "probation_minutes": 0,
            "probation_frames": 40,
        }
        well = RunningNode(tmp_path / "well", "n1", updates, stack)
        ill = RunningNode(tmp_path / "ill", "n2", updates, stack)
        ill.mllm.garbage.add(weights_digest(new / "adapter"))
        old = version_of(well.bundle)
        until(lambda: well.version == ill.version == old)

        assert main(["install", str(well.yaml)]) == 0
        assert main(["install", str(ill.yaml)]) == 3
        until(lambda: well.version == version_of(new))
        until(lambda: Versions(well.bundle).state().probation is None)
        assert ill.version == old
        capsys.readouterr()
        assert main(["status", str(well.yaml)]) == 0
        shown = capsys.readouterr().out
        assert f"current   {version_of(new)}\n" in shown
        assert f"previous  {old}\n" in shown
        assert f"bundle    {version_of(new)}\n" in shown, "as the running node says"
        assert "camera    a: live" in shown
        assert version_of(new) in Versions(ill.bundle).state().blocked
        capsys.readouterr()
        asked = len(web.asked)
        assert main(["install", str(ill.yaml)]) == 0
        assert "is blocked as" in capsys.readouterr().out
        assert not any("/targets/" in path for path, _ in web.asked[asked:]), "nothing is fetched"

        repository.timestamp_until(datetime.now(UTC) - timedelta(days=1))
        assert main(["install", str(well.yaml)]) == 1
        assert "until the repository is refreshed" in capsys.readouterr().err
        told_by_node = until(lambda: well.status() if well.status()["bundle"]["stale"] else None)
        assert told_by_node["problems"] == [], "expired metadata blocks updates, never service"
        assert "dat_node_bundle_stale 1.0" in httpx.get(well.address + "/metrics").text
        assert main(["status", str(well.yaml)]) == 1
        assert "STALE" in capsys.readouterr().out
        assert main(["rollback", str(well.yaml)]) == 0
        until(lambda: well.version == old)
