"""Waits for what a thread or a task will do. The bound tells a hang from a slow machine."""

import asyncio
import time
from collections.abc import Callable

STEP = 0.005
"""Seconds between two looks."""


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something holds; it must within so many seconds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(STEP)


async def until_in_loop(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """The same beside tasks of an event loop."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to hold"
        await asyncio.sleep(STEP)
