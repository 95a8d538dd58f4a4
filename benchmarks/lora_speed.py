"""Which settings of a LoRA run are fastest: variants of a configuration on the same samples.

    OMP_NUM_THREADS=1 python -m benchmarks.lora_speed --config configs/lora/smoke.yaml \\
        --instructions OUT/instructions --base BASE
    python -m benchmarks.lora_speed --config configs/lora/boxed.yaml --limit-gb 40 \\
        --instructions OUT/instructions --base Qwen/Qwen2.5-VL-7B-Instruct --out OUT/lora-speed

Each variant is a rehearsal (`train.mllm.rehearsal`): random weights of the base's sizes from one
seed, two steps of the longest samples, then `--steps` of samples drawn at random, the same for all.
Printed: tokens a second of the drawn steps, the peak of memory beside the estimate, and how far a
step's loss is from the first variant's at most. That one computes the logits of all tokens, copies
LoRA's inputs to float32 and calls attention for each window, as LLaMA-Factory, PEFT and
Transformers do, but keeps nothing of a frozen tower; those after the fourth build on it. The second
command is for a card, in under nine minutes: no variant starts after `--minutes` that is expected
to end later.
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dat_runtime.command import command
from dat_runtime.errors import DatError, reports_errors
from dat_runtime.files import read_json_lines, write_json
from train.mllm import rehearsal, resources, tuning, upstream
from train.mllm.lora_config import read_lora_config
from train.mllm.memory import CUDA_CONTEXT
from train.mllm.rehearsal import LONGEST_STEPS, Rehearsed
from train.mllm.run_settings import RunSettings, read_settings

NOISE = 0.02
"""Relative: by so much a step's loss differs under bf16 at the same samples and weights."""


@dataclass(frozen=True)
class Variant:
    """Keys that differ from the configuration's.

    Attributes:
        batch: samples of a batch; the samples of a step stay as many. 0 leaves it as it is.
        same_training: an adapter learns the same but for rounding, so it may become the default.
        needs: a package that has to be installed.
        as_upstream: what stays as LLaMA-Factory has it (`train.mllm.upstream`).
    """

    name: str
    keys: Mapping[str, Any]
    batch: int = 0
    same_training: bool = True
    needs: str = ""
    as_upstream: tuple[str, ...] = ()


NOT_CHECKPOINTED = {"disable_gradient_checkpointing": True}
LIGER = {"enable_liger_kernel": True}
NOT_READ = {"logging_nan_inf_filter": False}

VARIANTS = (
    Variant("logits of all tokens", {}, as_upstream=upstream.PARTS),
    Variant("logits of answers", {}, as_upstream=(upstream.COPIES, upstream.WINDOWS)),
    Variant("inputs not copied", {}, as_upstream=(upstream.WINDOWS,)),
    Variant("windows at once", {}),
    Variant("Liger's kernels", LIGER, needs="liger_kernel"),
    Variant("batch 8, Liger's kernels", LIGER, 8, needs="liger_kernel"),
    Variant("batch 8", {}, 8),
    Variant("no checkpoints, batch 2", NOT_CHECKPOINTED, 2),
    Variant("the same, Liger's kernels", NOT_CHECKPOINTED | LIGER, 2, needs="liger_kernel"),
    Variant("loss not read each batch", NOT_READ),
    Variant("no checkpoints, batch 1", NOT_CHECKPOINTED, 1),
    Variant("no dropout", {"lora_dropout": 0.0}, same_training=False),
    Variant("batch 16", {}, 16),
    Variant("no checkpoints, batch 4", NOT_CHECKPOINTED, 4),
)
"""In the order of what they promise: those at the end are left out where time runs out."""


@dataclass(frozen=True)
class Outcome:
    """What a variant showed.

    Attributes:
        peak: bytes that PyTorch allocated on the card at most; of the process without a card.
        reserved: bytes that its allocator held and the CUDA context: what the card has to have.
        estimated: the estimate of `peak`, without the CUDA context; None without a card, where the
            libraries are most of the process.
        losses: of each step.
    """

    variant: Variant
    tokens_a_second: float
    peak: int
    reserved: int
    estimated: int | None
    losses: tuple[float, ...]

    def apart(self, first: "Outcome") -> float:
        """The largest relative difference of a step's loss from the first variant's."""
        pairs = zip(self.losses, first.losses, strict=True)
        return max(abs(mine - other) / abs(other) for mine, other in pairs)


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.lora_speed", __doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--dataset", default="boxed_train")
    parser.add_argument("--instructions", type=Path, required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--steps", type=int, default=4, help="drawn at random, each variant (4)")
    parser.add_argument("--limit-gb", type=float, default=40.0, help="the card to fit (40)")
    parser.add_argument("--minutes", type=float, default=8.5, help="for all variants (8.5)")
    parser.add_argument("--only", nargs="+", default=[""], help="variants whose name holds one")
    parser.add_argument("--out", type=Path, help="also write speed.json and the logs there")
    parser.add_argument("override", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args(argv)
    if args.out:
        args.out.mkdir(parents=True)
    with contextlib.nullcontext(args.out) if args.out else _temporary() as folder:
        outcomes = list(run_all(args, folder))
        if args.out:
            write_json(folder / "speed.json", [as_json(one, outcomes[0]) for one in outcomes])
    print(verdict(outcomes, args.limit_gb * 1e9))
    return 0


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def run_all(args: argparse.Namespace, folder: Path) -> Iterator[Outcome]:
    """Each variant's outcome, printed as it comes; the first one is always run."""
    config = read_lora_config(
        args.config, args.override, args.base, args.instructions, args.dataset
    )
    config["output_dir"] = str(folder)
    started, longest = time.monotonic(), 0.0
    first: Outcome | None = None
    for number, variant in enumerate(VARIANTS):
        if number and not any(word in variant.name for word in args.only):
            continue
        begun = time.monotonic()
        if begun - started + longest > 60 * args.minutes:
            print(f"{variant.name:<26} not run: {args.minutes:g} minutes are over")
            continue
        if variant.needs and find_spec(variant.needs) is None:
            print(f"{variant.name:<26} not run: {variant.needs} is not installed")
            continue
        try:
            outcome = run(variant, config, folder / str(number), args.steps)
        except DatError as error:
            if first is None:
                raise
            reason = " ".join(str(error).split())
            print(f"{variant.name:<26} did not run: {reason[:200]}", flush=True)
            continue
        first = first or outcome
        longest = max(longest, time.monotonic() - begun)
        print(line(outcome, first), flush=True)
        yield outcome


def run(variant: Variant, config: Mapping[str, Any], folder: Path, steps: int) -> Outcome:
    """Rehearse one variant in a folder of its own."""
    folder.mkdir()
    keys = {**config, **variant.keys}
    size = read_settings(config).samples_a_step(processes=1)
    if variant.batch:
        keys["per_device_train_batch_size"] = min(variant.batch, size)
        keys["gradient_accumulation_steps"] = size // keys["per_device_train_batch_size"]
    settings = read_settings(keys)
    with as_upstream(variant.as_upstream):
        rehearsed = rehearsal.rehearse(folder, keys, settings, steps)
    return outcome_of(variant, settings, rehearsed, folder)


@contextlib.contextmanager
def as_upstream(parts: Sequence[str]) -> Iterator[None]:
    """Let LLaMA-Factory's process leave these parts as they are upstream."""
    os.environ[upstream.AS_UPSTREAM] = " ".join(parts)
    try:
        yield
    finally:
        del os.environ[upstream.AS_UPSTREAM]


def outcome_of(
    variant: Variant, settings: RunSettings, rehearsed: Rehearsed, folder: Path
) -> Outcome:
    measured, samples = rehearsed.measured, rehearsed.samples
    seconds = sum(measured["step_seconds"][LONGEST_STEPS:])
    on_card = measured["peak_card_bytes"] is not None
    peak = measured["peak_card_bytes"] if on_card else measured["peak_process_bytes"]
    reserved = measured["reserved_card_bytes"] + CUDA_CONTEXT if on_card else peak
    if upstream.LOGITS in variant.as_upstream:
        samples = replace(samples, answer_tokens=samples.tokens)
    sizes = resources.model_sizes(settings)
    copied = upstream.COPIES in variant.as_upstream
    estimate = resources.estimated(settings, sizes, samples, None, inputs_copied=copied)
    context = estimate.resident["CUDA context"]
    return Outcome(
        variant,
        tokens_a_second=sum(rehearsed.step_tokens[LONGEST_STEPS:]) / seconds,
        peak=peak,
        reserved=reserved,
        estimated=estimate.peak - context if on_card else None,
        losses=losses(folder),
    )


def losses(folder: Path) -> tuple[float, ...]:
    """Of each step, from LLaMA-Factory's log."""
    entries = (entry for _, entry in read_json_lines(folder / tuning.STEPS))
    return tuple(entry["loss"] for entry in entries if "loss" in entry)


def line(one: Outcome, first: Outcome) -> str:
    """A variant's outcome, for the terminal."""
    faster = one.tokens_a_second / first.tokens_a_second
    memory = f"process {one.peak / 1e9:.2f} GB"
    if one.estimated:
        ratio = one.peak / one.estimated
        memory = f"peak {one.peak / 1e9:.2f} GB, {ratio:.3f} of the estimate"
        memory += f", with cache {one.reserved / 1e9:.2f} GB"
    return (
        f"{one.variant.name:<26}{one.tokens_a_second:>7.0f} tokens/s {faster:5.2f}x   {memory}   "
        f"losses within {one.apart(first):.1e}"
    )


def as_json(one: Outcome, first: Outcome) -> dict[str, Any]:
    return {
        "variant": one.variant.name,
        "keys": {**one.variant.keys, "per_device_train_batch_size": one.variant.batch or None},
        "tokens_a_second": one.tokens_a_second,
        "peak_bytes": one.peak,
        "reserved_bytes": one.reserved,
        "estimated_bytes": one.estimated,
        "losses": one.losses,
        "apart": one.apart(first),
    }


def verdict(outcomes: Sequence[Outcome], limit: float) -> str:
    """The fastest variant that trains the same, with losses within noise, and fits with a margin.

    Args:
        limit: bytes of the card.
    """
    first = outcomes[0]
    fitting = [
        one
        for one in outcomes
        if one.variant.same_training
        and one.peak * resources.MARGIN + CUDA_CONTEXT <= limit
        and one.apart(first) <= NOISE
    ]
    if not fitting:
        return f"none fits {limit / 1e9:g} GB with a margin"
    best = max(fitting, key=lambda one: one.tokens_a_second)
    faster = best.tokens_a_second / first.tokens_a_second
    return f"fastest within {limit / 1e9:g} GB, same losses: {best.variant.name}, {faster:.2f}x"


if __name__ == "__main__":
    raise SystemExit(main())
