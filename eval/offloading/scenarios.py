"""The links and targets of ApproxBit's Figs. 9 and 10, and what its controller may select from.

The paper gives no trace of Fig. 9 in numbers and draws its targets: three speeds, twice, "with some
fluctuations", latencies "from 300ms to 500ms", then accuracies "from 68% to 71%". The spread and
the targets between the ends are our reading.
"""

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from dat_runtime.offload_table import Row
from eval.offloading.adaptation import Window
from eval.offloading.printed import EDGE_ONLY, Model
from eval.offloading.shapes import Checked
from eval.uplink.trace import Rates

FIG_9 = "Fig. 9"
"""The name of its scenario, the one whose links are drawn."""

MBPS = 125_000.0
"""Bytes per second of one megabit per second."""

SPEEDS = (50, 3, 6, 50, 3, 6)
"""Mbps of Fig. 9's six windows."""
SECONDS = 50
"""Of each."""
SPREAD = 0.25
"""Coefficient of variation of a second's speed within a window."""
MEMORY = 0.5
"""Correlation of a second's speed with the next one's."""

TRACE_MEAN = 7.8
"""Mbps that Fig. 10's trace has on average; a trace is rescaled to it."""
TRACE_SECONDS = 3_000
"""Of Fig. 10; a shorter trace is used whole."""


@dataclass(frozen=True)
class Scenario:
    """A link, or several drawn alike, with the targets of its time.

    Attributes:
        links: bytes per second, one entry a second, of each.
    """

    name: str
    links: tuple[Rates, ...]
    windows: tuple[Window, ...]


def fig_9(seeds: int) -> Scenario:
    """50, 3 and 6 Mbps, twice: three latencies, then three accuracies."""
    links = tuple(fluctuating(seed) for seed in range(seeds))
    targets = [(0.3, None), (0.4, None), (0.5, None), (None, 0.68), (None, 0.695), (None, 0.71)]
    return Scenario(FIG_9, links, _windows(SECONDS * len(SPEEDS), targets))


def fig_10(name: str, trace: Rates) -> Scenario:
    """A real trace: latencies of 300 to 500 ms, then accuracies of 68 to 70 %."""
    piece = list(trace[:TRACE_SECONDS])
    scale = TRACE_MEAN * MBPS * len(piece) / sum(piece)
    targets = [(0.3, None), (0.4, None), (0.5, None), (None, 0.68), (None, 0.69), (None, 0.70)]
    return Scenario(name, ([rate * scale for rate in piece],), _windows(len(piece), targets))


def _windows(
    seconds: int, targets: Sequence[tuple[float | None, float | None]]
) -> tuple[Window, ...]:
    """Equally long windows, one for each target."""
    ends = [seconds * i // len(targets) for i in range(len(targets) + 1)]
    bounds = itertools.pairwise(ends)
    return tuple(Window(*ends, *target) for ends, target in zip(bounds, targets, strict=True))


def fluctuating(seed: int, spread: float = SPREAD) -> list[float]:
    """Fig. 9's link: log-normal about each window's speed, each second like the one before."""
    draw = random.Random(seed)
    sigma = math.sqrt(math.log(1 + spread**2))
    state = draw.gauss(0, 1)
    rates = []
    for mbps in SPEEDS:
        for _ in range(SECONDS):
            state = MEMORY * state + math.sqrt(1 - MEMORY**2) * draw.gauss(0, 1)
            rates.append(mbps * MBPS * math.exp(sigma * state - sigma**2 / 2))
    return rates


def rows_of(model: Model, checked: Sequence[Checked]) -> list[Row]:
    """The model's codes, and the edge alone, as rows of a look-up table.

    Of computing the paper prints the sum only: all of it counts as the edge's, before the link.
    """
    rows = []
    for row in model.rows:
        if row.method == EDGE_ONLY:
            rows.append(Row(EDGE_ONLY, "edge", 0, row.accuracy[0] / 100, row.latency_ms[0] / 1000))
    for code in checked:
        if code.row.is_code:
            accuracy, computing = code.row.accuracy[0] / 100, code.base_ms / 1000
            rows.append(Row(code.row.method, "code", round(code.size), accuracy, computing))
    return rows
