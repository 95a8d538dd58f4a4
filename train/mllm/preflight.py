"""What is checked before a LoRA run spends an hour; each refusal says what to change.

The base (architecture, pinned revision, what an earlier adapter was trained for), every sample's
length and image against the base's processor, the card's memory, the disk.
"""

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.adapter import CONFIG
from dat_runtime.errors import ConfigError, ModelError
from train.mllm import lengths, resources
from train.mllm.lengths import Lengths
from train.mllm.memory import Estimate

MODEL_TYPE = "qwen2_5_vl"
EARLIER = ("adapter_name_or_path", "resume_from_checkpoint")
"""LLaMA-Factory's keys that name an adapter to go on from."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Report:
    """What a run will be, as far as it can be told before.

    Attributes:
        disk: bytes that it will write.
        dataset: sha256 of the samples' file; their images are in the instructions' manifest.
        seconds: that the preflight took.
    """

    lengths: Lengths
    memory: Estimate
    card: resources.Card | None
    disk: int
    dataset: str
    seconds: float

    def lines(self) -> list[str]:
        """For the terminal."""
        peak = f"peak memory, estimated: {self.memory.peak / 1e9:.1f} GB"
        if self.card:
            share = self.memory.peak / self.card.memory
            of = f"{share:.0%} of {self.card.memory / 1e9:.1f} GB ({self.card.name})"
        else:
            of = "no card here to compare it with"
        return [
            self.lengths.summary(),
            f"{peak}, {of}; disk {self.disk / 1e9:.1f} GB; samples' sha256 {self.dataset[:12]}",
        ]

    def as_json(self) -> dict[str, Any]:
        """For run.json."""
        memory = {**self.memory.resident, **self.memory.kept, **self.memory.moments}
        return {
            "preflight_seconds": round(self.seconds, 1),
            "tokens": self.lengths.as_json(),
            "memory": {"peak": self.memory.peak, "parts": memory},
            "dataset": {"samples": len(self.lengths.tokens), "sha256": self.dataset},
        }


def check(
    config: Mapping[str, Any],
    out: Path,
    say: Callable[[str], None],
    ignore_memory: bool = False,
) -> Report:
    """Check a run before it starts; leaves lengths.png in `out`.

    Raises:
        DataError: names the sample that would be cut, or whose image would be resized again.
        ModelError: the base or its processor cannot be loaded.
        ConfigError: card or disk are too small; says what would fit.
    """
    started = time.monotonic()
    found = lengths.measure(config, say)
    dataset = config["dataset"]
    found.save_plot(out / lengths.PLOT, f"{dataset}: {len(found.tokens)} samples")
    sizes = resources.model_sizes(config)
    card = resources.find_card(config)
    if ignore_memory:
        memory = resources.estimated(config, sizes, found, card)
    else:
        memory = resources.demand_memory(config, sizes, found, card)
    world = card.count if card else 1
    disk = resources.demand_disk(config, sizes, len(found.tokens), out, world)
    path = lengths.samples_file(Path(config["dataset_dir"]), dataset)
    seconds = time.monotonic() - started
    return Report(found, memory, card, disk, manifest.digest(path), seconds)


def base_folder(name: str, config: Mapping[str, Any]) -> Path | None:
    """The folder of a local base model; `None` for a hub name.

    Raises:
        ModelError: the folder holds no Qwen2.5-VL.
        ConfigError: the name is neither, the hub name comes without a pinned revision, or it cannot
            be downloaded and the cache holds other revisions only.
    """
    folder = Path(name)
    if folder.is_dir():
        demand_model_type(folder / "config.json")
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ConfigError(f"{name} is neither a folder nor a model's hub name")
    revision = config.get("model_revision")
    if not isinstance(revision, str) or not _COMMIT.fullmatch(revision):
        raise ConfigError(
            f"model_revision is {revision!r}: pin the 40-digit commit of {name}, so that the "
            "adapter says what it belongs to"
        )
    demand_cached_or_online(name, revision)
    return None


def demand_cached_or_online(name: str, revision: str) -> None:
    """Refuse a base that is in the cache at another revision only, when nothing is downloaded."""
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    offline = HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE") == "1"
    snapshots = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots"
    cached = sorted(p.name for p in snapshots.iterdir()) if snapshots.is_dir() else []
    if offline and cached and revision not in cached:
        raise ConfigError(
            f"{name}: the cache holds revision {', '.join(cached)}, model_revision pins {revision} "
            "and HF_HUB_OFFLINE forbids its download: allow it, or pin the revision that is there"
        )


def demand_model_type(path: Path) -> None:
    """Refuse a folder whose config.json describes another architecture."""
    try:
        found = json.loads(path.read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: no model configuration ({error})") from None
    if found != MODEL_TYPE:
        raise ModelError(f"{path}: model_type is {found!r}, expected {MODEL_TYPE!r}")


def demand_same_base(config: Mapping[str, Any]) -> None:
    """Refuse to go on from an adapter that states another base than this run's.

    Raises:
        ModelError: names the adapter, its base and this one.
    """
    for key in EARLIER:
        for folder in str(config.get(key) or "").split(","):
            if folder.strip() and folder.strip().lower() not in ("true", "false"):
                _demand_base_of(Path(folder.strip()), key, config)


def _demand_base_of(folder: Path, key: str, config: Mapping[str, Any]) -> None:
    base = str(config["model_name_or_path"])
    try:
        stated = json.loads((folder / CONFIG).read_text("utf-8"))
        name, revision = str(stated["base_model_name_or_path"]), stated.get("revision")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{key}: {folder} holds no adapter of PEFT ({error!r})") from None
    here = base_revision(base, config)
    if revision is not None and revision != here:
        raise ModelError(
            f"{key}: {folder} was trained for {name} at revision {revision}, this base is {base} "
            f"at {here}: go on with the base that it was trained for, or begin anew"
        )
    if revision is None and Path(name).name != Path(base).name:
        raise ModelError(
            f"{key}: {folder} was trained for {name}, this base is {base}: go on with the base "
            "that it was trained for, or begin anew"
        )


def base_revision(name: str, config: Mapping[str, Any]) -> str:
    """What an adapter states of its base: a folder's sha256, or the pinned commit."""
    return manifest.digest(Path(name)) if Path(name).is_dir() else str(config["model_revision"])
