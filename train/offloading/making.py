"""The making of a codec's folder: train, write, export for nodes, measure what is lost."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dat_runtime.codec_folder import Description, encoder_file
from dat_runtime.errors import ConfigError
from dat_runtime.files import write_json, write_yaml
from dat_runtime.stage import peak_memory_bytes
from train.offloading import node_graph, training
from train.offloading.codec import Codec, Shape
from train.offloading.folder import write_codec
from train.offloading.frozen import Backbone, load_frozen
from train.offloading.learning import Learner, measure_spread, reconstruction_by_channels
from train.offloading.samples import Grid, Samples
from train.offloading.settings import CodecSettings
from train.offloading.tower import tower_of

PICTURES = 64
"""From which the features' means and deviations are taken, and on which graphs are compared."""


def make_codec(
    folder: Path,
    backbone: Backbone,
    instructions: Path,
    datasets: tuple[str, str],
    config: Mapping[str, Any],
    settings: CodecSettings,
    name: str,
) -> None:
    """Fill the output folder of `train.offload`.

    Args:
        datasets: of the instructions, to learn from and to measure with.
        config: as given, kept beside the codec.
        name: the progress lines begin with it.

    Raises:
        ConfigError: the cut lies beyond the tower.
        DataError: the samples are not `data.prep.instruct`'s.
        DivergedError: the training went wrong.
    """
    import torch

    started = time.monotonic()
    torch.manual_seed(settings.seed)
    model, processor = load_frozen(backbone)
    vision = tower_of(model).config
    if settings.block > vision.depth:
        raise ConfigError(f"block {settings.block}: the vision tower has {vision.depth} blocks")
    shape = Shape(vision.hidden_size, settings.channels[-1], settings.width, settings.spatial)
    learner = Learner(model, processor, Codec(shape), settings)
    learner.codec.to(learner.device)
    train_set, held_out = (Samples(instructions, data, vision.patch_size) for data in datasets)
    print(f"[{name}] {len(train_set)} pictures, {len(held_out)} held out", flush=True)
    first = train_set.of_grid(train_set.grids()[0])[:PICTURES]
    measure_spread(learner, [first[i : i + 8] for i in range(0, len(first), 8)])
    losses = training.train(learner, train_set, folder, name)
    grids = train_set.grids()[: settings.max_grids]
    description = write_codec(
        folder, learner.codec, _fields(backbone, settings, processor, grids, vision.patch_size)
    )
    graphs = {}
    for grid in grids:
        half = node_graph.node_half(learner, grid)
        path = folder / encoder_file(grid)
        node_graph.export(half, path)
        compared = train_set.of_grid(grid)[:PICTURES]
        graphs[path.name] = node_graph.compare(half, path, processor, compared)
    lost = _lost(learner, held_out, settings)
    write_yaml(folder / "config.yaml", dict(config))
    report = {
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_mb": peak_memory_bytes() >> 20,
        "steps": settings.steps,
        "losses": losses,
        "lost_variance": {str(channels): share for channels, share in lost.items()},
        "graphs": graphs,
    }
    write_json(folder / "run.json", report)
    for line in _summary(description, report):
        print(f"[{name}] {line}", flush=True)


def _fields(
    backbone: Backbone, settings: CodecSettings, processor: Any, grids: list[Grid], patch: int
) -> dict[str, Any]:
    """What codec.json states beside the sizes."""
    return {
        **backbone.as_json(),
        "block": settings.block,
        "channels": list(settings.channels),
        "grids": [list(grid) for grid in grids],
        "images": [[columns * patch, rows * patch] for rows, columns in grids],
        "patch": patch,
        "mean": list(processor.image_processor.image_mean),
        "std": list(processor.image_processor.image_std),
    }


def _lost(learner: Learner, held_out: Samples, settings: CodecSettings) -> dict[int, float]:
    """Share of the variance that is lost on pictures that the codec has not seen."""
    grid = held_out.grids()[0]
    there = held_out.of_grid(grid)[:PICTURES]
    size = settings.batch_size
    batches = [(grid, there[start : start + size]) for start in range(0, len(there), size)]
    return reconstruction_by_channels(learner, batches)


def _summary(description: Description, report: Mapping[str, Any]) -> list[str]:
    """For the terminal."""
    lost = ", ".join(
        f"{key} channels {share:.1%}" for key, share in report["lost_variance"].items()
    )
    lines = [f"codec {description.id}; variance lost on held-out pictures: {lost}"]
    for name, found in report["graphs"].items():
        lines.append(
            f"{name}: {found['differing']:,} of {found['bits']:,} bits differ from torch's"
        )
    return lines
