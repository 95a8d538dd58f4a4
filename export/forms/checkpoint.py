"""A model's safetensors files, changed tensor by tensor: no model is built, one file is in memory.

A conversion that was cut off goes on at the file that it had not finished.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dat_runtime.errors import DataError
from dat_runtime.files import read_json, write_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"

BESIDE = (
    *("generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("video_preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"),
    *("chat_template.json", "chat_template.jinja"),
)
"""What a server reads beside weights and configuration; of these, what the base has."""

Change = Callable[[str, Any], Mapping[str, Any]]
"""What is written for a tensor of that name: it changed, or several in its place."""


def model_folder(name: str, revision: str | None) -> Path:
    """The folder of a model; one of the hub is fetched, or taken from the hub's cache.

    Raises:
        DataError: there is none, and it cannot be fetched.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    wanted = ["*.safetensors", INDEX, CONFIG, *BESIDE]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (OSError, ValueError) as error:  # httpx's errors are OSErrors to the hub's library
        raise DataError(f"{name} is no folder and cannot be fetched ({error})") from None


def weight_files(folder: Path) -> list[str]:
    """The names of the files that hold a model's weights.

    Raises:
        DataError: there are none.
    """
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX)
        return sorted(set(index["weight_map"].values()))
    if not (folder / WEIGHTS).is_file():
        raise DataError(f"holds neither {WEIGHTS} nor {INDEX}", folder)
    return [WEIGHTS]


def tensor_names(folder: Path) -> set[str]:
    """The names of all weights of a model."""
    from safetensors import safe_open

    names: set[str] = set()
    for file in weight_files(folder):
        with safe_open(folder / file, "pt") as tensors:
            names.update(tensors.keys())
    return names


def convert(source: Path, target: Path, change: Change, say: Callable[[str], None]) -> None:
    """Write the weights of `source`, each as `change` gives it, and copy what a server reads.

    `config.json` is the caller's.
    """
    files = weight_files(source)
    for number, file in enumerate(files, 1):
        if (target / file).is_file():
            say(f"file {number} of {len(files)} is there already")
            continue
        _convert_file(source / file, target / file, change)
        say(f"file {number} of {len(files)} written")
    _write_index(target, files)
    for name in BESIDE:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _convert_file(source: Path, target: Path, change: Change) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    changed: dict[str, Any] = {}
    with safe_open(source, "pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 (no mapping)
            changed.update(change(name, tensors.get_tensor(name)))
    unfinished = target.with_name(f".{target.name}.new")
    save_file(changed, unfinished, metadata={"format": "pt"})
    unfinished.chmod(0o644)
    unfinished.replace(target)


def _write_index(folder: Path, files: Iterable[str]) -> None:
    """Which file holds which tensor; one file alone needs no index."""
    from safetensors import safe_open

    weight_map: dict[str, str] = {}
    total = 0
    for file in files:
        total += (folder / file).stat().st_size
        with safe_open(folder / file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                weight_map[name] = file
    if len(set(weight_map.values())) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_config(source: Path, target: Path, **changes: Any) -> None:
    """Write `config.json` with further or other keys at its top."""
    config = read_json(source / CONFIG) | changes
    (target / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
