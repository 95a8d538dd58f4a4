"""What gates let through (Fig. 4): measured with the exported gates, as on an edge node.

    python -m eval.gating --data runs/smoke/data --gate runs/smoke/gate --out runs/smoke/gating
    python -m eval.gating --data OUT/data --gate OUT/gate --gate OUT/gate-1cls --out OUT/gating

Writes the trigger score s_t (Eq. 1) of each frame to `scores_{val,test}.jsonl` for the first gate,
`<gate>/scores_{val,test}.jsonl` for the others, and the measures of Fig. 4 at both of its
thresholds with 95 % bootstrap intervals over the frames to `gating.{json,md,csv,png}`. The others
are compared with the first on the same resamples.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dat_runtime import manifest
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.edge.source import read_frame
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_atomically
from dat_runtime.gate import HIGH_THRESHOLD, LOW_THRESHOLD, trigger_score
from dat_runtime.stage import Stage
from dat_runtime.truth import Frame, read_split
from dat_runtime.types import Detection
from eval.routing import gating_report
from eval.routing.average_precision import match, mean_average_precision
from eval.understanding import metrics

SPLITS = ("val", "test")
THRESHOLDS = {"low": LOW_THRESHOLD, "high": HIGH_THRESHOLD}
RATES = (
    "balanced_accuracy",
    "suspect_precision",
    "false_positive_rate",
    "missed_severe",
    "mllm_load",
)
OWN_AP = ("mAP50", "mAP50-95")
"""Over a gate's own classes: of one class and of two these are different tasks."""

ONE_CLASS_AP = ("one_class_mAP50", "one_class_mAP50-95")
"""With severities left out of account: the same task for every gate."""

RESAMPLES = 1000

Samples = dict[str, NDArray[np.float64]]
"""Measure -> its value, then its values on the resamples: (1 + `RESAMPLES`,)."""


@dataclass(frozen=True)
class GatedFrames:
    """What the gate said of n frames, and the truth: arrays of length n."""

    image_ids: tuple[str, ...]
    score: NDArray[np.float64]
    accident: NDArray[np.bool_]
    severe: NDArray[np.bool_]


@dataclass(frozen=True)
class Measured:
    """What one gate does on the frames of a split."""

    frames: GatedFrames
    samples: Samples

    def as_json(self) -> dict[str, Any]:
        suspect = {at: self.frames.score >= tau for at, tau in THRESHOLDS.items()}
        false = {at: int((of & ~self.frames.accident).sum()) for at, of in suspect.items()}
        return {
            "frames": len(self.frames.image_ids),
            "false_positives": false,
            **{measure: interval(values) for measure, values in self.samples.items()},
        }

    def minus(self, other: "Measured") -> dict[str, Any]:
        """The paired differences, of what is the same task for both."""
        return {
            measure: interval(values - other.samples[measure])
            for measure, values in self.samples.items()
            if measure not in OWN_AP
        }


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eval.gating",
        description="Measure what gates let through (Fig. 4).",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder made by data.prep.build")
    parser.add_argument(
        "--gate",
        type=Path,
        required=True,
        action="append",
        help="folder made by train.gate; again for another, to be compared with the first",
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    args = parser.parse_args(argv)
    gates = named(args.gate)
    others = {f"gate {name}": path for name, path in list(gates.items())[1:]}
    stage = Stage(
        args.out,
        kind="gating",
        inputs={"data": args.data, "gate": args.gate[0], **others},
        config={"gates": list(gates)},
        code=[__file__],
    )
    if stage.up_to_date():
        return 0
    manifest.read(args.data, kind="data")
    for gate in gates.values():
        manifest.read(gate, kind="gate")
    with stage as folder:
        report = measure_gates(args.data, gates, folder)
    print(gating_report.words(report), flush=True)
    return 0


def named(gates: Sequence[Path]) -> dict[str, Path]:
    """The gates under their folders' names, with that of the folder above where two share one.

    Raises:
        ConfigError: two are the same.
    """
    names = [gate.resolve().name for gate in gates]
    if len(set(names)) < len(names):
        names = [f"{gate.resolve().parent.name}-{gate.resolve().name}" for gate in gates]
    if len(set(names)) < len(names):
        raise ConfigError(f"--gate names {', '.join(map(str, gates))}: expected different gates")
    return dict(zip(names, gates, strict=True))


def measure_gates(data: Path, gates: Mapping[str, Path], folder: Path) -> dict[str, Any]:
    """Fill the output folder; returns what gating.json holds."""
    measured: dict[str, dict[str, Measured]] = {}
    for name, gate in gates.items():
        measured[name] = measure_gate(data, gate, folder / name if measured else folder, name)
    first, *others = measured
    report = {
        "thresholds": THRESHOLDS,
        "gates": {
            name: {
                "classes": GateSettings.read(gate / GATE_FILE).names,
                "splits": {split: of.as_json() for split, of in measured[name].items()},
            }
            for name, gate in gates.items()
        },
        "compared_with": first,
        "differences": {
            name: {split: measured[name][split].minus(measured[first][split]) for split in SPLITS}
            for name in others
        },
    }
    gating_report.write(report, folder)
    return report


def measure_gate(data: Path, gate: Path, folder: Path, name: str = "gate") -> dict[str, Measured]:
    """What one gate does on each split; its scores go to the folder."""
    from dat_runtime.edge.detector import YoloDetector

    detector = YoloDetector.load(gate)
    folder.mkdir(exist_ok=True)
    measured = {}
    for split in SPLITS:
        truth = read_split(data, split)
        found = detections(f"{name}, {split}", data, truth, detector)
        frames = gated(truth, found)
        text = "".join(json.dumps(line) + "\n" for line in _score_lines(frames))
        write_atomically(folder / f"scores_{split}.jsonl", text)
        samples = sampled(frames, truth, found, len(detector.settings.classes) > 1)
        measured[split] = Measured(frames, samples)
    return measured


def detections(
    name: str, data: Path, truth: Sequence[Frame], detector: Any
) -> list[tuple[Detection, ...]]:
    """Run a gate over the frames of a split; `name` is for the lines of progress."""
    found = []
    for done, record in enumerate(truth, 1):
        found.append(detector.detect(read_frame(data / record.image)))
        if done % 100 == 0 or done == len(truth):
            print(f"[gating] {name}: {done}/{len(truth)} frames", flush=True)
    return found


def gated(truth: Sequence[Frame], found: Sequence[Sequence[Detection]]) -> GatedFrames:
    return GatedFrames(
        tuple(record.image_id for record in truth),
        np.array([trigger_score(of_frame) for of_frame in found]),
        np.array([bool(record.accidents) for record in truth]),
        np.array(["severe" in record.severities for record in truth]),
    )


def _score_lines(frames: GatedFrames) -> Iterator[dict[str, Any]]:
    rows = zip(frames.image_ids, frames.score, frames.accident, frames.severe, strict=True)
    for image_id, score, accident, severe in rows:
        yield {
            "image_id": image_id,
            "score": float(score),
            "accident": bool(accident),
            "severe": bool(severe),
        }


def sampled(
    frames: GatedFrames,
    truth: Sequence[Frame],
    found: Sequence[Sequence[Detection]],
    by_severity: bool,
) -> Samples:
    """Every measure of Fig. 4; the resamples are the same for all gates of the same frames."""
    n = len(frames.image_ids)
    drawn = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    samples: Samples = {}
    for at, tau in THRESHOLDS.items():
        triggered = frames.score >= tau
        values = rates(triggered, frames.accident, frames.severe)
        spread = rates(triggered[drawn], frames.accident[drawn], frames.severe[drawn])
        samples |= {f"{r}_{at}": np.append(values[r], spread[r]) for r in RATES}
    counts = np.array([np.bincount(rows, minlength=n) for rows in (np.arange(n), *drawn)])
    for names, severities in ((OWN_AP, by_severity), (ONE_CLASS_AP, False)):
        classes = match(truth, found, severities)
        precision = np.array([mean_average_precision(classes, of) for of in counts])
        samples |= dict(zip(names, precision.T, strict=True))
    return samples


def rates(
    triggered: NDArray[np.bool_], accident: NDArray[np.bool_], severe: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """The rates of Fig. 4 over the last axis (frames); NaN where nothing defines one.

    Suspect precision is the share of accident frames among those that trigger; false positives are
    the share of accident-free frames that do; the MLLM load is the share of all frames that do.
    """
    hits, false = (triggered & accident).sum(-1), (triggered & ~accident).sum(-1)
    caught = (triggered & severe).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / accident.sum(-1)
        fall_out = false / (~accident).sum(-1)
        return {
            "balanced_accuracy": (recall + 1 - fall_out) / 2,
            "suspect_precision": hits / (hits + false),
            "false_positive_rate": fall_out,
            "missed_severe": 1 - caught / severe.sum(-1),
            "mllm_load": triggered.mean(-1),
        }


def interval(values: NDArray[np.float64]) -> dict[str, float | None]:
    """A value with its 95 % interval over the resamples that define it, as `Samples` hold them."""
    return metrics.interval(float(values[0]), values[1:])._asdict()


if __name__ == "__main__":
    raise SystemExit(main())
