"""The gate's configuration: Ultralytics' own keys, checked before anything is trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dat_runtime.edge.settings import INPUT_SIDE
from dat_runtime.errors import ConfigError
from dat_runtime.fields import SHARE, checked
from train.recipe import config_file

OURS = {"data", "project", "name", "exist_ok", "resume", "save_dir", "task", "mode"}
"""Ultralytics keys that a configuration may not set: the paths are ours, the task is fixed."""

LEAVES_OUT = {"fraction": 1.0, "classes": None}
"""Ultralytics keys that leave images or boxes out of the set, with the value that leaves none out.
A gate is trained and compared on all of its set, whose manifest states what is in it."""

IMGSZ = 640
NMS_IOU = 0.7
BATCH = 16
"""What Ultralytics takes where the configuration states nothing (its cfg/default.yaml)."""

_IN_GATE_JSON = {"imgsz": INPUT_SIDE, "iou": SHARE}
"""Keys that gate.json states too; Ultralytics itself checks the others (`check_keys`)."""


def read_config(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The Ultralytics configuration of a file, with `key=value` overrides.

    Raises:
        ConfigError: not a mapping, without a model, with a key that is ours to set, or with a value
            that gate.json cannot state.
    """
    config = config_file.read_config(path, overrides)
    if "model" not in config:
        raise ConfigError(f"{path}: expected Ultralytics keys, `model` among them")
    if ours := sorted(OURS & config.keys()):
        raise ConfigError(f"{ours[0]} is set by train.gate, take it out of the configuration")
    for key, nothing in LEAVES_OUT.items():
        if config.get(key, nothing) != nothing:
            raise ConfigError(
                f"{key}={config[key]} would leave a part of the set out: take it out of the "
                "configuration and prepare a set of what you want (data.prep.build --classes)"
            )
    config.setdefault("imgsz", IMGSZ)
    try:
        checked(config, _IN_GATE_JSON, "", optional_keys=("iou",), further_keys=True)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    pretrained = config.get("pretrained")
    if isinstance(pretrained, str) and not Path(pretrained).is_file():
        print(f"[gate] {pretrained} is not there: training from the definition of the model")
        config["pretrained"] = False
    return config


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
