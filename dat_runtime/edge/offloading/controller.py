"""Which way an answer takes: the look-up table asked with what the link carried lately."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from dat_runtime.edge.node_settings import OffloadSettings
from dat_runtime.edge.offloading.node_codec import NodeCodec
from dat_runtime.edge.uplink.settings import UplinkState
from dat_runtime.errors import ConfigError
from dat_runtime.offload_table import PICTURES, RecentBandwidth, Row, read_table, select

ALERT_BYTES = 900
"""An alert that goes before, about, with what HTTP adds to it."""


def usable_rows(path: Path, codec: NodeCodec) -> tuple[Row, ...]:
    """The rows of a table that was measured with this codec.

    Raises:
        ConfigError: the table is broken or of another codec, or a code has channels that this
            codec has not.
    """
    table, stated = read_table(path), codec.description
    if table.codec != stated.id:
        raise ConfigError(
            f"is of codec {table.codec}, the node has {stated.id}: make it with this codec", path
        )
    for row in table.rows:
        if row.channels is not None and row.channels not in stated.channels:
            raise ConfigError(
                f"row {row.name} has {row.channels} channels, the codec "
                + ", ".join(map(str, stated.channels)),
                path,
            )
    return table.rows


class Controller:
    """`select` with the link as it is now; safe to use from every thread.

    Args:
        state: of the uplink.
        ahead: bytes that wait for the link already.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        settings: OffloadSettings,
        initial_bytes_per_s: float,
        state: Callable[[], UplinkState],
        ahead: Callable[[], int],
    ):
        self._rows = rows
        self._settings = settings
        self._state, self._ahead = state, ahead
        self._lock = threading.Lock()
        self._recent = RecentBandwidth(initial_bytes_per_s)

    def look(self) -> None:
        """Take a sample of the link; to be called once a second."""
        state = self._state()
        if not state.connected and not state.problem:
            return  # nothing was tried yet
        goes = state.connected and not state.metered  # over a metered way no question does
        with self._lock:
            self._recent.add(state.bytes_per_s if goes else 0.0)

    @property
    def bandwidth(self) -> float:
        """Bytes per second that are counted on."""
        with self._lock:
            return self._recent.value

    def choose(self, with_codes: bool = True) -> Row:
        """The row for a frame that is news now."""
        return self._selected([row for row in self._rows if with_codes or row.kind != "code"])

    def choose_picture(self) -> Row:
        """The best picture, in the place of a code that could not be made."""
        return self._selected([row for row in self._rows if row.kind in PICTURES])

    def _selected(self, rows: Sequence[Row]) -> Row:
        settings = self._settings
        return select(
            rows,
            self.bandwidth,
            max_latency=settings.max_latency,
            min_accuracy=settings.min_accuracy,
            queued=self._ahead() + ALERT_BYTES,
        ).row
