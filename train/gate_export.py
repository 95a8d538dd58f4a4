"""The gate in another format, held to the trained one: OpenVINO in float, or static INT8.

    python -m train.gate_export --gate OUT/gate --data OUT/data --format int8 --out OUT/gate-int8

The output folder (kind "gate") holds gate.json, gate.xml with gate.bin, parity.json and
metrics.json, and is taken wherever OUT/gate is. Thresholds fitted on OUT/gate are not those of an
INT8 gate, whose scores differ a little: run eval.gating and eval.cascade on the gate that ships.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.edge.engines import silent_openvino
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.errors import ConfigError, DataError, reports_errors
from dat_runtime.files import write_atomically
from dat_runtime.stage import Stage
from dat_runtime.truth import Frame, read_split
from train.gate import quiet, write_json
from train.recipe.config_file import versions

FORMATS = ("openvino", "int8")
MODEL = "gate.xml"
WEIGHTS = "best.pt"


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train.gate_export",
        description="Export a trained gate to OpenVINO or INT8 and state what it costs.",
        allow_abbrev=False,
    )
    parser.add_argument("--gate", type=Path, required=True, help="folder made by train.gate")
    parser.add_argument("--data", type=Path, required=True, help="folder made by data.prep.build")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--accept-loss", action="store_true", help="take an INT8 gate whatever accuracy it loses"
    )
    args = parser.parse_args(argv)
    if args.accept_loss and args.format != "int8":
        raise ConfigError(f"--accept-loss is for int8: {args.format} has to answer as trained")
    manifest.verify(args.gate, kind="gate")
    manifest.read(args.data, kind="data")
    stage = Stage(
        args.out,
        kind="gate",
        inputs={"gate": args.gate, "data": args.data},
        config={
            "format": args.format,
            "accept_loss": args.accept_loss,
            "versions": versions("openvino", "nncf", "ultralytics"),
        },
        code=[__file__],
    )
    if stage.up_to_date():
        return 0
    with stage as folder:
        if args.format == "int8":
            report = export_int8(args.gate, args.data, folder, args.accept_loss)
        else:
            report = export_openvino(args.gate, args.data, folder)
        write_json(folder / "parity.json", {"format": args.format, **report})
    print(f"[{args.out.name}] {summary(report)}", flush=True)
    return 0


def export_openvino(gate: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Fill the folder with the gate's IR in float32.

    Returns:
        The parity report, against the trained model on validation frames, accidents first.

    Raises:
        ModelError: the two differ by more than the limits of `gate_onnx`.
        DataError: the gate's folder holds no trained weights.
    """
    from train.detector.onnx_export import FRAMES, check_parity

    if not (gate / WEIGHTS).is_file():
        raise DataError("is missing: expected the folder that train.gate made", gate / WEIGHTS)
    openvino = silent_openvino()
    settings = write_settings(gate, folder)
    model = openvino.Core().read_model(gate / settings.model)
    openvino.save_model(model, folder / MODEL, compress_to_fp16=False)
    frames = sorted(frames_of(data, "val"), key=lambda frame: not frame.accidents)
    with tempfile.TemporaryDirectory() as work, quiet(Path(work) / "log", Path(work)):
        parity = check_parity(gate / WEIGHTS, folder, [data / f.image for f in frames[:FRAMES]])
    write_atomically(folder / "metrics.json", (gate / "metrics.json").read_bytes())
    return parity


def export_int8(gate: Path, data: Path, folder: Path, accept_loss: bool) -> dict[str, Any]:
    """Fill the folder with the gate in INT8, calibrated on training frames.

    Returns:
        What it costs on the test frames, see `int8.cost`.

    Raises:
        ModelError: it costs more than `int8.MAX_LOSS` and that is not accepted; or the gate
            is not in float.
    """
    from train.detector import int8

    openvino = silent_openvino()
    settings = write_settings(gate, folder)
    calibration = int8.spread(frames_of(data, "train"), int8.CALIBRATION_FRAMES)
    model = openvino.Core().read_model(gate / settings.model)
    quantized = int8.quantize(model, [data / f.image for f in calibration], settings.imgsz)
    openvino.save_model(quantized, folder / MODEL, compress_to_fp16=False)
    measured = {
        split: int8.cost(gate, folder, data, frames_of(data, split)) for split in ("val", "test")
    }
    write_json(folder / "metrics.json", carried(gate / "metrics.json", measured))
    report = {"calibration_frames": len(calibration), **measured["test"]}
    if not accept_loss:
        int8.demand_small_loss(report)
    return report


def write_settings(gate: Path, folder: Path) -> GateSettings:
    """Write the gate's settings for the exported model; returns the gate's own."""
    settings = GateSettings.read(gate / GATE_FILE)
    write_json(folder / GATE_FILE, replace(settings, model=MODEL).as_json())
    return settings


def frames_of(data: Path, split: str) -> list[Frame]:
    return read_split(data, split)


def carried(metrics: Path, measured: dict[str, Any]) -> dict[str, Any]:
    """The metrics of the training with the accuracy of the exported gate in place of its own."""
    value = json.loads(metrics.read_text("utf-8"))
    return value | {split: report["int8"] for split, report in measured.items()}


def summary(report: dict[str, Any]) -> str:
    if "int8" not in report:
        return (
            f"{report['detections']} detections on {report['frames']} frames as the trained "
            f"model's: IoU >= {report['lowest_iou']:.4f}, confidence within "
            f"{report['largest_confidence_gap']:.1e}"
        )
    before, after = report["float"], report["int8"]
    parts = [f"{name} {before[name]:.3f} -> {after[name]:.3f}" for name in ("mAP50", "mAP50-95")]
    same = ", ".join(f"{a['same']:.1%} at {t}" for t, a in report["agreement"].items())
    return f"INT8 on {report['frames']} test frames: {', '.join(parts)}; same trigger {same}"


if __name__ == "__main__":
    raise SystemExit(main())
