"""Proof that an adapter does what it was trained for, on held-out samples.

    python -m eval.proof --instructions OUT/instructions --inputs boxed --base OUT/base \\
        --adapter OUT/lora-boxed --out OUT/proof-boxed [--samples 16]

An error unless, on samples of the validation part:
    1. greedy answers with the adapter differ from the base's;
    2. the true answers are likelier with it: the mean negative log-likelihood falls, by a bootstrap
       interval over the samples that lies below 0; and the answers that it gives are not worse
       (schema, count, boxes: no interval of the difference lies on the worse side);
    3. weights with the adapter merged in give the same log-probabilities, within a tolerance.
Writes proof.json. The adapter is a folder of train.lora or that of a bundle (OUT/bundle/adapter).
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dat_runtime import manifest
from dat_runtime.errors import ConfigError, ModelError, reports_errors
from dat_runtime.files import write_atomically
from dat_runtime.stage import Stage
from eval.answers import local
from eval.answers.likelihood import Likelihood, Question, likelihood, read_questions, spread
from eval.understanding.metrics import (
    RESAMPLES,
    SEED,
    Array,
    Interval,
    difference,
    interval,
    measure,
    score,
)

PART = "val"
BATCH = 8
METRICS = ("parse", "schema", "count_em", "bbox_miou")
JUDGED = METRICS[1:]
"""A base that answers in JSON of its own parses, and is worth nothing: the schema decides."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Tolerance:
    """How far merged weights may be from the adapter on its base.

    Attributes:
        largest: of the differences of a token's log-probability, nats.
        mean: of these differences over all tokens.
        same_choice: least share of tokens at which both prefer the same one.
    """

    largest: float
    mean: float
    same_choice: float


TOLERANCES = {
    "torch.float32": Tolerance(largest=1e-3, mean=1e-4, same_choice=0.999),
    # A merged weight is rounded to 8 significant bits once more: an update smaller than 1/256 of
    # the weight is lost or doubled there, unlike in the adapter's own matrices.
    "torch.bfloat16": Tolerance(largest=1.0, mean=0.05, same_choice=0.97),
}


@dataclass(frozen=True)
class Outcome:
    """What a model made of the questions: likelihood of the true answers, and its own answers."""

    likelihood: Likelihood
    texts: list[str]


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eval.proof",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--instructions", type=Path, required=True)
    parser.add_argument("--inputs", choices=("boxed", "raw"), required=True)
    parser.add_argument("--base", required=True, help="folder or hub name of the base model")
    parser.add_argument("--adapter", type=Path, required=True, help="of train.lora or a bundle")
    parser.add_argument("--samples", type=int, default=16, help="held-out samples (16)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    if args.samples < 4:
        raise ConfigError(f"--samples {args.samples}: an interval needs at least 4")
    stage = Stage(
        args.out,
        kind="proof",
        inputs=_inputs(args),
        config={"inputs": args.inputs, "samples": args.samples, "base": _base_name(args.base)},
        code=[__file__],
    )
    if stage.up_to_date():
        return 0
    revision = local.demand_base(args.base, None, args.adapter)
    questions = spread(read_questions(args.instructions, args.inputs, PART), args.samples)
    with stage as folder:
        loaded = local.load(args.base, revision, None)
        report = prove(loaded, args.adapter, questions, _sayer(args.out.name))
        write_atomically(folder / "proof.json", json.dumps(report, indent=1) + "\n")
    for line in summary(report):
        print(f"[{args.out.name}] {line}", flush=True)
    return 0


def _inputs(args: argparse.Namespace) -> dict[str, Path]:
    """The folders that the proof is about; a bundle's adapter is verified with its bundle."""
    bundle = args.adapter.parent
    if not (args.adapter / manifest.NAME).is_file() and (bundle / manifest.NAME).is_file():
        manifest.verify(bundle)
    found = {"instructions": args.instructions, "adapter": args.adapter}
    return found | ({"base": Path(args.base)} if Path(args.base).is_dir() else {})


def _base_name(base: str) -> str:
    return "folder" if Path(base).is_dir() else base


def _sayer(name: str) -> Say:
    def say(line: str) -> None:
        print(f"[{name}] {line}", flush=True)

    return say


def merge(model: Any) -> Any:
    """The model with its adapter added to the weights, in their own dtype."""
    return model.merge_and_unload()


def prove(
    loaded: local.Loaded,
    adapter: Path,
    questions: Sequence[Question],
    say: Say,
    merge: Callable[[Any], Any] = merge,
) -> dict[str, Any]:
    """Check all three points; returns what proof.json holds.

    Args:
        loaded: the base model, without an adapter; it is changed.

    Raises:
        ModelError: says which point fails, by how much, and what to do.
    """
    say(f"{len(questions)} held-out samples: the base model answers")
    base = outcome(loaded, questions)
    say("the same with the adapter")
    tuned = loaded._replace(model=local.with_adapter(loaded.model, adapter))
    adapted = outcome(tuned, questions)
    demand_change(base, adapted, adapter)
    better = demand_better(base, adapted, questions, adapter)
    say("the same with merged weights")
    merged = likelihood(loaded._replace(model=merge(tuned.model)), questions, BATCH)
    dtype = str(loaded.model.dtype)
    changed = [a != b for a, b in zip(base.texts, adapted.texts, strict=True)]
    shown = changed.index(True)
    return {
        "samples": [q.ask.id for q in questions],
        "dtype": dtype,
        "answers_changed": sum(changed),
        **better,
        "merged": demand_agreement(adapted.likelihood, merged, TOLERANCES[dtype], adapter),
        "example": {
            "sample": questions[shown].ask.id,
            "true": questions[shown].answer,
            "base": base.texts[shown],
            "adapted": adapted.texts[shown],
        },
    }


def outcome(loaded: local.Loaded, questions: Sequence[Question]) -> Outcome:
    """Likelihood of the true answers, and greedy answers up to half as long again."""
    tokenizer = loaded.processor.tokenizer
    longest = max(len(tokenizer(q.answer)["input_ids"]) for q in questions)
    texts = []
    for start in range(0, len(questions), BATCH):
        asks = [q.ask for q in questions[start : start + BATCH]]
        texts += [a.text for a in local.generate(loaded, asks, longest + longest // 2)]
    return Outcome(likelihood(loaded, questions, BATCH), texts)


def demand_change(base: Outcome, adapted: Outcome, adapter: Path) -> None:
    """Refuse an adapter with which every answer is the base's own."""
    if base.texts == adapted.texts:
        loss = np.abs(base.likelihood.loss - adapted.likelihood.loss).max()
        raise ModelError(
            f"{adapter} changes nothing: all {len(base.texts)} greedy answers are the base's own "
            f"(likelihoods differ by at most {loss:.2g} nats a token): train longer or with a "
            "higher learning rate, and check that the adapter's modules are those of this base"
        )


def demand_better(
    base: Outcome, adapted: Outcome, questions: Sequence[Question], adapter: Path
) -> dict[str, Any]:
    """Refuse an adapter that makes the true answers no likelier, or its own answers worse."""
    gain = mean_interval(adapted.likelihood.loss - base.likelihood.loss)
    if gain.high is None or gain.high >= 0:
        raise ModelError(
            f"{adapter} scores no better than its base on {len(questions)} held-out samples: the "
            f"negative log-likelihood of the true answers changes by {gain.value:+.3f} nats a "
            f"token, 95 % interval {gain.low:+.3f} to {gain.high:+.3f}, expected below 0: train "
            "longer, and check that it was trained on these instructions and this prompt version"
        )
    truth = [q.truth for q in questions]
    measures = {
        name: measure(truth, found.texts) for name, found in (("base", base), ("adapted", adapted))
    }
    changes = difference(measures["adapted"], measures["base"])
    for name in JUDGED:
        change = changes[name]
        if change.high is not None and change.high < 0:
            raise ModelError(
                f"{adapter} gives worse answers than its base: {name} changes by "
                f"{change.value:+.3f}, 95 % interval {change.low:+.3f} to {change.high:+.3f}: "
                "train longer, or on more samples"
            )
    scores = {name: score(found) for name, found in measures.items()}
    return {
        "loss": {
            "base": float(base.likelihood.loss.mean()),
            "adapted": float(adapted.likelihood.loss.mean()),
            "difference": gain._asdict(),
        },
        "answers": {
            metric: {
                **{name: found[metric].value for name, found in scores.items()},
                "difference": changes[metric]._asdict(),
            }
            for metric in METRICS
        },
    }


def mean_interval(values: Array) -> Interval:
    """The mean with its 95 % bootstrap interval."""
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(0, len(values), (RESAMPLES, len(values)))
    return interval(float(values.mean()), values[drawn].mean(axis=1))


def demand_agreement(
    adapted: Likelihood, merged: Likelihood, tolerance: Tolerance, adapter: Path
) -> dict[str, Any]:
    """Refuse merged weights that are another model than the adapter on its base."""
    apart = np.abs(np.concatenate(adapted.log_probs) - np.concatenate(merged.log_probs))
    same = float((np.concatenate(adapted.choices) == np.concatenate(merged.choices)).mean())
    largest, mean = float(apart.max()), float(apart.mean())
    within = largest <= tolerance.largest and mean <= tolerance.mean
    if not within or same < tolerance.same_choice:
        raise ModelError(
            f"{adapter}: merged weights differ from the adapter on its base: log-probabilities of "
            f"{len(apart)} tokens by {mean:.2g} in the mean and {largest:.2g} at most, "
            f"{same:.2%} prefer the same token; expected at most {tolerance.mean:g} and "
            f"{tolerance.largest:g}, at least {tolerance.same_choice:.1%}: serve the adapter "
            "unmerged, or merge it again in float32 into this very base"
        )
    return {
        "tokens": len(apart),
        "largest": largest,
        "mean": mean,
        "same_choice": same,
        "tolerance": asdict(tolerance),
    }


def summary(report: Mapping[str, Any]) -> list[str]:
    """The proof in a few lines for a person."""
    loss, merged, example = report["loss"], report["merged"], report["example"]
    gain = loss["difference"]
    moved = ", ".join(
        f"{name} {_number(found['base'])} -> {_number(found['adapted'])}"
        for name, found in report["answers"].items()
    )
    return [
        f"{report['answers_changed']} of {len(report['samples'])} answers differ from the base's",
        f"true answers: {loss['base']:.3f} -> {loss['adapted']:.3f} nats a token "
        f"({gain['value']:+.3f}, {gain['low']:+.3f} to {gain['high']:+.3f}); {moved}",
        f"merged weights agree: {merged['largest']:.1e} at most over {merged['tokens']} tokens, "
        f"{merged['same_choice']:.1%} the same choice",
        f"{example['sample']} true    {example['true']}",
        f"{example['sample']} base    {example['base']}",
        f"{example['sample']} adapted {example['adapted']}",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    raise SystemExit(main())
