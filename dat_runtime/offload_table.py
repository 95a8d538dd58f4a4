"""Where an answer is made: look-up table and controller of ApproxBit (§3.1, Eq. 1-2).

A node too weak for the MLLM can let its gate answer alone, send a learned code, or send a small
picture. Each is a row with its bytes, accuracy and times; `select` takes one for the bandwidth of
the moment. Pure: reads no clock and no socket. Sizes are bytes, bandwidth bytes per second, times
seconds.

    table = read_table(path)
    recent = RecentBandwidth(initial=50e3)
    recent.add(rate)                                       # once a second, say
    row, feasible = select(table.rows, recent.value, max_latency=0.5, queued=alert + waiting)

`table.json`, which `eval.offload` writes:
{"version": 1, "measure": "count_em", "measured_on": "...", "codec": "a22a9d90515def02", "rows": [
 {"name": "code-64", "kind": "code", "bytes": 4256, "accuracy": 0.81, "edge_s": 0.05,
  "encode_s": 0.002, "decode_s": 0.004, "server_s": 0.3, "offload_point": 7, "spatial": true,
  "channels": 64, "quality": null}, ...]}
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from dat_runtime import fields
from dat_runtime.errors import ConfigError
from dat_runtime.files import read_json
from dat_runtime.offload import CODEC_BYTES
from dat_runtime.planning.pending import require

Kind = Literal["edge", "code", "jpeg", "webp"]
"""What is sent beyond the alert: nothing, learned bits, or a picture for the cloud's MLLM."""

PICTURES = ("jpeg", "webp")
TABLE_VERSION = 1
SMALL_PICTURE = 16_000
"""Bytes of the largest WebP that counts as small. Codes pay below about 8 kB only, so a table
without such a picture would choose codes where a picture is better."""

RECENT = 8
"""Samples of bandwidth that are remembered."""
LOW_QUANTILE = 0.1
"""Of these, what the controller counts on."""

_MAX_FILE_BYTES = 1 << 20
_MAX_ROWS = 1000
_MAX_SECONDS = 3600
_MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Row:
    """One alternative (o, I_s, C) with its entry of the look-up table."""

    name: str
    kind: Kind
    bytes: int
    """d: on the wire beyond the alert, headers included."""
    accuracy: float
    edge_s: float = 0.0
    """t_e: the vision tower's first blocks on the node."""
    encode_s: float = 0.0
    decode_s: float = 0.0
    server_s: float = 0.0
    """t_s: from the decoded features, or the picture, to the answer."""
    offload_point: int | None = None
    """o: the block of the vision tower after which a code leaves."""
    spatial: bool = False
    """I_s: whether 2x2 features are encoded together."""
    channels: int | None = None
    """C: bits of a code vector."""
    quality: int | None = None
    """Of a picture, 1 to 100."""

    def latency(self, bandwidth: float, queued: float = 0) -> float:
        """t of Eq. 1 in seconds, behind `queued` bytes; infinite where nothing goes through.

        It counts beyond the alert, which every row has and which goes before all codes: a row that
        sends nothing more does not wait for the link.
        """
        network = 0.0
        if self.bytes:
            network = (queued + self.bytes) / bandwidth if bandwidth else math.inf
        return self.edge_s + self.encode_s + network + self.decode_s + self.server_s


class Choice(NamedTuple):
    """What the controller takes."""

    row: Row
    feasible: bool
    """Whether the row keeps the target."""


def select(
    rows: Sequence[Row],
    bandwidth: float,
    *,
    max_latency: float | None = None,
    min_accuracy: float | None = None,
    queued: float = 0,
) -> Choice:
    """The row of Eq. 2: the most accurate within a latency, or the fastest of enough accuracy.

    A row at its bound is within it. Where no row keeps a latency, the fastest is taken; where none
    has the accuracy, the most accurate. Of equally accurate rows the faster one is taken, of
    equally fast ones the one of fewer bytes, then the more accurate, then the earlier in the table.

    Args:
        bandwidth: bytes per second; 0 lets nothing through.
        max_latency: t_user, seconds.
        min_accuracy: acc_user, in the table's measure.
        queued: bytes that go before this row's own: its alert and what waits with more priority.

    Raises:
        ValueError: not one of both targets, no row, or a negative or non-finite number by its name.
    """
    if (max_latency is None) == (min_accuracy is None):
        raise ValueError("expected one of max_latency and min_accuracy")
    if not rows:
        raise ValueError("rows must not be empty")
    _require(bandwidth=bandwidth, queued=queued)

    def fastest(row: Row) -> tuple[float, ...]:
        return row.latency(bandwidth, queued), row.bytes, -row.accuracy

    def most_accurate(row: Row) -> tuple[float, ...]:
        return -row.accuracy, *fastest(row)

    if max_latency is not None:
        _require(max_latency=max_latency)
        within = [row for row in rows if row.latency(bandwidth, queued) <= max_latency]
        best = min(within, key=most_accurate) if within else min(rows, key=fastest)
    else:
        assert min_accuracy is not None
        _require(min_accuracy=min_accuracy)
        within = [row for row in rows if row.accuracy >= min_accuracy]
        best = min(within, key=fastest) if within else min(rows, key=most_accurate)
    return Choice(best, bool(within))


def _require(**numbers: float) -> None:
    for name, value in numbers.items():
        require(fields.is_finite(value) and value >= 0, name, value)


class RecentBandwidth:
    """A low quantile of the last samples of bandwidth: what a link that fluctuates will still do.

    The last sample alone promises too much every other time.
    """

    def __init__(self, initial: float, samples: int = RECENT, quantile: float = LOW_QUANTILE):
        """`initial` counts until the first sample comes.

        Raises:
            ValueError: a number out of range, by its name.
        """
        _require(initial=initial)
        if samples < 1 or not 0 <= quantile <= 1:
            raise ValueError(
                f"expected samples from 1 and a quantile in [0, 1], got {samples} and {quantile}"
            )
        self._initial = initial
        self._samples: deque[float] = deque(maxlen=samples)
        self._quantile = quantile

    def add(self, bytes_per_s: float) -> None:
        """Learn a sample; 0 is one too.

        Raises:
            ValueError: it is negative or not finite.
        """
        _require(bytes_per_s=bytes_per_s)
        self._samples.append(bytes_per_s)

    @property
    def value(self) -> float:
        """Bytes per second: the least sample that so large a part of them does not exceed.

        No line is drawn between samples: when a link breaks down, the first low one counts in full.
        """
        if not self._samples:
            return self._initial
        ordered = sorted(self._samples)
        return ordered[max(0, math.ceil(self._quantile * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Table:
    """The look-up table of a node."""

    measure: str
    """What `accuracy` is, such as "count_em"."""
    measured_on: str
    """Model, data and hardware, in words."""
    rows: tuple[Row, ...]
    codec: str | None = None
    """Of the codes, as every unit states it (`dat_runtime.offload`); None where there are none."""

    def as_json(self) -> dict[str, Any]:
        """The content of a `table.json`; `of` reads it."""
        return {
            "version": TABLE_VERSION,
            "measure": self.measure,
            "measured_on": self.measured_on,
            "codec": self.codec,
            "rows": [asdict(row) for row in self.rows],
        }

    @classmethod
    def of(cls, value: object) -> "Table":
        """The table that a `table.json` holds.

        Raises:
            ValueError: a field is missing, unknown or out of range, named; a row contradicts its
                kind; or a row that a table must have is missing.
        """
        stated = fields.checked(value, _TABLE, "")
        rows = tuple(_row(row, f"rows[{i}]") for i, row in enumerate(stated["rows"]))
        names = [row.name for row in rows]
        if len(set(names)) < len(names):
            raise ValueError("rows: two have the same name")
        if sum(row.kind == "edge" for row in rows) != 1:
            raise ValueError('rows: expected one of kind "edge", the gate alone')
        if not any(row.kind == "webp" and row.bytes <= SMALL_PICTURE for row in rows):
            raise ValueError(
                f'rows: expected one of kind "webp" of at most {SMALL_PICTURE:,} bytes, so that '
                "codes are weighed against a small picture"
            )
        if any(row.kind == "code" for row in rows) != (stated["codec"] is not None):
            raise ValueError('codec: expected the id of the codec of the rows of kind "code"')
        return cls(stated["measure"], stated["measured_on"], rows, stated["codec"])


def read_table(path: Path) -> Table:
    """The table in a file.

    Raises:
        ConfigError: the file is missing, too large or not JSON, or is no table: what `Table.of`
            says.
    """
    missing = "eval.offload writes it"
    value = read_json(path, ConfigError, missing=missing, most_bytes=_MAX_FILE_BYTES, strict=True)
    try:
        return Table.of(value)
    except ValueError as error:
        raise ConfigError(str(error), path) from None


_SECONDS = fields.number(0, _MAX_SECONDS)
_TABLE = {
    "version": fields.Rule(lambda v: v == TABLE_VERSION, str(TABLE_VERSION)),
    "measure": fields.NAME,
    "measured_on": fields.NAME,
    "codec": fields.optional(
        fields.text_like(rf"[0-9a-f]{{{2 * CODEC_BYTES}}}", f"{2 * CODEC_BYTES} hexadecimal digits")
    ),
    "rows": fields.list_of(fields.OBJECT, 1, _MAX_ROWS),
}
_ROW = {
    "name": fields.NAME,
    "kind": fields.one_of(get_args(Kind)),
    "bytes": fields.whole(0, _MAX_BYTES),
    "accuracy": fields.SHARE,
    "edge_s": _SECONDS,
    "encode_s": _SECONDS,
    "decode_s": _SECONDS,
    "server_s": _SECONDS,
    "offload_point": fields.optional(fields.whole(0)),
    "spatial": fields.FLAG,
    "channels": fields.optional(fields.whole(1)),
    "quality": fields.optional(fields.whole(1, 100)),
}


def _row(value: object, where: str) -> Row:
    row = Row(**fields.checked(value, _ROW, where))
    is_code, is_picture = row.kind == "code", row.kind in PICTURES
    for name, wanted, there in (
        ("bytes", row.kind != "edge", row.bytes > 0),
        ("offload_point", is_code, row.offload_point is not None),
        ("channels", is_code, row.channels is not None),
        ("quality", is_picture, row.quality is not None),
    ):
        if wanted != there:
            rule = "needs" if wanted else "has no"
            raise ValueError(f'{where}: a row of kind "{row.kind}" {rule} {name}')
    if row.spatial and not is_code:
        raise ValueError(f'{where}: spatial is true, but only a row of kind "code" encodes')
    return row
