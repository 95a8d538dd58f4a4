"""How the search of crops and turns grows: `python -m benchmarks.reframed_speed --work WORK`.

Finds the corners of `--frames` rendered frames (kept in WORK, as `benchmarks.leak_recall` leaves
them), and makes sets of `--sizes` frames of them: each frame takes 96 of all corners at random,
with an eighth of their bits changed, so that strangers have corners of the same kinds; each tenth
frame is the one before with its corners turned by 5 degrees. Searches each set as preparation does,
and prints the cores' time of the candidates and of their comparison, the exponents that fit their
growth, and what a million frames would take by them on two cores.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.leak_recall import render
from dat_runtime.command import command
from dat_runtime.files import write_json
from data.prep.pictures import local_features, records
from data.prep.pictures.records import Records
from data.prep.splitting import reframed

_TURN = np.deg2rad(5)
_PART = 2_000
_MILLION = 1_000_000
_CORES = 2


def made(seen: Records, count: int, seed: int) -> Records:
    """Records of frames that share kinds of corners, each tenth a turned copy of the one before."""
    rng = np.random.default_rng(seed)
    there = np.arange(local_features.MOST) < seen["count"][:, None]
    pool = seen["descriptions"][there]
    found = np.zeros(count, records.RECORD)
    shape = (local_features.MOST, local_features.BYTES)
    for start in range(0, count, _PART):
        part = found[start : start + _PART]
        chosen = pool[rng.integers(len(pool), size=(len(part), local_features.MOST))]
        part["descriptions"] = chosen ^ _noise(rng, (len(part), *shape))
        side = local_features.SIDE
        part["places"] = rng.integers(side // 4, 3 * side // 4, (*chosen.shape[:2], 2))
        part["view"] = seen["view"][rng.integers(len(seen), size=len(part))]
        part["count"] = local_features.MOST
    copies = np.arange(9, count, 10)
    found[copies] = found[copies - 1]
    found["places"][copies] = _turned(found["places"][copies])
    return found


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Bytes in which an eighth of the bits are set: the AND of three random ones."""
    one, two, three = (rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(3))
    return one & two & three


def _turned(places: NDArray[np.uint8]) -> NDArray[np.uint8]:
    middle = local_features.SIDE / 2
    turn = np.array([[np.cos(_TURN), -np.sin(_TURN)], [np.sin(_TURN), np.cos(_TURN)]])
    return ((places - middle) @ turn + middle).astype(np.uint8)


def measure(seen: Records, count: int) -> dict[str, Any]:
    compared = reframed.Compared(made(seen, count, 0), range(count))
    started = time.process_time()
    rounds = [pairs for part in reframed.candidates(compared) for pairs in part]
    searched = time.process_time()
    # What is compared is bounded by a number for each frame, so a sample of it is timed.
    pairs = np.concatenate(rounds)
    sample = pairs[:: max(1, len(pairs) // 20_000)]
    compared.distances(sample)
    seconds = (time.process_time() - searched) * len(pairs) / len(sample)
    true = ((pairs[:, 1] - pairs[:, 0] == 1) & (pairs[:, 1] % 10 == 9)).sum()
    return {
        "frames": count,
        "candidates_core_s": round(searched - started, 2),
        "pairs_to_compare": len(pairs),
        "comparison_core_s": round(seconds, 2),
        "copies_among_the_candidates": round(float(true) / (count // 10), 3),
    }


def fitted(rows: Sequence[dict[str, Any]], name: str) -> tuple[float, float]:
    """The exponent of the growth, and by it the minutes for a million frames on two cores."""
    counts = np.log([row["frames"] for row in rows])
    exponent, offset = np.polyfit(counts, np.log([row[name] for row in rows]), 1)
    return float(exponent), float(np.exp(offset + exponent * np.log(_MILLION))) / _CORES / 60


def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.reframed_speed", __doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the rendered frames")
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    seen = records.of_pictures(map(Image.open, render(args.frames, args.work)))
    result: dict[str, Any] = {"sizes": []}
    for count in args.sizes:
        result["sizes"].append(measure(seen, count))
        print(result["sizes"][-1], flush=True)
    for name in ("candidates_core_s", "comparison_core_s"):
        exponent, minutes = fitted(result["sizes"], name)
        result[name] = {"exponent": round(exponent, 2), "minutes_for_a_million": round(minutes, 1)}
        print(f"{name}: n^{exponent:.2f}, {minutes:.1f} minutes for a million on two cores")
    if args.out:
        write_json(args.out, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
