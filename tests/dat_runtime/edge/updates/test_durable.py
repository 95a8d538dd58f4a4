"""What a power cut may leave: all that a state names is on the disk before the state is."""

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.bundle_variants import tiny_bundle, variant
from benchmarks.switch_kills import ROOT, kills, look
from dat_runtime.edge.updates.versions import Versions, version_of

CALLS = "fsync,rename,renameat,renameat2"
Call = tuple[str, tuple[str, ...]]
"""A name, and the paths."""


def traced(bundle: Path, coming: Path, log: Path) -> list[Call]:
    """The calls of a whole switch (`benchmarks.switch_kills`) that decide what is durable."""
    line = ["strace", "-f", "-qq", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(log)]
    line += [sys.executable, "-m", "benchmarks.switch_kills", "--switch"]
    subprocess.run([*line, str(bundle), str(coming), "never", "keep"], cwd=ROOT, check=True)
    calls = []
    for text in log.read_text().splitlines():
        name = text.split()[1].partition("(")[0]
        paths = re.findall(r'"([^"]+)"', text) if name != "fsync" else re.findall(r"<(.+)>\)", text)
        calls.append((name, tuple(paths)))
    return calls


def unsafe(calls: Sequence[Call], folder: Path, files: Sequence[str]) -> list[str]:
    """What a power cut could take away although a state names it."""
    synced: set[str] = set()
    found = []
    for i, (name, paths) in enumerate(calls):
        if name == "fsync":
            synced.add(paths[0])
        elif paths[1].startswith(f"{folder}/bundles/"):
            found += [f for f in files if f"{paths[0]}/{f}".rstrip("/") not in synced]
            synced -= {f"{folder}/bundles"}  # the new name is not durable yet
        elif paths[1] == f"{folder}/state.json":
            if paths[0] not in synced:
                found.append("state.json before its content")
            if f"{folder}/bundles" not in synced:
                found.append("state.json before the name of the version")
            if calls[i + 1] != ("fsync", (str(folder),)):
                found.append("state.json without its name")
            synced.discard(paths[0])
    return found


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_state_is_written_after_every_file_of_the_version_that_it_names(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    coming = variant(bundle, tmp_path / "coming", 1)
    versions = Versions(bundle)
    traced(bundle, bundle, tmp_path / "first")
    calls = traced(bundle, coming, tmp_path / "log")
    assert versions.state().current == version_of(coming)
    files = ["", *(p.relative_to(coming).as_posix() for p in coming.rglob("*"))]
    assert len(files) == 10
    switches = [paths for name, paths in calls if name != "fsync" and "state.json" in paths[1]]
    assert len(switches) >= 4
    assert unsafe(calls, versions.folder, files) == []
    for left_out in {paths[0] for name, paths in calls if name == "fsync"}:
        if left_out.endswith((".new", "bundles", ".onnx", "adapter", ".safetensors")):
            without = [call for call in calls if call != ("fsync", (left_out,))]
            assert unsafe(without, versions.folder, files), f"{left_out} would not be missed"


def test_what_is_not_whole_is_found_to_be_broken(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    versions = Versions(bundle)
    line = [sys.executable, "-m", "benchmarks.switch_kills", "--switch"]
    subprocess.run([*line, str(bundle), str(bundle), "never", "keep"], cwd=ROOT, check=True)
    version = version_of(bundle)
    assert look(versions, {version}) == "old or new, whole"
    assert look(versions, {"0" * 16}) == "broken"
    weights = versions.folder_of(version) / "adapter" / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    assert look(versions, {version}) == "broken"
    weights.write_bytes(content)
    state = versions.folder / "state.json"
    state.write_text(state.read_text()[:-20])
    assert look(versions, {version}) == "broken"


@pytest.mark.slow
def test_a_switch_that_is_killed_at_any_moment_leaves_the_old_version_or_the_new_one(
    tmp_path: Path,
) -> None:
    found = kills(tmp_path, 48, random.Random(5), opens_every=16)
    assert found["broken"] == 0
    assert found["old or new, whole"] >= 36
