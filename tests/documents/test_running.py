"""How a command of a document is run, and that one which goes wrong is noticed."""

import sys
from pathlib import Path

import pytest

from tests.documents.running import environment, run, serving, working_folder

SERVER = """exec python -c "
import signal, sys, time
print('ready', flush=True)
try: time.sleep(60)
except KeyboardInterrupt: sys.exit({status})
"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return working_folder(tmp_path / "work")


def test_a_command_runs_in_its_folder_with_the_repository_before_it(folder: Path) -> None:
    status, output = run("pwd; ls Makefile configs/lora/smoke.yaml; exit 3", folder, 20)
    assert status == 3
    assert output.split() == [str(folder), "Makefile", "configs/lora/smoke.yaml"]


def test_what_make_was_given_reaches_no_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAKEFLAGS", "OUT=runs/ci")
    monkeypatch.setenv("GATE_SET", "epochs=1")
    monkeypatch.setenv("KEPT", "1")
    told = environment(folder)
    assert told["KEPT"] == "1"
    assert not {"MAKEFLAGS", "GATE_SET"} & told.keys()
    assert told["PATH"].split(":")[0] == str(Path(sys.prefix) / "bin")


def test_a_command_that_takes_too_long_is_ended(folder: Path) -> None:
    with pytest.raises(AssertionError, match="over 0"):
        run("echo begun; sleep 60", folder, 0.2)


def test_a_server_is_asked_to_end(folder: Path) -> None:
    with serving(SERVER.format(status=0), folder, "ready", 20) as server:
        assert not server
    assert server == {"status": "0", "output": "ready\n"}


@pytest.mark.parametrize(
    ("command", "seconds", "words"),
    [("echo ready", 20, "ended by itself"), ("sleep 60", 0.2, "not ready in")],
)
def test_a_server_that_is_not_one_is_found(
    folder: Path, command: str, seconds: float, words: str
) -> None:
    with (
        pytest.raises(AssertionError, match=words),
        serving(command, folder, "listening", seconds),
    ):
        pass
