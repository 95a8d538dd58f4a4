"""A tiny prepared set, as `data.prep.build` leaves it."""

import json
from pathlib import Path

import cv2
import numpy as np

from dat_runtime.stage import Stage
from dat_runtime.truth import SPLITS

SIZES = {"square": (640, 640), "wide": (1280, 360), "tall": (300, 700), "tiny": (60, 60)}


def write_data(
    out: Path, sizes: dict[str, tuple[int, int]] = SIZES, bbox: list[int] | None = None
) -> Path:
    """In every split a grey frame of each size with one moderate accident.

    Args:
        bbox: of the accident; None puts it at the same place of every frame, whatever its size.
    """
    with Stage(out, kind="data", inputs={}, config={}) as folder:
        for split in SPLITS:
            (folder / "images" / split).mkdir(parents=True)
            lines = []
            for name, (width, height) in sizes.items():
                image = f"images/{split}/{name}.jpg"
                cv2.imwrite(str(folder / image), np.full((height, width, 3), 90, np.uint8))
                box = bbox or [width // 5, height // 4, width // 2, height // 2]
                line = {
                    "image_id": name,
                    "image": image,
                    "width": width,
                    "height": height,
                    "accidents": [{"bbox": box, "severity": "moderate"}],
                }
                lines.append(json.dumps(line) + "\n")
            (folder / f"truth_{split}.jsonl").write_text("".join(lines))
    return out
