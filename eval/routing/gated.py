"""What a gate lets through on the frames of a split (Fig. 4): rates, average precision, intervals.

A measure is kept as one array, `Samples`: its value on the frames, then on each bootstrap resample.
The resamples are the same for all gates on the same frames, so the difference of two gates is the
difference of their arrays (a paired bootstrap).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dat_runtime.edge.source import read_frame
from dat_runtime.gate import HIGH_THRESHOLD, LOW_THRESHOLD, trigger_score
from dat_runtime.truth import Frame
from dat_runtime.types import Detection
from eval.routing.average_precision import Matched, match, mean_average_precision
from eval.statistics import bootstrap
from eval.statistics.bootstrap import balanced_accuracy

THRESHOLDS = {"low": LOW_THRESHOLD, "high": HIGH_THRESHOLD}
RATES = (
    "balanced_accuracy",
    "suspect_precision",
    "false_positive_rate",
    "missed_severe",
    "mllm_load",
)
OWN_AP = ("mAP50", "mAP50-95")
"""Over a gate's own classes: one class and two classes are different tasks."""

ONE_CLASS_AP = ("one_class_mAP50", "one_class_mAP50-95")
"""With severities ignored: the same task for every gate."""

RESAMPLES = bootstrap.PRECISION_RESAMPLES

Samples = dict[str, NDArray[np.float64]]
"""Measure -> its value, then its values on the resamples: (1 + `RESAMPLES`,)."""


@dataclass(frozen=True)
class GatedFrames:
    """A gate's trigger scores (Eq. 1) of n frames, and the truth: arrays of length n."""

    image_ids: tuple[str, ...]
    score: NDArray[np.float64]
    accident: NDArray[np.bool_]
    severe: NDArray[np.bool_]

    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines of `scores_<split>.jsonl`, which `read_scored` reads."""
        for i, image_id in enumerate(self.image_ids):
            yield {
                "image_id": image_id,
                "score": float(self.score[i]),
                "accident": bool(self.accident[i]),
                "severe": bool(self.severe[i]),
            }


@dataclass(frozen=True)
class Measured:
    """What one gate does on the frames of a split."""

    frames: GatedFrames
    samples: Samples

    def as_json(self) -> dict[str, Any]:
        """Every measure with its interval, and the number of false-positive frames."""
        false_positives = {}
        for level, threshold in THRESHOLDS.items():
            triggered = self.frames.score >= threshold
            false_positives[level] = int((triggered & ~self.frames.accident).sum())
        report: dict[str, Any] = {
            "frames": len(self.frames.image_ids),
            "false_positives": false_positives,
        }
        for measure, values in self.samples.items():
            report[measure] = interval(values)
        return report

    def minus(self, other: "Measured") -> dict[str, Any]:
        """The paired differences, for the measures that are the same task for both gates."""
        differences = {}
        for measure, values in self.samples.items():
            if measure not in OWN_AP:
                differences[measure] = interval(values - other.samples[measure])
        return differences


def detections(
    name: str, data: Path, truth: Sequence[Frame], detector: Any
) -> list[tuple[Detection, ...]]:
    """Run a gate on the frames of a split; `name` is for the progress lines.

    Raises:
        DataError: a picture cannot be read.
    """
    per_frame = []
    for done, frame in enumerate(truth, 1):
        per_frame.append(detector.detect(read_frame(data / frame.image)))
        if done % 100 == 0 or done == len(truth):
            print(f"[gating] {name}: {done}/{len(truth)} frames", flush=True)
    return per_frame


def gated(truth: Sequence[Frame], detections: Sequence[Sequence[Detection]]) -> GatedFrames:
    """The trigger scores of the detections in each frame, beside the truth."""
    return GatedFrames(
        image_ids=tuple(frame.image_id for frame in truth),
        score=np.array([trigger_score(in_frame) for in_frame in detections]),
        accident=np.array([bool(frame.accidents) for frame in truth]),
        severe=np.array(["severe" in frame.severities for frame in truth]),
    )


def sampled(
    frames: GatedFrames,
    truth: Sequence[Frame],
    detections: Sequence[Sequence[Detection]],
    by_severity: bool,
) -> Samples:
    """Every measure of Fig. 4 on the frames and on their resamples.

    Args:
        by_severity: whether the gate's own classes are the severities.
    """
    n = len(frames.image_ids)
    drawn = bootstrap.draws(n, RESAMPLES, bootstrap.ROUTING_SEED)
    samples: Samples = {}
    for level, threshold in THRESHOLDS.items():
        triggered = frames.score >= threshold
        values = rates(triggered, frames.accident, frames.severe)
        resampled = rates(triggered[drawn], frames.accident[drawn], frames.severe[drawn])
        for rate in RATES:
            samples[f"{rate}_{level}"] = np.append(values[rate], resampled[rate])
    # How often each frame counts: once for the value, then as often as each resample drew it.
    rows = np.vstack([np.arange(n), drawn])
    counts = np.array([np.bincount(row, minlength=n) for row in rows])
    own_classes = match(truth, detections, by_severity)
    one_class = match(truth, detections, by_severity=False)
    samples |= _sampled_precision(OWN_AP, own_classes, counts)
    samples |= _sampled_precision(ONE_CLASS_AP, one_class, counts)
    return samples


def _sampled_precision(
    names: Sequence[str], classes: Sequence[Matched], counts: NDArray[np.intp]
) -> Samples:
    """mAP50 and mAP50-95 under these names, for each row of `counts`."""
    values = np.array([mean_average_precision(classes, row) for row in counts])
    return dict(zip(names, values.T, strict=True))


def rates(
    triggered: NDArray[np.bool_], accident: NDArray[np.bool_], severe: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """The rates of Fig. 4 over the last axis (frames); NaN where a rate is undefined.

    Suspect precision is the share of accident frames among the frames that trigger. The false
    positive rate is the share of accident-free frames that trigger. The MLLM load is the share of
    all frames that trigger.
    """
    accidents_triggered = (triggered & accident).sum(-1)
    false_positives = (triggered & ~accident).sum(-1)
    severe_triggered = (triggered & severe).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "balanced_accuracy": balanced_accuracy(triggered, accident),
            "suspect_precision": accidents_triggered / (accidents_triggered + false_positives),
            "false_positive_rate": false_positives / (~accident).sum(-1),
            "missed_severe": 1 - severe_triggered / severe.sum(-1),
            "mllm_load": triggered.mean(-1),
        }


def interval(values: NDArray[np.float64]) -> dict[str, float | None]:
    """A measure's value with its 95 % interval, from an array as `Samples` holds it."""
    return bootstrap.interval(float(values[0]), values[1:])._asdict()
