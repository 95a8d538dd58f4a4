import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dat_runtime.errors import ConfigError, ModelError
from train.mllm import resources
from train.mllm.lengths import Lengths
from train.mllm.memory import estimate, worst_batch
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
        ({"save_strategy": "epoch", "save_total_limit": None, "max_steps": 261}, 2),
        ({"save_steps": 0.3, "save_total_limit": None}, 4),
        ({"save_steps": 0.0001, "save_total_limit": None}, 780),
        ({"save_steps": 1, "save_total_limit": None, "max_steps": 1}, 1),
        ({"max_steps": 0, "num_train_epochs": 0.5, "save_total_limit": None}, 2),
    ],
)
def test_checkpoints_on_the_disk_are_counted(changes, kept) -> None:
    settings = replace(SETTINGS, **changes)
    samples = 4160 if settings.save_total_limit is None else 12_000
    assert resources.checkpoints_kept(settings, samples, processes=1) == kept


def test_of_several_processes_a_run_has_fewer_steps_and_checkpoints() -> None:
    assert [resources.steps_of(SETTINGS, 4160, processes) for processes in (1, 2, 3)] == [
        780,
        390,
        261,
    ]
    many = replace(SETTINGS, save_total_limit=None)
    assert resources.checkpoints_kept(many, 4160, processes=3) == 3
    assert resources.checkpoints_written(replace(many, save_strategy="epoch"), 4160, 3) == 3


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


def test_of_several_cards_the_smallest_counts_once_for_each_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resources.find_card(SETTINGS) is None
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


def test_the_shipped_bases_sizes_are_those_of_its_weights() -> None:
    text, vision = resources.model_sizes(RunSettings(model_name_or_path="train/shipped_base"))
    with Path("train/shipped_base/model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    stated = [tensor["data_offsets"] for name, tensor in header.items() if name != "__metadata__"]
    total = sum(end - start for start, end in stated) // 2
    assert text.linear + text.other + vision.linear + vision.other == total


def test_a_hubs_configuration_is_fetched_alone(tmp_path, monkeypatch) -> None:
    import huggingface_hub

    asked = []

    def download(name, file, revision):
        asked.append((name, file, revision))
        if name == "a/missing":
            raise OSError(" No such model.\nAnd much more.")
        path = tmp_path / "config.json"
        path.write_text(json.dumps({**SEVEN_B, "model_type": "qwen2_5_vl"}))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert resources.model_sizes(SETTINGS) == SIZES
    assert asked == [(SETTINGS.model_name_or_path, "config.json", SETTINGS.model_revision)]
    with pytest.raises(ModelError) as refused:
        resources.model_sizes(replace(SETTINGS, model_name_or_path="a/missing"))
    assert str(refused.value) == (
        f"a/missing at {SETTINGS.model_revision}: its config.json cannot be read (No such model.)"
    )


@pytest.mark.parametrize(
    ("config", "named"), [('{"model_type": "llava"}', "'llava'"), ("[]", "None")]
)
def test_a_base_of_another_family_is_refused_to_the_letter(tmp_path, config, named) -> None:
    path = tmp_path / "config.json"
    path.write_text(config)
    with pytest.raises(ModelError) as refused:
        resources.config_of(replace(SETTINGS, template="qwen3_vl_nothink"), path)
    assert str(refused.value) == (
        f"{path}: model_type is {named}, expected 'qwen3_vl': the template of this configuration "
        "is that of Qwen3-VL"
    )


def test_the_estimate_is_that_of_the_worst_batch_on_every_card() -> None:
    lengths = Lengths((1700, 900), 4096, (1280, 640), (150, 170))
    sharded = replace(SETTINGS, zero_stage=2)
    learnt = worst_batch([(1700, 1280, 150), (900, 640, 170)], 4)
    told = worst_batch([(1700, 1280, 1700), (900, 640, 900)], 4)
    four = Card("A100", 1, 4)
    found = resources.estimated(sharded, SIZES, lengths, four)
    assert found == estimate(SIZES, sharded, learnt, processes=4, inputs_copied=False)
    assert found.peak < resources.estimated(sharded, SIZES, lengths, None).peak
    copied = resources.estimated(sharded, SIZES, lengths, four, inputs_copied=True)
    assert copied == estimate(SIZES, sharded, learnt, processes=4, inputs_copied=True)
    assert copied != found
    whole = replace(SETTINGS, train_on_prompt=True)
    found = resources.estimated(whole, SIZES, lengths, None)
    assert found == estimate(SIZES, whole, told, processes=1, inputs_copied=False)


def test_a_card_that_is_too_small_is_told_what_would_fit() -> None:
    needed = resources.estimated(SETTINGS, SIZES, LENGTHS, A100)
    just = Card("just", int(needed.peak * 1.05) + 1, 1)
    assert resources.demand_memory(SETTINGS, SIZES, LENGTHS, just) == needed

    def peak(**changes: int) -> str:
        changed = resources.estimated(replace(SETTINGS, **changes), SIZES, LENGTHS, None)
        return f"{changed.peak / 1e9:.1f} GB"

    with pytest.raises(ConfigError) as refused:
        resources.demand_memory(SETTINGS, SIZES, LENGTHS, Card("RTX A4500", 20_200_000_000, 1))
    one = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 16}
    four_bits = {"quantization_bit": 4}
    assert str(refused.value) == (
        f"an estimated {needed.peak / 1e9:.1f} GB, and 5% to be safe, are more than the 20.2 GB of "
        "RTX A4500: use per_device_train_batch_size=1 gradient_accumulation_steps=16 "
        f"({peak(**one)}) or quantization_bit=4 ({peak(**four_bits)}) or quantization_bit=4 "
        f"per_device_train_batch_size=1 gradient_accumulation_steps=16 ({peak(**four_bits, **one)})"
        f"; --ignore-memory trains all the same\n{needed.table()}"
    )


def test_settings_that_need_less_come_gentlest_first() -> None:
    settings = replace(SETTINGS, disable_gradient_checkpointing=True, per_device_train_batch_size=8)
    batches = [
        {"per_device_train_batch_size": 8 // by, "gradient_accumulation_steps": 4 * by}
        for by in (2, 4, 8)
    ]
    bits = {"quantization_bit": 4}
    first = {"disable_gradient_checkpointing": False}
    assert list(resources.smaller(settings)) == [first, *batches, bits, {**bits, **batches[-1]}]
    one = replace(SETTINGS, per_device_train_batch_size=1)
    assert list(resources.smaller(one)) == [bits]
    assert list(resources.smaller(replace(one, quantization_bit=8))) == []


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """Sets how much is free on every disk, and keeps which folders were asked about."""
    asked = []

    def has(free: int) -> list[Path]:
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr(
            resources.shutil, "disk_usage", lambda path: asked.append(path) or usage
        )
        return asked

    return has


def test_what_a_run_writes_is_told_where_it_has_no_room(tmp_path, disk, monkeypatch) -> None:
    monkeypatch.setattr(resources, "in_cache", lambda name, revision: True)
    adapter = 4 * 40_370_176  # floats of rank 16 on every linear layer
    checkpoint = 3 * adapter  # AdamW keeps two more of each
    needed = 3 * checkpoint + adapter + (200 << 20)
    assert resources.checkpoint_bytes(SETTINGS, SIZES) == checkpoint
    assert resources.disk_needed(SETTINGS, SIZES, 6400, 1) == needed
    out = tmp_path / "new" / "lora"
    asked = disk(needed)
    assert resources.demand_disk(SETTINGS, SIZES, 6400, out, 1) == needed
    assert asked == [tmp_path]
    disk(needed - 1)
    with pytest.raises(ConfigError) as refused:
        resources.demand_disk(SETTINGS, SIZES, 6400, out, 1)
    assert str(refused.value) == (
        f"{out}: 1.8 GB are needed for 3 checkpoints of 0.48 GB and the adapter, 1.8 GB are free "
        "there: free some, name another --out, or set a smaller save_total_limit"
    )
    earlier = out / "work" / "checkpoint-7" / "deeper"
    earlier.mkdir(parents=True)
    (earlier / "state").write_bytes(b"123")
    (out / "other").write_bytes(b"not replaced")
    assert resources.demand_disk(SETTINGS, SIZES, 6400, out, 1) == needed - 3
    monkeypatch.setattr(resources, "disk_needed", lambda *given: 2)
    assert resources.demand_disk(SETTINGS, SIZES, 6400, out, 1) == 0


@pytest.mark.parametrize("changes", [{}, {"quantization_bit": 4}, {"bf16": False}])
def test_a_download_is_told_where_it_has_no_room(tmp_path, disk, monkeypatch, changes) -> None:
    from huggingface_hub import constants

    cached = []
    monkeypatch.setattr(resources, "in_cache", lambda *given: cached.append(given))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    settings = replace(SETTINGS, save_total_limit=1, **changes)
    disk(16_584_333_311)
    with pytest.raises(ConfigError) as refused:
        resources.demand_disk(settings, SIZES, 64, tmp_path, 1)
    assert str(refused.value) == (
        f"{tmp_path / 'hub'}: 16.6 GB are needed for the download of Qwen/Qwen2.5-VL-7B-Instruct, "
        "16.6 GB are free there: free some, or set HF_HOME to a larger disk"
    )
    assert cached == [(SETTINGS.model_name_or_path, SETTINGS.model_revision)]
    disk(16_584_333_312)
    resources.demand_disk(settings, SIZES, 64, tmp_path, 1)
    here = replace(settings, model_name_or_path="train/shipped_base")
    disk(2_000_000_000)
    resources.demand_disk(here, SIZES, 64, tmp_path, 1)


def test_a_base_of_one_file_is_in_the_cache_when_that_is(tmp_path, monkeypatch) -> None:
    from huggingface_hub import constants

    snapshots = tmp_path / "models--a--model" / "snapshots"
    (snapshots / ("1" * 40)).mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert not resources.in_cache("a/model", "1" * 40)
    (snapshots / ("1" * 40) / "model.safetensors").touch()
    assert resources.in_cache("a/model", "1" * 40)
    assert not resources.in_cache("a/model", "2" * 40)
