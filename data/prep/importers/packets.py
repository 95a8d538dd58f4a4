"""What the client of a packet list or capture sent, summed by second.

The client has a private address, or one of carrier-grade NAT, and what it sends to a public address
is the uplink. IPv6 needs no NAT: where both addresses are public, the client is in the /64 network
that takes part in the most packets (of two that do, the one that spoke first), as a capture at one
client shows many servers.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal, NamedTuple

from dat_runtime.errors import DataError
from data.prep.importers.rate_logs import LONGEST

Address = str | bytes
"""As text, or packed as in a packet."""

_CARRIER = ip_network("100.64.0.0/10")
"""Carrier-grade NAT (RFC 6598): `ipaddress` calls it neither private nor global."""
_MOST_NETWORKS = 65_536
_ROWS_PER_NOTE = 1_000_000


class Packet(NamedTuple):
    """What counts of a packet; `length` in bytes on the wire."""

    second: int
    source: Address
    destination: Address
    length: float


class Sent(NamedTuple):
    """Bytes by second from the first packet to the last, and the network of an IPv6 client."""

    rates: list[float]
    network: str | None


def sent_by_client(packets: Callable[[], Iterable[Packet]], path: Path) -> Sent:
    """The uplink of the packets that a call gives anew; read twice where IPv6 needs no NAT.

    Raises:
        DataError: there are no packets, or they span more than 31 days.
    """
    sent: dict[int, float] = defaultdict(float)
    networks: Counter[bytes] = Counter()
    first = last = None
    for number, packet in enumerate(packets(), start=1):
        # The packets of a capture may be slightly out of order.
        first = packet.second if first is None else min(first, packet.second)
        last = packet.second if last is None else max(last, packet.second)
        if last - first > LONGEST:
            raise DataError(f"packet {number:,}: the trace spans more than 31 days", path)
        if _is_uplink(packet):
            sent[packet.second] += packet.length
        elif pair := _public_networks(packet):
            _count(networks, pair)
        if number % _ROWS_PER_NOTE == 0:
            print(f"[data] {path.name}: {number:,} packets", flush=True)
    if first is None or last is None:
        raise DataError("no packets", path)
    own = max(networks, key=lambda network: networks[network], default=None)
    if own is not None:
        for packet in packets():
            pair = _public_networks(packet)
            if pair and pair[0] == own != pair[1]:
                sent[packet.second] += packet.length
    rates = [sent.get(second, 0.0) for second in range(first, last + 1)]
    return Sent(rates, None if own is None else f"{ip_address(own + bytes(8))}/64")


def _is_uplink(packet: Packet) -> bool:
    return side(packet.source) == "client" and side(packet.destination) == "server"


def _public_networks(packet: Packet) -> tuple[bytes, bytes] | None:
    """The /64 networks of a packet between two public IPv6 addresses."""
    source, destination = public_network(packet.source), public_network(packet.destination)
    return None if source is None or destination is None else (source, destination)


def _count(networks: Counter[bytes], pair: tuple[bytes, bytes]) -> None:
    """Count a packet for its networks; of two in one network, once."""
    for network in dict.fromkeys(pair):
        # The client is among the first ones, so that memory can be bounded.
        if network in networks or len(networks) < _MOST_NETWORKS:
            networks[network] += 1


@lru_cache(maxsize=65536)  # a capture has few addresses and millions of rows
def side(address: Address) -> Literal["client", "server", "neither"]:
    """The client of a capture has a private (or carrier-grade NAT) address."""
    try:
        ip = ip_address(address)
    except ValueError:
        return "neither"
    if ip.is_multicast or ip.is_loopback or ip.is_unspecified:
        return "neither"
    if ip.is_global:
        return "server"
    if ip.is_private or (ip.version == 4 and ip in _CARRIER):
        return "client"
    return "neither"


@lru_cache(maxsize=65536)
def public_network(address: Address) -> bytes | None:
    """The first 64 bits of a public IPv6 address; None of any other."""
    if side(address) != "server":
        return None
    ip = ip_address(address)
    return ip.packed[:8] if ip.version == 6 else None
