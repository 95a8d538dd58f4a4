"""Uplink traces as bytes per second; packets and timed rows are read one at a time.

Forms:
    series     CSV with UL_bitrate: `rate_logs` says in which unit, and what becomes of gaps
    wireshark  CSV export of the packet list: "No.","Time","Source","Destination","Protocol",
               "Length","Info", Wireshark's default columns
    tabbed     the same without a header, separated by tabs; columns are found by their content
    capture    pcap or pcapng
    mahimahi   `.up`: one line a packet of 1500 bytes, its time in milliseconds (man mm-link)
    downlink   CSV with DL_bitrate alone: refused, since it says nothing about an uplink
"""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dat_runtime.errors import DataError
from data.prep.importers import packets, rate_logs
from data.prep.importers.packets import Packet
from data.prep.importers.rate_logs import LONGEST, amount

Form = Literal["series", "wireshark", "tabbed", "capture", "mahimahi", "downlink"]
FORMS: tuple[Form, ...] = ("series", "wireshark", "tabbed", "capture", "mahimahi", "downlink")
"""In the order in which `sources.find_sources` prefers them."""

_MAHIMAHI_PACKET = 1500
"""Bytes of the packet that each line of a trace stands for (man mm-link)."""
_CAPTURES = (".pcap", ".pcapng", ".cap")
_EXPECTED = "expected time, source, destination, length"
_COLUMNS = ("Time", "Source", "Destination", "Length")


@dataclass(frozen=True)
class Uplink:
    """A trace that was read.

    Attributes:
        rates: bytes per second sent by the client, one value a second from the trace's start.
        unit: of a series, the unit that its numbers were taken for.
        gap_seconds: seconds without a row in a series with times; they are zeros in `rates`.
        cut: whether a capture ends within a packet.
        ipv6_client: the network that was taken for the client's, where no address is private.
    """

    rates: list[float]
    unit: str | None = None
    gap_seconds: int | None = None
    cut: bool = False
    ipv6_client: str | None = None

    def words(self) -> list[str]:
        """What a reader of the rates should know about how they were found."""
        said = []
        if self.unit is not None:
            said.append(f"read as {self.unit}")
        if self.gap_seconds:
            said.append(f"{self.gap_seconds:,} s of gaps kept as zeros")
        if self.cut:
            said.append("the capture ends within a packet: read up to there")
        if self.ipv6_client is not None:
            said.append(f"IPv6 client taken to be in {self.ipv6_client}")
        return said


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
    if suffix in _CAPTURES:
        return "capture" if _captures().is_capture(path) else None
    if suffix not in (".csv", ".txt", ".tsv"):
        return None
    with path.open("rb") as file:
        first_line = file.readline(4096).decode("utf-8-sig", errors="replace").strip()
    names = first_line.split(",")
    rates = rate_logs.header(names)
    if rates is not None:
        return "downlink" if rates.uplink is None else "series"
    if set(_COLUMNS) <= {name.strip('" ') for name in names}:
        return "wireshark"
    return "tabbed" if _columns_by_content(first_line.split("\t")) else None


def _captures() -> Any:
    # Only here: dpkt imports all of its 80 protocols.
    from data.prep.importers import captures

    return captures


def read_uplink(path: Path, unit: str | None = None) -> Uplink:
    """The uplink of a trace.

    Args:
        unit: one of `rate_logs.UNITS`, of a series; None where the form states it.

    Raises:
        DataError: names file and line of a row that cannot be read; the unit is missing, or is
            stated for packets, which have lengths in bytes.
    """
    kind = form(path)
    if unit is not None and kind not in ("series", "downlink"):
        raise DataError(f"--trace-unit {unit} is for a series of rates, this is {kind}", path)
    if kind == "capture":
        capture = _captures().Capture(path)
        sent = packets.sent_by_client(capture.packets, path)
        uplink = Uplink(sent.rates, cut=capture.cut, ipv6_client=sent.network)
    elif kind in ("wireshark", "tabbed"):
        sent = packets.sent_by_client(partial(_listed, path, kind), path)
        uplink = Uplink(sent.rates, ipv6_client=sent.network)
    else:
        uplink = _read_rates(path, kind, unit)
    if not any(uplink.rates):
        raise DataError("no byte was sent in the uplink direction", path)
    return uplink


def _read_rates(path: Path, kind: Form | None, unit: str | None) -> Uplink:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if kind in ("series", "downlink"):
            log = rate_logs.read(csv.reader(file, skipinitialspace=True), path, unit)
            return Uplink(log.rates, unit=log.unit, gap_seconds=log.gap_seconds)
        if kind == "mahimahi":
            return Uplink(_mahimahi(file, path))
    raise DataError("not a trace of a known form", path)


def _listed(path: Path, kind: Form) -> Iterator[Packet]:
    """The packets of a list, from its beginning."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if kind == "wireshark":
            rows = csv.reader(file, skipinitialspace=True)
        else:
            # Without quoting: a `"` in the last column is an ordinary character.
            rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        columns = None
        try:
            if kind == "wireshark":
                columns = _columns_by_name(next(rows))
            for row in rows:
                columns = columns or _columns_by_content(row)
                yield _packet(row, columns, path, rows.line_num)
        except csv.Error as error:
            raise DataError(f"not CSV: {error}", path, rows.line_num) from None


def _packet(row: list[str], columns: _Columns | None, path: Path, line: int) -> Packet:
    if columns is None:
        raise DataError(_EXPECTED, path, line)
    try:
        source, destination = row[columns.source], row[columns.destination]
        second, length = _second(row[columns.time]), row[columns.length]
    except (ValueError, IndexError, OverflowError):
        raise DataError(_EXPECTED, path, line) from None
    return Packet(second, source, destination, amount(length, path, line))


def _second(time: str) -> int:
    """The whole second of `YYYY-MM-DD HH:MM:SS.ffffff`, or of seconds since the capture began."""
    if time[4:5] == "-":
        return _date_second(time[:19])
    return math.floor(float(time))


@lru_cache(maxsize=16)  # packets of one second follow one another
def _date_second(time: str) -> int:
    return int((datetime.fromisoformat(time) - datetime(1970, 1, 1)).total_seconds())


def _columns_by_name(header: list[str]) -> _Columns:
    names = [name.strip('" ') for name in header]
    return _Columns(*(names.index(name) for name in _COLUMNS))


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
        milliseconds = int(amount(text, path, line))
        second = milliseconds // 1000
        if second > LONGEST:
            raise DataError("the trace spans more than 31 days", path, line)
        sent[second] += _MAHIMAHI_PACKET
    last = max(sent, default=-1)
    return [float(sent.get(second, 0)) for second in range(last + 1)]
