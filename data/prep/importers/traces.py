"""Uplink traces as a series of bytes per second, streamed in memory that does not grow with rows.

Forms:
    series     CSV with the columns DL_bitrate,UL_bitrate: bytes per second, despite the names
    wireshark  CSV export "No.","Time","Source","Destination","Protocol","Length","Info"
    tabbed     the same without a header, tab-separated, columns found by their content
    mahimahi   `.up`: one line a packet of 1500 bytes, its time in milliseconds
"""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal

from dat_runtime.errors import DataError

Form = Literal["series", "wireshark", "tabbed", "mahimahi"]
FORMS: tuple[Form, ...] = ("series", "wireshark", "tabbed", "mahimahi")

_MAHIMAHI_PACKET = 1500
_LONGEST = 31 * 24 * 3600
_ROWS_PER_NOTE = 1_000_000
_CARRIER = ip_network("100.64.0.0/10")


def form(path: Path) -> Form | None:
    """The form of a trace by its name and first line; None where it is no trace."""
    suffix = path.suffix.lower()
    if suffix == ".up":
        return "mahimahi"
    if suffix not in (".csv", ".txt", ".tsv"):
        return None
    with path.open("rb") as file:
        first = file.readline(4096).decode("utf-8-sig", errors="replace").strip()
    header = {field.strip('" ') for field in first.split(",")}
    if {"DL_bitrate", "UL_bitrate"} <= header:
        return "series"
    if {"Time", "Source", "Destination", "Length"} <= header:
        return "wireshark"
    return "tabbed" if _packet_columns(first.split("\t")) else None


def read_uplink(path: Path) -> list[float]:
    """Bytes per second sent by the client, one value a second from the trace's start.

    Raises:
        DataError: names file and line of a row that cannot be read.
    """
    kind = form(path)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if kind == "series":
            uplink = list(_series(csv.reader(file, skipinitialspace=True), path))
        elif kind == "wireshark":
            rows = csv.reader(file, skipinitialspace=True)
            header = next(rows)
            order = ("Time", "Source", "Destination", "Length")
            uplink = _packets(rows, tuple(map(header.index, order)), path)
        elif kind == "tabbed":
            rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            uplink = _packets(rows, None, path)
        elif kind == "mahimahi":
            uplink = _mahimahi(file, path)
        else:
            raise DataError("no known form of a trace", path)
    if not any(uplink):
        raise DataError("no byte was sent in the uplink direction", path)
    return uplink


def _series(rows: Any, path: Path) -> Iterator[float]:
    try:
        column = [name.strip() for name in next(rows)].index("UL_bitrate")
        for row in rows:
            if row:
                yield _amount(row[column] if column < len(row) else None, path, rows.line_num)
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", path, rows.line_num) from None


def _amount(text: str | None, path: Path, line: int) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise DataError(f"expected a finite number >= 0, got {text!r:.40}", path, line)
    return value


def _packets(rows: Any, columns: tuple[int, ...] | None, path: Path) -> list[float]:
    """Packets of a csv reader from a private address to a public one, summed by second."""
    sent: dict[int, float] = defaultdict(float)
    start = last = None
    try:
        for row in rows:
            line = rows.line_num
            if columns is None:
                columns = _packet_columns(row)
            try:
                when, source, destination, length = (row[c] for c in columns or ())
                second = _second(when)
            except (ValueError, IndexError, OverflowError):
                raise DataError("expected time, source, destination, length", path, line) from None
            start = second if start is None else min(start, second)
            last = second if last is None else max(last, second)
            if last - start > _LONGEST:
                raise DataError("the trace spans more than 31 days", path, line)
            if _side(source) == "client" and _side(destination) == "server":
                sent[second] += _amount(length, path, line)
            if line % _ROWS_PER_NOTE == 0:
                print(f"[data] {path.name}: {line:,} packets", flush=True)
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", path, rows.line_num) from None
    if start is None or last is None:
        raise DataError("no packets", path)
    return [sent.get(second, 0.0) for second in range(start, last + 1)]


def _second(when: str) -> int:
    """The whole second of `YYYY-MM-DD HH:MM:SS.ffffff`, or of seconds since the capture began."""
    return _date_second(when[:19]) if when[4:5] == "-" else math.floor(float(when))


@lru_cache(maxsize=16)
def _date_second(when: str) -> int:
    return int((datetime.fromisoformat(when) - datetime(1970, 1, 1)).total_seconds())


@lru_cache(maxsize=65536)
def _side(address: str) -> Literal["client", "server", "neither"]:
    """The client of a capture has a private (or carrier-grade NAT) address."""
    try:
        ip = ip_address(address)
    except ValueError:
        return "neither"
    if ip.is_multicast or ip.is_loopback or ip.is_unspecified:
        return "neither"
    if ip.is_global:
        return "server"
    return "client" if ip.is_private or (ip.version == 4 and ip in _CARRIER) else "neither"


def _packet_columns(row: list[str]) -> tuple[int, ...] | None:
    """Columns of time, source, destination and length of a headerless row, by their content."""
    addresses = [i for i, field in enumerate(row) if ":" in field or "." in field]
    addresses = [i for i in addresses if _is_address(row[i])]
    times = [i for i, field in enumerate(row) if _is_time(field)]
    if len(addresses) < 2 or not times:
        return None
    source, destination = addresses[:2]
    lengths = [i for i in range(destination + 1, len(row)) if row[i].strip().isdecimal()]
    return (times[0], source, destination, lengths[0]) if lengths else None


def _is_address(field: str) -> bool:
    try:
        ip_address(field)
    except ValueError:
        return False
    return True


def _is_time(field: str) -> bool:
    try:
        datetime.fromisoformat(field[:19])
    except ValueError:
        return "." in field and field.replace(".", "", 1).isdecimal()
    return "-" in field


def _mahimahi(lines: Iterable[str], path: Path) -> list[float]:
    sent: dict[int, int] = defaultdict(int)
    for line, text in enumerate(lines, start=1):
        second = int(_amount(text, path, line)) // 1000
        if second > _LONGEST:
            raise DataError("the trace spans more than 31 days", path, line)
        sent[second] += _MAHIMAHI_PACKET
    return [float(sent.get(second, 0)) for second in range(max(sent, default=-1) + 1)]
