"""The keys of the tools, read from their files, are those that the tools take."""

from dataclasses import fields
from pathlib import Path

import pytest

from dat_runtime.errors import ConfigError
from dat_runtime.files import write_yaml
from train.recipe.config_file import read_config
from train.recipe.upstream_keys import (
    demand_known,
    demand_llamafactory,
    folder_of,
    llamafactory_keys,
    ultralytics_defaults,
)


@pytest.mark.slow
def test_the_keys_of_llama_factory_are_those_of_its_parser() -> None:
    from llamafactory.hparams.parser import _TRAIN_ARGS

    taken = {f.name for arguments in _TRAIN_ARGS for f in fields(arguments) if f.init}
    assert llamafactory_keys().keys() == taken


@pytest.mark.slow
def test_the_keys_of_ultralytics_are_those_that_it_checks_against() -> None:
    from ultralytics.cfg import DEFAULT_CFG_DICT

    assert ultralytics_defaults().keys() == DEFAULT_CFG_DICT.keys()


def test_a_key_that_is_mistyped_is_told_with_the_one_that_is_like_it() -> None:
    demand_known({"learning_rate": 1, "max_steps": 2}, llamafactory_keys(), "LLaMA-Factory")
    with pytest.raises(ConfigError) as mistyped:
        demand_known({"max_step": 2}, llamafactory_keys(), "LLaMA-Factory")
    assert str(mistyped.value) == "max_step is no key of LLaMA-Factory: is max_steps meant?"
    with pytest.raises(ConfigError) as strange:
        demand_llamafactory({"zzzzzz": 2})
    assert str(strange.value) == "zzzzzz is no key of LLaMA-Factory"


def test_a_key_keeps_its_type_and_what_no_constructor_takes_is_no_key() -> None:
    keys = llamafactory_keys()
    assert (keys["max_steps"], keys["learning_rate"], keys["bf16"]) == ("int", "float", "bool")
    assert keys["lora_alpha"] == "int | None"
    assert "compute_dtype" not in keys  # `field(init=False)`
    assert ultralytics_defaults()["epochs"] == 100


def test_a_tool_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (folder_of("llamafactory") / "hparams" / "parser.py").is_file()
    (tmp_path / "a_folder_alone").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    for package in ("no_such_tool", "a_folder_alone"):
        with pytest.raises(ConfigError, match=f"^{package} is not installed: make setup$"):
            folder_of(package)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("max_steps", "5", "a whole number"),
        ("lora_alpha", "16", "a whole number"),  # or null
        ("learning_rate", "0.1", "a number"),
        ("learning_rate", "much", "a number"),
        ("bf16", "false", "true or false"),  # which is true, as every text is
    ],
)
def test_a_text_in_the_place_of_a_number_or_a_flag_is_refused_by_name(
    key: str, text: str, expected: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{key} is the text '{text}', expected {expected}$"):
        demand_llamafactory({key: text})
    demand_llamafactory({key: None, "stage": "5", "dataset": "true"})


def test_a_number_that_yaml_takes_for_a_text_is_one_as_the_tool_reads_it(tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    (tmp_path / "config.yaml").write_text("learning_rate: 5e-5\nlora_alpha: null\nstage: sft\n")
    config = read_config(tmp_path / "config.yaml")
    assert config["learning_rate"] == "5e-5"
    demand_llamafactory(config)
    write_yaml(tmp_path / "config.yaml", config)
    assert OmegaConf.load(tmp_path / "config.yaml").learning_rate == 5e-5
    write_yaml(tmp_path / "config.yaml", {"max_steps": "5"})
    assert OmegaConf.load(tmp_path / "config.yaml").max_steps == "5"
