"""LoRA factors as bytes: read, rounded and written."""

import json
import re
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from dat_runtime.adapter import Tensor
from dat_runtime.errors import ModelError
from dat_runtime.federation.factors import (
    Weights,
    decoded,
    encoded,
    read_start,
    squared_norm,
    stacked,
    write_weights,
)
from tests.dat_runtime.federation.fleet import SHAPES, random_factors, write_adapter

NUMBERS = [1.0, -2.5, 0.0, 65504.0]
STORED = {
    "F32": "0000803f 000020c0 00000000 00e07f47",
    "F16": "003c 00c1 0000 ff7b",
    "BF16": "803f 20c0 0000 8047",
}
"""Of the numbers, little-endian; bfloat16 has 8 bits, so that 65504 becomes 65536."""


@pytest.mark.parametrize("dtype", STORED)
def test_numbers_are_stored_as_their_type_has_them(dtype: str) -> None:
    data = bytes.fromhex(STORED[dtype])
    assert encoded(np.array(NUMBERS), dtype) == data
    read = decoded(data, dtype)
    assert read.dtype == np.float64
    assert read.tolist() == [*NUMBERS[:3], 65536.0 if dtype == "BF16" else 65504.0]
    assert encoded(np.zeros((0, 3)), dtype) == b""


@pytest.mark.parametrize(
    ("bits", "rounded"),
    [
        (0x3F80_7FFF, 0x3F80),
        (0x3F80_8000, 0x3F80),  # half-way: to the even one, below
        (0x3F81_8000, 0x3F82),  # and above
        (0x3F82_8000, 0x3F82),
        (0x3F80_8001, 0x3F81),
        (0xBF81_8000, 0xBF82),
        (0x0000_0001, 0x0000),
        (0x3FFF_FFFF, 0x4000),
    ],
)
def test_bfloat16_is_the_nearest_and_of_two_the_even_one(bits: int, rounded: int) -> None:
    value = np.array([bits], np.uint32).view(np.float32).astype(np.float64)
    assert encoded(value, "BF16") == rounded.to_bytes(2, "little")


@pytest.mark.parametrize(
    ("dtype", "fits", "too_large"),
    [
        ("F16", 65504.0, 65504.5),
        ("F32", float(np.finfo(np.float32).max) / 2, 1.8e38),
        ("BF16", float(np.finfo(np.float32).max) / 2, 1.8e38),
    ],
)
def test_a_number_that_its_type_does_not_hold_is_refused(
    dtype: str, fits: float, too_large: float
) -> None:
    assert np.isfinite(decoded(encoded(np.array([-fits, fits]), dtype), dtype)).all()
    for wrong in (too_large, -too_large, np.inf, np.nan):
        with pytest.raises(ModelError, match=f"^a weight is too large for {dtype} or not finite$"):
            encoded(np.array([0.0, wrong]), dtype)


def weights(path: Path, dtype: str, rank: int = 2) -> Weights:
    """Of two modules, of 3 x 4 and 2 x 5, that lie in no file yet."""
    tensors = {}
    for module, (out, into) in {"m": (3, 4), "n": (2, 5)}.items():
        for side, shape in (("A", (rank, into)), ("B", (out, rank))):
            name = f"{module}.lora_{side}.weight"
            tensors[name] = Tensor(name, dtype, shape, 0, 0)
    return Weights(path, 0, tensors)


@pytest.mark.parametrize("dtype", STORED)
def test_what_is_written_has_the_types_and_a_rank_of_its_own(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "w.safetensors"
    rng = np.random.default_rng(0)
    modules = [
        ("m", rng.integers(-8, 8, (3, 1)).astype(float), np.ones((1, 4))),
        ("n", rng.integers(-8, 8, (2, 1)).astype(float), np.zeros((1, 5))),
    ]
    write_weights(path, modules, weights(path, dtype), 1)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    header = content[8 : 8 + length].decode()
    width = 4 if dtype == "F32" else 2
    ends = np.cumsum([0, 4, 3, 5, 2]) * width
    names = ["m.lora_A", "m.lora_B", "n.lora_A", "n.lora_B"]
    shapes = [[1, 4], [3, 1], [1, 5], [2, 1]]
    assert json.loads(header) == {"__metadata__": {"format": "pt"}} | {
        f"{name}.weight": {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        for name, shape, begin, end in zip(names, shapes, ends[:-1], ends[1:], strict=True)
    }
    assert " " not in header.rstrip()
    data = content[8 + length :]
    assert len(data) == ends[-1]
    stored = [decoded(data[a:b], dtype) for a, b in pairwise(ends)]
    for (_, b, a), first, second in zip(modules, stored[::2], stored[1::2], strict=True):
        assert (first.tolist(), second.tolist()) == (a.ravel().tolist(), b.ravel().tolist())


def test_a_matrix_of_another_shape_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    words = re.escape(f"{path}: m.lora_B.weight: shape (4, 1), expected (3, 1)")
    with pytest.raises(ModelError, match=f"^{words}$"):
        write_weights(path, [("m", np.ones((4, 1)), np.ones((1, 4)))], weights(path, "F32"), 1)


def test_a_file_that_becomes_shorter_is_noticed(tmp_path: Path) -> None:
    factors = random_factors(np.random.default_rng(0))
    start = read_start(write_adapter(tmp_path / "a", factors))
    path = tmp_path / "a" / "adapter_model.safetensors"
    assert (start.folder, start.weights.path) == (tmp_path / "a", path)
    assert start.weights.modules == sorted(SHAPES)
    for module, (b, a) in factors.items():
        read_b, read_a = start.weights.factors(module)
        np.testing.assert_array_equal(read_b, b.astype(np.float32))
        np.testing.assert_array_equal(read_a, a.astype(np.float32))
    path.write_bytes(path.read_bytes()[:-1])
    last = max(start.weights.tensors.values(), key=lambda tensor: tensor.end)
    with pytest.raises(ModelError, match=f"^{path}: became shorter while it was read$"):
        start.weights.factors(last.name.partition(".lora_")[0])


def test_stacked_factors_have_the_weighted_sum_of_the_products() -> None:
    rng = np.random.default_rng(0)
    parts = [(c, rng.normal(size=(3, 2)), rng.normal(size=(2, 4))) for c in (0.5, -2.0)]
    b, a = stacked(parts)
    assert (b.shape, a.shape) == ((3, 4), (4, 4))
    whole = sum(c * (one @ other) for c, one, other in parts)
    np.testing.assert_allclose(b @ a, whole)
    assert squared_norm(b, a) == pytest.approx(float(np.sum(whole**2)))
