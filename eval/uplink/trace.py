"""A bandwidth trace: reading bandwidth.csv, and the window of it that an experiment replays."""

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path

from dat_runtime.errors import DataError
from dat_runtime.files import read_text
from eval.uplink.setting import Window

Rates = Sequence[float]
"""Bytes per second of an uplink, one entry a second."""

HEADER = ["second", "uplink_bytes_per_s"]
BYTE_ORDER_MARK = "\ufeff"
"""Spreadsheets write it before the header."""


def read_trace(path: Path) -> list[float]:
    """Uplink bytes per second, one entry a second, of a `bandwidth.csv`.

    Raises:
        DataError: names the file and line.
    """
    text = read_text(path).removeprefix(BYTE_ORDER_MARK)
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise DataError(f"is not CSV ({error})", path) from None
    if not rows or rows[0] != HEADER:
        raise DataError("expected the header second,uplink_bytes_per_s", path, 1)
    trace: list[float] = []
    last = 0
    for line, row in enumerate(rows[1:], 2):
        try:
            time, rate = row
            second = int(time)
            value = float(rate)
        except ValueError:
            raise DataError(f"expected second,bytes per second; got {row}", path, line) from None
        if not (math.isfinite(value) and value >= 0):
            raise DataError(f"bandwidth must be finite and >= 0, got {rate}", path, line)
        if trace and second != last + 1:
            raise DataError(f"second {last} is followed by {second}", path, line)
        last = second
        trace.append(value)
    if not any(trace):
        raise DataError("holds no bandwidth", path)
    return trace


def window_start(trace: Rates, place: Window) -> int:
    """The second at which the window begins; earlier than stated where the trace is too short."""
    return max(0, min(place.start, len(trace) - place.seconds))


def fingerprint(trace: Rates, place: Window) -> str:
    """What identifies the window: the first 16 digits of the sha256 of its values."""
    start = window_start(trace, place)
    values = ",".join(f"{rate:.6g}" for rate in trace[start : start + place.seconds])
    return hashlib.sha256(values.encode()).hexdigest()[:16]


def window(trace: Rates, place: Window) -> list[float]:
    """The window of the trace, rescaled to the mean that `place` states.

    A trace too short for the window at its place gives its last `seconds` seconds, or all of it.

    Raises:
        DataError: the trace has no bandwidth there.
    """
    start = window_start(trace, place)
    piece = trace[start : start + place.seconds]
    mean = sum(piece) / len(piece)
    if not mean:
        raise DataError(f"the trace has no bandwidth in rows {start}..{start + len(piece)}")
    return [rate * place.mean / mean for rate in piece]
