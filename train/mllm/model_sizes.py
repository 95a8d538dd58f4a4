"""The sizes of a base, read from its config.json."""

from collections.abc import Mapping
from typing import Any

from dat_runtime.errors import ConfigError
from dat_runtime.family import QWEN2_5_VL
from train.mllm.families import MODULES
from train.mllm.qwen2_5_vl import Text, Vision

SEVEN_B: Mapping[str, Any] = {
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "num_heads": 16,
        "intermediate_size": 3420,
        "out_hidden_size": 3584,
        "spatial_merge_size": 2,
    },
}
"""The sizes in config.json of Qwen2.5-VL-7B-Instruct."""


def read_model(config: Mapping[str, Any]) -> tuple[Text, Vision]:
    """The sizes in a config.json, of Qwen2.5-VL where it does not say of which family.

    Raises:
        ConfigError: a size is missing.
    """
    family = config.get("model_type", QWEN2_5_VL.name)
    try:
        return MODULES[family].Text.read(config), MODULES[family].Vision.read(config)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"config.json is not that of {family}: {error!r} is missing") from None
