"""Instruction data for the tiny untrained base, and the settings of a run on both."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime import answer
from dat_runtime.adapter import CONFIG, WEIGHTS
from dat_runtime.event import question
from dat_runtime.stage import Stage
from dat_runtime.types import Accident, Box, Detection, Size
from data.prep.instructions.dataset_info import dataset_info
from tests.conftest import safetensors
from train.mllm import upstream
from train.mllm.model_sizes import SEVEN_B
from train.mllm.run_settings import RunSettings

SIDE = 112


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the tiny base is slow: torch and Transformers take seconds to import."""
    for item in items:
        if "tiny_base" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def unchanged_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the test the classes of every family have the forward that they had before it.

    `upstream` changes those of all families, whichever one a test looks at.
    """
    for owner, name in upstream.replaced():
        monkeypatch.setattr(owner, name, getattr(owner, name))


@pytest.fixture(scope="session")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen boxed samples with one accident each, as `data.prep.instruct` leaves them."""
    out = tmp_path_factory.mktemp("data") / "instructions"
    with Stage(out, kind="instructions", inputs={}, config={}) as folder:
        (folder / "images").mkdir()
        samples = [write_sample(folder, i) for i in range(16)]
        (folder / "boxed_train.json").write_text(json.dumps(samples))
        write_info(folder, "boxed_train")
    return out


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with the sizes of the 7B, and nothing else: nothing else is looked at."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**SEVEN_B, "model_type": "qwen2_5_vl"}))
    return folder


@pytest.fixture
def settings(tiny_base: Path, instructions: Path) -> RunSettings:
    """Of a run on the CPU that trains the tiny base on these instructions."""
    return _settings(tiny_base, instructions)


@pytest.fixture
def shipped_settings(instructions: Path) -> RunSettings:
    """Of a run on the base that is shipped, whose processor and sizes are read at once."""
    return _settings("train/shipped_base", instructions)


def _settings(base: str | Path, instructions: Path) -> RunSettings:
    return RunSettings(
        model_name_or_path=str(base),
        dataset_dir=str(instructions),
        dataset="boxed_train",
        image_max_pixels=SIDE * SIDE,
        image_min_pixels=56 * 56,
        cutoff_len=1024,
        use_cpu=True,
    )


def lora_of_shipped_base(folder: Path, value: float = 1.0, layers: int = 4) -> None:
    """An adapter of all four layers' queries, as PEFT leaves it in `folder`."""
    rows = {"A": np.ones((2, 192)), "B": np.full((192, 2), value)}
    names = [f"model.language_model.layers.{i}.self_attn.q_proj" for i in range(layers)]
    tensors = {f"base_model.model.{name}.lora_{m}.weight": rows[m] for name in names for m in rows}
    (folder / WEIGHTS).write_bytes(safetensors(tensors))
    stated = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "somewhere",
        "revision": None,
    }
    (folder / CONFIG).write_text(json.dumps(stated))


def write_sample(folder: Path, number: int, frame: Size | None = None) -> dict[str, Any]:
    """One sample of a grey frame with its image; `frame` is the camera's."""
    frame = frame or Size(640, 640)
    image = np.full((frame.height, frame.width, 3), 100 + number, np.uint8)
    box = Box(frame.width / 4, frame.height / 4, frame.width / 2, frame.height / 2, frame)
    asked = question(image, [Detection(box, "severe", 0.9)], SIDE * SIDE)
    wanted = answer.target([Accident(box.to(asked.frame), "severe")])
    png = folder / "images" / f"f{number}.png"
    png.write_bytes(asked.png)
    assert cv2.imread(str(png)) is not None
    return {
        "image_id": f"f{number}",
        "system": asked.system,
        "messages": [
            {"role": "user", "content": f"<image>{asked.prompt}"},
            {"role": "assistant", "content": answer.dump(wanted)},
        ],
        "images": [f"images/f{number}.png"],
    }


def write_info(folder: Path, *names: str) -> None:
    (folder / "dataset_info.json").write_text(json.dumps(dataset_info(names)))
