"""What a federated round costs at the 7B's size, and how far 49 nodes of 100 could move it.

    python -m benchmarks.federation [--nodes 10 30 100] [--rank 8] [--layers 28]

Cost: signed synthetic increments in bfloat16 for all linear modules of the language model; CPU
seconds of each step and peak memory, each round in a process of its own. Movement: the distance of
a round's result from the mean of the 51 honest increments, in median lengths of an increment.
`python benchmarks/federation.py` is the same.
"""

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# Called by its path, Python looks for modules in benchmarks/ and not in the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from dat_runtime.adapter import CONFIG, WEIGHTS, Tensor
from dat_runtime.command import command
from dat_runtime.errors import reports_errors
from dat_runtime.federation.aggregation import products_of, write_aggregate
from dat_runtime.federation.factors import Matrix, Weights, read_start, write_weights
from dat_runtime.federation.inbox import read_inbox
from dat_runtime.federation.increment import write_increment
from dat_runtime.federation.round import open_round
from dat_runtime.federation.screening import SAMPLES, screen
from dat_runtime.files import write_json
from dat_runtime.stage import peak_memory_bytes
from tests.dat_runtime.federation.collusions import (
    ALL,
    COLLUSIONS,
    HOSTILE,
    honest,
    products_of_vectors,
)
from train.mllm.model_sizes import SEVEN_B, read_model

STEP = 0.05
"""Of a node's training, in sizes of the start's factors."""

Row = tuple[str, ...]

# Cost


def modules(layers: int) -> dict[str, tuple[int, int]]:
    """Name -> (inputs, outputs) of the linear modules of the 7B's language model."""
    text, _ = read_model(SEVEN_B)
    return {
        f"base_model.model.model.language_model.layers.{layer}.{name}": size
        for layer in range(layers)
        for name, size in text.modules.items()
    }


def write_adapter(folder: Path, rank: int, layers: int, seed: int) -> None:
    """A synthetic adapter: the start's factors (seed 0), moved for any other seed."""
    folder.mkdir()
    sizes = modules(layers)
    like = Weights(folder / WEIGHTS, 0, dict(_tensors(sizes, rank)))
    write_weights(folder / WEIGHTS, _random_factors(like.modules, sizes, rank, seed), like, rank)
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": sorted({name.rsplit(".", 1)[1] for name in sizes}),
        "base_model_name_or_path": "base",
        "revision": "a" * 40,
    }
    write_json(folder / CONFIG, config)


def _tensors(sizes: dict[str, tuple[int, int]], rank: int) -> Iterator[tuple[str, Tensor]]:
    """Names, types and shapes of the factors; where they lie is left open."""
    for module, (inputs, outputs) in sizes.items():
        for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
            name = f"{module}.lora_{side}.weight"
            yield name, Tensor(name, "BF16", shape, 0, 0)


def _random_factors(
    names: Sequence[str], sizes: dict[str, tuple[int, int]], rank: int, seed: int
) -> Iterator[tuple[str, Matrix, Matrix]]:
    start, moved = np.random.default_rng(0), np.random.default_rng(seed)
    for name in names:
        inputs, outputs = sizes[name]
        b = start.standard_normal((outputs, rank), np.float32).astype(np.float64)
        a = start.standard_normal((rank, inputs), np.float32).astype(np.float64)
        if seed:
            b += STEP * moved.standard_normal(b.shape, np.float32)
            a += STEP * moved.standard_normal(a.shape, np.float32)
        yield name, b / 100, a / 100


def write_round(folder: Path, count: int, rank: int, layers: int) -> dict[str, Ed25519PrivateKey]:
    """The start and the signed increments of so many nodes; their keys."""
    write_adapter(folder / "start", rank, layers, 0)
    start = read_start(folder / "start")
    opened = open_round(1, start, nonce="0" * 32)
    (folder / "inbox").mkdir()
    keys = {f"node-{i:03}": Ed25519PrivateKey.generate() for i in range(count)}
    for i, (node, key) in enumerate(keys.items(), 1):
        adapter = folder / "trained"
        write_adapter(adapter, rank, layers, i)
        path = folder / "inbox" / f"{node}.increment"
        write_increment(path, adapter, opened, start, node, 100, key)
        shutil.rmtree(adapter)
        if i % 10 == 0:
            print(f"  {i} of {count} increments written", file=sys.stderr, flush=True)
    return keys


def one_round(folder: Path, keys: dict[str, bytes], count: int) -> Row:
    """Check, compare and average the increments of the first nodes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    registry = {node: Ed25519PublicKey.from_public_bytes(raw) for node, raw in keys.items()}
    inbox = folder / f"inbox-{count}"
    inbox.mkdir()
    for path in sorted((folder / "inbox").iterdir())[:count]:
        path.rename(inbox / path.name)
    try:
        return _timed_round(folder, inbox, registry, count)
    finally:
        for path in inbox.iterdir():
            path.rename(folder / "inbox" / path.name)
        inbox.rmdir()


def _timed_round(folder: Path, inbox: Path, registry: dict[str, object], count: int) -> Row:
    times = [time.process_time()]
    start = read_start(folder / "start")
    opened = open_round(1, start, nonce="0" * 32)
    read = read_inbox(inbox, registry, opened, start)
    times.append(time.process_time())
    clients = [one.weights for one in read.increments]
    products = products_of(start, clients)
    times.append(time.process_time())
    screened = screen(products, [one.samples for one in read.increments])
    times.append(time.process_time())
    outcome = write_aggregate(
        folder / "out.safetensors", start, clients, screened.coefficients, "svd"
    )
    times.append(time.process_time())
    seconds = [f"{after - before:.1f}" for before, after in pairwise(times)]
    heard = sum(verdict.refused is None for verdict in screened.verdicts)
    lost = outcome.as_json()["lost_of_change"]
    memory = f"{peak_memory_bytes() / 1e6:.0f}"
    return (f"{heard} of {count}", *seconds, memory, f"{lost:.2f}")


def costs(folder: Path, counts: Sequence[int], rank: int, layers: int) -> list[Row]:
    """A row for each number of nodes."""
    private = write_round(folder, max(counts), rank, layers)
    keys = {node: key.public_key().public_bytes_raw() for node, key in private.items()}
    size = next((folder / "inbox").iterdir()).stat().st_size
    parameters = read_start(folder / "start").adapter.parameters
    print(
        f"rank {rank}, {layers} layers: {parameters:,} parameters, {size / 1e6:.1f} MB an increment"
    )
    rows: list[Row] = []
    context = multiprocessing.get_context("spawn")
    for count in counts:
        with context.Pool(1) as pool:
            rows.append(pool.apply(one_round, (folder, keys, count)))
        print(f"  {count} nodes: {rows[-1]}", file=sys.stderr, flush=True)
    return rows


# Movement


def movements(spread: float) -> list[Row]:
    """Per collusion: the result's distance from the honest mean, against what a mean would do."""
    rows = []
    for collusion in COLLUSIONS:
        good = honest(ALL - HOSTILE, spread=spread)
        vectors = np.concatenate([collusion(good), good])
        claimed = np.array([SAMPLES] * HOSTILE + [1.0] * len(good))
        distances = [_distance(good, vectors, claimed / claimed.sum())]
        for samples in ([100] * ALL, [10**9] * HOSTILE + [100] * len(good)):
            screened = screen(products_of_vectors(vectors), samples)
            distances.append(_distance(good, vectors, screened.coefficients))
        refused = sum(verdict.refused is not None for verdict in screened.verdicts[:HOSTILE])
        name = collusion.__name__.replace("_", " ")
        rows.append((name, f"{refused}", *(f"{distance:.2f}" for distance in distances)))
    return rows


def _distance(good: np.ndarray, vectors: np.ndarray, coefficients: np.ndarray) -> float:
    """Of a weighted sum from the honest mean, in median lengths of honest increments."""
    median = np.median(np.linalg.norm(good, axis=1))
    return float(np.linalg.norm(coefficients @ vectors - good.mean(0)) / median)


def show(header: Row, rows: Sequence[Row]) -> None:
    """A Markdown table."""
    for row in (header, ("---",) * len(header), *rows):
        print("| " + " | ".join(row) + " |")
    print(flush=True)


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    for spread in (0.1, 0.5, 0.9):
        print(f"49 of 100 collude; honest increments {spread:.1f} of their length from their mean:")
        header = ("collusion", "refused", "mean", "equal samples", "5x the samples claimed")
        show(header, movements(spread))
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        rows = costs(Path(folder), sorted(args.nodes), args.rank, args.layers)
    header = ("nodes heard", "check", "compare", "screen", "average (CPU s)", "peak MB", "lost")
    show(header, rows)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("benchmarks.federation", __doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--layers", type=int, default=28, help="of the 28; times go with them")
    parser.add_argument("--folder", help="with 40 MB for each node (default: the temporary one)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
