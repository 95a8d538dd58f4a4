"""Ultralytics at work: offline and quiet, trained to the end, measured on validation and test."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError
from dat_runtime.files import read_json, write_json
from dat_runtime.stage import peak_memory_bytes
from train.detector.callbacks import BoxCounts, Epochs, log_to_wandb, refuse_drops
from train.detector.dataset import names_of
from train.detector.ultralytics_config import BATCH, NMS_IOU, check_keys
from train.recipe import log_tail

KEPT = ("results.csv", "results.png", "confusion_matrix.png", "BoxPR_curve.png", "labels.jpg",
        "train_batch0.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg")  # fmt: skip
"""What stays of Ultralytics' run folder: curves and example frames."""

OTHER_LOGGERS = (
    "clearml", "comet", "dvc", "hub", "mlflow", "neptune", "raytune", "tensorboard", "sync"
)  # fmt: skip
"""Ultralytics' settings that would send a training elsewhere when such a package is there."""

TAIL_LINES = 15
"""Of the log, shown when a run fails."""


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

                # Its handler keeps the stream that was stdout when Ultralytics was imported.
                _log_to(file, LOGGER)
                try:
                    yield
                finally:
                    _log_to(sys.__stdout__, LOGGER)
        except ConfigError:  # says all there is to say
            raise
        except Exception:
            file.flush()
            tail = log_tail.last_lines(log, TAIL_LINES)
            print("\n".join([f"[gate] the end of {log}:", *tail]), file=sys.stderr)
            raise


def _log_to(stream: Any, logger: Any) -> None:
    """Turn the logger's terminal handlers to a stream; handlers of other kinds stay."""
    for handler in logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.stream = stream  # `setStream` would flush the old one, which may be closed


def train(
    folder: Path, data: Path, config: dict[str, Any], epochs: Epochs, wandb: bool = False
) -> dict[str, Any]:
    """Train until `best.pt` is there, from the checkpoint of an earlier start if one is.

    Args:
        data: `work/data/data.yaml` of the folder, see `link_data`.
        config: Ultralytics' keys.

    Returns:
        Images and boxes per split, seconds and peak memory.
    """
    # Both outlive `work`: a run killed while that is removed goes on with the measuring.
    best, record = folder / "best.pt", folder / "metrics.json"
    if best.is_file():
        return dict(read_json(record))
    from ultralytics import YOLO, settings

    from train.detector.trainer import GateTrainer

    settings.update({name: False for name in OTHER_LOGGERS if name in settings})
    settings.update({"wandb": wandb})
    check_keys(config)
    model = YOLO(config["model"], task="detect")
    epochs.register(model)
    if wandb:
        log_to_wandb(model, folder.name.removesuffix(".partial"))
    keys = {key: value for key, value in config.items() if key != "model"}
    model.train(
        trainer=GateTrainer,
        data=str(data),
        project=str(data.parent.parent),
        name="run",
        exist_ok=True,
        **keys,
    )
    training = {
        "images": {split: len(boxes) for split, boxes in epochs.boxes.items()},
        "boxes": {split: sum(boxes.values()) for split, boxes in epochs.boxes.items()},
        "peak_memory_bytes": peak_memory_bytes(),
        **epochs.cost(),
    }
    write_json(record, training)
    # Moved last: with it the training counts as done.
    (folder / "work" / "run" / "weights" / "best.pt").replace(best)
    return training


def measure(
    weights: Path, data: Path, config: Mapping[str, Any], boxes: BoxCounts
) -> dict[str, Any]:
    """mAP of the trained model on val and test, over all classes and for each."""
    from ultralytics import YOLO

    names = names_of(config)
    measured: dict[str, Any] = {}
    for split in ("val", "test"):
        start = time.monotonic()
        model = YOLO(weights)
        model.add_callback("on_val_end", partial(_refuse_drops, split, boxes[split]))
        result = model.val(
            data=str(data),
            split=split,
            imgsz=config["imgsz"],
            batch=config.get("batch", BATCH),
            iou=config.get("iou", NMS_IOU),
            single_cls=config.get("single_cls", False),
            device=config.get("device"),
            workers=0,
            plots=False,
            project=str(data.parent.parent),
            name=f"measured-{split}",
            exist_ok=True,
        ).box
        # Ultralytics lists the classes that occur in the split only, by their index.
        classes = {}
        for place, index in enumerate(result.ap_class_index):
            precision, recall, ap50, ap = map(float, result.class_result(place))
            classes[names[index]] = {
                "precision": precision, "recall": recall, "AP50": ap50, "AP": ap
            }  # fmt: skip
        measured[split] = {
            "mAP50": float(result.map50),
            "mAP50-95": float(result.map),
            "classes": classes,
            "seconds": round(time.monotonic() - start, 1),
        }
    return measured


def _refuse_drops(split: str, expected: Mapping[str, int], validator: Any) -> None:
    refuse_drops(split, validator.dataloader.dataset.labels, expected)


def keep_curves(run: Path, folder: Path) -> None:
    """Move curves and example frames out of Ultralytics' run folder."""
    for name in KEPT:
        if (run / name).is_file():
            (run / name).replace(folder / name)
