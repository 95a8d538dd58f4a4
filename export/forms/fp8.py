"""FP8 weights with a scale per output channel, in the layout of compressed-tensors.

What `llm-compressor` calls FP8_DYNAMIC, which needs no calibration: weights are rounded to the
nearest of float8 (e4m3), activations are scaled per token while the server runs. Only the linear
layers of the language model, which hold most of the weights; the vision tower stays as it is.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from export.forms.checkpoint import convert, write_config

LARGEST = 448.0
"""Of float8 e4m3."""

_QUANTISED = re.compile(
    r"model\.(language_model\.)?layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight", re.ASCII
)

_WEIGHTS = {
    "num_bits": 8,
    "type": "float",
    "strategy": "channel",
    "symmetric": True,
    "dynamic": False,
}
_ACTIVATIONS = _WEIGHTS | {"strategy": "token", "dynamic": True}
QUANTISATION = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head", "re:.*visual.*"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": _WEIGHTS,
            "input_activations": _ACTIVATIONS,
            "output_activations": None,
        }
    },
}
"""`quantization_config` of config.json, as vLLM and Transformers read it."""


def quantise(merged: Path, folder: Path, say: Callable[[str], None]) -> None:
    """Write a merged model with the language model's linear layers in FP8."""
    convert(merged, folder, _change, say)
    write_config(merged, folder, quantization_config=QUANTISATION)


def _change(name: str, weight: Any) -> dict[str, Any]:
    if not _QUANTISED.fullmatch(name):
        return {name: weight}
    rounded, scale = to_fp8(weight)
    return {name: rounded, f"{name}_scale": scale}


def to_fp8(weight: Any) -> tuple[Any, Any]:
    """The weight (out, in) in float8, and what each row is multiplied by, (out, 1) in bfloat16."""
    import torch

    weight = weight.float()
    largest = weight.abs().amax(1, keepdim=True).clamp_min(1e-12)
    # Rounded first: the server multiplies by the scale that is stored.
    scale = (largest / LARGEST).to(torch.bfloat16)
    rounded = (weight / scale.float()).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    return rounded, scale
