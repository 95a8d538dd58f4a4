"""Adapters in the weights of their base."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dat_runtime.errors import ModelError  # noqa: E402
from export.forms.merging import merge, merged, read_updates, weight_name  # noqa: E402
from tests.conftest import lora_tensors, safetensors  # noqa: E402

MODULE = "model.layers.0.self_attn.q_proj"


def adapter(folder: Path, **changes: object) -> Path:
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(safetensors(lora_tensors()))
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 3,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "base",
        "revision": "0" * 64,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    return folder


def test_a_base_gets_the_updates_of_the_modules_that_its_adapter_names(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = lora_tensors()
    (module,) = {name.partition(".lora_")[0] for name in tensors}
    name = module.removeprefix("base_model.model.") + ".weight"
    a, b = (tensors[f"{module}.lora_{side}.weight"] for side in "AB")
    base, folder = tmp_path / "base", tmp_path / "merged"
    base.mkdir()
    folder.mkdir()
    torch.manual_seed(0)
    own = torch.randn(b.shape[0], a.shape[1])
    other = torch.randn(3, 3)
    numbers = torch.tensor([1, 2])
    stored = {name: own, "other.weight": other, "numbers": numbers}
    save_file(stored, base / "model.safetensors")
    (base / "config.json").write_text('{"model_type": "x", "dtype": "float32"}')
    said: list[str] = []
    merge(base, adapter(tmp_path / "adapter"), folder, said.append)
    assert said == ["file 1 of 1 written"]
    config = json.loads((folder / "config.json").read_text())
    assert config == {"model_type": "x", "dtype": "bfloat16", "torch_dtype": "bfloat16"}
    found = load_file(folder / "model.safetensors")
    assert sorted(found) == sorted(stored)
    wanted = own + 1.5 * torch.tensor(b.astype(np.float32) @ a.astype(np.float32))
    assert torch.equal(found[name], wanted.to(torch.bfloat16))
    assert torch.equal(found["other.weight"], other.to(torch.bfloat16))
    assert torch.equal(found["numbers"], numbers)


def test_a_scale_is_that_of_the_adapter(tmp_path: Path) -> None:
    (key,) = {name.partition(".lora_")[0] for name in lora_tensors()}
    names = {key.removeprefix("base_model.model.") + ".weight"}
    folder = adapter(tmp_path / "a", use_rslora=True)
    ((name, update),) = read_updates(folder, names).items()
    assert {name} == names
    assert update.scale == pytest.approx(3 / math.sqrt(2))
    assert (update.a.shape[0], update.b.shape[1]) == (2, 2)


def test_a_weight_is_contiguous_whatever_it_was() -> None:
    turned = torch.ones(2, 3).T
    assert merged(turned, None).is_contiguous()
    assert merged(turned, None).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("module", "stored"),
    [
        (MODULE, MODULE),
        ("model.language_model.layers.1", "model.layers.1"),
        ("model.visual.blocks.0", "visual.blocks.0"),
    ],
)
def test_a_module_has_the_name_of_the_base_s_files(module: str, stored: str) -> None:
    assert weight_name(module, {f"{stored}.weight", "x"}, Path("a")) == f"{stored}.weight"


def test_a_module_that_the_base_has_not_is_named() -> None:
    words = "^a tunes model.visual.y, which the base has not: name its own base$"
    for names in (set(), {"model.visual.y"}, {"visual.y"}):
        with pytest.raises(ModelError, match=words):
            weight_name("model.visual.y", names, Path("a"))
