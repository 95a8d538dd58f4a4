"""What all parts of the receiver share; `application` puts them together."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row

from dat_runtime.cloud.access import Access
from dat_runtime.cloud.alerts import Recorded
from dat_runtime.cloud.body import Bodies
from dat_runtime.cloud.metrics import Metrics
from dat_runtime.cloud.rates import Rates
from dat_runtime.cloud.settings import Settings
from dat_runtime.cloud.store import Store

RATE, BURST = 2_000.0, 20_000.0
"""Alerts a second that one node may send to one worker, and at once after silence: an outage's
backlog comes in as fast as it can be kept, and one node gone wild does not fill the disk."""

READ_RATE, READ_BURST = 20.0, 200.0
"""Lists and events a second that one node's token may ask one worker for; operators: as many as
they like."""


@dataclass
class Receiver:
    """What all parts of one worker share.

    Attributes:
        store: the database.
        access: who may do what.
        folder: where files lie, such as visuals; each part makes its own folder in it.
        rates, reads: how much each node may send, and ask for.
        bodies: reads bodies within bounds.
        metrics: what is counted.
        recorded: functions that are called with new alerts and new revisions, inside the
            transaction that keeps them; a part adds its own in `router`.
        details: functions that add to what `GET /v1/events/ID` tells of an event; given the
            connection and the row of `events`.
        tasks: coroutine functions that a part adds in `router`; they run as long as the worker
            does and are cancelled at its end.
        runs_tasks: whether this worker is the one of its machine that runs them.
        settings: where alerts go on to, what comes by MQTT, what is kept.
        ending: whether the worker has been told to end: whoever waits for news stops waiting.
    """

    store: Store
    access: Access
    folder: Path
    rates: Rates = field(default_factory=lambda: Rates(RATE, BURST))
    reads: Rates = field(default_factory=lambda: Rates(READ_RATE, READ_BURST))
    bodies: Bodies = field(default_factory=Bodies)
    metrics: Metrics = field(default_factory=Metrics)
    recorded: list[Recorded] = field(default_factory=list)
    details: list[Callable[[Connection, Row[Any]], dict[str, Any]]] = field(default_factory=list)
    tasks: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
    runs_tasks: bool = True
    settings: Settings = field(default_factory=Settings)
    ending: bool = False
