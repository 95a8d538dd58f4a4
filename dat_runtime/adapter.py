"""Checking a LoRA adapter before anything loads it: configuration, names, shapes, finite values.

An adapter is what `train.lora` makes and nothing else: whoever loads one obeys its configuration,
which could replace whole layers, name code to import, or scale a weight a billion times.

A safetensors file holds the length of its header in 8 bytes, little-endian; the header, a JSON
object of name -> {"dtype", "shape", "data_offsets": [begin, end]} and "__metadata__"; the data.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dat_runtime.errors import ModelError
from dat_runtime.fields import (
    FLAG,
    OBJECT,
    SHARE,
    Rule,
    above,
    checked,
    list_of,
    one_of,
    shown,
    text_like,
    whole,
)
from dat_runtime.files import parse, read_json

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

MAX_HEADER_BYTES = 1 << 20
MAX_CONFIG_BYTES = 1 << 16
MAX_RANK = 1024

_INFINITY = {"F32": ("4", 0x7F800000), "F16": ("2", 0x7C00), "BF16": ("2", 0x7F80)}
"""dtype -> the bytes of a value, and the bits of infinity."""

_WEIGHT_NAME = re.compile(r"base_model\.model\.(\w+(?:\.\w+)*)\.lora_([AB])\.weight", re.ASCII)
"""How PEFT names the two factors of a module (Eq. 5: ΔW = λ B A)."""

_LAYER = re.compile(r"\.\d+\.")
"""The number of a layer in a module's name."""

_CHUNK = 1 << 18

_TENSOR = {
    "dtype": one_of(_INFINITY),
    "shape": list_of(whole(0)),
    "data_offsets": list_of(whole(0), 2, 2),
}


_METADATA = Rule(
    lambda v: len(v) <= 16 and all(isinstance(text, str) for text in v.values()),
    "at most 16 texts",
)

MODEL_NAME = text_like(
    r"[A-Za-z0-9_][\w-]*(\.[\w-]+)*(/[A-Za-z0-9_][\w-]*(\.[\w-]+)*)?",
    "a model's name, not a path or an address",
)
"""Such as `Qwen/Qwen2.5-VL-7B-Instruct`; no path of the machine that trained it, no `..`."""

REVISION = text_like(r"[0-9a-f]{40}|[0-9a-f]{64}", "a commit, or a folder's sha256")

MAX_SCALE = 64
"""Of lora_alpha to the rank; 2 is usual."""

MAX_TARGETS = 4096

_CONFIG = {
    "peft_type": text_like("LORA", "LORA"),
    "base_model_name_or_path": MODEL_NAME,
    "revision": REVISION,
    "r": whole(1, MAX_RANK),
    "lora_alpha": above(0),
    "target_modules": list_of(text_like(r"\w+(\.\w+)*", "a module's name"), 1, MAX_TARGETS),
}
"""The fields of PEFT's `adapter_config.json` that every adapter states."""

_NOTHING: dict[str, Any] = {}
_LEFT_ALONE: dict[str, Any] = {
    **dict.fromkeys(("alora_invocation_tokens", "arrow_config", "auto_mapping", "corda_config")),
    **dict.fromkeys(("eva_config", "exclude_modules", "layer_replication", "layers_pattern")),
    **dict.fromkeys(("layers_to_transform", "megatron_config", "modules_to_save")),
    **dict.fromkeys(("target_parameters", "trainable_token_indices")),
    **dict.fromkeys(("ensure_weight_tying", "fan_in_fan_out", "lora_bias"), False),
    **dict.fromkeys(("use_dora", "use_qalora"), False),
    **dict.fromkeys(("alpha_pattern", "loftq_config", "rank_pattern"), _NOTHING),
    "bias": "none",
    "inference_mode": True,
    "init_lora_weights": True,
    "megatron_core": "megatron.core",
    "qalora_group_size": 16,
    "task_type": "CAUSAL_LM",
}
"""PEFT's further fields, at the values with which they do nothing."""


def _only(value: Any) -> Rule:
    """That very value: to Python `False == 0`."""
    return Rule(lambda v: type(v) is type(value) and v == value, shown(value))


_OPTIONAL = {
    **{name: _only(value) for name, value in _LEFT_ALONE.items()},
    "lora_dropout": SHARE,
    "peft_version": text_like(r"[\w.+-]{1,40}", "a version"),
    "use_rslora": FLAG,
}


@dataclass(frozen=True)
class Tensor:
    """One entry of a safetensors header; `begin` and `end` count from the data's first byte."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Adapter:
    """What an adapter folder holds.

    Attributes:
        scale: λ of Eq. 5, by which B A is multiplied.
    """

    base: str
    revision: str
    rank: int
    scale: float
    tensors: int
    parameters: int
    dtypes: tuple[str, ...]


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a folder, after its configuration and every weight were checked.

    Raises:
        ModelError: names the file, and the tensor or the field at fault.
    """
    config = _read_config(folder / CONFIG)
    rank = config["r"]
    path = folder / WEIGHTS
    if path.is_fifo() or path.is_char_device():
        raise ModelError("is not a plain file, and might never end", path)
    try:
        with path.open("rb") as file:
            tensors = read_header(file, path.stat().st_size)
            _check_modules(pairs(tensors, rank), config["target_modules"])
            start = file.tell()
            for tensor in tensors:
                _check_finite(file, start, tensor)
    except OSError as error:  # read in pieces here, and not by `files`: weights are large
        raise ModelError(f"cannot be read ({error.strerror})", path) from None
    except ValueError as error:
        raise ModelError(str(error), path) from None
    return Adapter(
        base=config["base_model_name_or_path"],
        revision=config["revision"],
        rank=rank,
        scale=config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank),
        tensors=len(tensors),
        parameters=sum(_elements(t.shape) for t in tensors),
        dtypes=tuple(sorted({t.dtype for t in tensors})),
    )


def read_header(file: BinaryIO, file_bytes: int) -> tuple[Tensor, ...]:
    """The tensors that a safetensors header states, in the order of their data.

    `file` is left at the first byte of that data.

    Raises:
        ValueError: the header is too long, is not the format's JSON, names a key twice, or its
            tensors do not cover the data exactly.
    """
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little") if len(prefix) == 8 else 0
    if not 2 <= length <= min(MAX_HEADER_BYTES, file_bytes - 8):
        raise ValueError(f"no header of 2 to {MAX_HEADER_BYTES} bytes")
    try:
        header = parse(file.read(length).decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"the header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    metadata = header.pop("__metadata__", {})
    checked({"__metadata__": metadata}, {"__metadata__": OBJECT}, "the header")
    checked({"__metadata__": metadata}, {"__metadata__": _METADATA}, "the header")
    tensors = [_tensor(name, entry) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: tensor.begin)
    # Each begins where the one before ends: no overlap, and no gap in which anything could hide.
    end = 0
    for tensor in tensors:
        if tensor.begin != end:
            raise ValueError(f"{tensor.name}: data begins at {tensor.begin}, expected {end}")
        end = tensor.end
    data_bytes = file_bytes - 8 - length
    if end != data_bytes:
        raise ValueError(f"{data_bytes} bytes of data, the header states {end}")
    return tuple(tensors)


def _tensor(name: str, value: Any) -> Tensor:
    """The tensor that an entry of the header describes, with as many bytes as its shape needs."""
    entry = checked(value, _TENSOR, f"{name:.80}")
    dtype, shape = entry["dtype"], entry["shape"]
    begin, end = entry["data_offsets"]
    expected_bytes = _elements(shape) * int(_INFINITY[dtype][0])
    if end - begin != expected_bytes:
        raise ValueError(
            f"{name:.80}: {end - begin} bytes for {dtype} {shape}, expected {expected_bytes}"
        )
    return Tensor(name, dtype, tuple(shape), begin, end)


def _elements(shape: Sequence[int]) -> int:
    """The number of values in a tensor; exact, however long the shape's numbers are."""
    return math.prod(shape)


def pairs(tensors: tuple[Tensor, ...], rank: int) -> dict[str, dict[str, Tensor]]:
    """Per module an A of shape (rank, in) and a B of shape (out, rank), and nothing else."""
    modules: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        match = _WEIGHT_NAME.fullmatch(tensor.name)
        if match is None:
            raise ValueError(f"{tensor.name:.80}: not the name of a LoRA weight")
        module, side = match.groups()
        modules.setdefault(module, {})[side] = tensor
        # Eq. 6: A has r rows, B has r columns.
        rank_axis = 0 if side == "A" else 1
        if len(tensor.shape) != 2 or tensor.shape[rank_axis] != rank or 0 in tensor.shape:
            raise ValueError(f"{tensor.name:.80}: shape {list(tensor.shape)} at rank {rank}")
        if tensor.dtype != tensors[0].dtype:
            raise ValueError(f"{tensor.name:.80}: {tensor.dtype} beside {tensors[0].dtype}")
    for module, sides in modules.items():
        if len(sides) != 2:
            raise ValueError(f"{module:.80}: only lora_{next(iter(sides))} is there")
    if not modules:
        raise ValueError("no tensor in it")
    return modules


def _check_modules(modules: Mapping[str, Mapping[str, Tensor]], targets: Sequence[str]) -> None:
    """The modules are those that the configuration names, of one size in all layers."""
    wanted = set(targets)
    met: set[str] = set()
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
    for module, sides in modules.items():
        found = wanted & set(endings(module))
        if not found:
            raise ValueError(f"{module:.80}: target_modules does not name it")
        met |= found
        size = (sides["B"].shape[0], sides["A"].shape[1])
        first, expected = shapes.setdefault(_LAYER.sub(".#.", module), (module, size))
        if size != expected:
            raise ValueError(f"{module:.80} is {list(size)}, {first:.80} {list(expected)}")
    if met != wanted:
        raise ValueError(f"no weights for {min(wanted - met):.80}, which target_modules names")


def endings(module: str) -> Iterator[str]:
    """By which PEFT finds a module: `a.b.c`, `b.c`, `c`."""
    parts = module.split(".")
    for start in range(len(parts)):
        yield ".".join(parts[start:])


def _check_finite(file: BinaryIO, start: int, tensor: Tensor) -> None:
    width, infinity = _INFINITY[tensor.dtype]
    sign = 1 << (8 * int(width) - 1)
    file.seek(start + tensor.begin)
    for chunk in _chunks(file, tensor.end - tensor.begin):
        # IEEE 754: read as integers the positive ones keep their order, infinity and then NaN
        # last; with the sign bit as the highest so do the negative ones. Two searches for the
        # largest need no copy, so the check takes a fraction of the time of hashing.
        largest = np.frombuffer(chunk, f"<i{width}").max()
        largest_negative = np.frombuffer(chunk, f"<u{width}").max()
        if largest >= infinity or largest_negative >= infinity + sign:
            raise ValueError(f"{tensor.name:.80}: holds NaN or infinity")


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        chunk = file.read(min(size, _CHUNK))
        if not chunk:
            raise ValueError("the file became shorter while it was read")
        size -= len(chunk)
        yield chunk


def _read_config(path: Path) -> dict[str, Any]:
    """`adapter_config.json` (PEFT), with no key or value that could change what is loaded."""
    config = read_json(path, ModelError, most_bytes=MAX_CONFIG_BYTES, strict=True)
    try:
        checked(config, _CONFIG | _OPTIONAL, "", _OPTIONAL)
        if config["lora_alpha"] > MAX_SCALE * config["r"]:
            raise ValueError(
                f"lora_alpha is {shown(config['lora_alpha'])} at rank {config['r']}, expected at "
                f"most {MAX_SCALE} times the rank"
            )
    except ValueError as error:
        raise ModelError(str(error), path) from None
    return dict(config)
