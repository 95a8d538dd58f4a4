import json
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file, save_file

from dat_runtime import manifest
from dat_runtime.adapter import WEIGHTS, read_adapter
from dat_runtime.errors import ModelError
from train import lora
from train.mllm.adapter_training import demand_change

CONFIG = "configs/lora/smoke.yaml"


def arguments(base: Path, instructions: Path, out: Path, *overrides: str) -> list[str]:
    paths = {"--instructions": instructions, "--base": base, "--out": out}
    named = [str(part) for pair in paths.items() for part in pair]
    return ["--config", CONFIG, "--dataset", "boxed_train", *named, *overrides]


def test_an_adapter_with_a_zero_matrix_is_refused(tmp_path, make_lora):
    folder = make_lora()
    demand_change(folder, read_adapter(folder))
    tensors = load_file(folder / WEIGHTS)
    (name,) = (key for key in tensors if ".lora_B." in key)
    save_file({**tensors, name: tensors[name] * 0}, folder / WEIGHTS)
    with pytest.raises(ModelError, match="is all zeros, so the adapter changes nothing"):
        demand_change(folder, read_adapter(folder))


@pytest.mark.slow
def test_zeros_in_bfloat16_are_found_too(make_lora):
    import torch
    from safetensors.torch import load_file, save_file

    folder = make_lora()
    tensors = {k: v.to(torch.bfloat16) for k, v in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS)
    demand_change(folder, read_adapter(folder))
    save_file({k: v * 0 for k, v in tensors.items()}, folder / WEIGHTS)
    with pytest.raises(ModelError, match="all zeros"):
        demand_change(folder, read_adapter(folder))


@pytest.mark.parametrize("key", lora.NOT_SHIPPED)
def test_an_adapter_that_no_node_opens_is_refused_before_the_training(tmp_path, capsys, key):
    given = arguments(tmp_path, tmp_path, tmp_path / "out", f"{key}=true")
    assert lora.main(given) == 1
    assert f"{key} makes more than the two matrices of LoRA" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_would_cut_a_sample_stops_before_training(
    tiny_base, instructions, tmp_path, capsys
):
    out = tmp_path / "lora"
    assert lora.main(arguments(tiny_base, instructions, out, "cutoff_len=50")) == 1
    assert "'f0' of boxed_train" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_steps_make_an_adapter_that_says_where_it_comes_from(
    tiny_base, instructions, tmp_path, capsys
):
    out = tmp_path / "lora"
    run = arguments(tiny_base, instructions, out, "max_steps=2", "logging_steps=1")

    assert lora.main(run) == 0

    adapter = read_adapter(out)
    assert (adapter.base, adapter.rank) == ("base", 16)
    assert adapter.revision == manifest.digest(tiny_base)
    assert manifest.verify(out, "lora").inputs.keys() == {"base", "instructions"}
    assert {p.name for p in out.iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "config.yaml",
        "lengths.png", "manifest.json", "run.json", "train.log", "trainer_log.jsonl",
        "training_loss.png",
    }  # fmt: skip
    assert yaml.safe_load((out / "README.md").read_text().split("---")[1])["base_model"] == "base"
    assert json.loads((out / "run.json").read_text())["steps"] == 2
    assert lora.main(run) == 0
    assert "up to date" in capsys.readouterr().out
