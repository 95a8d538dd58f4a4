"""A codec's folder is read as it was written, and no other passes for it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dat_runtime import manifest
from dat_runtime.errors import ManifestError, ModelError
from dat_runtime.prompt import PROMPT_VERSION
from dat_runtime.stage import Stage
from train.offloading.codec import Codec, Shape
from train.offloading.folder import read_codec, write_codec

FIELDS: dict[str, Any] = {
    "base": "tiny", "revision": "0" * 40, "adapter": None, "block": 1, "channels": [2, 8],
    "grids": [[4, 4]], "images": [[56, 56]], "patch": 14, "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.2, 0.2],
}  # fmt: skip


def codec_of(features: int = 6, spoilt: float = 0.0) -> Codec:
    torch.manual_seed(0)
    codec = Codec(Shape(features=features, channels=8, width=16, spatial=True))
    codec.centre += 1 + spoilt
    return codec


def write(out: Path, codec: Codec) -> Any:
    with Stage(out, kind="codec", inputs={}, config={}) as folder:
        return write_codec(folder, codec, FIELDS)


def test_a_codec_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = write(tmp_path / "codec", codec_of())
    description, codec = read_codec(tmp_path / "codec")
    sizes = {"features": 6, "width": 16, "spatial": True}
    stated = {"version": 1, **FIELDS, **sizes, "prompt": PROMPT_VERSION, "id": description.id}
    assert description.fields == written.fields == stated
    text = (tmp_path / "codec" / "codec.json").read_text()
    assert list(json.loads(text)) == sorted(stated)
    assert codec.shape == codec_of().shape
    expected = codec_of().state_dict()
    assert all(torch.equal(codec.state_dict()[name], expected[name]) for name in expected)
    assert not codec.training
    assert not any(weight.requires_grad for weight in codec.parameters())


def test_a_folder_that_is_no_whole_codec_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "codec"
    write(out, codec_of(spoilt=float("nan")))
    with pytest.raises(ModelError, match=r"codec\.safetensors: holds NaN or infinity$"):
        read_codec(out)
    # Weights of other sizes than those that are stated, with an id of their own.
    other = codec_of(features=7)
    other.shape = codec_of().shape
    write(tmp_path / "other", other)
    with pytest.raises(
        ModelError, match=r"(?s)codec\.safetensors: does not fit codec\.json \(.*size mismatch"
    ):
        read_codec(tmp_path / "other")
    (out / "codec.safetensors").write_bytes(b"changed")
    with pytest.raises(ManifestError, match="changed"):
        read_codec(out)
    with Stage(tmp_path / "gate", kind="gate", inputs={}, config={}):
        pass
    with pytest.raises(ManifestError):
        read_codec(tmp_path / "gate")
    assert manifest.read(tmp_path / "other", "codec").kind == "codec"
