"""Keys with which a training cannot end well, each by its name, and those that are fine."""

from pathlib import Path
from typing import Any

import pytest

from dat_runtime.errors import ConfigError
from train.mllm import refused_keys
from train.mllm.lora_config import read_lora_config
from train.mllm.refused_keys import demand_keys

FINE = {"template": "qwen2_vl", "finetuning_type": "lora"}


def refusal(**changes: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        demand_keys(FINE | changes)
    return str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"template": "qwen3_vl_nothink"},
        {"flash_attn": "sdpa", "packing": False, "use_asft_loss": False},
        {"freeze_vision_tower": True, "freeze_multi_modal_projector": True, "use_dora": False},
        {"finetuning_type": "full", "freeze_vision_tower": False, "use_dora": True},
    ],
)
def test_what_ends_well_is_let_pass(changes: dict[str, Any]) -> None:
    demand_keys(FINE | changes)


@pytest.mark.parametrize(("template", "named"), [(None, "None"), ("llama3", "'llama3'")])
def test_another_template_is_another_way_of_writing_than_it_is_asked_in(
    template: Any, named: str
) -> None:
    assert refusal(template=template) == (
        f"template is {named}: the base would be trained on another way of writing chats and "
        "pictures than it is asked in, and no answer could be read: template=qwen2_vl for "
        "Qwen2.5-VL or template=qwen3_vl_nothink for Qwen3-VL"
    )


def test_flash_attention_is_refused_where_it_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused_keys, "version", {"transformers": "5.6.0"}.__getitem__)
    assert refusal(flash_attn="fa2") == (
        "flash_attn is fa2, which fails in the first step with transformers 5.6.0 "
        "(hiyouga/LLaMA-Factory#10610): flash_attn=sdpa"
    )
    demand_keys(FINE | {"flash_attn": "auto"})
    monkeypatch.setattr(refused_keys, "version", {"transformers": "5.6.1"}.__getitem__)
    demand_keys(FINE | {"flash_attn": "fa2"})


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (
            "packing",
            "packing is true, but a sample would see the picture and the answer of the one before "
            "it: leave it out",
        ),
        (
            "neat_packing",
            "neat_packing is true, but LLaMA-Factory 0.9.5 gives positions to fewer tokens than a "
            "row has: leave it out",
        ),
        (
            "use_asft_loss",
            "use_asft_loss needs the logits of all tokens, and here are none: leave it out",
        ),
        *(
            (
                key,
                f"{key} makes more than the two matrices of LoRA, and no node opens such an "
                "adapter (dat_runtime.adapter): leave it out",
            )
            for key in ("use_dora", "pissa_init", "additional_target", "resize_vocab")
        ),
    ],
)
def test_a_key_is_refused_with_what_would_come_of_it(key: str, told: str) -> None:
    assert refusal(**{key: True}) == told


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("freeze_vision_tower", "the vision tower"),
        ("freeze_multi_modal_projector", "the projector"),
    ],
)
def test_what_an_adapter_leaves_alone_stays_frozen(key: str, part: str) -> None:
    assert refusal(**{key: False}) == (
        f"{key} is false, so {part} would get matrices too, which vLLM leaves out when it serves "
        f"the adapter: {key}=true"
    )


def configuration(folder: Path, **changes: Any) -> Path:
    keys = FINE | {"model_name_or_path": "theirs", "dataset": "theirs"} | changes
    path = folder / "lora.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
    return path


def test_base_and_samples_are_those_of_the_command(tmp_path: Path) -> None:
    given = (["lora_rank=8"], "base", tmp_path, "boxed_train")
    assert read_lora_config(configuration(tmp_path), *given) == FINE | {
        "lora_rank": 8,
        "model_name_or_path": "base",
        "dataset_dir": str(tmp_path),
        "media_dir": str(tmp_path),
        "dataset": "boxed_train",
    }


@pytest.mark.parametrize(
    ("changes", "overrides", "told"),
    [
        ({"finetuning_type": "full"}, [], "lora.yaml: expected finetuning_type: lora"),
        ({}, ["packing=true"], "packing is true"),
        ({}, ["lora_rankk=8"], "lora_rankk"),
        ({}, ["learning_rate=fast"], "learning_rate"),
    ],
)
def test_a_tuning_that_is_none_is_refused(
    tmp_path: Path, changes: dict[str, Any], overrides: list[str], told: str
) -> None:
    path = configuration(tmp_path, **changes)
    with pytest.raises(ConfigError, match=told):
        read_lora_config(path, overrides, "base", tmp_path, "boxed_train")
