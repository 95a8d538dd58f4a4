"""What a receiver's answers mean, whatever was asked."""

from dat_runtime.edge.uplink.connection import Response
from dat_runtime.edge.uplink.sender import AccessError, BusyError
from dat_runtime.files import parse
from dat_runtime.retry_after import seconds_asked

REFUSED = frozenset({400, 409, 413, 415, 422})
"""The receiver will not take this one, however often it is sent."""

MAX_RETRY_AFTER = 600.0


def require_served(response: Response, *statuses: int) -> None:
    """Raises:
    AccessError: the receiver does not know this node.
    BusyError: the response has none of the statuses.
    """
    if response.status in statuses:
        return
    if response.status in (401, 403):
        raise AccessError(f"the receiver refuses this node ({response.status}: {response.text})")
    raise BusyError(f"status {response.status}: {response.text}", retry_after(response))


def retry_after(response: Response) -> float | None:
    """Seconds, at most `MAX_RETRY_AFTER`; a date counts from the receiver's own clock alone."""
    wait = seconds_asked(response.headers)
    return None if wait is None else min(wait, MAX_RETRY_AFTER)


def object_in(response: Response) -> dict[str, object]:
    """The JSON object in a response; an empty one where there is none."""
    try:
        value = parse(response.body.decode("utf-8"))
    except (UnicodeDecodeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
