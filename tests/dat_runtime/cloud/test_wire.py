"""`docs/wire.md` says what happens: its commands run, in order, and print what it shows."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.dat_runtime.cloud.conftest import Running

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "wire.md").read_text("utf-8")
BLOCK = re.compile(r"^```(sh|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def steps(block: str) -> Iterator[tuple[str, str]]:
    """Commands and what they print: the lines that begin with #."""
    commands: list[str] = []
    printed: list[str] = []
    for line in block.splitlines():
        if line.startswith("# "):
            printed.append(line.removeprefix("# "))
            continue
        if printed:
            yield "\n".join(commands), "\n".join(printed)
            commands, printed = [], []
        commands.append(line)
    yield "\n".join(commands), "\n".join(printed)


def fits(expected: str, printed: str) -> bool:
    """Whether it was printed; … stands for anything."""
    pattern = ".*?".join(map(re.escape, expected.split("…")))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


def test_the_comparison_sees_a_difference() -> None:
    assert fits('{"a":…}', '{"a":[1]}')
    assert not fits('{"a":…}', '{"b":1}')
    assert list(steps("a \\\n b\n# x\nc")) == [("a \\\n b", "x"), ("c", "")]


def test_every_command_of_the_page_prints_what_it_shows(
    make_receiver: Callable[..., Running], tmp_path: Path
) -> None:
    version = subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout
    if tuple(map(int, version.split()[1].split(".")[:2])) < (7, 84):
        pytest.skip("curl has no %header before 7.84")
    receiver = make_receiver("n1\tsecret-one\n")
    (tmp_path / "roi.jpg").write_bytes(
        cv2.imencode(".jpg", np.zeros((200, 100, 3), np.uint8))[1].tobytes()
    )
    environment = os.environ | {"URL": receiver.url, "TOKEN": "secret-one"}
    blocks = list(BLOCK.finditer(PAGE))
    assert len(blocks) > 10
    for block in blocks:
        kind, text = block.groups()
        if kind == "json":
            (tmp_path / "alert.json").write_text(text)
            continue
        # One shell for a block, because a later command uses what an earlier one set.
        parts = list(steps(text))
        script = "\necho\necho ----\n".join(command for command, _ in parts)
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        for (command, expected), printed in zip(parts, done.stdout.split("----"), strict=True):
            assert fits(expected, printed.strip()), f"{command}\nprinted {printed}"
