"""A PostgreSQL of one's own: a new cluster in a folder, reached by a socket there, fsync on."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OWNER = "nobody"
"""Runs the cluster when we are root, as which PostgreSQL refuses to run."""


def missing() -> str:
    """Why there can be none on this machine; "" when there can."""
    return "" if _programs() else "PostgreSQL is not installed: no initdb"


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A cluster that runs; yields the URL of its databases, with {} for a database's name.

    Args:
        folder: exists, is empty, can be reached by `OWNER`, and has a short path: a socket's has
            at most 107 characters.
    """
    programs = _programs()
    assert programs is not None, missing()
    is_root = os.geteuid() == 0
    if is_root:
        shutil.chown(folder, OWNER)

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", f"{folder}/data", *arguments]
        if is_root:
            command = ["setpriv", f"--reuid={OWNER}", "--clear-groups", *command]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    run("initdb", "-U", "dat", "-A", "trust", "-E", "UTF8", "--locale=C")
    options = f"-k {folder} -c listen_addresses= -c shared_buffers=64MB -c max_connections=60"
    run("pg_ctl", "-w", "-l", f"{folder}/log", "-o", options, "start")
    try:
        yield f"postgresql://dat@/{{}}?host={folder}"
    finally:
        run("pg_ctl", "-w", "-m", "immediate", "stop")
