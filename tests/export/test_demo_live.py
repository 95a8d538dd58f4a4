"""The live demo, whole: an alert and its picture are there, and everything ends."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.demo_live import main


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_with_a_bundle_its_gate_looks_at_the_cameras(bundle_folder: Path) -> None:
    """The gate sees a severe accident in the middle of every frame."""
    command = [sys.executable, "-m", "export.demo_live", "--listen", "127.0.0.1:0"]
    options = ["--cameras", "1", "--seconds", "8", "--bundle", str(bundle_folder)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert f"the gate of {bundle_folder}" in done.stdout
    assert "first picture after" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_alert_and_its_picture_come_and_all_ends_when_it_is_told_to() -> None:
    command = [sys.executable, "-m", "export.demo_live", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "--cameras", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if "first picture" in line:
                process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr is not None
        errors = process.stderr.read()
    assert "Traceback" not in errors
    for what in ("first alert", "first picture"):
        seconds = re.search(rf"{what} after ([\d.]+) s", text)
        assert seconds is not None, text
        assert float(seconds[1]) < 60
    assert text.endswith("[live] ended\n")


@pytest.mark.parametrize("wrong", [["--cameras", "0"], ["--cameras", "99"], ["--rate", "0"]])
def test_a_wrong_option_is_named(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(wrong) == 1
    assert wrong[0] in capsys.readouterr().err
