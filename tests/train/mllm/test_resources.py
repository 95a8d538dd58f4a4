import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dat_runtime.errors import ConfigError
from train.mllm import resources
from train.mllm.lengths import Lengths
from train.mllm.model_sizes import SEVEN_B, read_model
from train.mllm.resources import Card
from train.mllm.run_settings import RunSettings

SIZES = read_model(SEVEN_B)
LENGTHS = Lengths((1700,) * 64, 4096, (1280,) * 64, (150,) * 64)
A100 = Card("NVIDIA A100-SXM4-40GB", 42_400_000_000, 1)
SETTINGS = RunSettings(
    model_name_or_path="Qwen/Qwen2.5-VL-7B-Instruct",
    model_revision="cc594898137f460bfe9f0759e9844b3ce807cfb5",
    finetuning_type="lora",
    lora_rank=16,
    lora_dropout=0.05,
    bf16=True,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=4,
    num_train_epochs=3,
    save_steps=100,
    save_total_limit=2,
)


def test_a_batch_of_four_fits_40_gb_and_not_20() -> None:
    needed = resources.demand_memory(SETTINGS, SIZES, LENGTHS, A100)
    assert needed.peak < A100.memory
    small = Card("NVIDIA RTX A4500", 20_200_000_000, 1)
    with pytest.raises(ConfigError) as refused:
        resources.demand_memory(SETTINGS, SIZES, LENGTHS, small)
    message = str(refused.value)
    assert "RTX A4500" in message
    assert "per_device_train_batch_size=1 gradient_accumulation_steps=16" in message
    assert "per_device_train_batch_size=2 gradient_accumulation_steps=8" not in message
    assert "quantization_bit=4" in message
    assert "--ignore-memory" in message


def test_every_fix_that_is_named_fits() -> None:
    without = replace(SETTINGS, disable_gradient_checkpointing=True)
    for change in resources.smaller(without):
        assert replace(without, **change).samples_a_step(processes=1) == 16
    with pytest.raises(ConfigError, match=r"use disable_gradient_checkpointing=False \("):
        resources.demand_memory(without, SIZES, LENGTHS, A100)


def test_where_no_change_fits_a_larger_card_is_named() -> None:
    with pytest.raises(ConfigError, match="a card with more memory, or DeepSpeed ZeRO-3"):
        resources.demand_memory(SETTINGS, SIZES, LENGTHS, Card("tiny", 2_000_000_000, 1))


def test_without_a_card_the_estimate_is_made_and_refuses_nothing() -> None:
    needed = resources.demand_memory(SETTINGS, SIZES, LENGTHS, None)
    assert needed == resources.demand_memory(SETTINGS, SIZES, LENGTHS, A100)


def test_the_sizes_are_those_of_the_weights(tiny_base: Path) -> None:
    from safetensors.numpy import load_file

    text, vision = resources.model_sizes(RunSettings(model_name_or_path=str(tiny_base)))
    total = sum(tensor.size for tensor in load_file(tiny_base / "model.safetensors").values())
    assert text.linear + text.other + vision.linear + vision.other == total


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, 3),  # two are kept while a third is written
        ({"save_total_limit": None}, 8),  # 780 steps, one each 100
        ({"max_steps": 50, "save_total_limit": None}, 1),
        ({"save_strategy": "no"}, 0),
        ({"save_strategy": "epoch", "save_total_limit": None}, 3),
    ],
)
def test_checkpoints_on_the_disk_are_counted(changes, kept) -> None:
    settings = replace(SETTINGS, **changes)
    samples = 4160 if settings.save_total_limit is None else 12_000
    assert resources.checkpoints_kept(settings, samples, processes=1) == kept


def test_a_disk_that_is_too_small_is_refused_with_the_fix(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(resources, "in_cache", lambda name, revision: True)
    free = shutil.disk_usage(tmp_path)._replace(free=3_000_000_000)
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: free)
    need = resources.demand_disk(SETTINGS, SIZES, 64, tmp_path / "new" / "lora", 1)
    assert 0.5e9 < need < 3e9
    many = replace(SETTINGS, save_total_limit=None, save_steps=1)
    with pytest.raises(ConfigError, match=r"GB are free there.*smaller save_total_limit"):
        resources.demand_disk(many, SIZES, 6400, tmp_path, 1)


def test_the_download_of_a_base_needs_room_in_the_cache(tmp_path, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(resources, "in_cache", lambda name, revision: False)
    free = shutil.disk_usage(tmp_path)._replace(free=10_000_000_000)
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: free)
    with pytest.raises(ConfigError, match=r"16\.6 GB are needed for the download of Qwen.*HF_HOME"):
        resources.demand_disk(SETTINGS, SIZES, 64, tmp_path, 1)


def test_a_base_is_in_the_cache_when_all_its_parts_are(tmp_path, monkeypatch) -> None:
    from huggingface_hub import constants

    name, commit = SETTINGS.model_name_or_path, SETTINGS.model_revision
    snapshot = tmp_path / "models--Qwen--Qwen2.5-VL-7B-Instruct" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert not resources.in_cache(name, commit)
    parts = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (snapshot / resources.INDEX).write_text(json.dumps({"weight_map": parts}))
    (snapshot / "model-1.safetensors").touch()
    assert not resources.in_cache(name, commit)
    (snapshot / "model-2.safetensors").touch()
    assert resources.in_cache(name, commit)


@pytest.mark.slow
def test_of_several_cards_the_smallest_counts_once_for_each_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    sizes = [("large", 80), ("small", 24), ("middle", 40)]
    cards = [SimpleNamespace(name=name, total_memory=memory) for name, memory in sizes]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_device_properties", cards.__getitem__)
    for name in ("NNODES", "NPROC_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    assert resources.find_card(SETTINGS) == Card("small", 24, 3)
    monkeypatch.setenv("NPROC_PER_NODE", "2")
    assert resources.find_card(SETTINGS) == Card("small", 24, 2)
    monkeypatch.setenv("NNODES", "4")
    assert resources.find_card(SETTINGS) == Card("small", 24, 8)
    assert resources.find_card(replace(SETTINGS, use_cpu=True)) is None
