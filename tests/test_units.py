"""The units of `configs/field`, as systemd itself reads them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FIELD = Path(__file__).parents[1] / "configs" / "field"
UNITS = sorted(path.name for path in (*FIELD.glob("*.service"), *FIELD.glob("*.timer")))
ANALYZE = shutil.which("systemd-analyze")

pytestmark = pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")


def verified(folder: Path, name: str, text: str | None = None) -> str:
    """What `systemd-analyze verify` says of a unit, which starts a program that is here."""
    for unit in UNITS:
        told = text if text is not None and unit == name else (FIELD / unit).read_text()
        (folder / unit).write_text(told.replace("/opt/dat/bin/dat-runtime", sys.executable))
    assert ANALYZE is not None
    command = [ANALYZE, "verify", "--man=no", str(folder / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", UNITS)
def test_systemd_has_nothing_to_say_of_a_unit(tmp_path: Path, name: str) -> None:
    assert len(UNITS) == 4
    assert verified(tmp_path, name) == ""


@pytest.mark.parametrize("name", [name for name in UNITS if name.endswith(".service")])
def test_a_service_writes_to_its_state_alone(name: str) -> None:
    keys = dict(
        line.split("=", 1)
        for line in (FIELD / name).read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    assert keys["ProtectSystem"] == "strict"
    opened = {"ConfigurationDirectory", "LogsDirectory", "CacheDirectory", "ReadWritePaths"}
    assert not keys.keys() & opened  # each would be left open by ProtectSystem
    assert keys["StateDirectory"] == keys["User"]
    assert "Documentation" not in keys  # the wheel installs none


def test_a_key_that_systemd_does_not_know_is_found(tmp_path: Path) -> None:
    text = (FIELD / "dat-node.service").read_text().replace("WatchdogSec=", "WatchdogSeconds=")
    assert "WatchdogSeconds" in verified(tmp_path, "dat-node.service", text)
