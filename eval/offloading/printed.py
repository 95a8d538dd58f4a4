"""The latencies and accuracies that ApproxBit prints in its Tables 1 and 2."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime.files import read_json

FILE = Path(__file__).parents[1] / "approxbit.json"
"""A stage that shows these figures lists this file in its `code`, so that a change remakes it."""

EDGE_ONLY = "Edge-only"


@dataclass(frozen=True)
class Printed:
    """One row of a table.

    Attributes:
        method: as printed; B8 and L8 are after block or layer 8.
        level: "edge" sends nothing, "video" a video, "feature" features.
        latency_ms: at each of `Model.mbps`.
        accuracy: percent; the first is what figures show.
        tensor: what is sent, channels first; None where no shape says it.
        bits: of an element of it.
    """

    method: str
    level: str
    latency_ms: tuple[float, ...]
    accuracy: tuple[float, ...]
    tensor: tuple[int, ...] | None = None
    bits: int = 0

    @property
    def is_code(self) -> bool:
        return self.method.startswith("ApproxBit")

    @property
    def shape_bytes(self) -> float | None:
        """d of Eq. 1, from the tensor's shape alone."""
        return None if self.tensor is None else math.prod(self.tensor) * self.bits / 8


@dataclass(frozen=True)
class Model:
    """The rows of one model: a part of a table.

    Attributes:
        mbps: megabits per second of the columns, slowest first.
        measures: the names of `Printed.accuracy`.
        input: what a clip is, and the features at the offloading points.
    """

    name: str
    table: int
    data: str
    measures: tuple[str, ...]
    input: str
    mbps: tuple[float, ...]
    rows: tuple[Printed, ...]


def models() -> list[Model]:
    """All models of Tables 1 and 2, in the paper's order.

    Raises:
        DataError: the file is missing or not JSON.
    """
    document = read_json(FILE)
    return [_model(part, tuple(document["mbps"])) for part in document["models"]]


def _model(part: dict[str, Any], mbps: tuple[float, ...]) -> Model:
    return Model(
        name=part["model"],
        table=part["table"],
        data=part["data"],
        measures=tuple(part["measures"]),
        input=part["input"],
        mbps=mbps,
        rows=tuple(_row(row) for row in part["rows"]),
    )


def _row(row: dict[str, Any]) -> Printed:
    tensor = row.get("tensor")
    return Printed(
        method=row["method"],
        level=row["level"],
        latency_ms=tuple(row["latency_ms"]),
        accuracy=tuple(row["accuracy"]),
        tensor=None if tensor is None else tuple(tensor),
        bits=row.get("bits", 0),
    )
