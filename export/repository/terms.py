"""The terms under which a bundle is published, taken from what it is made of."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.adapter import CONFIG, WEIGHTS, read_header
from dat_runtime.base_identity import difference
from dat_runtime.edge.bundle import open_bundle
from dat_runtime.edge.updates.offer import Terms, gate_digest
from dat_runtime.edge.updates.processor import FILES, processor_digest
from dat_runtime.errors import ConfigError, DataError, ModelError
from dat_runtime.fields import NAME, above, checked, number, shown
from dat_runtime.files import read_json

MOST_BYTES = 1 << 20

FIGURE = number(-1e300, 1e300)
_FACTOR = ".lora_A.weight"


def terms_of(
    bundle: Path, base: str, scores: Path, *, release: int, runtime: str, rollout: float
) -> Terms:
    """The terms of a bundle, which is opened as a node opens it.

    Args:
        base: the base model's folder, or its hub name where this machine has it in its cache.
        scores: a `scores.json` of the adapter.
        release, runtime, rollout: see `Terms`.

    Raises:
        DatError: the bundle, the base or the scores are not what they should be.
    """
    opened = open_bundle(bundle)
    try:
        told = checked(
            opened.manifest.config,
            {"base": NAME, "revision": NAME},
            "config",
            further_keys=True,
        )
    except ValueError as error:
        raise DataError(str(error), bundle / manifest.NAME) from None
    return Terms(
        release=release,
        base=told["base"],
        base_revision=told["revision"],
        processor=processor_digest(_base_folder(base, told["base"], told["revision"])),
        rank=opened.adapter.rank,
        alpha=float(_alpha(bundle / "adapter" / CONFIG)),
        modules=_modules(bundle / "adapter" / WEIGHTS),
        gate=gate_digest(opened.manifest.outputs),
        **{name: opened.manifest.versions[name] for name in manifest.VERSIONS},
        runtime=runtime,
        metrics=read_metrics(scores),
        rollout=rollout,
    )


def read_metrics(scores: Path) -> dict[str, float]:
    """The figures of a `scores.json`, without their intervals; what was not measured is left out.

    Raises:
        DataError: it is none.
    """
    missing = "make eval makes it, or eval.score"
    value = read_json(scores, DataError, missing=missing, most_bytes=MOST_BYTES, strict=True)
    if not isinstance(value, dict):
        raise DataError("is no scores.json of eval.score", scores)
    metrics = {}
    for name, entry in value.items():
        figure = entry.get("value") if isinstance(entry, dict) else entry
        if figure is None:
            continue
        if not FIGURE.holds(figure):
            raise DataError(f"{name} is {shown(figure)}, expected {FIGURE.expected}", scores)
        metrics[name] = figure
    if "n" not in metrics:
        raise DataError("has no n: it is no scores.json of eval.score", scores)
    return metrics


def _alpha(path: Path) -> Any:
    config = read_json(path, DataError, most_bytes=MOST_BYTES)
    try:
        fields: Mapping[str, Any] = checked(
            config, {"lora_alpha": above(0, 1e6)}, "", further_keys=True
        )
    except ValueError as error:
        raise DataError(str(error), path) from None
    return fields["lora_alpha"]


def _modules(weights: Path) -> tuple[str, ...]:
    """The kinds of modules that have factors, such as q_proj."""
    try:
        with weights.open("rb") as file:
            tensors = read_header(file, weights.stat().st_size)
    except (OSError, ValueError) as error:
        raise ModelError(str(error), weights) from None
    names = (t.name.removesuffix(_FACTOR) for t in tensors if t.name.endswith(_FACTOR))
    return tuple(sorted({name.rpartition(".")[2] for name in names}))


def _base_folder(base: str, name: str, revision: str) -> Path:
    """The folder of the model that the bundle's adapter belongs to.

    Raises:
        ConfigError: it is another model, or is not on this machine.
    """
    folder = Path(base)
    if folder.is_dir():
        why = difference(folder, name, revision)
        if why is not None:
            raise ConfigError(
                f"{base} is another base than the bundle's, {name} at {revision}: {why}"
            )
        return folder
    if base != name or not re.fullmatch(r"[\w.-]+/[\w.-]+", base):
        raise ConfigError(f"{base} is neither a folder nor the bundle's base, {name}")
    from huggingface_hub import try_to_load_from_cache

    for file in FILES:
        path = try_to_load_from_cache(name, file, revision=revision)
        if isinstance(path, str):
            return Path(path).parent
    raise ConfigError(
        f"{name}, revision {revision}, is not in this machine's cache: name its folder"
    )
