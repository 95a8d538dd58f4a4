"""How an installation fetches beside a running node: under a cap, while that has nothing to send.

The node says so itself, where `metrics.listen` lets it be asked. Where nobody answers, the cap
alone holds.
"""

import time

from dat_runtime.edge.metrics import address_of
from dat_runtime.edge.updates.fetching import HttpFetcher
from dat_runtime.files import parse

LOOK_SECONDS = 0.25
"""Between two questions to the node."""

ASK_SECONDS = 1.0


class PoliteFetcher(HttpFetcher):
    """A `fetching.Fetch` over HTTP.

    Args:
        bytes_per_s: the cap.
        node: host and port of the node's metrics; `None`: it cannot be asked.
    """

    def __init__(self, bytes_per_s: float, node: tuple[str, int] | None):
        super().__init__(bytes_per_s, self.is_busy)
        self._status = None if node is None else address_of(*node) + "/status"
        self._looked_at = 0.0
        self._busy = False

    def is_busy(self) -> bool:
        """Whether alerts or pictures of a connected node wait; known for a quarter of a second."""
        if self._status is not None and time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._busy = _is_busy(self._status)
            self._looked_at = time.monotonic()
        return self._busy


def _is_busy(status: str) -> bool:
    import httpx

    try:
        # Plain HTTP: without `verify` no certificates are loaded, which takes 20 ms each time.
        with httpx.Client(trust_env=False, timeout=ASK_SECONDS, verify=False) as client:
            told = parse(client.get(status).text)
        waiting, link = told["waiting"], told["uplink"]
        # What waits for a link that is away gains nothing from our waiting too.
        return bool(link["connected"] and waiting["alerts"] + waiting["visuals"] > 0)
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False
