"""Processes that the parts of a node start, and a place for its files."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the machine has a place for that: flushes cost nothing there."""
    place = Path("/dev/shm")
    if not os.access(place, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


@pytest.fixture
def children() -> Callable[[], list[int]]:
    """Asks for the processes that this one has started since the test began, and not ended.

    Earlier tests may have left some: multiprocessing keeps its resource tracker to the end.
    """
    earlier = _children()
    return lambda: [pid for pid in _children() if pid not in earlier]


def _children() -> list[int]:
    return [int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in _pids(path)]


def _pids(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # the thread has ended meanwhile
        return []
