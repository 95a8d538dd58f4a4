"""Whether every part of an adapter has its place in a base model, so that it loads whole.

A loader takes what it finds by name: a weight under another name is left out with a warning,
and a module that the file leaves out stays as it was. Both answer: as the base, or as half an
adapter.
"""

from collections.abc import Collection
from pathlib import Path

from dat_runtime.adapter import CONFIG, WEIGHTS, endings, pairs, read_header
from dat_runtime.errors import ModelError
from dat_runtime.files import read_json

MOST = 3
"""Names in a message."""


def demand_whole(folder: Path, modules: Collection[str]) -> None:
    """Refuse an adapter of which a part would not be loaded, or a part is not there.

    Args:
        folder: an adapter that `adapter.read_adapter` takes.
        modules: names of all modules of the base.

    Raises:
        ModelError: names what has no place in the base, or what the file leaves out.
    """
    config = read_json(folder / CONFIG, ModelError)
    path = folder / WEIGHTS
    try:
        targets = set(config["target_modules"])
        with path.open("rb") as file:
            tuned = pairs(read_header(file, path.stat().st_size), config["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"is not a LoRA adapter of PEFT ({error})", path) from None
    lost = tuned.keys() - modules
    if lost:
        raise ModelError(
            f"{len(lost)} of {len(tuned)} modules have no place in the base, such as "
            f"{_some(lost)}: they would be left out. Name them as Transformers does "
            "(model.language_model.layers.0.self_attn.q_proj), or train the adapter for this base",
            path,
        )
    absent = {name for name in modules if targets & set(endings(name))} - tuned.keys()
    if absent:
        raise ModelError(
            f"holds nothing for {len(absent)} of {len(absent) + len(tuned)} modules that its "
            f"target_modules name, such as {_some(absent)}: a part of the adapter is missing",
            path,
        )


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:MOST])
