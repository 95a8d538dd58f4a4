"""W + λ B A (Eq. 5) for every module of an adapter, in float32, stored in bfloat16."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime.adapter import WEIGHTS, read_adapter
from dat_runtime.errors import ModelError
from export.forms.checkpoint import convert, tensor_names, write_config

_PREFIX = "base_model.model."
_RENAMED = (
    ("", ""),
    ("model.language_model.", "model."),
    ("model.visual.", "visual."),
)
"""How Transformers names modules, and how Qwen2.5-VL's files on the hub do."""


class Update(NamedTuple):
    """The two factors of a module, and what their product is multiplied by."""

    a: Any
    b: Any
    scale: float


def merge(base: Path, adapter: Path, folder: Path, say: Callable[[str], None]) -> None:
    """Write the base with the adapter in its weights.

    Raises:
        ModelError: the adapter is broken, or the base has no weight of a module that it names.
    """
    updates = read_updates(adapter, tensor_names(base))
    convert(base, folder, lambda name, weight: {name: merged(weight, updates.get(name))}, say)
    write_config(base, folder, dtype="bfloat16", torch_dtype="bfloat16")


def merged(weight: Any, update: Update | None) -> Any:
    """A weight in bfloat16, with its update if it has one."""
    import torch

    if not weight.is_floating_point():
        return weight
    if update is not None:
        # In float32, and rounded once: in bfloat16 small updates would be lost on the way.
        weight = weight.float() + update.scale * (update.b.float() @ update.a.float())
    return weight.to(torch.bfloat16).contiguous()


def read_updates(adapter: Path, names: set[str]) -> dict[str, Update]:
    """The updates of an adapter by the name of the weight in the base's files.

    Raises:
        ModelError: the adapter is broken, or a weight is not there or of another shape.
    """
    from safetensors.torch import load_file

    scale = read_adapter(adapter).scale
    tensors = load_file(adapter / WEIGHTS)
    updates = {}
    for key, a in tensors.items():
        if not key.endswith(".lora_A.weight"):
            continue
        module = key.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
        b = tensors[key.replace(".lora_A.", ".lora_B.")]
        updates[weight_name(module, names, adapter)] = Update(a, b, scale)
    return updates


def weight_name(module: str, names: set[str], what: Path) -> str:
    """What the files of the base call the weight of a module."""
    for new, stored in _RENAMED:
        if module.startswith(new) and f"{stored}{module.removeprefix(new)}.weight" in names:
            return f"{stored}{module.removeprefix(new)}.weight"
    raise ModelError(f"{what} tunes {module}, which the base has not: name its own base")
