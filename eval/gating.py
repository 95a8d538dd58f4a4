"""What the gate lets through (Fig. 4): measured with the exported gate, as on an edge node.

    python -m eval.gating --data runs/smoke/data --gate runs/smoke/gate --out runs/smoke/gating

Writes per frame the trigger score s_t (Eq. 1) to `scores_{val,test}.jsonl`, and for both thresholds
the rates of Fig. 4 with 95 % bootstrap intervals over the frames to `gating.{json,md}`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dat_runtime import manifest
from dat_runtime.errors import DataError, reports_errors
from dat_runtime.gate import HIGH_THRESHOLD, LOW_THRESHOLD, trigger_score
from dat_runtime.truth import read_truth

SPLITS = ("val", "test")
RATES = {
    "balanced_accuracy": "Balanced accuracy",
    "suspect_precision": "Suspect precision",
    "false_positive_rate": "False positives",
    "missed_severe": "Missed severe",
    "mllm_load": "MLLM load",
}
RESAMPLES = 1000


@dataclass(frozen=True)
class GatedFrames:
    """What the gate said of n frames, and the truth: arrays of length n."""

    image_ids: tuple[str, ...]
    score: NDArray[np.float64]
    accident: NDArray[np.bool_]
    severe: NDArray[np.bool_]


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eval.gating",
        description="Measure what the gate lets through (Fig. 4).",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder made by data.prep.build")
    parser.add_argument("--gate", type=Path, required=True, help="folder made by train.gate")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    args = parser.parse_args(argv)
    manifest.read(args.data, kind="data")
    manifest.read(args.gate, kind="gate")
    stage = manifest.Stage(
        args.out,
        kind="gating",
        inputs={"data": args.data, "gate": args.gate},
        config={"resamples": RESAMPLES},
        code=[__file__],
    )
    if stage.up_to_date():
        return 0
    with stage as folder:
        report = measure_gate(args.data, args.gate, folder)
    print(table(report), flush=True)
    return 0


def measure_gate(data: Path, gate: Path, folder: Path) -> dict[str, Any]:
    """Fill the output folder; returns what gating.json holds."""
    from dat_runtime.edge.detector import YoloDetector

    detector = YoloDetector.load(gate)
    trained = json.loads((gate / "metrics.json").read_text("utf-8"))
    thresholds = {"low": LOW_THRESHOLD, "high": HIGH_THRESHOLD}
    report: dict[str, Any] = {"thresholds": thresholds, "splits": {}}
    for split in SPLITS:
        frames = gated(split, data, detector)
        lines = (
            {"image_id": i, "score": float(s), "accident": bool(a), "severe": bool(v)}
            for i, s, a, v in zip(
                frames.image_ids, frames.score, frames.accident, frames.severe, strict=True
            )
        )
        text = "".join(json.dumps(line) + "\n" for line in lines)
        manifest.write_atomically(folder / f"scores_{split}.jsonl", text)
        report["splits"][split] = {
            "n": len(frames.image_ids),
            "mAP50": trained[split]["mAP50"],
            "mAP50-95": trained[split]["mAP50-95"],
            **{name: intervals(frames, tau) for name, tau in thresholds.items()},
        }
    manifest.write_atomically(folder / "gating.json", json.dumps(report, indent=1) + "\n")
    manifest.write_atomically(folder / "gating.md", table(report) + "\n")
    return report


def gated(split: str, data: Path, detector: Any) -> GatedFrames:
    """Run the gate over the frames of a split."""
    import cv2

    records = read_truth(data / f"truth_{split}.jsonl", pictures=True)
    scores = []
    for done, record in enumerate(records, 1):
        image = cv2.imread(str(data / record.image))
        if image is None:
            raise DataError("cannot be read as an image", data / record.image)
        scores.append(trigger_score(detector.detect(image)))
        if done % 100 == 0 or done == len(records):
            print(f"[gating] {split}: {done}/{len(records)} frames", flush=True)
    severities = [record.severities for record in records]
    return GatedFrames(
        tuple(record.image_id for record in records),
        np.array(scores),
        np.array([bool(s) for s in severities]),
        np.array(["severe" in s for s in severities]),
    )


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


def intervals(frames: GatedFrames, threshold: float) -> dict[str, Any]:
    """Each rate at a threshold with its 95 % bootstrap interval over the frames."""
    triggered = frames.score >= threshold
    n = len(triggered)
    drawn = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    values = rates(triggered, frames.accident, frames.severe)
    spread = rates(triggered[drawn], frames.accident[drawn], frames.severe[drawn])
    return {name: _interval(float(values[name]), spread[name]) for name in RATES} | {
        "false_positives": int((triggered & ~frames.accident).sum())
    }


def _interval(value: float, drawn: NDArray[np.float64]) -> dict[str, float | None]:
    if np.isnan(value):
        return {"value": None, "low": None, "high": None}
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}


def table(report: Mapping[str, Any]) -> str:
    """Fig. 4 as a Markdown table, one row per split and threshold."""
    head = ["Split", "τ", "mAP50", *RATES.values(), "n"]
    rows = [head, ["---"] * len(head)]
    for split, measured in report["splits"].items():
        for name, tau in report["thresholds"].items():
            cells = [_cell(measured[name][rate]) for rate in RATES]
            rows.append([split, f"{tau:g}", f"{measured['mAP50']:.3f}", *cells, str(measured["n"])])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(interval: Mapping[str, float | None]) -> str:
    if interval["value"] is None:
        return "–"
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


if __name__ == "__main__":
    raise SystemExit(main())
