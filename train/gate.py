"""Train the gate with Ultralytics, measure it, export it to ONNX and check the export.

    python -m train.gate --config configs/yolo/smoke.yaml --data OUT/data --out OUT/gate

The configuration is Ultralytics' own; `key=value` after the options overrides it, and `single_cls`
makes a gate of the one class "accident". `--fold 1/3` leaves the first third of the training frames
out, for data.prep.instruct, and names them in held_out.json.

The output folder (kind "gate") holds best.pt, gate.onnx, gate.json, metrics.json, parity.json, the
resolved config.yaml, curves, example predictions and train.log. A run that was cut off goes on
where it was.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dat_runtime.command import add_restart, command
from dat_runtime.errors import reports_errors
from dat_runtime.files import read_json, write_json, write_yaml
from dat_runtime.stage import Stage
from train.detector import folds, ultralytics_run
from train.detector.callbacks import BoxCounts, Epochs
from train.detector.dataset import count_boxes, demand_classes, link_data
from train.detector.onnx_export import export_checked
from train.detector.ultralytics_config import (
    REASONS,
    deciding,
    demand_device,
    demand_weights,
    read_config,
    weights_in,
)
from train.recipe.config_file import versions


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("train.gate", __doc__)
    parser.add_argument("--config", type=Path, required=True, help="Ultralytics configuration")
    parser.add_argument("--data", type=Path, required=True, help="folder made by data.prep.build")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--fold", metavar="K/N", help="leave a fold of the frames out")
    parser.add_argument("--wandb", action="store_true", help="log to Weights & Biases as well")
    add_restart(parser)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="Ultralytics keys")
    args = parser.parse_intermixed_args(argv)

    config = read_config(args.config, args.overrides)
    demand_weights(config)
    fold = folds.Fold.parse(args.fold) if args.fold else None
    demand_classes(args.data, config)
    stated: dict[str, Any] = {
        "yolo": deciding(config),
        "versions": versions("ultralytics", "torch"),
    }
    if fold:
        stated["fold"] = str(fold)
    stage = Stage(
        args.out,
        kind="gate",
        inputs={"data": args.data, **weights_in(config)},
        config=stated,
        code=[__file__],
        resumable=True,
        restart=args.restart,
        reasons=REASONS,
    )
    if stage.up_to_date():
        return 0
    demand_device(config)
    with stage as folder:
        boxes = count_boxes(args.data)
        if fold:
            boxes["train"] = folds.leave_out(fold, args.data, boxes["train"], folder)
        metrics = make_gate(folder.resolve(), args.data.resolve(), config, boxes, args.wandb)
    print(f"[gate] {summary(metrics)}")
    parity = read_json(args.out / "parity.json")
    print(
        f"[gate] {args.out}: gate.onnx answers as the trained model on {parity['frames']} frames: "
        f"{parity['detections']} detections, {parity['raw_confidences']:,} confidences",
        flush=True,
    )
    return 0


def make_gate(
    folder: Path, data: Path, config: dict[str, Any], boxes: BoxCounts, wandb: bool
) -> dict[str, Any]:
    """Fill the output folder; returns what metrics.json holds."""
    work = folder / "work"
    linked = link_data(data, work / "data", boxes)
    write_yaml(folder / "config.yaml", config)
    epochs = Epochs(work / "checkpoint.pt", boxes)
    with ultralytics_run.quiet(folder / "train.log", work):
        metrics = ultralytics_run.train(folder, linked, config, epochs, wandb)
        metrics |= ultralytics_run.measure(folder / "best.pt", linked, config, boxes)
        write_json(folder / "metrics.json", metrics)
        export_checked(folder, data, config, boxes["val"])
    ultralytics_run.keep_curves(work / "run", folder)
    shutil.rmtree(work)
    return metrics


def summary(metrics: Mapping[str, Any]) -> str:
    """The metrics in one line, for the terminal."""
    parts = [
        f"{split} mAP50 {metrics[split]['mAP50']:.3f} mAP50-95 {metrics[split]['mAP50-95']:.3f}"
        for split in ("val", "test")
    ]
    gib = metrics["peak_memory_bytes"] / 2**30
    return f"{', '.join(parts)}; trained in {metrics['train_seconds']:.0f} s, {gib:.1f} GiB"


if __name__ == "__main__":
    raise SystemExit(main())
