"""The search of looks that are alike, against comparing all: `python -m benchmarks.looks_speed`.

Makes `--looks` random looks, a fifth of them copies of others in one of eight orientations with up
to 70 bits changed, and finds all pairs within the radius twice: by `looks.alike`, and by comparing
every pair in every orientation, in blocks on the same threads. Both must find the same pairs.
Prints both times and what the search would take for a million, by the square of the number, on two
cores, and writes them as JSON with `--out`. `--skip-floor` measures the search alone.
"""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dat_runtime.command import command
from dat_runtime.files import write_json
from data.prep.pictures import looks
from data.prep.pictures.pool import over_all

_SIDE = 16
_BLOCK = 256
_MILLION = 1_000_000
_CORES = 2


def planted(count: int, seed: int) -> list[bytes]:
    """Random looks, a fifth of them changed copies of others."""
    rng = np.random.default_rng(seed)
    spectra = rng.integers(0, 2, (count, _SIDE, _SIDE), dtype=np.uint8)
    copies = count // 5
    for copy in range(count - copies, count):
        spectrum = spectra[rng.integers(count - copies)].ravel().copy()
        spectrum[rng.choice(spectrum.size, rng.integers(71), replace=False)] ^= 1
        spectra[copy] = orientations(spectrum.reshape(1, _SIDE, _SIDE))[rng.integers(8)][0]
    spectra[:, 0, 0] = 0  # as in every look
    return [bytes(row) for row in np.packbits(spectra.reshape(count, -1), axis=1)]


def orientations(spectra: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The signs of the spectra, (n, 16, 16), of the pictures in their eight orientations."""
    odd = np.arange(_SIDE, dtype=np.uint8) % 2
    columns = np.broadcast_to(odd, (_SIDE, _SIDE))
    rows = columns.T
    turned = []
    for spectrum in (spectra, spectra.transpose(0, 2, 1)):
        turned += [spectrum, spectrum ^ rows, spectrum ^ columns, spectrum ^ rows ^ columns]
    return turned


def every_pair(found: Sequence[bytes], radius: int) -> Iterator[NDArray[np.int32]]:
    """What `looks.alike` must find: each pair compared in each orientation."""
    bits = np.frombuffer(b"".join(found), np.uint8).reshape(-1, looks.BYTES)
    spectra = np.unpackbits(bits, axis=1).reshape(-1, _SIDE, _SIDE)
    words = []
    for spectrum in orientations(spectra):
        packed = np.packbits(spectrum.reshape(len(bits), -1), axis=1)
        words.append(packed.view(np.uint64))
    work = partial(_of_block, turned=np.stack(words), radius=radius)
    return over_all(work, range(0, len(bits), _BLOCK), "blocks of looks, every pair")


def _of_block(start: int, turned: NDArray[np.uint64], radius: int) -> NDArray[np.int32]:
    rows = turned[0, start : start + _BLOCK]
    blocks = []
    for column in range(start, turned.shape[1], _BLOCK):
        columns = turned[:, column : column + _BLOCK]
        nearest = _nearest(rows, columns)
        first, second = np.nonzero(nearest <= radius)
        pairs = [first + start, second + column, nearest[first, second]]
        blocks.append(np.stack(pairs, axis=1).astype(np.int32))
    pairs = np.concatenate(blocks)
    return pairs[pairs[:, 0] < pairs[:, 1]]


def _nearest(rows: NDArray[np.uint64], columns: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """(rows, columns): the fewest differing bits over all orientations."""
    shape = (len(rows), columns.shape[1])
    nearest = np.full(shape, 255, np.uint8)
    differing = np.empty(shape, np.uint64)  # one buffer for all words
    for orientation in columns:
        total = np.zeros(shape, np.uint8)
        for word in range(rows.shape[1]):
            np.bitwise_xor(rows[:, None, word], orientation[None, :, word], out=differing)
            total += np.bitwise_count(differing)
        np.minimum(nearest, total, out=nearest)
    return nearest


def _timed(pairs: Iterator[NDArray[np.int32]]) -> tuple[float, float, list[list[int]]]:
    """Seconds by the clock, seconds of all cores, and the pairs."""
    started, cores_started = time.perf_counter(), time.process_time()
    found = np.concatenate(list(pairs))
    seconds = time.perf_counter() - started
    return seconds, time.process_time() - cores_started, sorted(found.tolist())


def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.looks_speed", __doc__)
    parser.add_argument("--looks", type=int, default=100_000)
    parser.add_argument("--skip-floor", action="store_true", help="do not compare every pair")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    made = planted(args.looks, 0)
    seconds, cores, found = _timed(looks.alike(made))
    # By the cores' time, which other work on the machine does not change much.
    million = cores * (_MILLION / args.looks) ** 2 / _CORES / 60
    result = {
        "looks": args.looks,
        "pairs": len(found),
        "s": round(seconds, 2),
        "core_s": round(cores, 2),
        "minutes_for_a_million_on_two_cores": round(million, 1),
    }
    same = True
    if not args.skip_floor:
        floor_seconds, floor_cores, expected = _timed(every_pair(made, looks.SAME_PICTURE))
        same = found == expected
        result |= {
            "every_pair_s": round(floor_seconds, 2),
            "every_pair_core_s": round(floor_cores, 2),
            "times_faster": round(floor_cores / cores, 1),
            "same_pairs": same,
        }
    for name, value in result.items():
        print(f"{name:>36} {value}")
    if args.out:
        write_json(args.out, result)
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
