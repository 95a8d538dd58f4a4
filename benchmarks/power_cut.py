"""A model of power cuts: what a disk may hold when the power goes, from a trace of real writes.

`strace` records what a process writes and when it asks the disk to flush. Between two flushes of a
file a disk may write in any order, leave out what it likes, and tear a write between two sectors.
So for a cut at any moment, `disk_after` makes one of the many states that the disk may be in. A
name that was made or deleted is certain only after a flush of its folder. This is harsher than most
file systems are.
"""

import os
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
TRACED = "openat,write,pwrite64,fsync,fdatasync,ftruncate,unlink,rename,renameat"


def strace(log: Path) -> list[str]:
    """The words that stand before the command to be traced."""
    options = ["-f", "-qq", "-y", "-xx", "-s", "100000000", "--seccomp-bpf"]
    return ["strace", *options, "-e", f"trace={TRACED}", "-o", str(log)]


@dataclass(frozen=True)
class Step:
    """One call that counts: "write", "cut" (to a length), "sync", "make", "unlink" or "say"."""

    what: str
    path: str = ""
    data: bytes = b""
    offset: int = 0


_CALL = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<([^>]*)>)?.*", re.DOTALL)
_UNFINISHED = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$")


def steps(log: Path, folder: Path) -> list[Step]:
    """What the trace says about the files of a folder, and what the process said on its stdout."""
    found: list[Step] = []
    for line in _whole_lines(log):
        call = _CALL.match(line)
        if call is None or int(call[4]) < 0:
            continue
        found += _step(call[2], call[3], int(call[4]), _text(call[5] or ""), str(folder))
    return found


def _whole_lines(log: Path) -> Iterator[str]:
    """The calls in the order in which they ended; a call of one thread may be cut by another's."""
    begun: dict[str, str] = {}
    for line in log.read_text("ascii").splitlines():
        if unfinished := _UNFINISHED.match(line):
            begun[unfinished[1]] = f"{unfinished[1]} {unfinished[2]}"
        elif resumed := _RESUMED.match(line):
            yield begun.pop(resumed[1]) + resumed[2]
        else:
            yield line


def _step(name: str, arguments: str, result: int, opened: str, folder: str) -> Iterator[Step]:
    if name == "openat":
        if "O_CREAT" in arguments and opened.startswith(folder):
            yield Step("make", opened)
        return
    if name in ("unlink", "rename", "renameat"):
        paths = [_text(quoted) for quoted in re.findall(r'"([^"]*)"', arguments)]
        if paths[0].startswith(folder):
            assert name == "unlink", "the model knows no renames"
            yield Step("unlink", paths[0])
        return
    number, _, rest = arguments.partition("<")
    path, _, rest = rest.partition(">")
    path = _text(path)
    if name == "write" and number == "1":
        yield Step("say", data=_bytes(rest))
    elif not path.startswith(folder):
        return
    elif name == "pwrite64":
        offset = int(rest.rsplit(",", 1)[1])
        yield Step("write", path, _bytes(rest)[:result], offset)
    elif name == "ftruncate":
        yield Step("cut", path, offset=int(rest.rsplit(",", 1)[1]))
    elif name in ("fsync", "fdatasync"):
        yield Step("sync", path)


def _bytes(quoted: str) -> bytes:
    text = quoted[quoted.index('"') + 1 : quoted.rindex('"')]
    return bytes.fromhex(text.replace("\\x", ""))


def _text(hexed: str) -> str:
    return bytes.fromhex(hexed.replace("\\x", "")).decode() if "\\x" in hexed else hexed


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    waiting: list[Step] = field(default_factory=list)
    named: bool = False
    """Its name is durable."""

    def flush(self) -> None:
        for step in self.waiting:
            _apply(self.durable, step)
        self.waiting = []


def _apply(content: bytearray, step: Step) -> None:
    if step.what == "cut":
        del content[step.offset :]
        content.extend(bytes(step.offset - len(content)))
        return
    end = step.offset + len(step.data)
    content.extend(bytes(max(0, end - len(content))))
    content[step.offset : end] = step.data


def disk_after(
    done: Sequence[Step], chance: random.Random, *, flushes_work: bool = True
) -> dict[str, bytes]:
    """One state of the disk after a power cut at the end of these steps: path -> content.

    With `flushes_work` false, flushes are ignored: the bad example that the tests must catch.
    """
    files: dict[str, _File] = {}
    gone: dict[str, _File] = {}
    for step in done:
        if step.what == "say":
            continue
        if step.what == "make":
            files.setdefault(step.path, _File())
        elif step.what == "unlink":
            gone[step.path] = files.pop(step.path)
        elif step.what == "sync" and step.path not in files:  # of a folder
            if flushes_work:
                for file in files.values():
                    file.named = True
                gone.clear()
        elif step.what == "sync":
            if flushes_work:
                files[step.path].flush()
        else:
            files[step.path].waiting.append(step)
    left = {}
    for path in sorted(files.keys() | gone.keys()):
        # A name that was deleted, or given anew, may still be that of the old file.
        file = files.get(path)
        if file is None or (not file.named and chance.random() < 0.5):
            file = gone.get(path) if chance.random() < 0.5 else None
        if file is not None:
            left[path] = _torn(file, chance)
    return left


def _torn(file: _File, chance: random.Random) -> bytes:
    """The flushed content, with any of the later writes in any order, some of them torn."""
    content = bytearray(file.durable)
    share = chance.choice([0.0, 0.1, 0.5, 0.9, 1.0])
    written = [step for step in file.waiting if chance.random() < share]
    if chance.random() < 0.7:
        chance.shuffle(written)
    for step in written:
        if step.what == "write" and chance.random() < 0.3:
            sectors = range(0, len(step.data), SECTOR)
            for at in sectors:
                if chance.random() < 0.5:
                    part = step.data[at : at + SECTOR]
                    _apply(content, Step("write", step.path, part, step.offset + at))
        else:
            _apply(content, step)
    return bytes(content)


def put_down(disk: dict[str, bytes], traced: Path, folder: Path) -> None:
    """Write a state of the disk into another folder. The index of the log is no part of it: a
    machine that starts has none."""
    folder.mkdir(parents=True)
    for path, content in disk.items():
        if not path.endswith(("-shm", ".reserve", ".lock")):
            (folder / os.path.relpath(path, traced)).write_bytes(content)
