"""Planted copies found, and false pairs among unrelated frames: `python -m benchmarks.leak_recall`.

Renders `--frames` places once (into --work), or takes the pictures of a folder (`--pictures`), no
two of one place. Changes each `--every`-th in every way below, and looks for the copies among all
originals as preparation does, by looks and by local features, without any name. A false pair is two
frames of different places. Prints a table and writes it as JSON with `--out`.
"""

import io
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dat_runtime.command import command
from dat_runtime.files import write_json
from data.prep.pictures import looks, records
from data.prep.splitting.reframed import Compared, reframed

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
REFRAMED: dict[str, Change] = {
    "turned 5 degrees": lambda p, rng: encoded(p.rotate(5), 80),
    "turned 10 degrees": lambda p, rng: encoded(p.rotate(-10), 80),
    "cropped 5 % a side": lambda p, rng: encoded(cropped(p, 0.05), 80),
    "cropped 10 % a side": lambda p, rng: encoded(cropped(p, 0.1), 80),
    "turned 7 degrees, cropped 10 % a side": lambda p, rng: encoded(cropped(p.rotate(7), 0.1), 80),
}
"""Changes after which a copy is found by local features."""
MOSTLY = 0.95
"""Share of copies that must be found after each of them."""
BEYOND: dict[str, Change] = {
    "one cut-out of 10 %": lambda p, rng: cut_out(p, rng, 1, 0.1),
    "five cut-outs of 10 %": lambda p, rng: cut_out(p, rng, 5, 0.1),
    "mirrored, turned 7 degrees": lambda p, rng: encoded(ImageOps.mirror(p).rotate(7), 80),
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
            image = frames.ordinary(rng, place).image
        else:
            image = frames.accident(rng, place, ["severe"]).image
        path.write_bytes(encode_jpeg(image, place.weather.jpeg_quality))
        if number % 100 == 99:
            print(f"[leak_recall] {number + 1} of {count} frames rendered", flush=True)
    return paths


def measure(paths: Sequence[Path], every: int, work: Path) -> dict[str, Any]:
    """Shares of copies found by change, over every `every`-th frame, and the false pairs."""
    changes = {}
    for name, change in (VOUCHED | REFRAMED | BEYOND).items():
        copies = changed(paths[::every], change, work / "copies")
        found = linked([*paths, *copies])
        wanted = {(every * copy, len(paths) + copy) for copy in range(len(copies))}
        changes[name] = {
            "by_looks": len(wanted & found["looks"]) / len(copies),
            "found": len(wanted & (found["looks"] | found["reframed"])) / len(copies),
            "false_pairs": len((found["looks"] | found["reframed"]) - wanted),
        }
        print_row(name, changes[name])
    started = time.process_time()
    found = linked(paths)
    seconds = time.process_time() - started
    return {
        "frames": len(paths),
        "copies_of_each_kind": len(range(0, len(paths), every)),
        "radius": looks.SAME_PICTURE,
        "false_pairs": len(found["looks"] | found["reframed"]),
        "cpu_ms_a_frame": round(1e3 * seconds / len(paths), 1),
        "changes": changes,
    }


def changed(paths: Sequence[Path], change: Change, folder: Path) -> list[Path]:
    """The changed copies, written without loss."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    copies = []
    for number, path in enumerate(paths):
        copy = folder / f"{number:04d}.png"
        with Image.open(path) as image:
            change(image.convert("RGB"), rng).save(copy, compress_level=1)
        copies.append(copy)
    return copies


def linked(paths: Sequence[Path]) -> dict[str, set[tuple[int, int]]]:
    """The pairs by looks, and the further ones by local features."""
    seen = records.of_pictures(map(Image.open, paths))
    by_looks = _pairs(looks.alike(list(map(looks.look_of_view, seen["view"]))))
    known = np.array([a * len(paths) + b for a, b in by_looks], dtype=np.int64)

    def is_known(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.isin(first * len(paths) + second, known)

    by_features = _pairs(reframed(Compared(seen, range(len(seen))), is_known))
    return {"looks": by_looks, "reframed": by_features}


def _pairs(blocks: Iterable[NDArray[Any]]) -> set[tuple[int, int]]:
    """The first two columns of all rows; of no block none."""
    return {(int(first), int(second)) for rows in blocks for first, second, _ in rows.tolist()}


def print_row(name: str, row: dict[str, Any]) -> None:
    print(
        f"{name:>38} {row['found']:8.2%} found, {row['by_looks']:8.2%} by looks, "
        f"{row['false_pairs']} false",
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.leak_recall", __doc__)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--every", type=int, default=4, help="copies of every n-th frame")
    parser.add_argument("--work", type=Path, required=True, help="folder for the rendered frames")
    parser.add_argument("--pictures", type=Path, help="folder of JPEGs to take instead")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    paths = sorted(args.pictures.rglob("*.jpg")) if args.pictures else None
    result = measure(paths or render(args.frames, args.work), args.every, args.work)
    print(
        f"false pairs among {result['frames']:,} unrelated frames: {result['false_pairs']}; "
        f"{result['cpu_ms_a_frame']} ms of one core a frame"
    )
    if args.out:
        write_json(args.out, result)
    least = dict.fromkeys(VOUCHED, SURE) | dict.fromkeys(REFRAMED, MOSTLY)
    found = all(result["changes"][name]["found"] >= share for name, share in least.items())
    return 0 if found and result["false_pairs"] == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
