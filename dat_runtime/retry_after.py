"""`Retry-After` (RFC 9110, 10.2.3): one reading for model servers, receivers and webhooks."""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime


def seconds_asked(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that a server asks to wait, unbounded; `None` where that cannot be read.

    Args:
        headers: of the response, names in lower case.
        now: seconds since 1970, where the response does not state its own time.
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    # Between two times of the server, a clock that is wrong here does not matter.
    until, stated = _date(text), _date(headers.get("date", ""))
    since = now if stated is None else stated
    if until is None or since is None:
        return None
    return max(0.0, until - since)


def _date(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
