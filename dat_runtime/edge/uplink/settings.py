"""Where an uplink leads, and what it says of itself."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class UplinkSettings:
    """One way to a receiver.

    Attributes:
        url: `https://` or `http://` for HTTP, `mqtts://` or `mqtt://` for MQTT 5.
        token_file: holds the node's token; it is read anew for each request, so that a token
            can be changed without a restart.
        initial_bytes_per_s: what the link is taken to carry until it has been measured.
        metered: only alerts go this way; visuals wait for a way that is not.
        certificate: PEM file with the node's certificate and its key (mutual TLS).
        authorities: PEM file of the authorities to trust; `None` trusts the system's.
    """

    url: str
    token_file: Path | None
    initial_bytes_per_s: float
    metered: bool = False
    certificate: Path | None = None
    authorities: Path | None = None


@dataclass(frozen=True)
class UplinkState:
    """What the uplink says of itself.

    Attributes:
        url: the way in use, without credentials.
        connected: whether the receiver answered the last time that it was asked.
        bytes_per_s, round_trip_s: what the path carries and its shortest round trip, as measured.
        last_acknowledged_at: seconds since 1970, for people; `None` before the first.
        problem: why nothing goes, in words; empty while all is well.
        metered: whether only alerts may go over the way in use.
    """

    url: str
    connected: bool
    bytes_per_s: float
    round_trip_s: float | None
    alerts_waiting: int
    visuals_waiting: int
    last_acknowledged_at: float | None
    problem: str = ""
    questions_waiting: int = 0
    metered: bool = False
