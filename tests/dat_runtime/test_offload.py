import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.errors import OffloadError
from dat_runtime.offload import (
    HEADER_BYTES,
    MAX_BYTES,
    MAX_SIDE,
    CodeUnit,
    pack,
    positions_of,
    size_of,
    truncated,
    unpack,
)

CODEC = "00112233aabbccdd"

# One channel of 2 x 2 patches, bits 1011.
GOLDEN = bytes.fromhex("44415443 01 00 0001 0002 0002 00112233aabbccdd 1fb64191 b0")


def unit_of(channels: int, grid: tuple[int, int], spatial: bool = False, seed: int = 0) -> CodeUnit:
    shape = (channels, positions_of(grid, spatial))
    bits = np.random.default_rng(seed).integers(0, 2, shape).astype(bool)
    return CodeUnit(CODEC, grid, spatial, bits)


def with_checksum(data: bytes) -> bytes:
    crc = zlib.crc32(data[:20] + data[24:])
    return data[:20] + crc.to_bytes(4, "big") + data[24:]


def test_a_unit_is_these_bytes() -> None:
    unit = CodeUnit(CODEC, (2, 2), False, np.array([[1, 0, 1, 1]], bool))
    assert pack(unit) == GOLDEN


@pytest.mark.parametrize(
    ("channels", "spatial", "payload"),
    [
        (64, False, 16_928),
        (128, False, 33_856),
        (256, False, 67_712),
        (64, True, 4_232),
        (128, True, 8_464),
        (256, True, 16_928),
    ],
)
def test_a_picture_of_644_pixels_takes_the_bytes_of_the_design(
    channels: int, spatial: bool, payload: int
) -> None:
    assert size_of((46, 46), channels, spatial) == HEADER_BYTES + payload


grids = st.tuples(st.integers(1, 6), st.integers(1, 6)).map(lambda g: (2 * g[0], 2 * g[1]))


@given(grid=grids, spatial=st.booleans(), channels=st.integers(1, 12), data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_unit_comes_back_and_any_prefix_of_it(
    grid: tuple[int, int], spatial: bool, channels: int, data: st.DataObject
) -> None:
    unit = unit_of(channels, grid, spatial, data.draw(st.integers(0, 99)))
    sent = pack(unit)
    assert len(sent) == size_of(grid, channels, spatial)
    came = unpack(sent, CODEC)
    assert (came.codec, came.grid, came.spatial) == (CODEC, grid, spatial)
    assert came.bits.dtype == np.bool_
    np.testing.assert_array_equal(came.bits, unit.bits)
    fewer = data.draw(st.integers(1, channels))
    assert truncated(sent, fewer) == pack(CodeUnit(CODEC, grid, spatial, unit.bits[:fewer]))


@given(at=st.integers(0, 8 * len(GOLDEN) - 1))
def test_a_changed_bit_is_noticed(at: int) -> None:
    changed = bytearray(GOLDEN)
    changed[at // 8] ^= 1 << at % 8
    with pytest.raises(OffloadError):
        unpack(bytes(changed))


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_a_unit_or_a_named_error(data: bytes, begun: bool) -> None:
    if begun and len(data) > 20:
        data = with_checksum(GOLDEN[:6] + data[6:])
    try:
        unit = unpack(data)
    except OffloadError:
        return
    assert pack(unit) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "of 0 bytes: its header alone is 24"),
        (GOLDEN[:-1], "of 24 bytes: 1 channels of 2 x 2 patches are 25"),
        (GOLDEN + b"\0", "of 26 bytes"),
        (b"JPEG" + GOLDEN[4:], "^no code unit: it does not begin with DATC$"),
        (with_checksum(GOLDEN[:4] + b"\2" + GOLDEN[5:]), "version 2: this library reads 1"),
        (with_checksum(GOLDEN[:5] + b"\2" + GOLDEN[6:]), "unknown flags 0x02"),
        (with_checksum(GOLDEN[:6] + b"\0\0" + GOLDEN[8:]), "0 channels"),
        (with_checksum(GOLDEN[:8] + b"\0\3" + GOLDEN[10:]), "3 x 2 patches: expected even"),
        (with_checksum(GOLDEN[:8] + b"\0\0" + GOLDEN[10:]), "0 x 2 patches"),
        (with_checksum(GOLDEN[:6] + b"\xff\xff\4\0\4\0" + GOLDEN[12:]), "bytes: the most is"),
        (with_checksum(GOLDEN[:-1] + b"\xb8"), "^a code unit with ones after its last bit$"),
        (GOLDEN[:-1] + b"\xa0", "^a code unit whose checksum does not hold: it was changed on its"),
        (bytes(MAX_BYTES), "no code unit: it does not begin with DATC"),
        (bytes(MAX_BYTES + 1), "the most is 1,048,576"),
    ],
)
def test_a_broken_unit_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(OffloadError, match=message):
        unpack(data)


def test_another_codecs_unit_is_refused() -> None:
    with pytest.raises(OffloadError) as refused:
        unpack(GOLDEN, "ffff" * 4)
    assert str(refused.value) == (
        f"a code unit of codec {CODEC}, the decoder here is ffffffffffffffff: give node and "
        "receiver the same codec folder"
    )


def test_sides_up_to_the_limit_are_units() -> None:
    assert positions_of((MAX_SIDE, 2), False) == 2 * MAX_SIDE
    with pytest.raises(OffloadError, match=f"from 2 to {MAX_SIDE}"):
        positions_of((MAX_SIDE + 2, 2), False)


def test_units_up_to_the_limits_are_units() -> None:
    assert size_of((2, 2), 65_535, True) == HEADER_BYTES + 8_192
    with pytest.raises(OffloadError, match="of 65536 channels: expected 1 to 65,535"):
        size_of((2, 2), 65_536, True)
    assert size_of((562, 878), 17, False) == MAX_BYTES
    with pytest.raises(OffloadError, match="of 1,110,255 bytes: the most is 1,048,576"):
        size_of((562, 878), 18, False)
    # Not compressed in space it would be too large.
    assert len(pack(unit_of(1000, (92, 92), True))) == HEADER_BYTES + 264_500


@pytest.mark.parametrize("channels", [0, 2, -1])
def test_a_unit_is_cut_to_channels_that_it_has(channels: int) -> None:
    with pytest.raises(OffloadError, match="of 1 channels cannot be cut"):
        truncated(GOLDEN, channels)


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (CodeUnit("00", (2, 2), False, np.ones((1, 4), bool)), "16 hexadecimal digits"),
        (CodeUnit("Z" * 16, (2, 2), False, np.ones((1, 4), bool)), "16 hexadecimal digits"),
        (CodeUnit(CODEC.upper(), (2, 2), False, np.ones((1, 4), bool)), "16 hexadecimal digits"),
        (CodeUnit(CODEC, (2, 2), True, np.ones((1, 4), bool)), r"expected \[channels, 1\]"),
        (CodeUnit(CODEC, (2, 2), False, np.ones((1, 4), np.uint8)), "and bool"),  # type: ignore[arg-type]
        (CodeUnit(CODEC, (2, 2), False, np.ones((0, 4), bool)), "of 0 channels"),
    ],
)
def test_what_is_no_unit_is_not_sent(unit: CodeUnit, message: str) -> None:
    with pytest.raises(OffloadError, match=message):
        pack(unit)
