"""How a picture looks, in 256 bits, and which pictures look alike.

A look is a wide perceptual hash: the signs of the 16 x 16 lowest coefficients of the discrete
cosine transform (DCT-II) of a 64 x 64 grey thumbnail. The usual one (Zauner, "Implementation and
Benchmarking of Perceptual Image Hash Functions", 2010) takes 8 x 8 of 32 x 32 and compares with
their median; 64 bits are too few to tell streets apart over millions of pairs. Mirroring and
turning a picture only change the signs of some coefficients or transpose them, so all eight
orientations are compared without decoding again.

Pairs within a radius are found exactly. Each look has a code that all its orientations share, and
two codes never differ in more bits than the looks in their best orientation. So faiss compares the
codes in one pass instead of eight, and the few pairs whose codes are close are compared as looks.

docs/decisions/018-linked-frames.md gives the reasons, `benchmarks/leak_recall.py` and
`benchmarks/looks_speed.py` the measures.
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

THUMBNAIL = 64
"""Side of a view, pixels."""
_SMALL = 4 * THUMBNAIL
_SIDE = 16
_WORDS, _WORD_BITS = 4, np.uint8(64)
"""A look in four words: even rows and columns of the spectrum; even rows, odd columns; odd rows,
even columns; both odd."""
_ROWS, _COLUMNS = 64, 1 << 14
"""Looks that are compared at once: columns for the processor's cache, rows for bounded memory, as
every comparison may find a pair."""


@cache
def _cosines() -> NDArray[np.float32]:
    """(16, 64): the lowest rows of the DCT-II, cos(pi u (2x + 1) / 2N); only signs are used."""
    u = np.arange(_SIDE)[:, None]
    x = np.arange(THUMBNAIL)[None]
    return np.cos(np.pi * u * (2 * x + 1) / (2 * THUMBNAIL)).astype(np.float32)


def look_of(rgb: Image.Image) -> bytes:
    """The look of a picture, 32 bytes."""
    return look_of_view(view_of(rgb.convert("L")))


def view_of(grey: Image.Image) -> NDArray[np.uint8]:
    """(64, 64): a grey picture stretched to a small square."""
    # Without `reducing_gap`: with it a copy of 1280 x 720 is 9 bits from one of 640 x 640, not 1.
    # Of few pixels a box takes one here and two there: copies of 160 x 90 would look changed.
    is_small = min(grey.size) < _SMALL
    method = Image.Resampling.HAMMING if is_small else Image.Resampling.BOX
    return np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), method))


def look_of_view(view: NDArray[np.uint8]) -> bytes:
    """The look of the picture that `view_of` gave the view of."""
    return np.packbits(signs(view.astype(np.float32))).tobytes()


def signs(thumbnail: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(16, 16): which of the lowest coefficients of a 64 x 64 grey picture are positive."""
    cosines = _cosines()
    spectrum = cosines @ thumbnail @ cosines.T
    spectrum[0, 0] = 0.0  # the mean brightness, which is positive in every picture
    return spectrum > 0


def alike(
    looks: Sequence[bytes], radius: int = SAME_PICTURE, engine: Engine = "threads"
) -> Iterator[NDArray[np.int32]]:
    """(k, 3) at a time: first < second, and the bits in which the two looks differ.

    Exactly the pairs that differ in at most `radius` bits in one of eight orientations, each once,
    block by block: the memory does not grow with the number of pairs.
    """
    words = _words(looks)
    both = (words, _transposed(words))
    work = partial(_alike_from, both=both, codes=_codes(words), radius=radius)
    return over_all(work, range(0, len(words), _ROWS), "blocks of looks compared", engine)


def distances(
    looks: Sequence[bytes], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each pair of indices, the bits in which the looks differ in the best orientation."""
    used, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    words = _words([looks[index] for index in used.tolist()])
    both = (words, _transposed(words))
    return _distances(both, places[: len(first)], places[len(first) :]).astype(np.int64)


def distance(first: bytes, second: bytes) -> int:
    """Bits in which two looks differ, in the orientation that fits best."""
    return int(distances([first, second], np.array([0]), np.array([1]))[0])


def _alike_from(
    start: int,
    both: tuple[NDArray[np.uint64], NDArray[np.uint64]],
    codes: NDArray[np.uint8],
    radius: int,
) -> NDArray[np.int32]:
    """The pairs of one block of looks with that block and all later ones."""
    import faiss

    faiss.omp_set_num_threads(1)  # the blocks are on threads already
    rows = codes[start : start + _ROWS]
    blocks = []
    for column in range(start, len(codes), _COLUMNS):
        index = faiss.IndexBinaryFlat(8 * BYTES)
        index.add(codes[column : column + _COLUMNS])
        limits, _, found = index.range_search(rows, radius + 1)  # faiss excludes the radius
        first = start + np.repeat(np.arange(len(rows)), np.diff(limits.astype(np.int64)))
        second = column + found
        # The block on the diagonal holds each pair twice, and each look with itself.
        first, second = first[first < second], second[first < second]
        bits = _distances(both, first, second)
        pairs = np.stack([first, second, bits], axis=1)[bits <= radius]
        blocks.append(pairs.astype(np.int32))
    return np.concatenate(blocks)


def _distances(
    both: tuple[NDArray[np.uint64], NDArray[np.uint64]],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """The fewest differing bits over all eight orientations, for each pair.

    Mirroring left to right changes the signs in each odd column of the spectrum, mirroring upside
    down those in each odd row, as the cosines of odd frequencies are odd about the picture's
    middle: so it complements two of the four words. Turning by 90 degrees also transposes.

    Args:
        both: the words of the looks, and those of their transposed spectra.
    """
    words, transposed = both
    other = words[second]
    nearest = np.full(len(first), 255, np.uint8)
    for turned in (words, transposed):
        even, across, down, odd = np.bitwise_count(turned[first] ^ other).T
        # At most 255 differ, as the bit of the mean brightness is never set.
        for flipped in (
            even + across + down + odd,
            even + (_WORD_BITS - across) + down + (_WORD_BITS - odd),
            even + across + (_WORD_BITS - down) + (_WORD_BITS - odd),
            even + (_WORD_BITS - across) + (_WORD_BITS - down) + odd,
        ):
            np.minimum(nearest, flipped, out=nearest)
    return nearest


def _words(looks: Sequence[bytes]) -> NDArray[np.uint64]:
    """(n, 4): the looks' bits, sorted by the parity of row and column."""
    bits = np.frombuffer(b"".join(looks), np.uint8).reshape(-1, BYTES)
    spectra = np.unpackbits(bits, axis=1).reshape(-1, _SIDE // 2, 2, _SIDE // 2, 2)
    by_parity = spectra.transpose(0, 2, 4, 1, 3).reshape(-1, _WORDS, int(_WORD_BITS))
    return np.packbits(by_parity, axis=2).view(np.uint64)[..., 0]


def codes_of(looks: Sequence[bytes]) -> NDArray[np.uint8]:
    """(n, 32): the code of each look, which all its orientations share."""
    return _codes(_words(looks))


def _codes(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """(n, 32): 160 bits that do not depend on the orientation.

    A bit of a look that changes changes at most one bit of the code, so codes are no further apart
    than looks. Where mirroring complements a word, two of its bits are taken as their XOR. Where
    turning swaps two bits, they are taken as their AND and OR, which differ in no more bits.
    """
    half = _SIDE // 2
    bits = np.unpackbits(words[..., None].view(np.uint8), axis=2)
    even, across, down, odd = bits.reshape(-1, _WORDS, half, half).transpose(1, 0, 2, 3)
    down = down.transpose(0, 2, 1)  # turning swaps `across` and `down`, transposed
    across, down = (word[..., ::2] ^ word[..., 1::2] for word in (across, down))
    upper, lower = np.triu_indices(half, 1)
    diagonal = odd[:, range(half), range(half)]
    parts = [
        even[:, range(half), range(half)],
        even[:, upper, lower] & even[:, lower, upper],
        even[:, upper, lower] | even[:, lower, upper],
        odd[:, upper, lower] ^ odd[:, lower, upper],
        diagonal[:, ::2] ^ diagonal[:, 1::2],
        (across & down).reshape(len(words), half * half // 2),
        (across | down).reshape(len(words), half * half // 2),
        # faiss is fastest for 256 bits.
        np.zeros((len(words), 96), np.uint8),
    ]
    return np.packbits(np.concatenate(parts, axis=1), axis=1)


def _transposed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The words of the transposed spectra: the pictures turned by 90 degrees, and mirrored."""
    half = _SIDE // 2
    bits = np.unpackbits(words[..., None].view(np.uint8), axis=2)
    spectra = bits.reshape(-1, 2, 2, half, half).transpose(0, 2, 1, 4, 3)
    packed = np.packbits(spectra.reshape(-1, _WORDS, int(_WORD_BITS)), axis=2)
    return packed.view(np.uint64)[..., 0]
