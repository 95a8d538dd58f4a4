"""A codec of eight steps beside the tiny untrained base, and what it is made of."""

import json
from pathlib import Path

from dat_runtime.stage import Stage
from dat_runtime.types import Size
from data.prep.instructions.dataset_info import dataset_info
from tests.train.conftest import write_sample

SMALL = [
    "channels=[4,8]", "width=16", "reconstruction_steps=3", "merger_steps=3", "answers_steps=2",
    "batch_size=4", "save_steps=2",
]  # fmt: skip


def write_instructions(out: Path) -> Path:
    """Twelve samples to learn from, of two sizes, and four held out."""
    with Stage(out, kind="instructions", inputs={}, config={}) as folder:
        (folder / "images").mkdir()
        wide = Size(640, 320)
        samples = [write_sample(folder, i, wide if i % 4 == 3 else None) for i in range(16)]
        (folder / "boxed_train.json").write_text(json.dumps(samples[:12]))
        (folder / "boxed_val.json").write_text(json.dumps(samples[12:]))
        names = ("boxed_train", "boxed_val")
        (folder / "dataset_info.json").write_text(json.dumps(dataset_info(names)))
    return out


def arguments(base: Path, instructions: Path, out: Path, *overrides: str) -> list[str]:
    """Of `train.offload`."""
    paths = {"--instructions": instructions, "--base": base, "--out": out}
    named = [str(part) for pair in paths.items() for part in pair]
    return ["--config", "configs/offload/smoke.yaml", *named, *SMALL, *overrides]
