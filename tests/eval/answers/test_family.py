"""A model is asked, and read, in the coordinates of its family."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime import manifest
from dat_runtime.answer import dump, target
from dat_runtime.errors import ConfigError
from dat_runtime.family import FAMILIES, QWEN2_5_VL, QWEN3_VL
from dat_runtime.prompt import system_message
from dat_runtime.stage import Stage
from dat_runtime.types import Accident, Box, Size
from eval.answers.asks import Answer, read_asks, record
from eval.answers.model import demand_family

THOUSANDTHS = Size(1000, 1000)


def instructions(folder: Path) -> Path:
    """A frame of 1280 x 720 that Qwen3-VL sees at 480 x 256."""
    versions = (*manifest.VERSIONS, QWEN3_VL.name)
    with Stage(folder, kind="instructions", inputs={}, config={}, versions=versions) as made:
        cv2.imwrite(str(made / "a.png"), np.zeros((256, 480, 3), np.uint8))
        true = dump(target([Accident(Box(100, 100, 200, 300, THOUSANDTHS), "severe")]))
        sample = {
            "image_id": "a",
            "system": system_message(QWEN3_VL),
            "messages": [{"content": "<image>Image 1000 x 1000."}, {"content": true}],
            "images": ["a.png"],
            "frame": [1000, 1000],
            "original": [1280, 720],
        }
        (made / "raw_test.json").write_text(json.dumps([sample]))
    return folder


def test_an_answer_in_thousandths_is_published_in_the_cameras_pixels(tmp_path: Path) -> None:
    (ask,) = read_asks(instructions(tmp_path / "made"), "raw")
    assert (ask.size, ask.frame) == (Size(480, 256), THOUSANDTHS)
    line = record(ask, Answer(ask.truth, 0.5, None, None))
    assert json.loads(line["text"])["accidents"][0]["bbox"] == [128, 72, 256, 216]
    assert line["model_text"] == ask.truth


@pytest.mark.parametrize("family", [*FAMILIES, "llava"])
def test_a_model_of_another_family_is_not_asked(tmp_path: Path, family: str) -> None:
    asked = instructions(tmp_path / "made")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    if family != QWEN2_5_VL.name:
        demand_family(asked, str(tmp_path), None)
        return
    with pytest.raises(ConfigError, match=r"is a Qwen2\.5-VL, .* as Qwen3-VL is asked.*qwen2_5_vl"):
        demand_family(asked, str(tmp_path), None)
