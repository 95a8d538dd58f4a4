"""How a command of a document is run: in a working folder, for a bounded time."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx

from tests.documents.commands import ROOT

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
    "DAT_PASSPHRASE": "correct horse battery staple",
}
REPOSITORY = (
    *("data", "train", "eval", "export", "dat_runtime", "benchmarks", "tests", "configs"),
    *("docs", "requirements", "Makefile", "README.md", "LICENSE", "pyproject.toml", ".venv"),
)
"""What a working folder shows of the repository, so that commands run there as written."""


VARIABLES = re.findall(r"(?m)^([A-Z_]+) \?=", (ROOT / "Makefile").read_text("utf-8"))
"""Of the Makefile: what was given to `make documents` is not meant for the commands."""


def environment(folder: Path) -> dict[str, str]:
    """As after `source .venv/bin/activate`, with nothing of make or pytest around it."""
    taken = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "PYTEST_", "DAT_", "PYTHONDONTWRITE", "MFLAGS"))
        and name not in VARIABLES
    }
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{taken['PATH']}"
    return taken | OFFLINE | {"PATH": path, "TMPDIR": str(folder / "tmp")}


def working_folder(folder: Path) -> Path:
    (folder / "tmp").mkdir(parents=True)
    for name in REPOSITORY:
        (folder / name).symlink_to(ROOT / name)
    return folder


def told(log: Path) -> str:
    return log.read_text("utf-8", "replace")


def run(command: str, folder: Path, seconds: float) -> tuple[int, str]:
    """Exit status and output. What outlives its seconds is killed, with all that it started."""
    log = folder / "tmp" / "output.txt"
    with started(command, folder, log) as process:
        try:
            return process.wait(seconds), told(log)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"over {seconds:g} s: {command}\n{told(log)}") from error


@contextmanager
def started(command: str, folder: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Whoever runs in the background may have told its children to take no notice of Ctrl-C.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@contextmanager
def serving(command: str, folder: Path, until: str, seconds: float) -> Iterator[Mapping[str, str]]:
    """A command that runs until it is stopped, from the moment at which it has said `until`.

    Where that is an address: from the moment at which it answers there. At the end the command gets
    Ctrl-C, and has to end by itself. Its output is then in the mapping.
    """
    log, end = folder / "tmp" / "server.txt", time.monotonic() + seconds
    found: dict[str, str] = {}
    with started(command, folder, log) as process:
        while not (answers(until) if until.startswith("http") else re.search(until, told(log))):
            assert process.poll() is None, f"ended by itself: {command}\n{told(log)}"
            assert time.monotonic() < end, f"not ready in {seconds:g} s: {command}\n{told(log)}"
            time.sleep(0.05)
        yield found
        os.killpg(process.pid, signal.SIGINT)
        try:
            found["status"] = str(process.wait(20))
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"does not end at Ctrl-C: {command}\n{told(log)}") from error
        finally:
            found["output"] = told(log)
