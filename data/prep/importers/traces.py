"""Uplink traces as a series of bytes per second; reading needs no memory that grows with the rows.

Forms:
    series     CSV with the columns DL_bitrate,UL_bitrate: bytes per second, despite the names
    wireshark  CSV export of the packet list: "No.","Time","Source","Destination","Protocol",
               "Length","Info", Wireshark's default columns
    tabbed     the same without a header, separated by tabs; columns are found by their content
    mahimahi   `.up`: one line a packet of 1500 bytes, its time in milliseconds (man mm-link)
"""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dat_runtime.errors import DataError

Form = Literal["series", "wireshark", "tabbed", "mahimahi"]
FORMS: tuple[Form, ...] = ("series", "wireshark", "tabbed", "mahimahi")
"""In the order in which `sources.find_sources` prefers them."""

_MAHIMAHI_PACKET = 1500
"""Bytes of the packet that each line of a trace stands for (man mm-link)."""
_LONGEST = 31 * 24 * 3600
"""Seconds. Without this bound one wrong time stamp would make a series of billions of seconds."""
_ROWS_PER_NOTE = 1_000_000
_EXPECTED = "expected time, source, destination, length"
_CARRIER = ip_network("100.64.0.0/10")
"""Carrier-grade NAT (RFC 6598): `ipaddress` calls it neither private nor global."""


class _Columns(NamedTuple):
    """The columns of a packet list that are used."""

    time: int
    source: int
    destination: int
    length: int


def form(path: Path) -> Form | None:
    """The form of a trace by its name and first line; None where it is not a trace."""
    suffix = path.suffix.lower()
    if suffix == ".up":
        return "mahimahi"
    if suffix not in (".csv", ".txt", ".tsv"):
        return None
    with path.open("rb") as file:
        first_line = file.readline(4096).decode("utf-8-sig", errors="replace").strip()
    header = {field.strip('" ') for field in first_line.split(",")}
    if {"DL_bitrate", "UL_bitrate"} <= header:
        return "series"
    if {"Time", "Source", "Destination", "Length"} <= header:
        return "wireshark"
    return "tabbed" if _columns_by_content(first_line.split("\t")) else None


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
            uplink = _packets(rows, _columns_by_name(next(rows)), path)
        elif kind == "tabbed":
            # Without quoting: a `"` in the last column is an ordinary character.
            rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            uplink = _packets(rows, None, path)
        elif kind == "mahimahi":
            uplink = _mahimahi(file, path)
        else:
            raise DataError("not a trace of a known form", path)
    if not any(uplink):
        raise DataError("no byte was sent in the uplink direction", path)
    return uplink


def _series(rows: Any, path: Path) -> Iterator[float]:
    """The uplink column of a csv reader."""
    try:
        header = [name.strip() for name in next(rows)]
        column = header.index("UL_bitrate")
        for row in rows:
            if row:
                text = row[column] if column < len(row) else None
                yield _amount(text, path, rows.line_num)
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", path, rows.line_num) from None


def _amount(text: str | None, path: Path, line: int) -> float:
    """A finite number of at least 0; anything else is an error that names the line."""
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise DataError(f"expected a finite number >= 0, got {text!r:.40}", path, line)
    return value


def _packets(rows: Any, columns: _Columns | None, path: Path) -> list[float]:
    """Bytes of the packets from a private address to a public one, summed by second.

    Args:
        columns: None to find them by the content of the first row.
    """
    sent: dict[int, float] = defaultdict(float)
    first = last = None
    try:
        for row in rows:
            line = rows.line_num
            if columns is None:
                columns = _columns_by_content(row)
            if columns is None:
                raise DataError(_EXPECTED, path, line)
            try:
                source, destination = row[columns.source], row[columns.destination]
                length = row[columns.length]
                second = _second(row[columns.time])
            except (ValueError, IndexError, OverflowError):
                raise DataError(_EXPECTED, path, line) from None
            # The packets of a capture may be slightly out of order.
            first = second if first is None else min(first, second)
            last = second if last is None else max(last, second)
            if last - first > _LONGEST:
                raise DataError("the trace spans more than 31 days", path, line)
            if _side(source) == "client" and _side(destination) == "server":
                sent[second] += _amount(length, path, line)
            if line % _ROWS_PER_NOTE == 0:
                print(f"[data] {path.name}: {line:,} packets", flush=True)
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", path, rows.line_num) from None
    if first is None or last is None:
        raise DataError("no packets", path)
    return [sent.get(second, 0.0) for second in range(first, last + 1)]


def _second(time: str) -> int:
    """The whole second of `YYYY-MM-DD HH:MM:SS.ffffff`, or of seconds since the capture began."""
    if time[4:5] == "-":
        return _date_second(time[:19])
    return math.floor(float(time))


@lru_cache(maxsize=16)  # packets of one second follow one another
def _date_second(time: str) -> int:
    return int((datetime.fromisoformat(time) - datetime(1970, 1, 1)).total_seconds())


@lru_cache(maxsize=65536)  # a capture has few addresses and millions of rows
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
    if ip.is_private or (ip.version == 4 and ip in _CARRIER):
        return "client"
    return "neither"


def _columns_by_name(header: list[str]) -> _Columns:
    return _Columns(
        time=header.index("Time"),
        source=header.index("Source"),
        destination=header.index("Destination"),
        length=header.index("Length"),
    )


def _columns_by_content(row: list[str]) -> _Columns | None:
    """The columns of a headerless row: the first time, the first two addresses, and the first
    whole number after them. None if one of these is missing."""
    times = [i for i, field in enumerate(row) if _is_time(field)]
    addresses = [i for i, field in enumerate(row) if _is_address(field)]
    if len(addresses) < 2 or not times:
        return None
    source, destination = addresses[:2]
    for column in range(destination + 1, len(row)):
        if row[column].strip().isdecimal():
            return _Columns(times[0], source, destination, column)
    return None


def _is_address(field: str) -> bool:
    if ":" not in field and "." not in field:
        return False
    try:
        ip_address(field)
    except ValueError:
        return False
    return True


def _is_time(field: str) -> bool:
    """Whether it is a date with time, or seconds with a decimal point: `12` may be a number."""
    try:
        datetime.fromisoformat(field[:19])
    except ValueError:
        return "." in field and field.replace(".", "", 1).isdecimal()
    return "-" in field


def _mahimahi(lines: Iterable[str], path: Path) -> list[float]:
    sent: dict[int, int] = defaultdict(int)
    for line, text in enumerate(lines, start=1):
        milliseconds = int(_amount(text, path, line))
        second = milliseconds // 1000
        if second > _LONGEST:
            raise DataError("the trace spans more than 31 days", path, line)
        sent[second] += _MAHIMAHI_PACKET
    last = max(sent, default=-1)
    return [float(sent.get(second, 0)) for second in range(last + 1)]
