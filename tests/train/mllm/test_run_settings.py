"""The settings of a run: upstream's defaults, and each value of the configuration."""

import json
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.errors import ConfigError
from train.mllm.run_settings import RunSettings, read_settings, read_zero_stage
from train.recipe.config_file import read_config

OURS = {"model_name_or_path", "dataset", "lora_target", "zero_stage"}
"""Without an upstream default, or stored in another form."""


def default_of(field: "Field[Any]") -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


@pytest.mark.slow
def test_the_defaults_are_those_of_the_installed_tools() -> None:
    from llamafactory.hparams import DataArguments, FinetuningArguments, ModelArguments
    from transformers import TrainingArguments

    upstream: dict[str, Any] = {}
    for arguments in (TrainingArguments, ModelArguments, DataArguments, FinetuningArguments):
        upstream |= {field.name: default_of(field) for field in fields(arguments)}
    ours = {field.name: field.default for field in fields(RunSettings)}
    assert {key: ours[key] for key in ours.keys() - OURS} == {
        key: upstream[key] for key in ours.keys() - OURS
    }
    assert upstream["lora_target"] == "all"
    assert ours["lora_target"] == ("all",)


def test_every_field_is_read_from_the_key_of_its_name() -> None:
    other = {
        str: "other",
        int: 3,
        float: 0.5,
        bool: True,
        tuple: "q_proj, v_proj",
        type(None): 4,
    }
    for field in fields(RunSettings):
        if field.name == "zero_stage":
            continue
        if field.default is True:
            value: Any = False
        elif field.name in ("adapter_name_or_path", "resume_from_checkpoint"):
            value = "folder"
        else:
            value = other[type(field.default)]
        changed = read_settings({field.name: value})
        differing = [f.name for f in fields(changed) if getattr(changed, f.name) != f.default]
        assert differing == [field.name]


def test_a_shipped_configuration_is_read_whole() -> None:
    settings = read_settings(read_config(Path("configs/lora/boxed.yaml"), ["lora_rank=32"]))
    assert (settings.lora_rank, settings.cutoff_len, settings.bf16) == (32, 4096, True)
    assert (settings.per_device_train_batch_size, settings.samples_a_step(4)) == (4, 64)
    assert (settings.checkpointing, settings.full, settings.activation_bytes) == (True, False, 2)


def test_alpha_is_twice_the_rank_unless_it_is_stated() -> None:
    assert read_settings({"lora_rank": 16}).alpha == 32
    assert read_settings({"lora_rank": 16, "lora_alpha": 8}).alpha == 8


def test_targets_are_words_between_commas_or_a_list() -> None:
    assert read_settings({"lora_target": "q_proj, v_proj"}).lora_target == ("q_proj", "v_proj")
    assert read_settings({"lora_target": ["q_proj"]}).lora_target == ("q_proj",)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("cutoff_len", "long", "cutoff_len is 'long', expected a whole number"),
        ("cutoff_len", None, "cutoff_len is None, expected a whole number"),
        ("save_steps", "often", "save_steps is 'often', expected a number"),
        (
            "quantization_bit",
            "four",
            "expected a whole number, or null",
        ),
        ("model_revision", 7, "model_revision is 7, expected a text"),
        ("max_steps", float("inf"), "max_steps is inf, expected a whole number"),
    ],
)
def test_a_value_that_cannot_be_read_is_named(key: str, value: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read_settings({key: value})


def test_the_stage_of_zero_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "z3.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    assert (read_zero_stage(str(path)), read_zero_stage(None)) == (3, 0)
    assert read_settings({"deepspeed": str(path)}).zero_stage == 3
    assert read_zero_stage({"zero_optimization": {"stage": 2}}) == 2
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"z3\.json: is not a DeepSpeed configuration"):
        read_zero_stage(str(path))
    with pytest.raises(ConfigError, match=r"absent\.json: cannot be read"):
        read_zero_stage(str(tmp_path / "absent.json"))
