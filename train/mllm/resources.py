"""Whether a training fits: its peak memory on the card, and its files on the disk."""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError, ModelError
from train.mllm.lengths import Lengths
from train.mllm.memory import (
    Estimate,
    estimate,
    read_recipe,
    trained_weights,
    weight_bytes,
    worst_batch,
)
from train.mllm.model_sizes import Text, Vision, read_model

MARGIN = 1.05
"""Measured peaks are up to this much above the estimate (docs/lora.md)."""

OTHER_FILES = 200 << 20
"""Tokenizer files of checkpoints, logs, LLaMA-Factory's cache of token numbers."""

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Card:
    """The smallest of the cards that a training uses."""

    name: str
    memory: int
    count: int


def find_card(config: Mapping[str, Any]) -> Card | None:
    """The card here, `None` when there is none or the configuration uses none."""
    import torch

    if config.get("use_cpu") or not torch.cuda.is_available():
        return None
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    smallest = min(cards, key=lambda card: card.total_memory)
    nodes = int(os.environ.get("NNODES", "1"))
    here = int(os.environ.get("NPROC_PER_NODE", len(cards)))
    return Card(smallest.name, smallest.total_memory, nodes * here)


def model_sizes(config: Mapping[str, Any]) -> tuple[Text, Vision]:
    """The sizes of the base model, from its config.json in its folder or on the hub.

    Raises:
        ModelError: there is no such file.
    """
    from transformers.utils import cached_file

    name = config["model_name_or_path"]
    try:
        path = cached_file(name, "config.json", revision=config.get("model_revision", "main"))
        return read_model(json.loads(Path(str(path)).read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise ModelError(f"{name}: its config.json cannot be read ({error})") from None


def estimated(
    config: Mapping[str, Any], sizes: tuple[Text, Vision], lengths: Lengths, card: Card | None
) -> Estimate:
    """Peak memory of the worst batch, as `train.lora` runs it."""
    size = int(config.get("per_device_train_batch_size", 8))
    samples = list(zip(lengths.tokens, lengths.image_tokens, strict=True))
    # Without a card here the answer is that of a card, unless the run is meant for the CPU.
    cuda = not config.get("use_cpu", False)
    recipe = read_recipe(config, sizes[0], world=card.count if card else 1, cuda=cuda)
    return estimate(sizes, recipe, worst_batch(samples, size))


def demand_memory(
    config: Mapping[str, Any],
    sizes: tuple[Text, Vision],
    lengths: Lengths,
    card: Card | None,
) -> Estimate:
    """The estimate, if the card has that much and a margin.

    Raises:
        ConfigError: it has not; names changes of the configuration that would fit.
    """
    found = estimated(config, sizes, lengths, card)
    if card is None or found.peak * MARGIN <= card.memory:
        return found
    fitting = [
        f"{' '.join(f'{k}={v}' for k, v in change.items())} ({then.peak / 1e9:.1f} GB)"
        for change in smaller(config)
        if (then := estimated({**config, **change}, sizes, lengths, card)).peak * MARGIN
        <= card.memory
    ]
    fix = " or ".join(fitting) or "a card with more memory, or DeepSpeed ZeRO-3 on several"
    raise ConfigError(
        f"an estimated {found.peak / 1e9:.1f} GB, and {MARGIN - 1:.0%} to be safe, are more than "
        f"the {card.memory / 1e9:.1f} GB of {card.name}: use {fix}; --ignore-memory trains all "
        f"the same\n{found.table()}"
    )


def smaller(config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Changes that need less memory, gentlest first; the same number of samples a step."""
    if config.get("disable_gradient_checkpointing"):
        yield {"disable_gradient_checkpointing": False}
    size = int(config.get("per_device_train_batch_size", 8))
    steps = int(config.get("gradient_accumulation_steps", 1))
    halves = [
        {"per_device_train_batch_size": size // n, "gradient_accumulation_steps": steps * n}
        for n in (2, 4, 8)
        if size % n == 0
    ]
    yield from halves
    if not config.get("quantization_bit"):
        yield {"quantization_bit": 4}
        if halves:
            yield {"quantization_bit": 4, **halves[-1]}


def demand_disk(
    config: Mapping[str, Any], sizes: tuple[Text, Vision], samples: int, folder: Path, world: int
) -> int:
    """Bytes that the run will write below `folder`, if they are free there.

    Checkpoints hold the trained weights and the optimizer's state; one is written before the oldest
    goes. A base that is not in the hub's cache is downloaded whole.

    Raises:
        ConfigError: they are not; says which disk, and what to change.
    """
    recipe = read_recipe(config, sizes[0], world=world, cuda=True)
    trained = trained_weights(*sizes, recipe)
    checkpoint = (4 + recipe.optimizer_bytes) * trained
    kept = checkpoints_kept(config, samples, world)
    there = folder.glob("work/checkpoint-*/**/*")  # of an earlier start: these will be replaced
    written = sum(file.stat().st_size for file in there if file.is_file())
    need = max(0, kept * checkpoint + 4 * trained + OTHER_FILES - written)
    demand_free(
        folder,
        need,
        f"{kept} checkpoints of {checkpoint / 1e9:.2f} GB and the adapter",
        "free some, name another --out, or set a smaller save_total_limit",
    )
    name = config["model_name_or_path"]
    if not Path(name).is_dir() and not in_cache(name, config["model_revision"]):
        from huggingface_hub.constants import HF_HUB_CACHE

        whole = read_recipe({**config, "quantization_bit": None, "bf16": True}, sizes[0], cuda=True)
        demand_free(
            Path(HF_HUB_CACHE),
            round(weight_bytes(*sizes, whole)),
            f"the download of {name}",
            "free some, or set HF_HOME to a larger disk",
        )
    return need


def demand_free(folder: Path, need: int, what: str, fix: str) -> None:
    """Refuse when the disk of a folder, which may not be there yet, has less free than that."""
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free < need:
        raise ConfigError(
            f"{folder}: {need / 1e9:.1f} GB are needed for {what}, {free / 1e9:.1f} GB are free "
            f"there: {fix}"
        )


def checkpoints_kept(config: Mapping[str, Any], samples: int, world: int) -> int:
    """How many checkpoints are on the disk at once, at most."""
    if config.get("save_strategy", "steps") == "no":
        return 0
    a_step = int(config.get("per_device_train_batch_size", 8)) * world
    a_step *= int(config.get("gradient_accumulation_steps", 1))
    an_epoch = math.ceil(samples / a_step)
    steps = int(config.get("max_steps", -1))
    if steps < 1:
        steps = math.ceil(float(config.get("num_train_epochs", 3)) * an_epoch)
    every = config.get("save_steps", 500) if config.get("save_strategy") != "epoch" else an_epoch
    every = every * steps if every < 1 else every  # below 1 it is a share of all steps
    written = math.ceil(steps / max(1, every))
    limit = config.get("save_total_limit")
    return min(written, int(limit) + 1) if limit else written


def in_cache(name: str, revision: str) -> bool:
    """Whether every weight file of a hub model is in the cache at that revision."""
    from huggingface_hub import try_to_load_from_cache

    def cached(file: str) -> Path | None:
        found = try_to_load_from_cache(name, file, revision=revision)
        return Path(found) if isinstance(found, str) else None

    if index := cached(INDEX):
        parts = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        return all(cached(part) for part in parts)
    return cached("model.safetensors") is not None
