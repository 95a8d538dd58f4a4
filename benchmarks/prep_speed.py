"""Preparation against a bare decode-resize-encode loop over the same files, on the same cores.

    python -m benchmarks.prep_speed --source SRC [--rounds 3]

Each round times these, one after the other, in one process: the bare loop (Pillow: decode, resize
to 640 x 640, encode at the same quality in memory, on the same number of threads), the floor (the
same loop that also finds the local features of each picture, without which no crops are found), the
whole build with its checks, hashes, leak search, card and report, and a run after one label
changed. On a machine with other work the ratio of the cores' time is the steadier one. Also
measured: the peak memory with ten times the pictures, each in a process of its own.
"""

import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_json
from data.prep import build
from data.prep.importers.cctv_folders import negative_folders
from data.prep.importers.sources import Sources, find_sources
from data.prep.importers.split_names import split_folders
from data.prep.pictures import local_features

_SIDE = 640


class Seconds(NamedTuple):
    """How long a piece of work took."""

    clock: float
    cores: float
    """Of all cores together."""


def now() -> Seconds:
    return Seconds(time.perf_counter(), time.process_time())


def since(started: Seconds) -> Seconds:
    ended = now()
    return Seconds(ended.clock - started.clock, ended.cores - started.cores)


def pictures_of(sources: Sources) -> list[Path]:
    """The JPEGs of the accident frames and the negatives."""
    pictures: list[Path] = []
    accidents = [folder / "images" for folder in split_folders(sources.accidents).values()]
    negatives = negative_folders(sources.negatives) if sources.negatives else {}
    for folder in (*accidents, *negatives.values()):
        pictures += sorted(folder.glob("*.jpg"))
    return pictures


def bare(path: Path) -> int:
    with Image.open(path) as image:
        small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=95)
    return len(buffer.getvalue())


def bare_with_features(path: Path) -> int:
    with Image.open(path) as image:
        local_features.features_of(image.convert("L"))
        small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=95)
    return len(buffer.getvalue())


def loop(work: Callable[[Path], int], paths: Sequence[Path]) -> Seconds:
    """How long a loop takes that does nothing else."""
    started = now()
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as threads:
        list(threads.map(work, paths))
    return since(started)


def prepared(source: Path, out: Path) -> Seconds:
    """How long a whole build takes, or a further run."""
    started = now()
    with redirect_stdout(io.StringIO()):
        if build.main(["--source", str(source), "--out", str(out)]):
            raise SystemExit("the build failed")
    return since(started)


def multiplied(source: Path, copies: int, target: Path) -> Path:
    """The source with each accident frame there `copies` times, no two with the same pixels."""
    shutil.copytree(source, target)
    accidents = find_sources(target).accidents
    for image in sorted(accidents.glob("*/images/*.jpg")):
        label = image.parent.with_name("labels") / f"{image.stem}.txt"
        with Image.open(image) as opened:
            pixels = np.asarray(opened.convert("RGB")).copy()
        for n in range(1, copies):
            pixels[:8, 8 * n : 8 * n + 8] ^= 255  # a block that no earlier copy has inverted
            Image.fromarray(pixels).save(image.with_name(f"{image.stem}x{n}.jpg"), quality=90)
            shutil.copy(label, label.with_name(f"{label.stem}x{n}.txt"))
    return target


def peak_memory(source: Path, out: Path) -> int:
    """MB of a build in a process of its own."""
    arguments = ["--source", str(source), "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "data.prep.build", *arguments], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the build failed")
    units_in_a_mb = 1024 * 1024 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss // units_in_a_mb


RATIOS = {
    "ratio": ("bare", "build"),
    "floor": ("bare", "floor"),
    "ratio_to_floor": ("floor", "build"),
    "further_run": ("further", "build"),
}
"""What is divided by what: throughputs relative to the bare loop, and the further run's share."""


def measured(paths: Sequence[Path], source: Path, work: Path, rounds: int) -> dict[str, Any]:
    """`RATIOS`, round by round, by the clock and by the cores' time, with their medians."""
    found: dict[str, list[float]] = defaultdict(list)
    for n in range(rounds):
        copy = work / f"source{n}"
        shutil.copytree(source, copy)
        label = next(find_sources(copy).accidents.glob("train/labels/*.txt"))
        took = {
            "bare": loop(bare, paths),
            "floor": loop(bare_with_features, paths),
            "build": prepared(copy, work / f"data{n}"),
        }
        label.write_text(label.read_text() + "\n")
        took["further"] = prepared(copy, work / f"data{n}")
        for name, (one, other) in RATIOS.items():
            found[name].append(took[one].clock / took[other].clock)
            found[f"{name}_of_cores_time"].append(took[one].cores / took[other].cores)
        told = ", ".join(f"{name} {seconds.cores:.1f} s" for name, seconds in took.items())
        print(f"[prep_speed] the cores' time: {told}", flush=True)
    medians = {name: round(statistics.median(values), 3) for name, values in found.items()}
    return {"rounds": found, **medians}


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.prep_speed", __doc__)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--copies", type=int, default=10, help="for the memory; 1 leaves it out")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    if min(args.rounds, args.copies) < 1:
        raise ConfigError("--rounds and --copies are at least 1")
    paths = pictures_of(find_sources(args.source))
    result: dict[str, Any] = {"pictures": len(paths), "threads": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        result |= measured(paths, args.source, work, args.rounds)
        if args.copies > 1:
            large = multiplied(args.source, args.copies, work / "large")
            result["copies"] = args.copies
            result["peak_mb"] = peak_memory(args.source, work / "small_out")
            result["peak_mb_large"] = peak_memory(large, work / "large_out")
    result["own_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(result, indent=1))
    if args.out:
        write_json(args.out, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
