"""Keys of LLaMA-Factory with which a run fails hours later, or makes what nobody can use."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from dat_runtime.errors import ConfigError
from dat_runtime.family import BY_TEMPLATE, FAMILIES
from dat_runtime.fields import shown

NOT_SHIPPED = ("use_dora", "pissa_init", "additional_target", "resize_vocab")
"""With one of these an adapter holds or needs more than Eq. 5."""

FROZEN = {
    "freeze_vision_tower": "the vision tower",
    "freeze_multi_modal_projector": "the projector",
}
"""What an adapter leaves alone, by the key that says so."""

PACKING = {
    "packing": "a sample would see the picture and the answer of the one before it",
    "neat_packing": "LLaMA-Factory 0.9.5 gives positions to fewer tokens than a row has",
}
"""Samples put into one row, and why that fails."""

BROKEN_FLASH = "5.6.0"
"""Of Transformers: its call of flash attention 2 takes a tensor that Qwen2.5-VL does not have
(hiyouga/LLaMA-Factory#10610); the versions before and after it do not."""


def demand_keys(config: Mapping[str, Any]) -> None:
    """Refuse keys with which a training cannot end well.

    Raises:
        ConfigError: names the key, what would come of it, and what to write instead.
    """
    template = config.get("template")
    if template not in BY_TEMPLATE:
        known = [f"template={family.template} for {family.title}" for family in FAMILIES.values()]
        raise ConfigError(
            f"template is {shown(template)}: the base would be trained on another way of writing "
            "chats and pictures than it is asked in, and no answer could be read: "
            f"{' or '.join(known)}"
        )
    if config.get("flash_attn") == "fa2" and version("transformers") == BROKEN_FLASH:
        raise ConfigError(
            f"flash_attn is fa2, which fails in the first step with transformers {BROKEN_FLASH} "
            "(hiyouga/LLaMA-Factory#10610): flash_attn=sdpa"
        )
    for key, why in PACKING.items():
        if config.get(key):
            raise ConfigError(f"{key} is true, but {why}: leave it out")
    if config.get("use_asft_loss"):
        raise ConfigError(
            "use_asft_loss needs the logits of all tokens, and here are none: leave it out"
        )
    if config.get("finetuning_type") == "lora":
        _demand_plain_lora(config)


def _demand_plain_lora(config: Mapping[str, Any]) -> None:
    for key in NOT_SHIPPED:
        if config.get(key):
            raise ConfigError(
                f"{key} makes more than the two matrices of LoRA, and no node opens such an "
                "adapter (dat_runtime.adapter): leave it out"
            )
    for key, part in FROZEN.items():
        if not config.get(key, True):
            raise ConfigError(
                f"{key} is false, so {part} would get matrices too, which vLLM leaves out when it "
                f"serves the adapter: {key}=true"
            )
