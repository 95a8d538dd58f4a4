"""Clips and their table in the layout of the ACCIDENT benchmark, with clips of our own."""

import csv
from pathlib import Path
from typing import Any

from tests.dat_runtime.edge.cameras.streams import render

SOUND: dict[str, Any] = {
    "path": "real_videos/aB-c_00.mp4",
    "type": "rear-end",
    "rollover": 0,
    "accident_time": 1.5,
    "accident_frame": 15,
    "center_x": 0.5,
    "center_y": 0.25,
    "x1": 0.4,
    "y1": 0.1,
    "x2": 0.6,
    "y2": 0.4,
    "region": "Asia",
    "scene_layout": "highway, two-way",
    "weather": "rain",
    "day_time": "day",
    "quality": "Good",
    "no_frames": 30,
    "duration": 3.0,
    "height": 96,
    "width": 160,
    "split_in_distribution": "test",
    "split_geo_aware": "train",
}
"""A row of metadata-real.csv, with all of its columns in their order."""

HEADER = list(SOUND)


def write_table(path: Path, *changes: dict[str, Any], header: list[str] | None = None) -> Path:
    """A table with a row for each of the changes to `SOUND`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, header or HEADER, extrasaction="ignore")
        rows.writeheader()
        rows.writerows(SOUND | change for change in changes)
    return path


def write_clips(root: Path, *changes: dict[str, Any], frames: int = 30, fps: int = 10) -> Path:
    """A table, and a rendered video at each row's path; its pictures grow brighter."""
    write_table(root / "metadata-real.csv", *changes)
    for change in changes:
        video = root / (SOUND | change)["path"]
        video.parent.mkdir(exist_ok=True)
        render(video, frames, fps)
    return root
