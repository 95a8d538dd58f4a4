"""`train.offload`: what its folder states, and what is refused before anything is loaded."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from dat_runtime import manifest
from dat_runtime.prompt import PROMPT_VERSION
from tests.conftest import write_lora
from tests.train.offloading.small_codec import arguments
from train import offload
from train.offloading import making
from train.offloading.frozen import backbone_of
from train.offloading.settings import read_settings
from train.recipe.config_file import read_config


def test_a_codec_states_its_recipe_and_is_made_once(
    base: Path,
    boxed_instructions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In place of the training, which the slow tests run."""
    given: list[Any] = []
    monkeypatch.setattr(making, "make_codec", lambda *parts: given.append(parts))
    adapter, out = write_lora(tmp_path / "lora", base), tmp_path / "codec"
    command = arguments(base, boxed_instructions, out, "--adapter", str(adapter), "seed=3")
    assert offload.main(command) == 0
    config = read_config(Path("configs/offload/smoke.yaml"))
    config |= {
        "channels": [4, 8], "width": 16, "reconstruction_steps": 3, "merger_steps": 3,
        "answers_steps": 2, "batch_size": 4, "save_steps": 2, "seed": 3,
    }  # fmt: skip
    backbone = backbone_of(str(base), adapter, None)
    datasets = ("boxed_train", "boxed_val")
    assert given == [
        (
            tmp_path / "codec.partial", backbone, boxed_instructions, datasets, config,
            read_settings(config), "codec",
        )
    ]  # fmt: skip
    stated = manifest.read(out, "codec")
    assert stated.inputs == {
        "adapter": manifest.digest(adapter),
        "base": manifest.digest(base, "base"),
        "instructions": manifest.digest(boxed_instructions),
    }
    assert stated.config == {
        "codec": config,
        "inputs": "boxed",
        "base": "base",
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
    }
    assert stated.versions == {"prompt": PROMPT_VERSION}
    capsys.readouterr()
    assert offload.main(command) == 0
    assert "up to date" in capsys.readouterr().out
    assert offload.main([*command, "seed=4"]) == 1
    assert "--restart" in capsys.readouterr().err
    assert offload.main([*command, "seed=4", "--restart"]) == 0
    assert [parts[5] for parts in given[1:]] == [replace(given[0][5], seed=4)]


def test_a_base_of_the_hub_is_no_input_but_stated(
    boxed_instructions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(making, "make_codec", lambda *parts: given.append(parts))
    pinned = f"model_revision={'a' * 40}"
    command = arguments(Path("Some/Base"), boxed_instructions, tmp_path / "codec", pinned)
    assert offload.main(command) == 0
    stated = manifest.read(tmp_path / "codec", "codec")
    assert stated.inputs.keys() == {"instructions"}
    assert stated.config["base"] == "Some/Base"
    assert given[0][1] == backbone_of("Some/Base", None, "a" * 40)


def test_pictures_and_instructions_that_are_not_there_are_named(
    base: Path, boxed_instructions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = arguments(base, boxed_instructions, tmp_path / "codec", "--inputs", "raw")
    other = arguments(base, base, tmp_path / "codec")
    wrong = arguments(base, boxed_instructions, tmp_path / "codec", "width=20")
    for command, told in ((raw, "raw_train"), (other, "manifest"), (wrong, "width is 20")):
        assert offload.main(command) == 1
        assert told in capsys.readouterr().err
    assert not list(tmp_path.glob("codec*"))
