"""What it takes to verify a bundle against hashing it alone, and to open one on a node.

    python -m benchmarks.bundle_open --bundle OUT/bundle

The bundle is copied, and its adapter replaced by one of --megabytes with random weights, in float32
and in bfloat16. Times are of the processor, the least of all rounds: other work on the machine adds
to every other figure. Opening includes the gate's first run, in a child of its own.
"""

import hashlib
import json
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dat_runtime import adapter, manifest
from dat_runtime.command import command
from dat_runtime.edge.bundle import KIND, check_parts, open_bundle
from dat_runtime.errors import reports_errors
from dat_runtime.files import read_json, write_json

WIDTH = 3584
"""Of Qwen2.5-VL-7B's layers."""

RANK = 16
_TYPES = {"F32": np.uint32, "BF16": np.uint16}


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.bundle_open", __doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder made by export.bundle")
    parser.add_argument("--megabytes", type=float, default=20, help="of the adapter (20)")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args(argv)
    open_bundle(args.bundle)
    with tempfile.TemporaryDirectory() as scratch:
        for dtype in _TYPES:
            folder = Path(scratch) / dtype
            shutil.copytree(args.bundle, folder)
            enlarge(folder, dtype, args.megabytes * 1e6)
            report(folder, dtype, args.rounds)
    times = [opening(args.bundle) for _ in range(args.rounds)]
    seconds, own, child = map(min, zip(*times, strict=True))
    print(
        f"opened in {seconds:.2f} s at best; of the processor {own:.2f} s here and {child:.2f} s "
        "in the child that runs the gate first"
    )
    return 0


def report(folder: Path, dtype: str, rounds: int) -> None:
    """Print the times of hashing and of verifying the bundle of a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    hashing = least(lambda: [_digest(path) for path in files], rounds)
    verifying = least(lambda: check_parts(folder), rounds)
    print(
        f"{dtype:<5}{size:6.1f} MB: hashed in {1e3 * hashing:.1f} ms, verified in "
        f"{1e3 * verifying:.1f} ms, {verifying / hashing:.2f} times as long"
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def least(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the processor, of the quickest round."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def opening(bundle: Path) -> tuple[float, float, float]:
    """Seconds until a bundle is open, and of the processor: of this process and of its child."""
    began, before = time.perf_counter(), os.times()
    open_bundle(bundle)
    after = os.times()
    own = after.user + after.system - before.user - before.system
    child = sum(after[2:4]) - sum(before[2:4])
    return time.perf_counter() - began, own, child


def enlarge(folder: Path, dtype: str, size: float) -> None:
    """Put an adapter of that many bytes into a bundle, and list it in the manifest."""
    kind = _TYPES[dtype]
    one = RANK * WIDTH * np.dtype(kind).itemsize
    tensors: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    count = int(size / one)
    for number in range(count - count % 2):
        side, shape = ("A", [RANK, WIDTH]) if number % 2 == 0 else ("B", [WIDTH, RANK])
        name = f"base_model.model.model.layers.{number // 2}.self_attn.q_proj.lora_{side}.weight"
        offsets = [number * one, (number + 1) * one]
        tensors[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    values = rng.normal(0, 0.02, len(tensors) * RANK * WIDTH).astype("<f4").view("<u4")
    data = (values >> np.uint32(32 - 8 * np.dtype(kind).itemsize)).astype(kind).tobytes()
    header = json.dumps(tensors).encode()
    content = struct.pack("<Q", len(header)) + header + data
    (folder / "adapter" / adapter.WEIGHTS).write_bytes(content)
    changed = {"r": RANK, "lora_alpha": 2 * RANK, "target_modules": ["q_proj"]}
    path = folder / "adapter" / adapter.CONFIG
    write_json(path, read_json(path) | changed)
    stated = manifest.read(folder, KIND)
    manifest.write(folder, replace(stated, outputs=manifest.file_digests(folder)))


if __name__ == "__main__":
    raise SystemExit(main())
