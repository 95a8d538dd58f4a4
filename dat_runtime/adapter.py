"""Checking a LoRA adapter before anything loads it: configuration, names, shapes, finite values.

A safetensors file holds the length of its header in 8 bytes, little-endian; the header, a JSON
object of name -> {"dtype", "shape", "data_offsets": [begin, end]} and "__metadata__"; the data.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dat_runtime.errors import ModelError
from dat_runtime.fields import NAME, Rule, checked, list_of, one_of, whole
from dat_runtime.files import parse, read_json

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

MAX_HEADER_BYTES = 1 << 20
MAX_CONFIG_BYTES = 1 << 16
MAX_RANK = 1024

_EXPONENTS = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
"""dtype -> the integers of its width, and the bits that are all set in NaN and infinity."""

_WEIGHT_NAME = re.compile(r"(base_model\.model\.[\w.]+)\.lora_([AB])\.weight")
"""How PEFT names the two factors of a module (Eq. 5: ΔW = λ B A)."""

_CHUNK = 1 << 20

_TENSOR = {
    "dtype": one_of(_EXPONENTS),
    "shape": list_of(whole(0)),
    "data_offsets": list_of(whole(0), 2, 2),
}


def _is_model_name(value: object) -> bool:
    """A name such as `Qwen/Qwen2.5-VL-7B-Instruct`, and no path of the machine that trained it."""
    if not isinstance(value, str) or not value:
        return False
    return not value.startswith(("/", ".", "~")) and "\\" not in value


_CONFIG = {
    "peft_type": Rule(lambda v: v == "LORA", "LORA"),
    "base_model_name_or_path": Rule(_is_model_name, "a model's name, not a path"),
    "revision": NAME,
    "r": whole(1, MAX_RANK),
}
"""The fields of PEFT's `adapter_config.json` that are read; it holds many more."""


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
    """What an adapter folder holds."""

    base: str
    revision: str
    rank: int
    tensors: int
    parameters: int
    dtypes: tuple[str, ...]


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a folder, after its configuration and every weight were checked.

    Raises:
        ModelError: names the file, and the tensor or the field at fault.
    """
    base, revision, rank = _read_config(folder / CONFIG)
    path = folder / WEIGHTS
    try:
        with path.open("rb") as file:
            tensors = read_header(file, path.stat().st_size)
            _check_pairs(tensors, rank)
            start = file.tell()
            for tensor in tensors:
                _check_finite(file, start, tensor)
    except OSError as error:  # read in pieces here, and not by `files`: weights are large
        raise ModelError(f"cannot be read ({error.strerror})", path) from None
    except ValueError as error:
        raise ModelError(str(error), path) from None
    return Adapter(
        base=base,
        revision=revision,
        rank=rank,
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
    header.pop("__metadata__", None)
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
    integers, _ = _EXPONENTS[dtype]
    expected_bytes = _elements(shape) * np.dtype(integers).itemsize
    if end - begin != expected_bytes:
        raise ValueError(
            f"{name:.80}: {end - begin} bytes for {dtype} {shape}, expected {expected_bytes}"
        )
    return Tensor(name, dtype, tuple(shape), begin, end)


def _elements(shape: Sequence[int]) -> int:
    """The number of values in a tensor; exact, however long the shape's numbers are."""
    return math.prod(shape)


def _check_pairs(tensors: tuple[Tensor, ...], rank: int) -> None:
    """Every module has an A of shape (rank, in) and a B of shape (out, rank), and nothing else."""
    modules: dict[str, set[str]] = {}
    for tensor in tensors:
        match = _WEIGHT_NAME.fullmatch(tensor.name)
        if match is None:
            raise ValueError(f"{tensor.name:.80}: not the name of a LoRA weight")
        module, side = match.groups()
        modules.setdefault(module, set()).add(side)
        # Eq. 6: A has r rows, B has r columns.
        rank_axis = 0 if side == "A" else 1
        if len(tensor.shape) != 2 or tensor.shape[rank_axis] != rank or 0 in tensor.shape:
            raise ValueError(f"{tensor.name:.80}: shape {list(tensor.shape)} at rank {rank}")
    for module, sides in modules.items():
        if len(sides) != 2:
            raise ValueError(f"{module:.80}: only lora_{sides.pop()} is there")
    if not modules:
        raise ValueError("no tensor in it")


def _check_finite(file: BinaryIO, start: int, tensor: Tensor) -> None:
    integers, exponent = _EXPONENTS[tensor.dtype]
    file.seek(start + tensor.begin)
    for chunk in _chunks(file, tensor.end - tensor.begin):
        # IEEE 754: all bits of the exponent are set in NaN and infinity, and in nothing else.
        if np.any(np.frombuffer(chunk, integers) & exponent == exponent):
            raise ValueError(f"{tensor.name:.80}: holds NaN or infinity")


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        chunk = file.read(min(size, _CHUNK))
        if not chunk:
            raise ValueError("the file became shorter while it was read")
        size -= len(chunk)
        yield chunk


def _read_config(path: Path) -> tuple[str, str, int]:
    """Base model, its revision and the rank, from `adapter_config.json` (PEFT)."""
    config = read_json(path, ModelError, most_bytes=MAX_CONFIG_BYTES, strict=True)
    try:
        checked(config, _CONFIG, "", further_keys=True)
    except ValueError as error:
        raise ModelError(str(error), path) from None
    return config["base_model_name_or_path"], config["revision"], config["r"]
