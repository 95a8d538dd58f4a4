"""The keys of a codec's configuration: read with their types, refused by name."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dat_runtime.errors import ConfigError
from train.offloading.settings import CodecSettings, read_settings

GIVEN: dict[str, Any] = {
    "block": 1, "channels": [4, 8], "spatial": False, "width": 16, "lambda_reconstruction": 1.0,
    "lambda_binary": 0, "reconstruction_steps": 3, "merger_steps": 2, "answers_steps": 1,
    "batch_size": 4, "learning_rate": 0.01, "warmup_ratio": 0.5, "max_grids": 1, "save_steps": 2,
    "seed": 7,
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(Path("configs/offload").glob("*.yaml")), ids=str)
def test_every_configuration_begins_with_its_command_and_is_read(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# python -m train.offload --config {path} ")
    settings = read_settings(yaml.safe_load(text))
    assert settings.steps > 1000
    assert settings.channels[-1] >= 256


def test_a_codec_learns_in_three_stages_one_after_the_other() -> None:
    settings = read_settings(GIVEN)
    assert settings == CodecSettings(**{**GIVEN, "channels": (4, 8)}, model_revision=None)
    stages = ["reconstruction"] * 3 + ["merger"] * 2 + ["answers"]
    assert [settings.stage_of(step) for step in range(settings.steps)] == stages
    with pytest.raises(ValueError, match="after the last step"):
        settings.stage_of(6)
    pinned = read_settings({**GIVEN, "model_revision": "a" * 40, "answers_steps": 0})
    assert (pinned.model_revision, pinned.steps) == ("a" * 40, 5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"channels": [8, 4]}, "channels are [8, 4], expected rising numbers: each code is nested"),
        ({"channels": [4, 4]}, "channels are [4, 4], expected rising numbers: each code is nested"),
        ({"width": 20}, "width is 20, expected a multiple of 8"),
        (
            {"reconstruction_steps": 0, "merger_steps": 0, "answers_steps": 0},
            "no step to train: reconstruction_steps, merger_steps, answers_steps",
        ),
        ({"learning_rate": 0}, "learning_rate is 0, expected a number above 0"),
        ({"wings": 2}, "unknown key 'wings'"),
        ({"model_revision": "main"}, "model_revision is 'main', expected a commit of 40 digits"),
    ],
)
def test_a_wrong_key_is_named(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_settings({**GIVEN, **changes})
    assert told in str(refused.value)
    with pytest.raises(ConfigError, match="seed"):
        read_settings({key: value for key, value in GIVEN.items() if key != "seed"})
