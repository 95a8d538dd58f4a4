"""Whether an adapter and its gate are fit for use, judged by their answers about validation frames.

Two things must hold, both by a 95 % interval:
    1. against each trivial answer (`understanding.trivial`) the answers are better in SevF1 or in
       Count EM, as `LEAST` frames or more say, and worse in neither. An adapter that always answers
       "No accident." is as good as `never`, one that repeats the gate's boxes is as good as `gate`;
    2. the gate finds something in at least `FLOOR` of the frames with an accident: what it drops
       never reaches the MLLM. Only a gate that surely finds fewer is refused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.errors import ConfigError, ModelError
from eval.answers.likelihood import Question
from eval.statistics.bootstrap import rate_interval
from eval.understanding import trivial
from eval.understanding.grids import figure, name_of
from eval.understanding.metrics import OVERALL, Measures, difference, measure, verdict

METRICS = ("sev_f1", "count_em")
FLOOR = 0.5

LEAST = 6
"""Frames of which one answer is right and the other is not: with fewer no exact test at 5 % tells
two answers apart (the sign test: 2 / 2^6 is 3 %, 2 / 2^5 is 6 %), while the bootstrap of three
frames that all say the same has no width."""

ADVICE = (
    "train on more frames, or begin with pretrained weights, yolo12s.pt for the gate and "
    "Qwen2.5-VL-7B-Instruct as the base (docs/your-data.md; make takes both with PROFILE=paper). "
    "A rehearsal goes on with --accept-untrained (make: ACCEPT_UNTRAINED=1), and its bundle says "
    "that it is not fit for use"
)


def fitness(
    instructions: Path, part: str, questions: Sequence[Question], texts: Sequence[str | None]
) -> dict[str, Any]:
    """What proof.json holds of it; `reasons` is empty where both points hold.

    Args:
        questions, texts: of all frames of the part, and the answers of the adapter.
    """
    frames = [question.truth for question in questions]
    ours = measure(frames, texts)
    without = trivial.answers(instructions, frames, part)
    against, reasons = {}, []
    for name, answers in without.items():
        theirs = measure(frames, answers)
        changes, apart = difference(ours, theirs), _apart(ours, theirs)
        against[name] = {metric: changes[metric]._asdict() for metric in METRICS}
        verdicts = {metric: verdict(metric, changes[metric]) for metric in METRICS}
        better = [metric for metric in METRICS if verdicts[metric] == "better"]
        if not better or "worse" in verdicts.values():
            words = _words(against[name])
            reasons.append(f"not better than {trivial.NAMES[name].lower()} ({words})")
        elif (most := max(apart[metric] for metric in better)) < LEAST:
            reasons.append(
                f"better than {trivial.NAMES[name].lower()} on {most} frames only, where {LEAST} "
                "are the fewest that tell"
            )
    gate = None
    if "gate" not in without:
        reasons.append("nothing is known of the gate: the boxes in the images are the labels'")
    else:
        gate = _gate(measure(frames, without["gate"]))
        if gate["frames"] == 0:
            reasons.append("no validation frame has an accident")
        elif gate["high"] < FLOOR:
            reasons.append(
                f"the gate finds something in {gate['found']} of {gate['frames']} frames with an "
                f"accident, surely in under {gate['high']:.0%}, where {FLOOR:.0%} are asked for"
            )
    return {
        "frames": len(frames),
        "against": against,
        "gate": gate,
        "gate_digest": trivial.gate_of(instructions),
        "reasons": reasons,
        "trained_on": trivial.training_counts(instructions),
    }


def demand_fit(report: dict[str, Any], adapter: Path) -> None:
    """Refuse what is not fit for use.

    Raises:
        ModelError: with the reasons, the frames it was trained on, and what would help.
    """
    if not report["reasons"]:
        return
    frames, accidents = report["trained_on"]
    raise ModelError(
        f"{adapter} is not fit for use, by its answers about {report['frames']} validation frames: "
        f"{'; '.join(report['reasons'])}. It was trained on {frames} frames, {accidents} of them "
        f"with an accident: {ADVICE}"
    )


def demand_answers_of(answers: Path, adapter: Path, instructions: Path, inputs: str) -> None:
    """Refuse answers of another adapter, or to other questions.

    Raises:
        ManifestError: the folder was changed.
        ConfigError: says what they are of.
    """
    made = manifest.verify(answers, "predictions")
    asked = {"inputs": inputs, "part": "val", "shard": [1, 1], "constrained": None}
    others = []
    for name, value in asked.items():
        if made.config.get(name) != value:
            others.append(f"{name} {made.config.get(name)}")
    for name, folder in (("adapter", adapter), ("instructions", instructions)):
        if made.inputs.get(name) != manifest.digest(folder):
            others.append(f"another folder of {name}")
    if others:
        raise ConfigError(
            f"{answers} holds other answers than are judged here ({', '.join(others)}): run "
            f"eval.predict --part val --inputs {inputs} --adapter {adapter}"
        )


def _apart(a: Measures, b: Measures) -> dict[str, int]:
    """On how many frames just one of both is right, by metric."""
    right = {
        "sev_f1": [m.severity == m.true_severity for m in (a, b)],
        "count_em": [m.count_error == 0 for m in (a, b)],
    }
    return {metric: int((ours != theirs).sum()) for metric, (ours, theirs) in right.items()}


def _gate(measures: Measures) -> dict[str, Any]:
    """In how many of the frames with an accident the gate finds anything, and the rate."""
    accident = measures.true_severity != OVERALL.index("none")
    found = int((measures.severity[accident] != OVERALL.index("none")).sum())
    frames = int(accident.sum())
    return {"found": found, "frames": frames, **rate_interval(found, frames)._asdict()}


def _words(changes: dict[str, Any]) -> str:
    parts = []
    for metric, change in changes.items():
        value, low, high = (figure(metric, change[end]) for end in ("value", "low", "high"))
        parts.append(f"{name_of(metric)} by {value}, {low} to {high}")
    return "; ".join(parts)
