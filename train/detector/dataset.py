"""What Ultralytics is given of a prepared set: links to its files, and what it must find there."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dat_runtime import manifest
from dat_runtime.errors import ConfigError, DataError
from dat_runtime.files import write_atomically
from dat_runtime.types import ONE_CLASS, SEVERITIES, Severity

SPLITS = ("train", "val", "test")


def classes_of(config: Mapping[str, Any]) -> tuple[Severity | None, ...]:
    """Per class of the model its severity; the one class of `single_cls` has none."""
    return (None,) if config.get("single_cls") else SEVERITIES


def names_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(severity or ONE_CLASS for severity in classes_of(config))


def demand_classes(data: Path, config: Mapping[str, Any]) -> None:
    """Refuse a set whose labels are of one class for a gate of two: it would learn severity from
    nothing. The other way round is no trouble.

    Raises:
        ConfigError: such a set.
        ManifestError: it is no prepared set.
    """
    labelled = manifest.read(data, kind="data").config
    if labelled.get("single_class") and not config.get("single_cls"):
        raise ConfigError(
            f"{data} has labels of a single class, a two-class gate needs moderate and severe: "
            "build it without --single-class, or train a one-class gate (single_cls=true)"
        )


def count_boxes(data: Path) -> dict[str, dict[str, int]]:
    """Per split, image id -> number of rows in its label file (0 for a negative).

    Raises:
        DataError: an image has no label file, or a split has no image.
    """
    counts: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        counts[split] = {}
        for image in sorted((data / "images" / split).glob("*.*")):
            label = data / "labels" / split / f"{image.stem}.txt"
            if not label.is_file():
                raise DataError("has no label file (a negative has an empty one)", image)
            rows = label.read_text("utf-8").splitlines()
            counts[split][image.stem] = sum(bool(row.strip()) for row in rows)
        if not counts[split]:
            raise DataError(f"holds no image of the split {split!r}", data / "images" / split)
    return counts


def link_data(data: Path, work: Path, images: Mapping[str, Mapping[str, int]]) -> Path:
    """A tree of links to the data, which Ultralytics may write caches and repairs into.

    Args:
        images: per split the ids that are linked.

    Returns:
        Its data.yaml: absolute, nothing to download, two classes (which `single_cls` makes one).
    """
    shutil.rmtree(work, ignore_errors=True)
    for split in SPLITS:
        for kind in ("images", "labels"):
            (work / kind / split).mkdir(parents=True)
            for file in sorted((data / kind / split).iterdir()):
                if file.stem in images[split]:
                    (work / kind / split / file.name).symlink_to(file)
    content = {
        "path": str(work.resolve()),
        **{split: f"images/{split}" for split in SPLITS},
        "names": dict(enumerate(SEVERITIES)),
    }
    write_atomically(work / "data.yaml", yaml.safe_dump(content))
    return work / "data.yaml"
