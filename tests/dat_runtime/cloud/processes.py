"""Receivers in processes of their own, to be watched, told to end, and killed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Process:
    """A receiver that listens at `url`."""

    url: str
    process: "subprocess.Popen[str]"

    def family(self) -> list[int]:
        """The process and its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, children.split())]

    def peak_bytes(self) -> int:
        """The most memory that any of its processes held so far."""
        peaks = []
        for pid in self.family():
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            peaks += [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
        return max(peaks)

    def kill(self) -> None:
        """As the kernel does when memory is short."""
        self.process.kill()
        self.process.wait(10)

    def end(self, seconds: float = 5) -> int:
        """Tell it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextmanager
def started(store: str, *options: str, listen: str = "127.0.0.1:0") -> Iterator[Process]:
    """`dat-runtime receive`, once it accepts connections."""
    command = [sys.executable, "-m", "dat_runtime.cli", "receive"]
    command += ["--listen", listen, "--store", store, *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: Queue[str] = Queue()
    assert process.stdout is not None
    assert process.stderr is not None

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line)
        lines.put("")  # it ended

    reader = threading.Thread(target=read)
    reader.start()
    try:
        line = lines.get(timeout=60)
        if not line:
            raise AssertionError(process.stderr.read())
        yield Process(line.removeprefix("listening on ").strip(), process)
    finally:
        process.kill()
        process.wait(10)
        reader.join(10)
        process.stdout.close()
        process.stderr.close()
