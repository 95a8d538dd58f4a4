"""The unit in which a weak node sends learned bits of a picture (ApproxBit §3.4), and no picture.

A header of 24 bytes, big-endian, and the bits:

    0   4  magic, "DATC"
    4   1  version of this layout, 1
    5   1  flags: 1 = each position stands for 2 x 2 patches (spatial encoding)
    6   2  C, the channels in this unit
    8   2  rows of the picture's grid, in patches
    10  2  columns
    12  8  codec: who wrote the bits, and which decoder reads them
    20  4  CRC-32 of all before it and of the bits

The bits lie plane by plane: all positions of channel 0, then of channel 1. So a unit with fewer
channels is a prefix of one with more, and whoever sends may cut (`truncated`). Positions are in the
order of the vision tower's patches, for Qwen2.5-VL groups of 2 x 2, row by row. Bits are packed
without gaps, the first in the highest place of a byte; what is left of the last byte is zeros.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dat_runtime.errors import OffloadError

VERSION = 1

MAX_BYTES = 1 << 20
"""Of a unit. 256 channels of a picture of a million pixels, uncompressed in space, are 164 kB."""

MAX_SIDE = 1 << 10
"""Patches: more than 14,000 pixels."""

PATCH = 14
"""Side of a patch of Qwen2.5-VL's vision tower, pixels."""

_MAGIC = b"DATC"
_SPATIAL = 1
_HEADER = struct.Struct(">4sBBHHH8sI")
_CRC_AT = 20

HEADER_BYTES = _HEADER.size
CODEC_BYTES = 8

Bits = NDArray[np.bool_]


@dataclass(frozen=True)
class CodeUnit:
    """What a unit holds.

    Attributes:
        codec: 16 hexadecimal digits.
        grid: rows and columns of the picture, in patches.
        spatial: whether a position stands for 2 x 2 patches.
        bits: (C, positions), bool.
    """

    codec: str
    grid: tuple[int, int]
    spatial: bool
    bits: Bits

    @property
    def channels(self) -> int:
        return int(self.bits.shape[0])


def positions_of(grid: tuple[int, int], spatial: bool) -> int:
    """Bits of one channel.

    Raises:
        OffloadError: no picture has that grid: sides are even, Qwen2.5-VL merges 2 x 2 patches.
    """
    rows, columns = grid
    if not all(2 <= side <= MAX_SIDE and side % 2 == 0 for side in grid):
        raise OffloadError(
            f"a code unit of {rows} x {columns} patches: expected even numbers from 2 to {MAX_SIDE}"
        )
    return rows * columns // 4 if spatial else rows * columns


def size_of(grid: tuple[int, int], channels: int, spatial: bool) -> int:
    """Bytes of a unit, its header included.

    Raises:
        OffloadError: there is no such unit, or it would be larger than `MAX_BYTES`.
    """
    if not 1 <= channels < 1 << 16:
        raise OffloadError(f"a code unit of {channels} channels: expected 1 to 65,535")
    size = HEADER_BYTES + -(-positions_of(grid, spatial) * channels // 8)
    if size > MAX_BYTES:
        raise OffloadError(f"a code unit of {size:,} bytes: the most is {MAX_BYTES:,}")
    return size


def pack(unit: CodeUnit) -> bytes:
    """The unit as it is sent.

    Raises:
        OffloadError: the codec is not 16 hexadecimal digits, or the bits do not fit the grid.
    """
    positions = positions_of(unit.grid, unit.spatial)
    if unit.bits.ndim != 2 or unit.bits.shape[1] != positions or unit.bits.dtype != np.bool_:
        raise OffloadError(
            f"bits of shape {list(unit.bits.shape)} and type {unit.bits.dtype}: expected "
            f"[channels, {positions}] and bool"
        )
    size_of(unit.grid, unit.channels, unit.spatial)
    payload = np.packbits(unit.bits).tobytes()
    return _headed(_codec_bytes(unit.codec), unit.grid, unit.spatial, unit.channels, payload)


def unpack(data: bytes, codec: str | None = None) -> CodeUnit:
    """The unit that came.

    Args:
        codec: the one whose decoder is at hand; another's bits would mean something else.

    Raises:
        OffloadError: says what is wrong: it is not whole, not ours, or of another codec. A hostile
            one costs no more than `MAX_BYTES` of reading.
    """
    head = _read_head(data)
    if codec is not None and head.codec != codec:
        raise OffloadError(
            f"a code unit of codec {head.codec}, the decoder here is {codec}: give node and "
            "receiver the same codec folder"
        )
    total = head.channels * positions_of(head.grid, head.spatial)
    payload = np.frombuffer(data, np.uint8, offset=HEADER_BYTES)
    bits = np.unpackbits(payload)
    if bits[total:].any():
        raise OffloadError("a code unit with ones after its last bit")
    planes = bits[:total].reshape(head.channels, -1).astype(np.bool_)
    return CodeUnit(head.codec, head.grid, head.spatial, planes)


def truncated(data: bytes, channels: int) -> bytes:
    """The same unit with its first channels only.

    Raises:
        OffloadError: the unit is not whole, or has fewer channels than that.
    """
    head = _read_head(data)
    if not 1 <= channels <= head.channels:
        raise OffloadError(f"a code unit of {head.channels} channels cannot be cut to {channels}")
    size = size_of(head.grid, channels, head.spatial)
    payload = bytearray(data[HEADER_BYTES:size])
    unused = -channels * positions_of(head.grid, head.spatial) % 8
    payload[-1] &= 0xFF << unused & 0xFF
    return _headed(bytes.fromhex(head.codec), head.grid, head.spatial, channels, bytes(payload))


@dataclass(frozen=True)
class _Head:
    """A header that fits its bits, whose checksum holds."""

    codec: str
    grid: tuple[int, int]
    spatial: bool
    channels: int


def _read_head(data: bytes) -> _Head:
    if len(data) > MAX_BYTES:
        raise OffloadError(f"a code unit of {len(data):,} bytes: the most is {MAX_BYTES:,}")
    if len(data) < HEADER_BYTES:
        raise OffloadError(f"a code unit of {len(data)} bytes: its header alone is {HEADER_BYTES}")
    magic, version, flags, channels, rows, columns, codec, crc = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise OffloadError("no code unit: it does not begin with DATC")
    if version != VERSION:
        raise OffloadError(f"a code unit of version {version}: this library reads {VERSION}")
    if flags & ~_SPATIAL:
        raise OffloadError(f"a code unit with unknown flags {flags:#04x}")
    spatial = bool(flags & _SPATIAL)
    expected = size_of((rows, columns), channels, spatial)
    if len(data) != expected:
        raise OffloadError(
            f"a code unit of {len(data):,} bytes: {channels} channels of {rows} x {columns} "
            f"patches are {expected:,}"
        )
    if _checksum(data[:_CRC_AT], data[HEADER_BYTES:]) != crc:
        raise OffloadError("a code unit whose checksum does not hold: it was changed on its way")
    return _Head(codec.hex(), (rows, columns), spatial, channels)


def _headed(
    codec: bytes, grid: tuple[int, int], spatial: bool, channels: int, payload: bytes
) -> bytes:
    flags = _SPATIAL if spatial else 0
    head = _HEADER.pack(_MAGIC, VERSION, flags, channels, *grid, codec, 0)[:_CRC_AT]
    return head + _checksum(head, payload).to_bytes(4, "big") + payload


def _checksum(head: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(head))


def _codec_bytes(codec: str) -> bytes:
    try:
        digits = bytes.fromhex(codec)
    except ValueError:
        digits = b""
    if len(digits) != CODEC_BYTES or digits.hex() != codec:
        raise OffloadError(f"codec {codec!r}: expected {2 * CODEC_BYTES} hexadecimal digits")
    return digits
