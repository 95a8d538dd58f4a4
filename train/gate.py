"""Train the gate with Ultralytics, measure it, export it to ONNX and check the export.

    python -m train.gate --config configs/yolo/smoke.yaml --data OUT/data --out OUT/gate

The configuration is Ultralytics' own; `key=value` after the options overrides it, and `single_cls`
makes a gate of the one class "accident". `--fold 1/3` leaves the first third of the training frames
out, for data.prep.instruct, and names them in held_out.json.

The output folder (kind "gate") holds best.pt, gate.onnx, gate.json, metrics.json, parity.json, the
resolved config.yaml, curves, example predictions and train.log. A run that was cut off goes on
where it was.
"""

import argparse
import contextlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dat_runtime.edge.settings import MAX_IMGSZ, STRIDE
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_atomically
from dat_runtime.stage import Stage, peak_memory_bytes
from train.detector import folds
from train.detector.callbacks import BoxCounts, Epochs, log_to_wandb, refuse_drops
from train.detector.dataset import classes_of, count_boxes, demand_classes, link_data, names_of
from train.recipe import config_file as config_file

OURS = {"data", "project", "name", "exist_ok", "resume", "save_dir", "task", "mode"}
"""Ultralytics keys that a configuration may not set: the paths are ours, the task is fixed."""

KEPT = ("results.csv", "results.png", "confusion_matrix.png", "BoxPR_curve.png", "labels.jpg",
        "train_batch0.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg")  # fmt: skip
"""What stays of Ultralytics' run folder: curves and example frames."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train.gate",
        description="Train the gate, measure it, export it to ONNX and check the export.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, required=True, help="Ultralytics configuration")
    parser.add_argument("--data", type=Path, required=True, help="folder made by data.prep.build")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--fold", metavar="K/N", help="leave a fold of the frames out")
    parser.add_argument("--wandb", action="store_true", help="log to Weights & Biases as well")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="Ultralytics keys")
    args = parser.parse_args(argv)

    config = read_config(args.config, args.overrides)
    fold = folds.Fold.of(args.fold) if args.fold else None
    demand_classes(args.data, config)
    stage = Stage(
        args.out,
        kind="gate",
        inputs={"data": args.data, **_pretrained(config)},
        config={
            "yolo": config,
            "versions": config_file.versions("ultralytics", "torch"),
            **({"fold": str(fold)} if fold else {}),
        },
        code=[__file__],
        resumable=True,
    )
    if stage.up_to_date():
        return 0
    with stage as folder:
        boxes = count_boxes(args.data)
        if fold:
            boxes["train"] = folds.leave_out(fold, args.data, boxes["train"], folder)
        metrics = make_gate(folder.resolve(), args.data.resolve(), config, boxes, args.wandb)
    print(f"[gate] {summary(metrics)}")
    print(f"[gate] {args.out}: gate.onnx is the trained model's equal (parity.json)", flush=True)
    return 0


def read_config(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The Ultralytics configuration of a file, with `key=value` overrides.

    Raises:
        ConfigError: not a mapping, without a model, or with a key that is ours to set.
    """
    config = config_file.read_config(path, overrides)
    if "model" not in config:
        raise ConfigError(f"{path}: expected Ultralytics keys, `model` among them")
    if ours := sorted(OURS & config.keys()):
        raise ConfigError(f"{ours[0]} is set by train.gate, take it out of the configuration")
    config.setdefault("imgsz", 640)
    imgsz = config["imgsz"]
    if type(imgsz) is not int or not STRIDE <= imgsz <= MAX_IMGSZ or imgsz % STRIDE:
        raise ConfigError(f"imgsz must be a multiple of {STRIDE} up to {MAX_IMGSZ}, got {imgsz!r}")
    iou = config.get("iou", 0.7)
    if type(iou) not in (int, float) or not 0 <= iou <= 1:
        raise ConfigError(f"iou must be a number in [0, 1], got {iou!r}")
    pretrained = config.get("pretrained")
    if isinstance(pretrained, str) and not Path(pretrained).is_file():
        print(f"[gate] {pretrained} is not there: training from the definition of the model")
        config["pretrained"] = False
    return config


def _pretrained(config: Mapping[str, Any]) -> dict[str, Path]:
    named = {"pretrained": config.get("pretrained"), "model": config["model"]}
    return {k: Path(v) for k, v in named.items() if isinstance(v, str) and v.endswith(".pt")}


def make_gate(
    folder: Path, data: Path, config: dict[str, Any], boxes: BoxCounts, wandb: bool
) -> dict[str, Any]:
    """Fill the output folder; returns what metrics.json holds."""
    work = folder / "work"
    linked = link_data(data, work / "data", boxes)
    write_atomically(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    with quiet(folder / "train.log", work):
        metrics = train(folder, linked, config, Epochs(work / "checkpoint.pt", boxes), wandb)
        metrics |= measure(folder / "best.pt", linked, config, boxes)
        write_json(folder / "metrics.json", metrics)
        export(folder, data, config, boxes)
    keep_curves(work / "run", folder)
    shutil.rmtree(work)
    return metrics


@contextlib.contextmanager
def quiet(log: Path, work: Path) -> Iterator[None]:
    """Ultralytics offline, with its settings in `work` and its output in `log`.

    When the block fails, the end of the log goes to stderr.
    """
    os.environ["YOLO_CONFIG_DIR"] = str(work.resolve())
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ.setdefault("YOLO_OFFLINE", "true")
    with log.open("a", encoding="utf-8") as file:
        try:
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                from ultralytics.utils import LOGGER

                _log_to(file, LOGGER)
                try:
                    yield
                finally:
                    _log_to(sys.__stdout__, LOGGER)
        except Exception:
            file.flush()
            tail = log.read_text("utf-8", "replace").splitlines()[-15:]
            print("\n".join([f"[gate] the end of {log}:", *tail]), file=sys.stderr)
            raise


def _log_to(stream: Any, logger: Any) -> None:
    for handler in logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(stream)


def train(
    folder: Path, data: Path, config: dict[str, Any], epochs: Epochs, wandb: bool = False
) -> dict[str, Any]:
    """Train until `best.pt` is there, from the checkpoint of an earlier start if one is."""
    # Both outlive `work`: a run killed while that is removed goes on with the measuring.
    best, record = folder / "best.pt", folder / "metrics.json"
    if best.is_file():
        return dict(json.loads(record.read_text("utf-8")))
    from ultralytics import YOLO, settings

    others = ("clearml", "comet", "dvc", "hub", "mlflow", "neptune", "raytune", "tensorboard")
    settings.update({name: False for name in (*others, "sync") if name in settings})
    settings.update({"wandb": wandb})
    check_keys(config)
    model = YOLO(config["model"], task="detect")
    epochs.register(model)
    if wandb:
        log_to_wandb(model, folder.name.removesuffix(".partial"))
    keys = {k: v for k, v in config.items() if k != "model"}
    model.train(data=str(data), project=str(data.parent.parent), name="run", exist_ok=True, **keys)
    training = {
        "images": {split: len(of) for split, of in epochs.boxes.items()},
        "boxes": {split: sum(of.values()) for split, of in epochs.boxes.items()},
        "peak_memory_bytes": peak_memory_bytes(),
        **epochs.cost(),
    }
    write_json(record, training)
    (folder / "work" / "run" / "weights" / "best.pt").replace(best)
    return training


def check_keys(config: Mapping[str, Any]) -> None:
    """Refuse what Ultralytics does not know, before anything else happens.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type.
    """
    from ultralytics.cfg import get_cfg

    try:
        get_cfg(overrides=dict(config))
    except (SyntaxError, TypeError, ValueError) as error:
        raise ConfigError(f"Ultralytics refuses the configuration: {error}") from None


def measure(
    weights: Path, data: Path, config: Mapping[str, Any], boxes: BoxCounts
) -> dict[str, Any]:
    """mAP of the trained model on val and test, over all classes and for each."""
    from ultralytics import YOLO

    measured: dict[str, Any] = {}
    for split in ("val", "test"):
        start = time.monotonic()
        model = YOLO(weights)
        model.add_callback(
            "on_val_end",
            lambda v, of=split: refuse_drops(of, v.dataloader.dataset.labels, boxes[of]),
        )
        box = model.val(
            data=str(data),
            split=split,
            imgsz=config["imgsz"],
            batch=config.get("batch", 16),
            iou=config.get("iou", 0.7),
            single_cls=config.get("single_cls", False),
            device=config.get("device"),
            workers=0,
            plots=False,
            project=str(data.parent.parent),
            name=f"measured-{split}",
            exist_ok=True,
        ).box
        names = names_of(config)
        of_class = {names[c]: box.class_result(i) for i, c in enumerate(box.ap_class_index)}
        measured[split] = {
            "mAP50": float(box.map50),
            "mAP50-95": float(box.map),
            "classes": {
                name: {"precision": float(p), "recall": float(r), "AP50": float(a), "AP": float(m)}
                for name, (p, r, a, m) in of_class.items()
            },
            "seconds": round(time.monotonic() - start, 1),
        }
    return measured


def export(folder: Path, data: Path, config: Mapping[str, Any], boxes: BoxCounts) -> None:
    """gate.onnx, gate.json and parity.json: compared on validation frames, accidents first."""
    from dat_runtime.edge.settings import GateSettings
    from train.detector.onnx_export import FRAMES, check_parity, export_onnx

    settings = GateSettings(
        classes=classes_of(config),
        imgsz=config["imgsz"],
        nms_iou=config.get("iou", 0.7),
    )
    export_onnx(folder / "best.pt", folder, settings)
    files = sorted((data / "images" / "val").iterdir(), key=lambda f: (not boxes["val"][f.stem], f))
    parity = check_parity(folder / "best.pt", folder, files[:FRAMES])
    write_json(folder / "parity.json", parity)


def keep_curves(run: Path, folder: Path) -> None:
    for name in KEPT:
        if (run / name).is_file():
            (run / name).replace(folder / name)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(value, indent=1) + "\n")


def summary(metrics: Mapping[str, Any]) -> str:
    parts = [
        f"{split} mAP50 {metrics[split]['mAP50']:.3f} mAP50-95 {metrics[split]['mAP50-95']:.3f}"
        for split in ("val", "test")
    ]
    gib = metrics["peak_memory_bytes"] / 2**30
    return f"{', '.join(parts)}; trained in {metrics['train_seconds']:.0f} s, {gib:.1f} GiB"


if __name__ == "__main__":
    sys.exit(main())
