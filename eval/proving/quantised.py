"""An FP8 model of `export.quantised` in this process, computing as a server does.

The pinned libraries read no such file, and this one reads it without trusting any: every weight is
multiplied out, and what enters a quantised layer is rounded to FP8 per token, as on cards that
multiply in FP8.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dat_runtime.errors import ModelError
from dat_runtime.files import read_json
from eval.answers.model import Loaded, load

LARGEST = 448.0
"""Of float8 e4m3."""

_SCALE = "_scale"
_RENAMED = (("model.language_model.", "model."), ("model.visual.", "visual."))
"""Names of Transformers 5, and those in the files of Qwen2.5-VL on the hub."""


def is_quantised(folder: Path) -> bool:
    """Whether a model's configuration states a quantisation."""
    return "quantization_config" in read_json(folder / "config.json")


def load_quantised(folder: Path, base: str, revision: str | None) -> Loaded:
    """The model of a folder, every weight of it in place of the base's.

    Raises:
        ModelError: a weight is missing, is there without being needed, or has another shape.
    """
    import torch

    loaded = load(base, revision, None)
    weights = dict(_tensors(folder))
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            key = _key(name, weights, folder)
            weight = weights.pop(key)
            scale = weights.pop(key + _SCALE, None)
            if scale is not None:
                weight = weight.float() * scale.float()
                module = loaded.model.get_submodule(name.removesuffix(".weight"))
                module.register_forward_pre_hook(_round_tokens)
            if weight.shape != parameter.shape:
                raise ModelError(f"{key} is {list(weight.shape)}", folder)
            parameter.copy_(weight)
    if weights:
        raise ModelError(f"{min(weights)} belongs to no layer", folder)
    return loaded


def _tensors(folder: Path) -> Iterator[tuple[str, Any]]:
    from safetensors.torch import load_file

    for path in sorted(folder.glob("*.safetensors")):
        yield from load_file(path).items()


def stored_names(name: str) -> Iterator[str]:
    """What the files of a model may call a weight that Transformers calls so."""
    yield name
    for new, old in _RENAMED:
        if name.startswith(new):
            yield old + name.removeprefix(new)


def _key(name: str, weights: dict[str, Any], folder: Path) -> str:
    for key in stored_names(name):
        if key in weights:
            return key
    raise ModelError(f"holds no {name}", folder)


def _round_tokens(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """What enters the layer, rounded to FP8 with one scale per token."""
    import torch

    (states,) = inputs
    scale = states.abs().amax(-1, keepdim=True).float().clamp_min(1e-12) / LARGEST
    rounded = (states.float() / scale).to(torch.float8_e4m3fn).float() * scale
    return (rounded.to(states.dtype),)
