"""A prepared set for Ultralytics: links to its files, and the boxes that it must find."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.errors import ConfigError, DataError
from dat_runtime.files import read_text, write_yaml
from dat_runtime.truth import SPLITS
from dat_runtime.types import ONE_CLASS, SEVERITIES, Severity


def classes_of(config: Mapping[str, Any]) -> tuple[Severity | None, ...]:
    """The severity of each class of the model; the one class of `single_cls` has none."""
    return (None,) if config.get("single_cls") else SEVERITIES


def names_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The name of each class of the model."""
    return tuple(severity or ONE_CLASS for severity in classes_of(config))


def demand_classes(data: Path, config: Mapping[str, Any]) -> None:
    """Refuse a set whose labels are of one class for a gate of two.

    It would learn severity from nothing. A gate of one class can be trained on either set.

    Raises:
        ConfigError: the set has one class and the gate two.
        ManifestError: the folder is not a prepared set.
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
            rows = [row for row in read_text(label).splitlines() if row.strip()]
            counts[split][image.stem] = len(rows)
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
    content: dict[str, Any] = {"path": str(work.resolve()), "names": dict(enumerate(SEVERITIES))}
    for split in SPLITS:
        content[split] = f"images/{split}"
    write_yaml(work / "data.yaml", content)
    return work / "data.yaml"
