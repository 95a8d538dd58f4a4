"""What gates let through (Fig. 4), measured with the exported gates, as on an edge node.

    python -m eval.gating --data runs/smoke/data --gate runs/smoke/gate --out runs/smoke/gating
    python -m eval.gating --data OUT/data --gate OUT/gate --gate OUT/gate-1cls --out OUT/gating

Writes the trigger score s_t (Eq. 1) of each frame to `scores_{val,test}.jsonl` for the first gate,
`<gate>/scores_{val,test}.jsonl` for the others, and the measures of Fig. 4 at both of its
thresholds with 95 % bootstrap intervals over the frames to `gating.{json,md,csv,png}`. The others
are compared with the first on the same resamples.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.command import command
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_json_lines
from dat_runtime.stage import Stage
from dat_runtime.truth import read_split
from eval.routing import gating_report
from eval.routing.gated import THRESHOLDS, Measured, detections, gated, sampled

SPLITS = ("val", "test")


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    gates = named(args.gate)
    inputs = {"data": args.data, "gate": args.gate[0]}
    for name, gate in list(gates.items())[1:]:
        inputs[f"gate {name}"] = gate
    stage = Stage(
        args.out,
        kind="gating",
        inputs=inputs,
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


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("eval.gating", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder made by data.prep.build")
    parser.add_argument(
        "--gate",
        type=Path,
        required=True,
        action="append",
        help="folder made by train.gate; give it again for each gate to compare with the first",
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    return parser.parse_args(argv)


def named(gates: Sequence[Path]) -> dict[str, Path]:
    """The gates by the names of their folders, with the parent folder's where two share one.

    Raises:
        ConfigError: a gate is given twice.
    """
    names = [gate.resolve().name for gate in gates]
    if len(set(names)) < len(names):
        names = [f"{gate.resolve().parent.name}-{gate.resolve().name}" for gate in gates]
    if len(set(names)) < len(names):
        raise ConfigError(f"--gate names {', '.join(map(str, gates))}: expected different gates")
    return dict(zip(names, gates, strict=True))


def measure_gates(data: Path, gates: Mapping[str, Path], folder: Path) -> dict[str, Any]:
    """Fill the output folder; returns what gating.json holds."""
    first = next(iter(gates))
    measured: dict[str, dict[str, Measured]] = {}
    reports: dict[str, Any] = {}
    differences: dict[str, Any] = {}
    for name, gate in gates.items():
        measured[name] = measure_gate(data, gate, folder if name == first else folder / name, name)
        classes = GateSettings.read(gate / GATE_FILE).names
        splits = {split: measured[name][split].as_json() for split in SPLITS}
        reports[name] = {"classes": classes, "splits": splits}
        if name != first:
            differences[name] = {
                split: measured[name][split].minus(measured[first][split]) for split in SPLITS
            }
    report = {
        "thresholds": THRESHOLDS,
        "gates": reports,
        "compared_with": first,
        "differences": differences,
    }
    gating_report.write(report, folder)
    return report


def measure_gate(data: Path, gate: Path, folder: Path, name: str = "gate") -> dict[str, Measured]:
    """What one gate does on each split; its scores are written to the folder."""
    from dat_runtime.edge.detector import YoloDetector

    detector = YoloDetector.load(gate)
    by_severity = len(detector.settings.classes) > 1
    folder.mkdir(exist_ok=True)
    measured = {}
    for split in SPLITS:
        truth = read_split(data, split)
        detected = detections(f"{name}, {split}", data, truth, detector)
        frames = gated(truth, detected)
        write_json_lines(folder / f"scores_{split}.jsonl", frames.lines())
        measured[split] = Measured(frames, sampled(frames, truth, detected, by_severity))
    return measured


if __name__ == "__main__":
    raise SystemExit(main())
