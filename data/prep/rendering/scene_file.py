"""Scenes on disk: scenes.jsonl, a row a scene, and its picture."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dat_runtime.draw import size_of
from dat_runtime.errors import DataError
from dat_runtime.types import Box
from data.prep.rendering.frames import Scene, Wreck

SCENES = "scenes.jsonl"


def row_of(name: str, scene: Scene) -> dict[str, Any]:
    """A scene without its picture; boxes as shares of the frame.

    Args:
        name: of the picture's file, from the folder of scenes.jsonl.
    """
    wrecks = [{**wreck._asdict(), "box": _shares(wreck.box)} for wreck in scene.wrecks]
    return {"image": name, "wrecks": wrecks, "vehicles": [_shares(box) for box in scene.vehicles]}


def rows(folder: Path) -> list[dict[str, Any]]:
    """All rows of a folder.

    Raises:
        DataError: the file is missing or not what `data.prep.primer` writes.
    """
    path = folder / SCENES
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"does not list rendered scenes ({error})", path) from None


def scene_of(row: dict[str, Any], picture: bytes) -> Scene:
    """The scene of a row, its picture decoded: boxes in pixels of it."""
    image = np.asarray(cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    frame = size_of(image)

    def pixels(shares: list[float]) -> Box:
        x1, y1, x2, y2 = shares
        return Box(x1, y1, x2, y2, frame)._replace(
            x1=x1 * frame.width, y1=y1 * frame.height, x2=x2 * frame.width, y2=y2 * frame.height
        )

    wrecks = tuple(Wreck(**{**wreck, "box": pixels(wreck["box"])}) for wreck in row["wrecks"])
    return Scene(image, wrecks, tuple(map(pixels, row["vehicles"])))


def _shares(box: Box) -> list[float]:
    w, h = box.frame.width, box.frame.height
    return [box.x1 / w, box.y1 / h, box.x2 / w, box.y2 / h]


def pictures(folder: Path, listed: list[dict[str, Any]]) -> Iterator[bytes]:
    for row in listed:
        yield (folder / row["image"]).read_bytes()
