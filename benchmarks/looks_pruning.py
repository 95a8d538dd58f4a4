"""Which filters could spare pairs of looks a comparison: `python -m benchmarks.looks_pruning`.

The search of looks compares all codes (`data.prep.pictures.looks`). An exact index would have to
leave out pairs by something cheaper. This takes the looks of all pictures in a folder and of crops,
turns and blends of them (`--pictures`), or random ones, and prints which share of the pairs each
filter leaves out, none of them within the radius:
    ones      the numbers of set bits differ by more than the radius
    pivots    the distances to one of 60 pivots differ by more (triangle inequality)
    parts     no part of the code is within its share of the radius (multi-index hashing, Norouzi et
              al., 2012), and how many buckets each look would look up
"""

from collections.abc import Sequence
from math import comb
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dat_runtime.command import command
from data.prep.pictures import looks

_PIVOTS = 60
_BITS = 160
"""Of a code; the rest is padding."""
_PARTS = (8, 10, 16)


def looks_of(pictures: Sequence[Path], count: int) -> list[bytes]:
    """The looks of pictures, and of parts, turns and blends of them."""
    rng = np.random.default_rng(0)
    greys = [Image.open(path).convert("L").resize((160, 160)) for path in pictures]
    found = []
    while len(found) < count:
        grey, other = (greys[rng.integers(len(greys))] for _ in range(2))
        left, top = rng.integers(0, 80, 2).tolist()
        side = int(rng.integers(48, 80))
        changed = (
            grey,
            grey.crop((left, top, left + side, top + side)),
            grey.rotate(float(rng.uniform(-15, 15))),
            Image.blend(grey, other, float(rng.uniform(0.2, 0.8))),
        )[rng.integers(4)]
        found.append(looks.look_of(changed))
    return found


def random_looks(count: int) -> list[bytes]:
    made = np.random.default_rng(0).integers(0, 256, (count, looks.BYTES), dtype=np.uint8)
    return [bytes(row) for row in made]


def shares(found: Sequence[bytes], radius: int) -> dict[str, str]:
    """What each filter leaves out, in words."""
    codes = looks.codes_of(found)
    pivots, codes = codes[: len(codes) // 2], codes[len(codes) // 2 :]
    pairs = np.triu_indices(len(codes), 1)
    distance = _distances(codes, codes)[pairs]
    near = distance <= radius
    ones = np.bitwise_count(codes).sum(axis=1, dtype=np.int64)
    told = {
        "pairs": f"{len(distance):,}, within {radius} bits {near.mean():.2%}; "
        f"mean distance {distance.mean():.1f}, deviation {distance.std():.1f}",
        "ones": f"{_apart(ones, pairs, radius).mean():.3%} left out",
    }
    to_pivots = _distances(pivots, codes)
    widest = np.argsort(-to_pivots.std(axis=1))[:_PIVOTS]
    by_pivots = np.zeros(len(distance), bool)
    for row in to_pivots[widest]:
        by_pivots |= _apart(row, pairs, radius)
    told[f"{_PIVOTS} pivots"] = f"{by_pivots.mean():.3%} left out"
    bits = np.unpackbits(codes, axis=1)[:, :_BITS].reshape(len(codes), -1)
    for parts in _PARTS:
        share, width = radius // parts, _BITS // parts
        candidates = np.zeros(len(distance), bool)
        for part in np.split(bits, parts, axis=1):
            candidates |= (_distances(np.packbits(part, axis=1), None) <= share)[pairs]
        buckets = parts * sum(comb(width, changed) for changed in range(share + 1))
        told[f"{parts} parts"] = f"{1 - candidates.mean():.1%} left out, {buckets:,} buckets a look"
    return told


def _distances(one: NDArray[np.uint8], other: NDArray[np.uint8] | None) -> NDArray[np.int64]:
    """(n, m): the bits in which rows differ; of `one` with itself if there is no other."""
    other = one if other is None else other
    total = np.zeros((len(one), len(other)), np.int64)
    for octet in range(one.shape[1]):
        total += np.bitwise_count(one[:, None, octet] ^ other[None, :, octet])
    return total


def _apart(
    numbers: NDArray[np.int64], pairs: tuple[NDArray[np.int64], NDArray[np.int64]], radius: int
) -> NDArray[np.bool_]:
    first, second = pairs
    return np.abs(numbers[first] - numbers[second]) > radius


def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.looks_pruning", __doc__)
    parser.add_argument("--pictures", type=Path, help="folder of JPEGs; random looks without it")
    parser.add_argument("--looks", type=int, default=4000, help="half of them are pivots to choose")
    args = parser.parse_args(argv)
    if args.pictures:
        found = looks_of(sorted(args.pictures.rglob("*.jpg")), args.looks)
    else:
        found = random_looks(args.looks)
    for name, told in shares(found, looks.SAME_PICTURE).items():
        print(f"{name:>10} {told}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
