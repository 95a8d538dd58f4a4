"""Preparation against a bare decode-resize-encode loop over the same files, on the same cores.

    python -m benchmarks.prep_speed --source SRC [--rounds 3]

Each round times both, one after the other, in one process: the bare loop (Pillow: decode, resize to
640 x 640, encode at the same quality in memory, on the same number of threads) and the whole
build with its checks, hashes, leak search, card and report. On a machine that others use too the
cores' time is the steadier ratio. Also: a run after one label changed,
and the peak memory with ten times the pictures, each in a process of its own.
"""

import argparse
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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from PIL import Image

from data.prep import build
from data.prep.importers.sources import SPLITS, Sources, find_sources

_SIDE = 640


def pictures_of(sources: Sources) -> list[Path]:
    folders = [sources.accident_folder(split) / "images" for split in SPLITS]
    folders += [folder for split in SPLITS if (folder := sources.negative_folder(split))]
    return [p for folder in folders for p in sorted(folder.iterdir()) if p.suffix == ".jpg"]


def bare(path: Path) -> int:
    with Image.open(path) as image:
        small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=95)
    return len(buffer.getvalue())


def bare_loop(paths: Sequence[Path]) -> tuple[float, float]:
    """Seconds on the clock, and of all cores together."""
    started = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as threads:
        list(threads.map(bare, paths))
    return time.perf_counter() - started[0], time.process_time() - started[1]


def prepared(source: Path, out: Path) -> tuple[float, float]:
    """Seconds of a whole build, likewise."""
    started = time.perf_counter(), time.process_time()
    with redirect_stdout(io.StringIO()):
        if build.main(["--source", str(source), "--out", str(out)]):
            raise SystemExit("the build failed")
    return time.perf_counter() - started[0], time.process_time() - started[1]


def multiplied(source: Path, copies: int, target: Path) -> Path:
    """The source with each accident frame there `copies` times, no two with the same pixels."""
    shutil.copytree(source, target)
    accidents = find_sources(target).accidents
    for image in sorted(accidents.glob("*/images/*.jpg")):
        label = image.parent.with_name("labels") / f"{image.stem}.txt"
        with Image.open(image) as opened:
            pixels = np.asarray(opened.convert("RGB")).copy()
        for n in range(1, copies):
            pixels[:8, 8 * n : 8 * n + 8] ^= 255
            Image.fromarray(pixels).save(image.with_name(f"{image.stem}x{n}.jpg"), quality=90)
            shutil.copy(label, label.with_name(f"{label.stem}x{n}.txt"))
    return target


def peak_memory(source: Path, out: Path) -> int:
    """MB of a build in a process of its own."""
    command = [sys.executable, "-m", "data.prep.build", "--source", source, "--out", out]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the build failed")
    return usage.ru_maxrss // (1024 if sys.platform != "darwin" else 1024 * 1024)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prep_speed", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--copies", type=int, default=10, help="for the memory; 1 leaves it out")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    paths = pictures_of(find_sources(args.source))
    result: dict[str, object] = {"pictures": len(paths), "threads": os.cpu_count()}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        clock, cores = [], []
        for n in range(args.rounds):
            loop, whole = bare_loop(paths), prepared(args.source, folder / f"data{n}")
            clock.append(loop[0] / whole[0])
            cores.append(loop[1] / whole[1])
            print(
                f"[prep_speed] bare {len(paths) / loop[0]:,.0f}/s, build "
                f"{len(paths) / whole[0]:,.0f}/s: ratio {clock[-1]:.2f} by the clock, "
                f"{cores[-1]:.2f} by the cores' time",
                flush=True,
            )
        result |= {"ratios": clock, "ratio": statistics.median(clock)}
        result |= {"ratios_of_cores_time": cores, "ratio_of_cores_time": statistics.median(cores)}
        mine = folder / "source"
        shutil.copytree(args.source, mine)
        first = prepared(mine, folder / "again")[0]
        label = next(find_sources(mine).accidents.glob("train/labels/*.txt"))
        label.write_text(label.read_text() + "\n")
        result["rerun_share"] = prepared(mine, folder / "again")[0] / first
        if args.copies > 1:
            large = multiplied(args.source, args.copies, folder / "large")
            result["copies"] = args.copies
            result["peak_mb"] = peak_memory(args.source, folder / "small_out")
            result["peak_mb_large"] = peak_memory(large, folder / "large_out")
    result["own_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
