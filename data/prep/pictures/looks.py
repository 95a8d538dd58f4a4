"""How a picture looks, in 256 bits, and which pictures look alike.

A look is a wide perceptual hash: the signs of the 16 x 16 lowest coefficients of the discrete
cosine transform (DCT-II) of a 64 x 64 grey thumbnail. The usual one (Zauner, "Implementation and
Benchmarking of Perceptual Image Hash Functions", 2010) takes 8 x 8 of 32 x 32 and compares with
their median; 64 bits are too few to tell streets apart over millions of pairs. Mirroring and
turning a picture only change the signs of some coefficients or transpose them, so all eight
orientations are compared by masking bits, without decoding again.

docs/decisions/005-looks-and-leaks.md gives the reasons, `benchmarks/leak_recall.py` the measures.
"""

from collections.abc import Iterator, Sequence
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.prep.pictures.pool import Engine, over_all

BYTES = 32
SAME_PICTURE = 48
"""Bits of 256 in which copies may differ. Measured: copies differ in at most 29, unrelated frames
in 82 or more (`benchmarks/leak_recall.py`)."""
SAME_PLACE = 72
"""Bits of 256 in which two frames may differ if their names also state one clip. Neither is enough
alone: a compilation has many scenes under one name, and two streets may differ by as few bits."""

_THUMBNAIL = 64
_SIDE = 16
_BLOCK = 256
"""Rows and columns that are compared at once: few enough for the processor's cache."""


@cache
def _cosines() -> NDArray[np.float32]:
    """(16, 64): the lowest rows of the DCT-II, cos(pi u (2x + 1) / 2N); only signs are used."""
    u = np.arange(_SIDE)[:, None]
    x = np.arange(_THUMBNAIL)[None]
    return np.cos(np.pi * u * (2 * x + 1) / (2 * _THUMBNAIL)).astype(np.float32)


def look_of(rgb: Image.Image) -> bytes:
    """The look of a picture, 32 bytes."""
    size = (_THUMBNAIL, _THUMBNAIL)
    thumbnail = rgb.resize(size, Image.Resampling.BOX, reducing_gap=1.0).convert("L")
    cosines = _cosines()
    spectrum = cosines @ np.asarray(thumbnail, np.float32) @ cosines.T
    spectrum[0, 0] = 0.0  # the mean brightness, which is positive in every picture
    return np.packbits(spectrum > 0).tobytes()


def alike(
    looks: Sequence[bytes], radius: int = SAME_PICTURE, engine: Engine = "threads"
) -> Iterator[NDArray[np.int32]]:
    """(k, 3) at a time: first < second, and the bits in which the two looks differ.

    All pairs that differ in at most `radius` bits in one of eight orientations, block by block: the
    time grows with the square of the number of looks, the memory does not.
    """
    bits = np.frombuffer(b"".join(looks), np.uint8).reshape(-1, BYTES)
    words = bits.view(np.uint64)
    turned = np.stack([orientation.view(np.uint64) for orientation in _orientations(bits)])
    work = partial(_alike_from, words=words, turned=turned, radius=radius)
    return over_all(work, range(0, len(words), _BLOCK), "blocks of looks compared", engine)


def distance(first: bytes, second: bytes) -> int:
    """Bits in which two looks differ, in the orientation that fits best."""
    bits = np.frombuffer(first + second, np.uint8).reshape(2, BYTES)
    turned_second = [orientation[1:].view(np.uint64) for orientation in _orientations(bits)]
    return int(_distances(bits[:1].view(np.uint64), np.stack(turned_second))[0, 0])


def _alike_from(
    start: int, words: NDArray[np.uint64], turned: NDArray[np.uint64], radius: int
) -> NDArray[np.int32]:
    """The pairs of one block of looks with that block and all later ones.

    Args:
        start: the block's first look.
        words: (n, 4), the looks as they are.
        turned: (8, n, 4), in all orientations.
    """
    rows = words[start : start + _BLOCK]
    blocks = []
    for column in range(start, len(words), _BLOCK):
        nearest = _distances(rows, turned[:, column : column + _BLOCK])
        i, j = np.nonzero(nearest <= radius)
        pairs = np.stack([i + start, j + column, nearest[i, j]], axis=1)
        blocks.append(pairs.astype(np.int32))
    pairs = np.concatenate(blocks)
    # The block on the diagonal holds each pair twice, and each look with itself.
    return pairs[pairs[:, 0] < pairs[:, 1]]


def _distances(rows: NDArray[np.uint64], turned: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """(rows, columns): the fewest differing bits over all orientations, at most 255.

    The bit of the mean brightness is never set, so a byte holds any distance.
    """
    shape = (len(rows), turned.shape[1])
    nearest = np.full(shape, 255, np.uint8)
    differing = np.empty(shape, np.uint64)  # one buffer for all words
    for columns in turned:
        total = np.zeros(shape, np.uint8)
        for word in range(rows.shape[1]):
            np.bitwise_xor(rows[:, None, word], columns[None, :, word], out=differing)
            total += np.bitwise_count(differing)
        np.minimum(nearest, total, out=nearest)
    return nearest


def _orientations(bits: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The looks of the pictures in their eight orientations, each (n, 32).

    The cosines of odd frequencies are odd about the picture's middle. So mirroring left to right
    changes the signs in each odd column of the spectrum, mirroring upside down those in each odd
    row; turning by 90 degrees also transposes it.
    """
    spectra = np.unpackbits(bits, axis=1).reshape(-1, _SIDE, _SIDE)
    odd = (np.arange(_SIDE) % 2).astype(np.uint8)
    odd_columns = np.broadcast_to(odd[None], (_SIDE, _SIDE))
    odd_rows = odd_columns.T
    flips = [np.zeros_like(odd_rows), odd_rows, odd_columns, odd_rows ^ odd_columns]
    orientations = []
    for spectrum in (spectra, spectra.transpose(0, 2, 1)):
        for flip in flips:
            flipped = (spectrum ^ flip).reshape(len(bits), -1)
            orientations.append(np.packbits(flipped, axis=1))
    return orientations
