"""`leaks.json` and `conflicts.json`: pairs of frames, one on each line, for people and programs."""

import json
from collections.abc import Sequence
from pathlib import Path

from dat_runtime.files import write_atomically
from data.prep.prepared.kept import Kept
from data.prep.splitting.leaks import Link
from data.prep.splitting.resolution import LEFT_OUT, Resolution

_LISTED = 10_000
"""The most pairs in a file: about two megabytes."""


def write_leaks(folder: Path, across: Sequence[Link], kept: Sequence[Kept]) -> None:
    """Write `leaks.json`: each frame's closest twin in another split, at most 10,000 pairs."""
    rows = []
    for link in across[:_LISTED]:
        names = [_place(kept[index]) for index in (link.first, link.second)]
        rows.append({"kind": link.kind, "bits": link.distance, "frames": names})
    _write(folder / "leaks.json", rows)


def write_conflicts(folder: Path, resolution: Resolution) -> None:
    """Write `conflicts.json`: each contradicted frame, by what, and what became of it."""
    rows = []
    for index, outcome in list(resolution.outcomes.items())[:_LISTED]:
        conflict = resolution.conflicts.of[index]
        frame = resolution.judged[index]
        row = {
            "kind": conflict.kind,
            "outcome": outcome,
            "frame": None if outcome == LEFT_OUT else _place(frame),
            "split": frame.split,
            "file": frame.source.file,
            "twin": resolution.conflicts.frames[conflict.twin].source.file,
            "twins": resolution.conflicts.twins[index],
            "bits": conflict.distance,
        }
        rows.append(row)
    _write(folder / "conflicts.json", rows)


def _place(frame: Kept) -> str:
    return f"{frame.split}/{frame.id}"


def _write(path: Path, rows: Sequence[object]) -> None:
    """Not `write_json`: people read and search one pair on each line, which it would spread out."""
    lines = ",\n".join(map(json.dumps, rows))
    write_atomically(path, f"[\n{lines}\n]\n" if rows else "[]\n")
