import argparse

import numpy as np
import pytest

from dat_runtime.errors import ConfigError
from train.recipe.config_file import read_config, versions, words


def test_overrides_are_numbers_in_any_notation_or_yaml(tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    config = read_config(tmp_path / "c.yaml", ["learning_rate=5e-5", "bf16=false", "seed=2"])
    assert config == {"seed": 2, "learning_rate": 5e-5, "bf16": False}


@pytest.mark.parametrize("override", ["seed", "=3", "a b=1", "hsv_s=[", "day=2001-99-99"])
def test_an_override_without_key_and_value_is_refused(tmp_path, override):
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError) as refused:
        read_config(tmp_path / "c.yaml", [override])
    unread = ": not YAML" if override in ("hsv_s=[", "day=2001-99-99") else ""
    assert str(refused.value) == f"expected key=value, got {override!r}{unread}"


def test_a_value_may_hold_an_equals_sign_and_a_list_is_no_configuration(tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    assert read_config(tmp_path / "c.yaml", ["name=a=b"]) == {"seed": 1, "name": "a=b"}
    assert read_config(tmp_path / "c.yaml") == {"seed": 1}
    (tmp_path / "c.yaml").write_text("[1, 2]\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: expected a mapping of keys to values$"):
        read_config(tmp_path / "c.yaml")


def test_a_configuration_and_its_overrides_come_in_one_word():
    assert words("configs/my.yaml 'name=two words' seed=1") == [
        "configs/my.yaml",
        "name=two words",
        "seed=1",
    ]
    with pytest.raises(argparse.ArgumentTypeError, match=r"^names no configuration$"):
        words("  ")


def test_versions_are_those_that_are_installed():
    assert versions("pytest", "numpy") == {
        "pytest": pytest.__version__,
        "numpy": np.__version__,
    }


def test_a_configuration_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "latin.yaml").write_bytes("name: Stra\xdfe".encode("latin-1"))
    for name, complaint in (
        ("folder.yaml", ": cannot be read"),
        ("absent.yaml", ": cannot be read"),
        ("latin.yaml", ":1: is not UTF-8"),
    ):
        with pytest.raises(ConfigError, match=f"{name}{complaint}"):
            read_config(tmp_path / name)
