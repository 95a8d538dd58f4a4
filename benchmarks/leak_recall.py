"""Planted copies found, and false pairs among unrelated frames: `python -m benchmarks.leak_recall`.

Renders `--frames` places once (into --work), changes each picture in every way below, and looks for
the copy among all originals. A false pair is two frames of different places within the radius.
Prints a table and writes it as JSON with `--out`.
"""

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from dat_runtime.command import command
from dat_runtime.files import write_json
from data.prep.pictures import looks

SURE = 0.99
"""Share of copies that must be found after each change in `VOUCHED`."""
Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def encoded(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def noisy(image: Image.Image, rng: np.random.Generator, sigma: float) -> Image.Image:
    noise = rng.normal(0, sigma, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def toned(image: Image.Image, gamma: float) -> Image.Image:
    tones = [round(255 * (value / 255) ** (1 / gamma)) for value in range(256)]
    return image.point(tones * 3)


def cut_out(image: Image.Image, rng: np.random.Generator, holes: int, side: float) -> Image.Image:
    pixels = np.asarray(image).copy()
    height, width = pixels.shape[:2]
    hole_height, hole_width = round(side * height), round(side * width)
    for _ in range(holes):
        y = rng.integers(0, height - hole_height)
        x = rng.integers(0, width - hole_width)
        pixels[y : y + hole_height, x : x + hole_width] = 0
    return Image.fromarray(pixels)


def cropped(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    left, top = round(share * width), round(share * height)
    right, bottom = round((1 - share) * width), round((1 - share) * height)
    return image.crop((left, top, right, bottom)).resize(image.size)


def worn(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Mirrored, grey, with noise, and encoded at quality 40."""
    grey = ImageOps.mirror(image).convert("L").convert("RGB")
    return encoded(noisy(grey, rng, 8), 40)


VOUCHED: dict[str, Change] = {
    "re-encoded, quality 30": lambda p, rng: encoded(p, 30),
    "re-encoded, quality 10": lambda p, rng: encoded(p, 10),
    "half size": lambda p, rng: encoded(p.resize((320, 320)), 80),
    "160 x 90": lambda p, rng: encoded(p.resize((160, 90)), 80),
    "mirrored": lambda p, rng: encoded(ImageOps.mirror(p), 80),
    "upside down": lambda p, rng: encoded(ImageOps.flip(p), 80),
    "turned 90 degrees": lambda p, rng: encoded(p.rotate(90), 80),
    "grey": lambda p, rng: encoded(p.convert("L").convert("RGB"), 80),
    "noise, sigma 30": lambda p, rng: noisy(p, rng, 30),
    "gamma 2": lambda p, rng: toned(p, 2.0),
    "mirrored, grey, noise 8, quality 40": worn,
}
"""Changes after which a copy must be found."""
BEYOND: dict[str, Change] = {
    "one cut-out of 10 %": lambda p, rng: cut_out(p, rng, 1, 0.1),
    "five cut-outs of 10 %": lambda p, rng: cut_out(p, rng, 5, 0.1),
    "turned 5 degrees": lambda p, rng: p.rotate(5),
    "cropped 5 % a side": lambda p, rng: cropped(p, 0.05),
}
"""Changes after which a copy need not be found; measured to state how often it is."""


def render(count: int, folder: Path) -> list[Path]:
    """One frame of each of `count` places; those that are there already stay."""
    from dat_runtime.draw import encode_jpeg
    from data.prep.rendering import frames, places

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if path.is_file():
            continue
        place = places.place(np.random.default_rng([7, number]), 640)
        rng = np.random.default_rng([7, number, 1])
        if number % 2:
            image = frames.ordinary(rng, place)
        else:
            image, _ = frames.accident(rng, place, ["severe"])
        path.write_bytes(encode_jpeg(image, place.weather.jpeg_quality))
        if number % 100 == 99:
            print(f"[leak_recall] {number + 1} of {count} frames rendered", flush=True)
    return paths


def measure(paths: Sequence[Path], every: int) -> dict[str, Any]:
    """Shares of copies found by change, over every `every`-th frame, and the false pairs."""
    originals = [_look(path) for path in paths]
    started = time.perf_counter()
    # The largest distance there is: all pairs come back, also those that are not alike.
    pairs = np.concatenate(list(looks.alike(originals, 255)))
    seconds = time.perf_counter() - started
    changes = {}
    for name, change in (VOUCHED | BEYOND).items():
        rng = np.random.default_rng(0)
        bits = []
        for i in range(0, len(paths), every):
            with Image.open(paths[i]) as image:
                copy = change(image.convert("RGB"), rng)
            bits.append(looks.distance(originals[i], looks.look_of(copy)))
        changes[name] = {
            "found": float(np.mean(np.array(bits) <= looks.SAME_PICTURE)),
            "bits_median": float(np.median(bits)),
            "bits_max": max(bits),
        }
    return {
        "frames": len(paths),
        "copies_of_each_kind": len(range(0, len(paths), every)),
        "radius": looks.SAME_PICTURE,
        "false_pairs": int((pairs[:, 2] <= looks.SAME_PICTURE).sum()),
        "nearest_unrelated_bits": int(pairs[:, 2].min()),
        "pairs_compared_per_s": round(len(pairs) / seconds),
        "changes": changes,
    }


def _look(path: Path) -> bytes:
    with Image.open(path) as image:
        return looks.look_of(image.convert("RGB"))


def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.leak_recall", __doc__)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--every", type=int, default=4, help="copies of every n-th frame")
    parser.add_argument("--work", type=Path, required=True, help="folder for the rendered frames")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    result = measure(render(args.frames, args.work), args.every)
    for name, row in result["changes"].items():
        print(
            f"{name:>38} {row['found']:8.2%} found, {row['bits_median']:5.0f} bits, "
            f"at most {row['bits_max']}"
        )
    print(
        f"false pairs among {result['frames']:,} unrelated frames: {result['false_pairs']} "
        f"(radius {result['radius']}, the nearest differ in {result['nearest_unrelated_bits']})"
    )
    if args.out:
        write_json(args.out, result)
    sure = all(result["changes"][name]["found"] >= SURE for name in VOUCHED)
    return 0 if sure and result["false_pairs"] == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
