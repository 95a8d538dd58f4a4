"""The keys of the tools, read from their files, are those that the tools take."""

from dataclasses import fields

import pytest

from dat_runtime.errors import ConfigError
from train.recipe.upstream_keys import demand_known, llamafactory_keys, ultralytics_defaults


@pytest.mark.slow
def test_the_keys_of_llama_factory_are_those_of_its_parser() -> None:
    from llamafactory.hparams.parser import _TRAIN_ARGS

    taken = {f.name for arguments in _TRAIN_ARGS for f in fields(arguments) if f.init}
    assert llamafactory_keys() == taken


@pytest.mark.slow
def test_the_keys_of_ultralytics_are_those_that_it_checks_against() -> None:
    from ultralytics.cfg import DEFAULT_CFG_DICT

    assert ultralytics_defaults().keys() == DEFAULT_CFG_DICT.keys()


def test_a_key_that_is_mistyped_is_told_with_the_one_that_is_like_it() -> None:
    demand_known({"learning_rate": 1, "max_steps": 2}, llamafactory_keys(), "LLaMA-Factory")
    with pytest.raises(ConfigError, match="is no key of LLaMA-Factory: is max_steps meant"):
        demand_known({"max_step": 2}, llamafactory_keys(), "LLaMA-Factory")
