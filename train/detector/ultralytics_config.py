"""The gate's configuration: Ultralytics' own keys, checked before anything is trained."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dat_runtime.edge.settings import INPUT_SIDE
from dat_runtime.errors import ConfigError
from dat_runtime.fields import SHARE, checked, shown
from train.recipe import config_file
from train.recipe.upstream_keys import demand_known, folder_of, ultralytics_defaults

OURS = {"data", "project", "name", "exist_ok", "resume", "save_dir", "task", "mode"}
"""Ultralytics keys that a configuration may not set: the paths are ours, the task is fixed."""

_PART = (
    "would leave a part of the set out: take it out of the configuration and prepare a set of what "
    "you want (data.prep.build --classes)"
)
HARMLESS = {
    "fraction": (1.0, _PART),
    "classes": (None, _PART),
    "time": (None, "would end the training by the clock, so no two were alike: state epochs"),
    "save": (True, "would keep no weights, and nothing to go on from after an interruption"),
    "save_period": (-1, "would keep copies in a folder that is removed at the end: take it out"),
}
"""Ultralytics keys of which one value is taken, and why not another. A gate is trained and compared
on all of its set, whose manifest states what is in it, and the same again is the same gate."""

IDLE = ("plots", "verbose", "profile", "workers")
"""Ultralytics keys that decide what is printed and how fast, and not a weight. On a card the number
of workers decides which pictures share a mosaic; a run that goes on keeps to that of its start."""

REASONS = {
    "yolo.epochs": "learning rate and mosaics follow the number of epochs to their end, so a "
    "longer training differs from the first epoch on",
}
"""Why a key decides the weights where that may surprise, for `Stage`."""

IMGSZ = 640
NMS_IOU = 0.7
BATCH = 16
"""What Ultralytics takes where the configuration states nothing (its cfg/default.yaml)."""

_IN_GATE_JSON = {"imgsz": INPUT_SIDE, "iou": SHARE}
"""Keys that gate.json states too; Ultralytics itself checks the others (`check_keys`)."""


def read_config(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The Ultralytics configuration of a file, with `key=value` overrides.

    Raises:
        ConfigError: not a mapping, without a model, with a key that is unknown or ours to set, with
            a value that gate.json cannot state, or with a model that is not there.
    """
    config = config_file.read_config(path, overrides)
    if "model" not in config:
        raise ConfigError(f"{path}: expected Ultralytics keys, `model` among them")
    if ours := sorted(OURS & config.keys()):
        raise ConfigError(f"{ours[0]} is set by train.gate, take it out of the configuration")
    defaults = ultralytics_defaults()
    demand_known(config, defaults, "Ultralytics")
    for key, value in config.items():
        is_number = type(defaults[key]) in (int, float)
        if is_number and type(value) not in (int, float):
            raise ConfigError(f"{key} is {shown(value)}, expected a number")
    _demand_batch(config.get("batch", BATCH))
    for key, (harmless, reason) in HARMLESS.items():
        if config.get(key, harmless) != harmless:
            raise ConfigError(f"{key}={config[key]} {reason}")
    config.setdefault("imgsz", IMGSZ)
    try:
        checked(config, _IN_GATE_JSON, "", optional_keys=("iou",), further_keys=True)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    _demand_model(str(config["model"]))
    return config


def _demand_batch(batch: Any) -> None:
    """Refuse a batch that Ultralytics would choose by the card's free memory.

    It sets the learning from each picture, so a resumed run, or the same on another day, would be
    another training; and the batch is not known where the gate is measured.
    """
    if type(batch) is not int or batch < 1:
        raise ConfigError(
            f"batch is {shown(batch)}, expected a whole number of pictures: one that Ultralytics "
            "chooses by the free memory makes another training each time; make rehearse says "
            "which is the largest that fits"
        )


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that decide the weights."""
    return {key: value for key, value in config.items() if key not in IDLE}


def _demand_model(model: str) -> None:
    """Refuse a definition that is neither a file nor one of Ultralytics' own, yolo12n.yaml say."""
    if not model.endswith((".yaml", ".yml")) or Path(model).is_file():
        return  # weights are an input of the stage, which names them if they are not there
    without_scale = re.sub(r"(\d+)[nslmx](.*)$", r"\1\2", Path(model).name)
    own = {path.name for path in (folder_of("ultralytics") / "cfg" / "models").rglob("*.yaml")}
    if not own & {Path(model).name, without_scale}:
        raise ConfigError(f"model is {model}: neither a file nor a model of Ultralytics' own")


def demand_weights(config: Mapping[str, Any]) -> None:
    """Refuse weights that are not there: training from nothing is another training.

    Raises:
        ConfigError: names the file and the choice.
    """
    for path in weights_in(config).values():
        if not path.is_file():
            raise ConfigError(
                f"the weights {path} are not there: fetch them into this folder (docs/gate.md "
                "says from where), or train from nothing with pretrained=false"
            )


def demand_device(config: Mapping[str, Any]) -> None:
    """Refuse cards that this machine does not have.

    Raises:
        ConfigError: names the device and how many cards there are.
    """
    device = config.get("device")
    wanted = [int(number) for number in re.findall(r"\d+", str(device))]
    if not wanted:  # the CPU, Apple's mps, or whatever there is
        return
    import torch

    there = torch.cuda.device_count()
    if max(wanted) >= there:
        raise ConfigError(
            f"device={device}, and this machine has {there or 'no'} CUDA cards: device=cpu trains "
            "on the CPU, and without device the first card is taken"
        )


def weights_in(config: Mapping[str, Any]) -> dict[str, Path]:
    """The weights that a configuration names, by the key that does: inputs of the training."""
    named = {"pretrained": config.get("pretrained"), "model": config["model"]}
    return {
        key: Path(value)
        for key, value in named.items()
        if isinstance(value, str) and value.endswith(".pt")
    }


def check_keys(config: Mapping[str, Any]) -> None:
    """Refuse a key that Ultralytics does not know, before anything else happens.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type.
    """
    from ultralytics.cfg import get_cfg

    try:
        get_cfg(overrides=dict(config))
    except (SyntaxError, TypeError, ValueError) as error:
        raise ConfigError(f"Ultralytics refuses the configuration: {error}") from None
