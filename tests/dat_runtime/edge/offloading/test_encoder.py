"""The encoder in its process: right bits, and no graph that hangs, swells or breaks the node."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime import manifest
from dat_runtime.draw import encode_seen
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.offloading.encoder import Encoder
from dat_runtime.edge.offloading.node_codec import open_codec
from dat_runtime.edge.offloading.pixels import patches_of
from dat_runtime.errors import ConfigError, ManifestError, ModelError
from dat_runtime.offload import unpack
from tests.dat_runtime.edge.offloading.small_codec import (
    COLUMNS,
    MEAN,
    STD,
    of_a_terabyte,
    without_end,
    write_codec,
)

PICTURE = np.random.default_rng(2).integers(0, 256, (56, 56, 3), np.uint8)
JPEG = encode_seen(PICTURE)


def encoder_of(folder: Path, counts: Counts, seconds: float = 20.0) -> Encoder:
    return Encoder(folder, open_codec(folder), seconds, counts)


def test_the_bits_are_those_of_the_graph_on_the_processors_patches(tmp_path: Path) -> None:
    encoder = encoder_of(write_codec(tmp_path / "codec"), Counts())
    try:
        unit = unpack(encoder.unit(JPEG))
        seen = np.asarray(cv2.imdecode(np.frombuffer(JPEG, np.uint8), cv2.IMREAD_COLOR), np.uint8)
        patches = patches_of(seen, np.array(MEAN, np.float32), np.array(STD, np.float32))
        assert (unit.grid, unit.spatial) == ((4, 4), False)
        assert np.array_equal(unit.bits, (patches @ COLUMNS > 0).T)
        with pytest.raises(ModelError, match="no encoder for 84 x 56 pixels"):
            encoder.unit(encode_seen(np.zeros((56, 84, 3), np.uint8)))
        with pytest.raises(ModelError, match="no picture"):
            encoder.unit(b"\xff\xd8no")
        assert unpack(encoder.unit(JPEG)).channels == 8  # it still runs
    finally:
        encoder.stop()


@pytest.mark.slow  # Transformers takes seconds to import
@pytest.mark.timeout(600)
def test_patches_lie_as_the_models_processor_lays_them() -> None:
    processing = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl")
    processor = processing.Qwen2VLImageProcessor(
        size={"shortest_edge": 56 * 56, "longest_edge": 56 * 84}
    )
    picture = np.random.default_rng(3).integers(0, 256, (56, 84, 3), np.uint8)
    expected = processor(images=[picture[:, :, ::-1].copy()], return_tensors="np")
    mean = np.array(processor.image_mean, np.float32)
    found = patches_of(picture, mean, np.array(processor.image_std, np.float32))
    assert found.shape == expected["pixel_values"].shape == (24, 1176)
    assert np.abs(found - expected["pixel_values"]).max() < 2e-6


def test_one_that_hangs_is_killed_and_started_again_after_a_pause(
    tmp_path: Path, children: Callable[[], list[int]]
) -> None:
    counts = Counts()
    encoder = encoder_of(write_codec(tmp_path / "codec", without_end()), counts, seconds=0.5)
    try:
        encoder.start()
        (child,) = children()
        began = time.monotonic()
        with pytest.raises(ModelError, match="did not answer in time"):
            encoder.unit(JPEG)
        assert time.monotonic() - began < 5
        assert child not in children()
        with pytest.raises(ModelError, match="failed a moment ago"):
            encoder.unit(JPEG)
        assert counts.of("encoder_failed", reason="it hangs") == 1
        assert counts.of("encoder_restarts") == 1
        time.sleep(1.1)
        encoder.start()
        assert children()
    finally:
        encoder.stop()
    assert not children()


def test_one_that_hangs_ends_with_its_parent(tmp_path: Path) -> None:
    folder = write_codec(tmp_path / "codec", without_end())
    (tmp_path / "seen.jpg").write_bytes(JPEG)
    script = (
        "import sys, os, pathlib\n"
        "from dat_runtime.edge.counts import Counts\n"
        "from dat_runtime.edge.offloading.encoder import Encoder\n"
        "from dat_runtime.edge.offloading.node_codec import open_codec\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "encoder = Encoder(folder, open_codec(folder), 60, Counts())\n"
        "encoder.start()\n"
        "print(encoder._child.pid, flush=True)\n"
        "encoder.unit(pathlib.Path(sys.argv[2]).read_bytes())\n"
    )
    line = [sys.executable, "-c", script, str(folder), str(tmp_path / "seen.jpg")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()
    deadline = time.monotonic() + 20
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_one_that_swells_or_is_no_graph_fails_by_name(tmp_path: Path) -> None:
    counts = Counts()
    for name, graph, words in (
        ("swells", of_a_terabyte(), "encoder"),
        ("none", b"no graph", "INVALID_PROTOBUF|Protobuf parsing failed"),
    ):
        encoder = encoder_of(write_codec(tmp_path / name, graph), counts)
        try:
            with pytest.raises(ModelError, match=words):
                encoder.unit(JPEG)
        finally:
            encoder.stop()


def test_a_codec_that_was_changed_or_is_of_another_prompt_is_refused_by_name(
    tmp_path: Path,
) -> None:
    folder = write_codec(tmp_path / "codec")
    codec = json.loads((folder / "codec.json").read_text())
    (folder / "encoder-4x4.onnx").write_bytes(b"other")
    with pytest.raises(ManifestError, match=r"encoder-4x4\.onnx"):
        open_codec(folder)
    with pytest.raises(ConfigError, match="prompt 7 and patches of 14"):
        open_codec(write_codec(tmp_path / "prompt", prompt=7))
    with pytest.raises(ModelError, match="is missing"):
        open_codec(write_codec(tmp_path / "grids", grids=[[4, 4], [2, 2]]))
    with pytest.raises(ModelError, match=r"std is .*a number above 0"):
        open_codec(write_codec(tmp_path / "std", std=[0.2, 0.0, 0.2]))
    (tmp_path / "prompt" / "codec.json").write_text(json.dumps(codec | {"id": "0" * 16}))
    stated = json.loads((tmp_path / "prompt" / manifest.NAME).read_text())
    assert stated["kind"] == "codec"
