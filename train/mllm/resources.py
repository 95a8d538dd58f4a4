"""Whether a training fits: its peak memory on the card, and its files on the disk."""

import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.files import read_json
from train.mllm.lengths import Lengths
from train.mllm.memory import (
    FLOAT,
    Estimate,
    estimate,
    optimizer_bytes,
    trained_weights,
    weight_bytes,
    worst_batch,
)
from train.mllm.model_sizes import read_model
from train.mllm.qwen2_5_vl import Text, Vision
from train.mllm.run_settings import RunSettings

MARGIN = 1.05
"""Measured peaks are up to this much above the estimate (docs/lora.md)."""

OTHER_FILES = 200 << 20
"""Tokenizer files of checkpoints, logs, LLaMA-Factory's cache of token numbers."""

INDEX = "model.safetensors.index.json"
"""Names the files over which the weights of a large model are spread."""


@dataclass(frozen=True)
class Card:
    """The smallest of the cards that a training uses.

    Attributes:
        memory: bytes.
        count: of all cards, those of other nodes included; a process runs on each.
    """

    name: str
    memory: int
    count: int


def find_card(settings: RunSettings) -> Card | None:
    """The smallest card here; `None` when there is none or the settings use the CPU."""
    if settings.use_cpu:
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    smallest = min(cards, key=lambda card: card.total_memory)
    # As LLaMA-Factory's launcher counts them.
    nodes = int(os.environ.get("NNODES", "1"))
    cards_a_node = int(os.environ.get("NPROC_PER_NODE", len(cards)))
    return Card(smallest.name, smallest.total_memory, nodes * cards_a_node)


def demand_card(settings: RunSettings) -> Card | None:
    """The smallest card here, if the settings do not need one that is not there.

    Raises:
        ConfigError: the settings train in bf16, which takes a card, and there is none.
    """
    card = find_card(settings)
    if card is None and settings.bf16 and not settings.use_cpu:
        raise ConfigError(
            "bf16: true needs a CUDA card, and this machine has none: train where one is, or try "
            "the whole way with the tiny model of the smoke profile (make smoke)"
        )
    return card


def model_sizes(settings: RunSettings) -> tuple[Text, Vision]:
    """The sizes of the base model, from its config.json in its folder or on the hub.

    Raises:
        ModelError: there is no such file, or it is of another family than the template.
    """
    name = settings.model_name_or_path
    path = Path(name) / "config.json"
    if not Path(name).is_dir():
        path = _from_hub(name, settings.model_revision)
    return read_model(config_of(settings, path))


def config_of(settings: RunSettings, path: Path) -> dict[str, Any]:
    """What a base's config.json holds.

    Raises:
        ModelError: it describes another family of models than the template belongs to.
    """
    config = read_json(path, ModelError)
    model_type = config.get("model_type") if isinstance(config, dict) else None
    family = settings.family
    if model_type != family.name:
        raise ModelError(
            f"model_type is {model_type!r}, expected {family.name!r}: the template of this "
            f"configuration is that of {family.title}",
            path,
        )
    return dict(config)


def _from_hub(name: str, revision: str) -> Path:
    """A hub model's config.json, from the cache or the hub; Transformers takes seconds for it."""
    from httpx import HTTPError
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "config.json", revision=revision))
    except (OSError, ValueError, HTTPError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{name} at {revision}: its config.json cannot be read ({first})"
        ) from None


def estimated(
    settings: RunSettings,
    sizes: tuple[Text, Vision],
    lengths: Lengths,
    card: Card | None,
    inputs_copied: bool = False,
) -> Estimate:
    """Peak memory of the worst batch, as `train.lora` runs it.

    Without a card here it is still that of a card, unless the run is meant for the CPU.

    Args:
        inputs_copied: as of `memory.estimate`; not so in `train.lora`.
    """
    learnt = lengths.tokens if settings.needs_all_logits else lengths.answer_tokens
    samples = list(zip(lengths.tokens, lengths.image_tokens, learnt, strict=True))
    batch = worst_batch(samples, settings.per_device_train_batch_size)
    processes = card.count if card else 1
    return estimate(sizes, settings, batch, processes=processes, inputs_copied=inputs_copied)


def demand_memory(
    settings: RunSettings,
    sizes: tuple[Text, Vision],
    lengths: Lengths,
    card: Card | None,
) -> Estimate:
    """The estimate, if the card has that much and a margin.

    Raises:
        ConfigError: it has not; names changes of the settings that would fit.
    """
    needed = estimated(settings, sizes, lengths, card)
    if card is None or needed.peak * MARGIN <= card.memory:
        return needed
    fitting = []
    for change in smaller(settings):
        changed = estimated(replace(settings, **change), sizes, lengths, card)
        if changed.peak * MARGIN <= card.memory:
            keys = " ".join(f"{key}={value}" for key, value in change.items())
            fitting.append(f"{keys} ({changed.peak / 1e9:.1f} GB)")
    fix = " or ".join(fitting) or "a card with more memory, or DeepSpeed ZeRO-3 on several"
    raise ConfigError(
        f"an estimated {needed.peak / 1e9:.1f} GB, and {MARGIN - 1:.0%} to be safe, are more than "
        f"the {card.memory / 1e9:.1f} GB of {card.name}: use {fix}; --ignore-memory trains all "
        f"the same\n{needed.table()}"
    )


def smaller(settings: RunSettings) -> Iterator[dict[str, Any]]:
    """Changes that need less memory, gentlest first; the same number of samples a step."""
    if not settings.checkpointing:
        yield {"disable_gradient_checkpointing": False}
    size = settings.per_device_train_batch_size
    steps = settings.gradient_accumulation_steps
    smaller_batches = [
        {
            "per_device_train_batch_size": size // divisor,
            "gradient_accumulation_steps": steps * divisor,
        }
        for divisor in (2, 4, 8)
        if size % divisor == 0
    ]
    yield from smaller_batches
    if not settings.quantization_bit:
        yield {"quantization_bit": 4}
        if smaller_batches:
            yield {"quantization_bit": 4, **smaller_batches[-1]}


def demand_disk(
    settings: RunSettings,
    sizes: tuple[Text, Vision],
    samples: int,
    folder: Path,
    processes: int,
) -> int:
    """Bytes that the run will write below `folder`, if they are free there.

    Checkpoints hold the trained weights and the optimizer's state; one is written before the oldest
    goes. A base that is not in the hub's cache is downloaded whole.

    Raises:
        ConfigError: they are not; says which disk, and what to change.
    """
    kept = checkpoints_kept(settings, samples, processes)
    checkpoint = checkpoint_bytes(settings, sizes)
    # Checkpoints of an earlier start will be replaced, so their room counts as free.
    earlier = folder.glob("work/checkpoint-*/**/*")
    replaced = sum(file.stat().st_size for file in earlier if file.is_file())
    needed = max(0, disk_needed(settings, sizes, samples, processes) - replaced)
    demand_free(
        folder,
        needed,
        f"{kept} checkpoints of {checkpoint / 1e9:.2f} GB and the adapter",
        "free some, name another --out, or set a smaller save_total_limit",
    )
    name = settings.model_name_or_path
    if not Path(name).is_dir() and not in_cache(name, settings.model_revision):
        from huggingface_hub.constants import HF_HUB_CACHE

        # The files on the hub hold bf16, whatever the weights become when they are loaded.
        as_published = replace(settings, quantization_bit=None, bf16=True)
        demand_free(
            Path(HF_HUB_CACHE),
            round(weight_bytes(*sizes, as_published)),
            f"the download of {name}",
            "free some, or set HF_HOME to a larger disk",
        )
    return needed


def checkpoint_bytes(settings: RunSettings, sizes: tuple[Text, Vision]) -> int:
    """Of one checkpoint: the trained weights and the optimizer's state."""
    return (FLOAT + optimizer_bytes(settings)) * trained_weights(*sizes, settings)


def disk_needed(
    settings: RunSettings, sizes: tuple[Text, Vision], samples: int, processes: int
) -> int:
    """Bytes of all that a run has on the disk at once."""
    kept = checkpoints_kept(settings, samples, processes)
    adapter = FLOAT * trained_weights(*sizes, settings)
    return kept * checkpoint_bytes(settings, sizes) + adapter + OTHER_FILES


def demand_free(folder: Path, needed: int, what: str, fix: str) -> None:
    """Refuse when the disk of a folder, which may not be there yet, has less free than that."""
    parents = (folder.absolute(), *folder.absolute().parents)
    existing = next(path for path in parents if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ConfigError(
            f"{folder}: {needed / 1e9:.1f} GB are needed for {what}, {free / 1e9:.1f} GB are free "
            f"there: {fix}"
        )


def steps_of(settings: RunSettings, samples: int, processes: int) -> int:
    """Steps of the whole run."""
    if settings.max_steps >= 1:
        return settings.max_steps
    steps_an_epoch = math.ceil(samples / settings.samples_a_step(processes))
    return math.ceil(settings.num_train_epochs * steps_an_epoch)


def checkpoints_written(settings: RunSettings, samples: int, processes: int) -> int:
    """How many checkpoints the whole run writes."""
    if settings.save_strategy == "no":
        return 0
    steps = steps_of(settings, samples, processes)
    if settings.save_strategy == "epoch":
        steps_between: float = math.ceil(samples / settings.samples_a_step(processes))
    elif settings.save_steps < 1:
        steps_between = settings.save_steps * steps
    else:
        steps_between = settings.save_steps
    return math.ceil(steps / max(1, steps_between))


def checkpoints_kept(settings: RunSettings, samples: int, processes: int) -> int:
    """How many checkpoints are on the disk at once, at most."""
    written = checkpoints_written(settings, samples, processes)
    if settings.save_total_limit:
        # The oldest goes once the new one is written.
        return min(written, settings.save_total_limit + 1)
    return written


def in_cache(name: str, revision: str) -> bool:
    """Whether every weight file of a hub model is in the cache at that revision."""
    from huggingface_hub import try_to_load_from_cache

    def cached(file: str) -> Path | None:
        path = try_to_load_from_cache(name, file, revision=revision)
        return Path(path) if isinstance(path, str) else None

    index = cached(INDEX)
    if index is None:
        return cached("model.safetensors") is not None
    parts = set(read_json(index, ModelError)["weight_map"].values())
    return all(cached(part) for part in parts)
