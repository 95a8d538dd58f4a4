"""A trained codec on disk: what it belongs to, its weights, and what a node runs.

    codec.json                   `RULES`: base, adapter, cut, channels, pictures
    codec.safetensors            encoder and decoder
    encoder-<rows>x<columns>.onnx  head and encoder for pictures of one grid

`train.offload` makes it. Its `id` is a digest of codec.json and the weights: whatever decides the
bits, or how they are read. Every unit states it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.adapter import MODEL_NAME, REVISION
from dat_runtime.errors import ModelError
from dat_runtime.fields import (
    FLAG,
    Rule,
    above,
    checked,
    list_of,
    number,
    optional,
    text_like,
    whole,
)
from dat_runtime.files import read_json
from dat_runtime.offload import CODEC_BYTES, MAX_SIDE

KIND = "codec"
FILE, WEIGHTS = "codec.json", "codec.safetensors"
VERSION = 1

_SIDE = whole(2, MAX_SIDE)
_CHANNELS = list_of(whole(1, (1 << 16) - 1), 1, 16)
RULES = {
    "version": whole(VERSION, VERSION),
    "id": text_like(rf"[0-9a-f]{{{2 * CODEC_BYTES}}}", f"{2 * CODEC_BYTES} hexadecimal digits"),
    "base": MODEL_NAME,
    "revision": REVISION,
    "adapter": optional(text_like(r"[0-9a-f]{64}", "an adapter's sha256")),
    "prompt": whole(0),
    "block": whole(0, 1 << 10),
    "channels": Rule(
        lambda v: _CHANNELS.holds(v) and v == sorted(set(v)), "1 to 16 whole numbers, rising"
    ),
    "spatial": FLAG,
    "features": whole(1, 1 << 16),
    "width": whole(8, 1 << 14),
    "grids": list_of(list_of(_SIDE, 2, 2), 1, 64),
    "images": list_of(list_of(whole(1), 2, 2), 1, 64),
    "patch": whole(1, 1 << 10),
    "mean": list_of(number(), 3, 3),
    "std": list_of(above(0), 3, 3),
}
"""Fields of codec.json. `images` are width and height in pixels of each of `grids`, which are rows
and columns in patches; `mean` and `std` are those of the processor, of colours from 0 to 1."""


@dataclass(frozen=True)
class Description:
    """codec.json."""

    fields: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.fields["id"])

    @property
    def block(self) -> int:
        return int(self.fields["block"])

    @property
    def channels(self) -> tuple[int, ...]:
        """Nested: each is a prefix of the next."""
        return tuple(self.fields["channels"])

    @property
    def spatial(self) -> bool:
        return bool(self.fields["spatial"])

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Those that nodes have an encoder for."""
        return [(rows, columns) for rows, columns in self.fields["grids"]]


def encoder_file(grid: tuple[int, int]) -> str:
    """The name of the graph for pictures of a grid."""
    return f"encoder-{grid[0]}x{grid[1]}.onnx"


def codec_id(fields: Mapping[str, Any], weights: Path) -> str:
    """The identity that codec.json and the weights have together."""
    stated = {name: value for name, value in fields.items() if name != "id"}
    content = json.dumps([stated, manifest.digest(weights)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[: 2 * CODEC_BYTES]


def read_description(folder: Path) -> Description:
    """codec.json of a folder.

    Raises:
        ModelError: a field is wrong, or the weights are not those that its id was made of.
    """
    path = folder / FILE
    value = read_json(path, ModelError, missing="train.offload makes it", strict=True)
    try:
        fields = checked(value, RULES, "")
    except ValueError as error:
        raise ModelError(str(error), path) from None
    if codec_id(fields, folder / WEIGHTS) != fields["id"]:
        raise ModelError("its id is not that of these fields and weights", path)
    return Description(fields)
