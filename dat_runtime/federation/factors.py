"""LoRA factors in a safetensors file: read module by module, written tensor by tensor.

A 7B's adapter is 40 MB and a round has a hundred of them: only one module of all is in memory.
"""

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dat_runtime.adapter import WEIGHTS, Adapter, Tensor, read_adapter, read_header
from dat_runtime.errors import ModelError

Matrix = NDArray[np.float64]

_A, _B = ".lora_A.weight", ".lora_B.weight"

_STORED = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""How NumPy reads a tensor's bytes; it has no bfloat16, which is the upper half of a float32."""

_LARGEST_F16 = 65504.0


@dataclass(frozen=True)
class Weights:
    """The factors in a file: of an adapter, or of an increment behind its first two lines.

    Attributes:
        start: where the safetensors data begins, bytes.
        tensors: by name.
    """

    path: Path
    start: int
    tensors: Mapping[str, Tensor]

    @property
    def modules(self) -> list[str]:
        """The modules' names, sorted."""
        return sorted(name.removesuffix(_A) for name in self.tensors if name.endswith(_A))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def factors(self, module: str) -> tuple[Matrix, Matrix]:
        """B (out, r) and A (r, in) of a module, as float64."""
        with self.path.open("rb") as file:
            return self._read(file, module + _B), self._read(file, module + _A)

    def _read(self, file: BinaryIO, name: str) -> Matrix:
        tensor = self.tensors[name]
        file.seek(self.start + tensor.begin)
        data = file.read(tensor.end - tensor.begin)
        if len(data) != tensor.end - tensor.begin:
            raise ModelError("became shorter while it was read", self.path)
        return decoded(data, tensor.dtype).reshape(tensor.shape)


@dataclass(frozen=True)
class Start:
    """An adapter and where its factors are: such as that from which a round starts."""

    folder: Path
    adapter: Adapter
    weights: Weights


def read_start(folder: Path) -> Start:
    """The adapter in a folder of `train.lora`, or of a bundle.

    Raises:
        ModelError: it is broken.
    """
    adapter = read_adapter(folder)
    path = folder / WEIGHTS
    with path.open("rb") as file:
        tensors = read_header(file, path.stat().st_size)
        weights = Weights(path, file.tell(), {t.name: t for t in tensors})
    return Start(folder, adapter, weights)


def decoded(data: bytes, dtype: str) -> Matrix:
    """The values of a tensor's bytes."""
    stored = np.frombuffer(data, _STORED[dtype])
    if dtype == "BF16":
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):  # a signalling NaN; `screening` names who sent it
        return stored.astype(np.float64)


def encoded(values: Matrix, dtype: str) -> bytes:
    """The bytes of a tensor, rounded to the nearest value of its type.

    Raises:
        ModelError: a value is not finite, or too large for the type.
    """
    largest = _LARGEST_F16 if dtype == "F16" else float(np.finfo(np.float32).max) / 2
    if not np.abs(values).max(initial=0) <= largest:
        raise ModelError(f"a weight is too large for {dtype} or not finite")
    if dtype != "BF16":
        return bytes(values.astype(_STORED[dtype]).tobytes())
    bits = values.astype("<f4").view("<u4")
    # To the nearest even: half a unit of the upper half, less one where that is even already.
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return bytes(rounded.astype("<u2").tobytes())


def write_weights(
    path: Path, modules: Iterable[tuple[str, Matrix, Matrix]], like: Weights, rank: int
) -> None:
    """Write a safetensors file with the modules and types of another one, at a rank of its own.

    Args:
        modules: name, B (out, rank) and A (rank, in) of each, in the order of `like.modules`.
    """
    header, names = _header(like, rank)
    with path.open("wb") as file:
        file.write(header)
        for module, b, a in modules:
            for name, values in ((module + _A, a), (module + _B, b)):
                dtype, shape = names[name]
                if values.shape != shape:
                    raise ModelError(f"{name}: shape {values.shape}, expected {shape}", path)
                file.write(encoded(values, dtype))


def _header(like: Weights, rank: int) -> tuple[bytes, dict[str, tuple[str, tuple[int, int]]]]:
    """The file's beginning, and the type and shape of each tensor."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    names = {}
    end = 0
    for module in like.modules:
        a, b = like.tensors[module + _A], like.tensors[module + _B]
        for tensor, shape in ((a, (rank, a.shape[1])), (b, (b.shape[0], rank))):
            begin, end = end, end + shape[0] * shape[1] * np.dtype(_STORED[tensor.dtype]).itemsize
            entries[tensor.name] = {
                "dtype": tensor.dtype,
                "shape": list(shape),
                "data_offsets": [begin, end],
            }
            names[tensor.name] = (tensor.dtype, shape)
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data is aligned
    return struct.pack("<Q", len(text)) + text, names


def stacked(
    parts: Sequence[tuple[float, Matrix, Matrix]],
) -> tuple[Matrix, Matrix]:
    """Factors of a weighted sum of products: Σ c B A = [c₁B₁ … cₙBₙ] [A₁; …; Aₙ]."""
    b = np.concatenate([c * b for c, b, _ in parts], axis=1)
    a = np.concatenate([a for _, _, a in parts], axis=0)
    return b, a


def squared_norm(b: Matrix, a: Matrix) -> float:
    """‖B A‖² (Frobenius), from the factors: Σ of (BᵀB) ∘ (A Aᵀ)."""
    return float(np.sum((b.T @ b) * (a @ a.T)))
