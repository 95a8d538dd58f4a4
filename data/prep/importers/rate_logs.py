"""Logs of an uplink's rate, as bytes per second.

A log without times has one row a second, such as the 1 s series of the 5G Traffic sets. A log with
times may have any usual step and gaps: a value holds for one step, and what lies beyond is a gap,
kept as zeros. Several rows of one time count with their mean.
"""

import csv
import itertools
import math
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime.errors import DataError

UNITS = {"B/s": 1.0, "kB/s": 1e3, "bit/s": 1 / 8, "kbit/s": 125.0, "Mbit/s": 125e3}
"""Bytes per second of one of each."""
UPLINK, DOWNLINK = "ul_bitrate", "dl_bitrate"

LONGEST = 31 * 24 * 3600
"""Seconds. Without this bound one wrong time stamp would make a series of billions of seconds."""

_OTHER_SPELLINGS = {"bps": "bit/s", "kbps": "kbit/s", "Mbps": "Mbit/s"}
_TIMES = frozenset({"timestamp", "time", "datetime", "second", "seconds"})
_RADIO = frozenset({"RSRP", "RSRQ", "CQI", "NetworkMode"})
"""Columns of the public 4G and 5G logs of G-NetTrack (Raca et al., 2018 and 2020): kbit/s."""
_MISSING = frozenset({"", "-"})
_ROWS_FOR_STEP = 1000
_STRETCH = 1.5
"""A pause of up to so many steps is an uneven step; a longer one is a gap."""
_MILLISECONDS = 1e11
"""Seconds since 1970 are below this for 3,000 years, milliseconds above since 1973."""
_DATE = re.compile(
    r"(\d{4})[-./](\d\d)[-./](\d\d)[ T_](\d\d)[:.](\d\d)[:.](\d\d(?:\.\d{1,6})?)(Z|[+-]\d\d:?\d\d)?"
)


Sample = tuple[float, float | None]
"""A time in seconds and the rate from then on, None where it is missing."""


class Header(NamedTuple):
    """The columns of a log that are used; `uplink` is None where it has the downlink alone."""

    uplink: int | None
    time: int | None
    named_unit: str | None
    """What the name of the column states."""
    usual_unit: str | None
    """What the kind of log has."""


class Log(NamedTuple):
    """What a log holds."""

    rates: list[float]
    unit: str
    gap_seconds: int | None
    """None of a log without times, which cannot have gaps."""


def header(names: Sequence[str]) -> Header | None:
    """The columns of a log of rates; None if these are the columns of something else."""
    plain = [name.strip().strip('"').strip() for name in names]
    uplink, downlink = _column(plain, UPLINK), _column(plain, DOWNLINK)
    if uplink is None and downlink is None:
        return None
    time = next((i for i, name in enumerate(plain) if name.lower() in _TIMES), None)
    named = None if uplink is None else _unit_in(plain[uplink])
    usual = None
    if time is not None and not _RADIO.isdisjoint(plain):
        usual = "kbit/s"
    elif len(plain) == 2 and None not in (uplink, downlink):
        usual = "B/s"  # the 1 s series of the 5G Traffic sets, despite the columns' names
    return Header(uplink, time, named, usual)


def _column(names: Sequence[str], wanted: str) -> int | None:
    """The column with this name, which a unit may follow: `UL_bitrate (kbit/s)`."""
    for i, name in enumerate(names):
        if name.lower() == wanted or (name.lower().startswith(wanted) and _unit_in(name)):
            return i
    return None


def _unit_in(name: str) -> str | None:
    unit = name[len(UPLINK) :].strip(" _()[]")
    unit = _OTHER_SPELLINGS.get(unit, unit)
    return unit if unit in UNITS else None


def read(rows: Any, path: Path, stated_unit: str | None) -> Log:
    """The uplink of a csv reader whose first row is the header.

    Raises:
        DataError: names file and line of a row that cannot be read; or the unit is not known, or
            the header states another one than the user does.
    """
    try:
        columns = header(next(rows))
        if columns is None or columns.uplink is None:
            raise DataError("holds the downlink alone: expected a column UL_bitrate", path, 1)
        named = columns.named_unit
        if stated_unit and named and stated_unit != named:
            raise DataError(f"states {named}: --trace-unit {stated_unit} contradicts it", path, 1)
        unit = stated_unit or named or columns.usual_unit
        if unit is None:
            raise DataError(
                f"the unit of UL_bitrate is not known: --trace-unit {'|'.join(UNITS)}", path, 1
            )
        factor = UNITS[unit]
        if columns.time is None:
            rates = [factor * rate for rate in _values(rows, columns.uplink, path)]
            return Log(rates, unit, None)
        moments = _moments(rows, columns.uplink, columns.time, path)
        rates, gap = by_second(_checked(moments, path))
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", path, rows.line_num) from None
    return Log([factor * rate for rate in rates], unit, gap)


def amount(text: str | None, path: Path, line: int) -> float:
    """A finite number of at least 0; anything else is an error that names the line."""
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise DataError(f"expected a finite number >= 0, got {text!r:.40}", path, line)
    return value


def _values(rows: Any, column: int, path: Path) -> Iterator[float]:
    for row in rows:
        if row:
            yield amount(row[column] if column < len(row) else None, path, rows.line_num)


class _Moment(NamedTuple):
    at: float
    rate: float | None
    line: int


def _moments(rows: Any, uplink: int, time: int, path: Path) -> Iterator[_Moment]:
    """Each row's time and rate, which may be missing."""
    for row in rows:
        if not row:
            continue
        line = rows.line_num
        if max(uplink, time) >= len(row):
            raise DataError(f"expected time and uplink, got {len(row)} columns", path, line)
        text = row[uplink].strip()
        rate = None if text in _MISSING else amount(text, path, line)
        yield _Moment(seconds(row[time], path, line), rate, line)


def seconds(text: str, path: Path, line: int) -> float:
    """Seconds of a time stamp: since 1970 in seconds or milliseconds, since the start, or a date.

    A date may be written as `2018.02.12_16.14.02`; without a zone it counts as UTC, since only
    differences matter.
    """
    text = text.strip()
    found = _DATE.fullmatch(text)
    try:
        if found:
            year, month, day, hour, minute, second, zone = found.groups()
            written = f"{year}-{month}-{day}T{hour}:{minute}:{second}{zone or ''}"
            moment = datetime.fromisoformat(written)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"expected a time, got {text!r:.40}", path, line)
    return value / 1000 if value > _MILLISECONDS else value


def _checked(moments: Iterable[_Moment], path: Path) -> Iterator[Sample]:
    """One sample for each time: the mean of its rates.

    Raises:
        DataError: the time goes back, or the log spans more than `LONGEST`.
    """
    first = last = None
    for at, rows in itertools.groupby(moments, key=lambda moment: moment.at):
        same = list(rows)
        line = same[0].line
        first = at if first is None else first
        if last is not None and at < last:
            raise DataError("the time goes back: expected rows in order of time", path, line)
        if at - first > LONGEST:
            raise DataError("the trace spans more than 31 days", path, line)
        last = at
        known = [moment.rate for moment in same if moment.rate is not None]
        yield at, statistics.fmean(known) if known else None


def by_second(samples: Iterator[Sample]) -> tuple[list[float], int]:
    """The mean of each second since the first sample, and how many seconds have none.

    A second that the log ends in is left out unless it is the only one.
    """
    begin = list(itertools.islice(samples, _ROWS_FOR_STEP))
    if not begin:
        return [], 0
    step = _usual_step([at for at, _ in begin])
    start = begin[0][0]
    sums: list[float] = []
    gap = 0.0
    end = 0.0
    every = itertools.chain(begin, samples, [(math.inf, None)])
    for (at, rate), (following, _) in itertools.pairwise(every):
        pause = following - at
        held = pause if pause <= _STRETCH * step else step
        end = at - start + held
        _spread(sums, at - start, end, rate or 0.0)
        if rate is None:
            gap += held
        if math.isfinite(pause):
            gap += pause - held
            sums.extend([0.0] * (math.ceil(following - start) - len(sums)))
    return sums[: max(1, math.floor(end + 1e-6))], round(gap)


def _usual_step(times: Sequence[float]) -> float:
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return statistics.median_low(steps) if steps else 1.0


def _spread(sums: list[float], start: float, end: float, rate: float) -> None:
    """Add what a rate carries between two times to the seconds that they touch."""
    for second in range(math.floor(start), math.ceil(end)):
        while len(sums) <= second:
            sums.append(0.0)
        sums[second] += rate * (min(end, second + 1) - max(start, second))
