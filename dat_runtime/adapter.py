"""Checking a LoRA adapter before anything loads it: configuration, names, shapes, finite values.

The safetensors format: 8 bytes, little-endian: the length of the header; the header, JSON: name ->
{"dtype", "shape", "data_offsets": [begin, end]}, plus "__metadata__"; then the data.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dat_runtime.errors import ModelError
from dat_runtime.files import parse

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

MAX_HEADER_BYTES = 1 << 20
MAX_CONFIG_BYTES = 1 << 16
MAX_RANK = 1024

_EXPONENTS = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
"""dtype -> the integers of its width, and the bits that are all set in NaN and infinity."""

_NAME = re.compile(r"(base_model\.model\.[\w.]+)\.lora_([AB])\.weight")
_CHUNK = 1 << 20


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
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None
    return Adapter(
        base=base,
        revision=revision,
        rank=rank,
        tensors=len(tensors),
        parameters=sum(_elements(t.shape) for t in tensors),
        dtypes=tuple(sorted({t.dtype for t in tensors})),
    )


def read_header(file: BinaryIO, file_bytes: int) -> tuple[Tensor, ...]:
    """The tensors that a safetensors file states, in the order of their data; leaves `file` there.

    Raises:
        ValueError: the header is too long, is not the format's JSON, names a key twice, or its
            tensors do not cover the data exactly.
    """
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if not 2 <= length <= min(MAX_HEADER_BYTES, file_bytes - 8):
        raise ValueError(f"no header of 2 to {MAX_HEADER_BYTES} bytes")
    try:
        header = parse(file.read(length).decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"the header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    header.pop("__metadata__", None)
    tensors = sorted((_tensor(n, v) for n, v in header.items()), key=lambda t: t.begin)
    at = 0
    for tensor in tensors:
        if tensor.begin != at:
            raise ValueError(f"{tensor.name}: data begins at {tensor.begin}, expected {at}")
        at = tensor.end
    if at != file_bytes - 8 - length:
        raise ValueError(f"{file_bytes - 8 - length} bytes of data, the header states {at}")
    return tuple(tensors)


def _tensor(name: str, value: Any) -> Tensor:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name:.80}: not a tensor entry")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _EXPONENTS:
        raise ValueError(f"{name:.80}: dtype {dtype!r:.20}, expected {', '.join(_EXPONENTS)}")
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise ValueError(f"{name:.80}: shape or data_offsets are no lists of whole numbers")
    width = np.dtype(_EXPONENTS[dtype][0]).itemsize
    if offsets[1] - offsets[0] != _elements(shape) * width:
        raise ValueError(f"{name:.80}: {offsets[1] - offsets[0]} bytes for {dtype} {shape}")
    return Tensor(name, dtype, tuple(shape), *offsets)


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)


def _elements(shape: tuple[int, ...] | list[int]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def _check_pairs(tensors: tuple[Tensor, ...], rank: int) -> None:
    """Every module has an A of shape (rank, in) and a B of shape (out, rank), and nothing else."""
    modules: dict[str, set[str]] = {}
    for tensor in tensors:
        match = _NAME.fullmatch(tensor.name)
        if match is None:
            raise ValueError(f"{tensor.name:.80}: not the name of a LoRA weight")
        module, side = match.groups()
        modules.setdefault(module, set()).add(side)
        inner = tensor.shape[0 if side == "A" else -1] if len(tensor.shape) == 2 else None
        if inner != rank or 0 in tensor.shape:
            raise ValueError(f"{tensor.name:.80}: shape {list(tensor.shape)} at rank {rank}")
    for module, sides in modules.items():
        if len(sides) != 2:
            raise ValueError(f"{module:.80}: only lora_{sides.pop()} is there")
    if not modules:
        raise ValueError("no tensor in it")


def _check_finite(file: BinaryIO, start: int, tensor: Tensor) -> None:
    kind, exponent = _EXPONENTS[tensor.dtype]
    file.seek(start + tensor.begin)
    for chunk in _chunks(file, tensor.end - tensor.begin):
        if np.any(np.frombuffer(chunk, kind) & exponent == exponent):
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
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise ValueError(f"larger than {MAX_CONFIG_BYTES} bytes")
        config = parse(content.decode("utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error})") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ModelError(f"{path}: peft_type is not LORA")
    base, revision, rank = (config.get(k) for k in ("base_model_name_or_path", "revision", "r"))
    if not isinstance(base, str) or not base or base.startswith(("/", ".", "~")) or "\\" in base:
        raise ModelError(
            f"{path}: base_model_name_or_path is {base!r:.80}, expected a model's name"
        )
    if not isinstance(revision, str) or not revision:
        raise ModelError(f"{path}: revision of the base model is not stated")
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise ModelError(f"{path}: r is {rank!r:.20}, expected 1 to {MAX_RANK}")
    return base, revision, rank
