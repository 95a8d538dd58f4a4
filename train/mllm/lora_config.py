"""The configuration of a LoRA tuning, with the base and the samples that a command names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError
from train.mllm.refused_keys import demand_keys
from train.recipe.config_file import read_config
from train.recipe.upstream_keys import demand_llamafactory


def read_lora_config(
    path: Path, overrides: Sequence[str], base: str, instructions: Path, dataset: str
) -> dict[str, Any]:
    """LLaMA-Factory's keys of a file and of the command line; base and samples are the command's.

    Raises:
        ConfigError: the file cannot be read, trains something else than LoRA, or has a key that is
            unknown, is a text instead of a number, or makes what nobody can use.
    """
    config = read_config(path, overrides)
    if config.get("finetuning_type") != "lora":
        raise ConfigError(f"{path}: expected finetuning_type: lora")
    demand_keys(config)
    config |= {
        "model_name_or_path": base,
        "dataset_dir": str(instructions),
        "media_dir": str(instructions),
        "dataset": dataset,
    }
    demand_llamafactory(config)
    return config
