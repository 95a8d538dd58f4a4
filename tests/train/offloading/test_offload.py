"""`train.offload`: a codec of a few steps, cut off and gone on with, refused where it must be."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from dat_runtime import manifest
from dat_runtime.errors import ModelError
from dat_runtime.offload import CodeUnit, pack, unpack
from tests.train.offloading.small_codec import arguments
from train import offload
from train.offloading import training
from train.offloading.codec import signs_of
from train.offloading.folder import read_codec

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("codec")]


def test_a_codec_states_what_it_belongs_to(codec_folder: Path, tiny_base: Path) -> None:
    assert manifest.verify(codec_folder, "codec").inputs.keys() == {"base", "instructions"}
    description, codec = read_codec(codec_folder)
    fields = description.fields
    assert (fields["base"], fields["revision"]) == ("base", manifest.digest(tiny_base))
    assert (description.channels, description.block, fields["features"]) == ((4, 8), 1, 96)
    assert (fields["grids"], fields["images"]) == ([[8, 8]], [[112, 112]])
    assert codec.shape.channels == 8
    assert {path.name for path in codec_folder.iterdir()} == {
        "codec.json", "codec.safetensors", "config.yaml", "encoder-8x8.onnx", "manifest.json",
        "run.json", "steps.jsonl",
    }  # fmt: skip
    report = json.loads((codec_folder / "run.json").read_text())
    assert report["graphs"]["encoder-8x8.onnx"]["bits"] == 9 * 8 * 64
    assert set(report["lost_variance"]) == {"4", "8"}


def test_a_node_needs_onnx_runtime_alone_and_a_server_decodes_its_unit(
    codec_folder: Path,
) -> None:
    import onnxruntime

    description, codec = read_codec(codec_folder)
    graph = onnxruntime.InferenceSession(str(codec_folder / "encoder-8x8.onnx"))
    patches = np.random.default_rng(0).standard_normal((64, 1176)).astype(np.float32)
    (bits,) = graph.run(["bits"], {"patches": patches})
    assert (bits.shape, bits.dtype) == ((8, 64), np.uint8)
    unit = CodeUnit(description.id, (8, 8), description.spatial, bits.astype(bool))
    came = unpack(pack(unit), description.id)
    features = codec.decode(signs_of(came.bits, 8), came.grid)
    assert features.shape == (64, 96)
    assert torch.isfinite(features).all()


def test_a_changed_weight_is_not_the_codec_of_its_id(codec_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "codec"
    copy.mkdir()
    for path in codec_folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    weights = bytearray((copy / "codec.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "codec.safetensors").write_bytes(bytes(weights))
    stated = manifest.read(copy)
    stated.outputs["codec.safetensors"] = manifest.digest(copy / "codec.safetensors")
    manifest.write(copy, stated)
    with pytest.raises(ModelError, match="its id is not that of these fields and weights"):
        read_codec(copy)


def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(
    codec_folder: Path, tiny_base: Path, boxed_instructions: Path, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "codec"
    given = arguments(tiny_base, boxed_instructions, out)
    save = training._save

    def save_and_die(folder, codec, optimizer, step) -> None:
        save(folder, codec, optimizer, step)
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "_save", save_and_die)
    assert offload.main(given) == 130
    monkeypatch.setattr(training, "_save", save)
    assert offload.main(given) == 0
    same = ("codec.json", "codec.safetensors")
    assert [(out / n).read_bytes() == (codec_folder / n).read_bytes() for n in same] == [True, True]
    steps = [json.loads(line)["step"] for line in (out / "steps.jsonl").read_text().splitlines()]
    assert steps == [8]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("block=3", "block 3: the vision tower has 2 blocks"),
        ("channels=[8,4]", "expected rising numbers"),
        ("width=20", "expected a multiple of 8"),
        ("wings=2", "unknown key 'wings'"),
        ("learning_rate=0", "learning_rate is 0, expected a number above 0"),
    ],
)
def test_a_wrong_key_is_named_and_leaves_nothing(
    tiny_base, boxed_instructions, tmp_path, capsys, override, message
) -> None:
    given = arguments(tiny_base, boxed_instructions, tmp_path / "codec", override)
    assert offload.main(given) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_diverges_says_where(
    tiny_base, boxed_instructions, tmp_path, capsys
) -> None:
    given = arguments(
        tiny_base, boxed_instructions, tmp_path / "codec", "lambda_reconstruction=1e308"
    )
    assert offload.main(given) == 1
    assert re.search(r"the loss is inf at step 1 .*lower", capsys.readouterr().err)


def test_an_adapter_of_another_base_is_refused(
    tiny_base, boxed_instructions, make_lora, tmp_path, capsys
) -> None:
    given = arguments(tiny_base, boxed_instructions, tmp_path / "codec")
    assert offload.main(["--adapter", str(make_lora()), *given]) == 1
    assert "is another base: " in capsys.readouterr().err
