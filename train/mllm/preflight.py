"""The checks before a LoRA run spends an hour, and their report; a refusal says what to change.

The base (architecture, pinned revision, the base of an adapter to go on from), every sample's
length and image against the base's processor, the card's memory, the disk.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.adapter import CONFIG
from dat_runtime.adapter_place import demand_whole
from dat_runtime.base_identity import difference
from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.files import read_json
from train.mllm import lengths, resources
from train.mllm.lengths import Lengths
from train.mllm.memory import Estimate
from train.mllm.run_settings import RunSettings

EARLIER = ("adapter_name_or_path", "resume_from_checkpoint")
"""LLaMA-Factory's keys that name an adapter to go on from."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Report:
    """The preflight report of a run.

    Attributes:
        card: None where the run has none to compare the memory with.
        disk: bytes that the run will write.
        dataset: sha256 of the samples' file; their images are in the instructions' manifest.
        seconds: duration of the preflight.
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
            compared = f"{share:.0%} of {self.card.memory / 1e9:.1f} GB ({self.card.name})"
        else:
            compared = "no card here to compare it with"
        disk = f"disk {self.disk / 1e9:.1f} GB"
        samples = f"samples' sha256 {self.dataset[:12]}"
        return [self.lengths.summary(), f"{peak}, {compared}; {disk}; {samples}"]

    def as_json(self) -> dict[str, Any]:
        """For run.json."""
        parts = self.memory.resident | self.memory.kept | self.memory.moments
        return {
            "preflight_seconds": round(self.seconds, 1),
            "tokens": self.lengths.as_json(),
            "memory": {"peak": self.memory.peak, "parts": parts},
            "dataset": {"samples": len(self.lengths.tokens), "sha256": self.dataset},
        }


def check(
    settings: RunSettings,
    out: Path,
    report_progress: Callable[[str], None],
    ignore_memory: bool = False,
) -> Report:
    """Check a run before it starts; leaves lengths.png in `out`.

    Args:
        report_progress: takes a line while the samples are checked.
        ignore_memory: estimate the memory, and refuse nothing because of it.

    Raises:
        DataError: names the sample that would be cut, or whose image would be resized again.
        ModelError: the base or its processor cannot be loaded.
        ConfigError: card or disk are too small; says what would fit.
    """
    started = time.monotonic()
    demand_earlier_whole(settings)
    dataset = settings.dataset
    measured = lengths.measure(settings, report_progress)
    samples = len(measured.tokens)
    measured.save_plot(out / lengths.PLOT, f"{dataset}: {samples} samples")
    sizes = resources.model_sizes(settings)
    card = resources.find_card(settings)
    if ignore_memory:
        memory = resources.estimated(settings, sizes, measured, card)
    else:
        memory = resources.demand_memory(settings, sizes, measured, card)
    processes = card.count if card else 1
    disk = resources.demand_disk(settings, sizes, samples, out, processes)
    files = lengths.samples_files(Path(settings.dataset_dir), dataset)
    seconds = time.monotonic() - started
    return Report(measured, memory, card, disk, _digest(files), seconds)


def _digest(files: Mapping[str, Path]) -> str:
    """sha256 of the samples' file; of several, over theirs in the order of the samples."""
    digests = [manifest.digest(file) for file in files.values()]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def base_folder(settings: RunSettings) -> Path | None:
    """The folder of a local base model; `None` where the base is a hub name.

    Raises:
        ModelError: the folder does not hold a model of the template's family.
        ConfigError: the base is neither, the hub name comes without a pinned revision, or it cannot
            be downloaded and the cache holds other revisions only.
    """
    name = settings.model_name_or_path
    folder = Path(name)
    if folder.is_dir():
        resources.config_of(settings, folder / "config.json")
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ConfigError(f"{name} is neither a folder nor a model's hub name")
    revision = settings.model_revision
    if not _COMMIT.fullmatch(revision):
        raise ConfigError(
            f"model_revision is {revision!r}: pin the 40-digit commit of {name}, so that the "
            "adapter states which base it belongs to"
        )
    demand_cached_or_online(name, revision)
    return None


def demand_cached_or_online(name: str, revision: str) -> None:
    """Refuse a base that is in the cache at another revision only, when nothing is downloaded."""
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    offline = HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE") == "1"
    snapshots = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots"
    cached = []
    if snapshots.is_dir():
        cached = sorted(snapshot.name for snapshot in snapshots.iterdir())
    if offline and cached and revision not in cached:
        raise ConfigError(
            f"{name}: the cache holds revision {', '.join(cached)}, model_revision pins {revision} "
            "and HF_HUB_OFFLINE forbids its download: allow it, or pin the revision that is there"
        )


def demand_prompts(settings: RunSettings) -> None:
    """Refuse instructions in the words and coordinates of another family than the base's.

    Raises:
        ConfigError: says how they are made for this one.
    """
    stated = manifest.read(Path(settings.dataset_dir), "instructions").family
    if stated is not settings.family:
        raise ConfigError(
            f"{settings.dataset_dir} asks as {stated.title} is asked, template "
            f"{settings.template} is that of {settings.family.title}, which counts coordinates "
            f"otherwise: data.prep.instruct --family {settings.family.name}"
        )


def demand_same_base(settings: RunSettings) -> None:
    """Refuse to go on from an adapter that states another base than this run's.

    Raises:
        ModelError: names the adapter, its base and this one.
    """
    for key in EARLIER:
        paths = getattr(settings, key) or ""
        for path in paths.split(","):
            # `resume_from_checkpoint` may be true: go on from the newest in the output folder.
            if path.strip() and path.strip().lower() not in ("true", "false"):
                _demand_base_of(Path(path.strip()), key, settings)


def _demand_base_of(folder: Path, key: str, settings: RunSettings) -> None:
    """Compare the base that an adapter states with this run's.

    PEFT leaves the revision open in checkpoints; there the name decides.
    """
    base = settings.model_name_or_path
    try:
        stated = read_json(folder / CONFIG, ModelError)
        name, revision = str(stated["base_model_name_or_path"]), stated.get("revision")
    except (ModelError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{key}: {folder} does not hold an adapter of PEFT ({error!r})") from None
    if revision is not None:
        why = _another(settings, name, str(revision))
        if why is not None:
            raise ModelError(
                f"{key}: {folder} was trained for {name} at revision {revision}, this base is "
                f"{base}: {why}; go on with the base that it was trained for, or begin anew"
            )
    if revision is None and Path(name).name != Path(base).name:
        raise ModelError(
            f"{key}: {folder} was trained for {name}, this base is {base}: go on with the base "
            "that it was trained for, or begin anew"
        )


def demand_earlier_whole(settings: RunSettings) -> None:
    """Refuse to go on from an adapter of which PEFT would leave a part out.

    Raises:
        ModelError: names what has no place in the base, or is not there.
    """
    if not settings.adapter_name_or_path:
        return
    modules = module_names(settings.model_name_or_path, settings.model_revision)
    for path in settings.adapter_name_or_path.split(","):
        demand_whole(Path(path.strip()), modules)


def module_names(name: str, revision: str) -> set[str]:
    """Names of all modules of a base, from its configuration alone."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(
            AutoConfig.from_pretrained(name, revision=revision)
        )
    return set(dict(model.named_modules()))


def base_revision(settings: RunSettings) -> str:
    """The revision of its base that an adapter states: a folder's sha256, or the pinned commit."""
    folder = Path(settings.model_name_or_path)
    return manifest.digest(folder, "base") if folder.is_dir() else settings.model_revision


def _another(settings: RunSettings, name: str, revision: str) -> str | None:
    """Why this run's base is not the one stated, in words; None where it is."""
    folder = Path(settings.model_name_or_path)
    if folder.is_dir():
        return difference(folder, name, revision)
    here = settings.model_revision
    return None if here == revision else f"it is at revision {here}"
