"""Keys may stand anywhere on a command line, also before and after an option."""

from importlib import import_module
from pathlib import Path

import pytest

GIVEN = {
    "train.base": "--config MISSING --primer p",
    "train.gate": "--config MISSING --data d",
    "train.lora": "--config MISSING --dataset s --instructions i --base b",
    "train.offload": "--config MISSING --instructions i --base b --adapter a",
    "train.rehearse": "--config MISSING --instructions i --base b",
}


@pytest.mark.parametrize("module", GIVEN)
def test_keys_on_both_sides_of_an_option_are_taken(
    module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*GIVEN[module].split(), "batch=2", "--out", str(tmp_path / "out"), "seed=1"]
    assert import_module(module).main(line) == 1
    assert "MISSING" in capsys.readouterr().err  # read past the line, to the file that is not there
