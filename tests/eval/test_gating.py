"""How eval.gating names the gates that it compares."""

from pathlib import Path

import pytest

from dat_runtime.errors import ConfigError
from eval.gating import named


def test_gates_have_names_of_their_own(tmp_path: Path) -> None:
    a, b = tmp_path / "a" / "gate", tmp_path / "b" / "gate"
    assert list(named([a, tmp_path / "other"])) == ["gate", "other"]
    assert list(named([a, b])) == ["a-gate", "b-gate"]
    with pytest.raises(ConfigError, match="expected different gates"):
        named([a, b, a])
