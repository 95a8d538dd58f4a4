import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from dat_runtime.errors import (
    ConfigError,
    DataError,
    DatError,
    forget_output,
    is_disk_full,
    printable,
    reports_errors,
)


def failing(error: BaseException):
    @reports_errors
    def main(argv: Sequence[str] | None = None) -> int:
        raise error

    return main


def test_expected_errors_become_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(ConfigError("no such profile"))([]) == 1
    assert capsys.readouterr().err == "error: no such profile\n"


def test_ctrl_c_is_a_status_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(KeyboardInterrupt())([]) == 130
    assert capsys.readouterr().err == "stopped (Ctrl-C): run the same command again\n"


def test_a_full_disk_is_one_line_and_any_other_failure_of_the_system_a_defect(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert failing(OSError(errno.ENOSPC, "No space left on device", "a.jpg"))([]) == 1
    assert capsys.readouterr().err == (
        "error: a.jpg: No space left on device: free some space and run the same command again\n"
    )
    with pytest.raises(OSError, match="Input/output"):
        failing(OSError(errno.EIO, "Input/output error"))([])


def test_output_that_nobody_reads_any_more_ends_a_command_quietly() -> None:
    code = (
        "from dat_runtime.errors import reports_errors\n"
        "@reports_errors\n"
        "def main():\n"
        "    while True: print('x', flush=True)\n"
        "raise SystemExit(main())"
    )
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        failing(KeyError("x"))([])


def test_a_main_that_succeeds_keeps_its_status() -> None:
    @reports_errors
    def main(argv: Sequence[str] | None = None) -> int:
        return 0 if argv is None else 2

    assert (main(None), main(["x"])) == (0, 2)
    assert main.__name__ == "main"


def test_data_errors_say_where() -> None:
    assert str(DataError("bad", Path("a.txt"), 3)) == "a.txt:3: bad"
    assert str(DataError("bad", "a.txt")) == "a.txt: bad"
    assert str(DataError("bad")) == "bad"
    assert isinstance(DataError("bad"), DatError)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zwei Autos, 2 × 3 – 事故", "Zwei Autos, 2 × 3 – 事故"),
        ("a\nb", "a\nb"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("\x9b31m\r\t\b", r"\x9b31m\r\t\x08"),
        ("safe\u202etxt.exe\u2066", r"safe\u202etxt.exe\u2066"),
        ("half \ud83d", r"half \ud83d"),
    ],
)
def test_a_terminal_obeys_nothing_that_came_from_elsewhere(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()


def test_an_error_is_printed_without_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(DataError("bad", "\x1b[31m.txt"))([]) == 1
    assert capsys.readouterr().err == "error: \\x1b[31m.txt: bad\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_is_full_by_any_of_its_names(number: int) -> None:
    assert is_disk_full(OSError(number, "no room"))
    assert not is_disk_full(OSError(errno.EACCES, "not allowed"))
    assert not is_disk_full(ValueError(number))
    assert not is_disk_full(None)


def test_what_is_printed_after_the_output_was_forgotten_goes_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        forget_output()
        print("nobody reads this", flush=True)
    assert (tmp_path / "out").read_bytes() == b""
