"""The gate in another format, held to the trained one: OpenVINO in float, or static INT8.

    python -m train.gate_export --gate OUT/gate --data OUT/data --format int8 --out OUT/gate-int8

The output folder (kind "gate") holds gate.json, gate.xml with gate.bin, parity.json and
metrics.json, and is taken wherever OUT/gate is. Thresholds fitted on OUT/gate are not those of an
INT8 gate, whose scores differ a little: run eval.gating and eval.cascade on the gate that ships.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_json
from dat_runtime.stage import Stage
from train.detector.openvino_export import export_int8, export_openvino
from train.recipe.config_file import versions

FORMATS = ("openvino", "int8")


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("train.gate_export", __doc__)
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


def summary(report: dict[str, Any]) -> str:
    """The parity report in one line, for the terminal."""
    if "int8" not in report:
        return (
            f"{report['detections']} detections and {report['raw_confidences']:,} confidences on "
            f"{report['frames']} frames as the trained model's: IoU >= "
            f"{report['lowest_iou']:.4f}, confidence within "
            f"{max(report['largest_confidence_gap'], report['largest_raw_gap']):.1e}"
        )
    before, after = report["float"], report["int8"]
    losses = [f"{name} {before[name]:.3f} -> {after[name]:.3f}" for name in ("mAP50", "mAP50-95")]
    same = [
        f"{agreement['same']:.1%} at {threshold}"
        for threshold, agreement in report["agreement"].items()
    ]
    return (
        f"INT8 on {report['frames']} test frames: {', '.join(losses)}; "
        f"same trigger {', '.join(same)}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
