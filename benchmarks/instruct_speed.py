"""Instruction data against a bare draw-and-encode loop over the same frames, on the same cores.

    python -m benchmarks.instruct_speed --data OUT/data [--gate OUT/gate] [--rounds 3]

Each round times both, one after the other, in one process. The bare loop reads each frame with
OpenCV, resizes it to the model's frame, draws one box, encodes it as the stage does and writes the
file, on as many threads as the machine has cores. On a machine with other work the ratio of the
cores' time is the steadier one. The stage is the whole of `data.prep.instruct`:
prompts, answers, counts, checks of its inputs, and the manifest with the digest of every image.
Without --gate it draws the labels, as the bare loop does no detection either; with it, the gate's
time is in the stage alone. Sizes are those of the stored images and of the same pixels as PNG.
"""

import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.prep_speed import Seconds, now, since
from dat_runtime.command import command
from dat_runtime.draw import encode_seen, model_frame, resize, seen_as_png, size_of
from dat_runtime.files import write_json
from dat_runtime.truth import SPLITS, read_split
from data.prep import instruct

_PNG_SAMPLES = 200
"""Images of which the size as PNG is measured."""


def bare(data: Path, out: Path, name: str) -> None:
    """One frame: read, resize, draw, encode, write."""
    image = np.asarray(cv2.imread(str(data / name)), np.uint8)
    image = resize(image, model_frame(size_of(image)))
    height, width = image.shape[:2]
    corners = ((width // 4, height // 4), (width // 2, height // 2))
    cv2.rectangle(image, *corners, (0, 0, 255), max(1, min(height, width) // 100))
    (out / Path(name).name).write_bytes(encode_seen(image))


def bare_loop(data: Path, names: Sequence[str], out: Path) -> Seconds:
    """How long a loop takes which only draws and encodes."""
    out.mkdir()
    started = now()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(partial(bare, data, out), names))
    return since(started)


def stage(data: Path, gate: Path | None, out: Path) -> Seconds:
    """How long `data.prep.instruct` takes, all of it."""
    drawn = ["--gate", str(gate)] if gate else ["--detections", "labels"]
    started = now()
    with redirect_stdout(StringIO()):
        if instruct.main(["--data", str(data), *drawn, "--out", str(out)]):
            raise SystemExit("data.prep.instruct failed")
    return since(started)


def sizes(out: Path) -> dict[str, float]:
    """Mean bytes of the stored images, and of a sample of them as PNG."""
    paths = sorted(out.glob("images/*/*/*.jpg"))
    sample = paths[:: max(1, len(paths) // _PNG_SAMPLES)]
    stored = statistics.fmean(path.stat().st_size for path in sample)
    png = statistics.fmean(len(seen_as_png(path.read_bytes())) for path in sample)
    return {"stored_bytes": stored, "png_bytes": png, "share": stored / png}


def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.instruct_speed", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="prepared set (data.prep.build)")
    parser.add_argument("--gate", type=Path, help="trained gate; without it the labels are drawn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    names = [frame.image for split in SPLITS for frame in read_split(args.data, split)]
    result: dict[str, Any] = {"frames": len(names), "threads": os.cpu_count()}
    by_clock, by_cores = [], []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for number in range(args.rounds):
            loop = bare_loop(args.data, names, work / f"bare{number}")
            whole = stage(args.data, args.gate, work / f"stage{number}")
            by_clock.append(loop.clock / whole.clock)
            by_cores.append(loop.cores / whole.cores)
            print(
                f"[instruct_speed] bare {len(names) / loop.clock:,.0f}/s, stage "
                f"{len(names) / whole.clock:,.0f}/s: ratio {by_clock[-1]:.2f} by the clock, "
                f"{by_cores[-1]:.2f} by the cores' time",
                flush=True,
            )
        result |= sizes(work / "stage0")
    result |= {"ratios": by_clock, "ratio": statistics.median(by_clock)}
    result["ratio_of_cores_time"] = statistics.median(by_cores)
    print(json.dumps(result, indent=1))
    if args.out:
        write_json(args.out, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
