"""An adapter put into a base's weights from its two files alone, as a server does it (Eq. 5)."""

from pathlib import Path
from typing import Any

from dat_runtime.adapter import WEIGHTS, read_adapter
from dat_runtime.adapter_place import demand_whole
from dat_runtime.errors import ModelError

PREFIX = "base_model.model."
"""PEFT's, before the name of a module in the file of an adapter."""


def add(model: Any, adapter: Path) -> Any:
    """The base model itself, with W + λ B A in place of W; in float32, rounded once.

    Raises:
        ModelError: the adapter is broken, or a part of it has no place in the model.
    """
    import torch
    from safetensors.torch import load_file

    scale = read_adapter(adapter).scale
    demand_whole(adapter, dict(model.named_modules()))
    tensors = load_file(adapter / WEIGHTS, device=str(model.device))
    for key, a in tensors.items():
        module, is_a, _ = key.removeprefix(PREFIX).partition(".lora_A.")
        if not is_a:
            continue
        weight = model.get_submodule(module).weight
        update = scale * (tensors[key.replace(".lora_A.", ".lora_B.")].float() @ a.float())
        if update.shape != weight.shape:
            raise ModelError(
                f"{module} is {list(update.shape)}, in the base {list(weight.shape)}: the adapter "
                "is of another base",
                adapter / WEIGHTS,
            )
        with torch.no_grad():
            weight.copy_(weight.float() + update)
    return model
