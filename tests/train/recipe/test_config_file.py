import pytest

from dat_runtime.errors import ConfigError
from train.recipe.config_file import read_config


def test_overrides_are_numbers_in_any_notation_or_yaml(tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    config = read_config(tmp_path / "c.yaml", ["learning_rate=5e-5", "bf16=false", "seed=2"])
    assert config == {"seed": 2, "learning_rate": 5e-5, "bf16": False}


@pytest.mark.parametrize("override", ["seed", "=3", "a b=1", "hsv_s=[", "day=2001-99-99"])
def test_an_override_without_key_and_value_is_refused(tmp_path, override):
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="expected key=value"):
        read_config(tmp_path / "c.yaml", [override])


def test_a_configuration_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "latin.yaml").write_bytes("name: Stra\xdfe".encode("latin-1"))
    for name, words in (
        ("folder.yaml", ": cannot be read"),
        ("absent.yaml", ": cannot be read"),
        ("latin.yaml", ":1: is not UTF-8"),
    ):
        with pytest.raises(ConfigError, match=f"{name}{words}"):
            read_config(tmp_path / name)
