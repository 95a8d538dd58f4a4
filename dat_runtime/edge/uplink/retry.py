"""How long to wait before trying again."""

import random

from dat_runtime.edge.uplink.sender import AccessError, BusyError, SendError

FIRST = 0.1
"""Seconds before the second try; doubles with each failure in a row."""

MOST_UNREACHABLE = 2.0
"""A link that comes back is used within so many seconds; trying costs a packet."""

MOST_BUSY = 30.0
"""For a receiver that answers, but cannot serve now."""

MOST_REFUSED = 60.0
"""For a receiver that does not know this node: only people can change that."""


def pause(error: SendError, failures: int) -> float:
    """Seconds to wait after the n-th failure in a row, counted from 1.

    Random, so that many nodes do not come back at the same moment; at least what the receiver asked
    for.
    """
    if isinstance(error, AccessError):
        longest = MOST_REFUSED
    else:
        most = MOST_BUSY if isinstance(error, BusyError) else MOST_UNREACHABLE
        longest = min(most, FIRST * 2.0 ** min(failures - 1, 20))
    seconds = longest * random.uniform(0.5, 1.0)
    if error.retry_after is not None:
        seconds = max(seconds, error.retry_after * random.uniform(1.0, 1.1))
    return seconds
