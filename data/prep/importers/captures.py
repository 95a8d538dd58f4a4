"""Packet captures (pcap and pcapng), read one packet at a time.

The lengths are those on the wire: a capture may have kept only the beginning of each packet
(`tcpdump -s`). One that ends within a packet, because the capturing was cut off, is read up to
there and `Capture.cut` says so.
"""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import dpkt

from dat_runtime.errors import DataError
from data.prep.importers.packets import Address, Packet

SUFFIXES = (".pcap", ".pcapng", ".cap")

_MOST_BYTES = 16 << 20
"""Of one block or packet; Wireshark's own limit for pcapng's blocks."""
_HEADERS = 128
"""Bytes of a packet that are looked at: link and network headers."""

_PCAPNG = b"\x0a\x0d\x0d\x0a"
_PCAP = {
    b"\xd4\xc3\xb2\xa1": ("<", 1e6),
    b"\xa1\xb2\xc3\xd4": (">", 1e6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e9),
    b"\xa1\xb2\x3c\x4d": (">", 1e9),
}
"""Byte order and parts of a second by the first four bytes (draft-ietf-opsawg-pcap)."""
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
"""Types of pcapng's blocks that are used (draft-ietf-opsawg-pcapng)."""

_LINKS: dict[int, Callable[[bytes], Any]] = {
    dpkt.pcap.DLT_EN10MB: dpkt.ethernet.Ethernet,
    dpkt.pcap.DLT_LINUX_SLL: dpkt.sll.SLL,
    dpkt.pcap.DLT_LINUX_SLL2: dpkt.sll2.SLL2,
    dpkt.pcap.DLT_NULL: dpkt.loopback.Loopback,
    dpkt.pcap.DLT_LOOP: dpkt.loopback.Loopback,
}
_BARE = frozenset({12, 14, 101, 228, 229})
"""Link types of IP packets without anything before them."""


class _Frame(NamedTuple):
    """A packet as the capture holds it: its second, link type, first bytes, bytes on the wire."""

    second: int
    link: int
    data: bytes
    length: int


class _Cut(Exception):
    """The file ends here, within a packet."""


class Capture:
    """The packets of a file; `cut` is whether it ended within one when it was last read."""

    def __init__(self, path: Path):
        self._path = path
        self.cut = False

    def packets(self) -> Iterator[Packet]:
        """Packets with IP addresses, from the beginning.

        Raises:
            DataError: not a capture, or a block in it is damaged, or its link type is not known.
        """
        with self._path.open("rb") as file:
            try:
                for frame in self._frames(file):
                    addresses = _addresses(frame, self._path)
                    if addresses:
                        yield Packet(frame.second, *addresses, frame.length)
            except _Cut:
                self.cut = True

    def _frames(self, file: BinaryIO) -> Iterator[_Frame]:
        magic = file.read(4)
        if magic in _PCAP:
            order, parts = _PCAP[magic]
            return _pcap(file, order, parts, self._path)
        if magic == _PCAPNG:
            file.seek(0)
            return _pcapng(file, self._path)
        raise DataError("neither pcap nor pcapng", self._path)


def is_capture(path: Path) -> bool:
    """Whether the first bytes are those of a pcap or pcapng."""
    with path.open("rb") as file:
        magic = file.read(4)
    return magic in _PCAP or magic == _PCAPNG


def _taken(file: BinaryIO, size: int, path: Path) -> bytes:
    """The next bytes.

    Raises:
        _Cut: the file has fewer.
        DataError: more than any packet has.
    """
    if not 0 <= size <= _MOST_BYTES:
        raise DataError(f"a packet of {size:,} bytes at byte {file.tell():,}: damaged", path)
    data = file.read(size)
    if len(data) < size:
        raise _Cut
    return data


def _pcap(file: BinaryIO, order: str, parts: float, path: Path) -> Iterator[_Frame]:
    """The packets behind the first four bytes of a pcap."""
    # Above 16 bits it says whether frames end with a check sum, and of how many bytes.
    link = struct.unpack(order + "I", _taken(file, 20, path)[16:])[0] & 0xFFFF
    record = struct.Struct(order + "4I")
    while head := file.read(record.size):
        if len(head) < record.size:
            raise _Cut
        second, part, captured, length = record.unpack(head)
        data = _taken(file, captured, path)
        yield _Frame(second + int(part / parts), link, data, length)


class _Interface(NamedTuple):
    link: int
    ticks: int
    """In a second."""
    offset: int
    """Seconds to add."""


def _pcapng(file: BinaryIO, path: Path) -> Iterator[_Frame]:
    """The packets of all sections and interfaces of a pcapng."""
    order = "<"
    interfaces: list[_Interface] = []
    while head := file.read(8):
        if len(head) < 8:
            raise _Cut
        if head[:4] == _PCAPNG:  # a section has its own byte order and interfaces
            mark = _taken(file, 4, path)
            order = "<" if mark == b"\x4d\x3c\x2b\x1a" else ">"
            file.seek(-4, 1)
            interfaces = []
        kind, size = struct.unpack(order + "2I", head)
        body = _taken(file, size - 8, path)[:-4]
        try:
            if kind == _INTERFACE:
                interfaces.append(_interface(body, order))
            elif kind == _PACKET:
                yield _packet(body, order, interfaces)
        except (struct.error, IndexError, ValueError):
            raise DataError(f"a damaged block before byte {file.tell():,}", path) from None


def _packet(body: bytes, order: str, interfaces: list[_Interface]) -> _Frame:
    """An enhanced packet block."""
    number, high, low, captured, length = struct.unpack_from(order + "5I", body)
    interface = interfaces[number]
    second = (high << 32 | low) // interface.ticks + interface.offset
    return _Frame(second, interface.link, body[20 : 20 + captured], length)


def _interface(body: bytes, order: str) -> _Interface:
    """An interface description block; its options say how finely it counts time."""
    link = struct.unpack_from(order + "H", body)[0]
    ticks, offset = 10**6, 0
    place = 8
    while place + 4 <= len(body):
        code, size = struct.unpack_from(order + "2H", body, place)
        value = body[place + 4 : place + 4 + size]
        if code == dpkt.pcapng.PCAPNG_OPT_IF_TSRESOL:
            exponent = value[0] & 0x7F
            if exponent > 63:
                raise ValueError("a time finer than any clock")
            ticks = (2 if value[0] & 0x80 else 10) ** exponent
        elif code == dpkt.pcapng.PCAPNG_OPT_IF_TSOFFSET:
            offset = struct.unpack(order + "q", value)[0]
        place += 4 + (size + 3) // 4 * 4
    return _Interface(link, ticks, offset)


def _addresses(frame: _Frame, path: Path) -> tuple[Address, Address] | None:
    """Source and destination of an IP packet, packed; None of any other, such as ARP."""
    data = frame.data[:_HEADERS]
    try:
        if frame.link in _BARE:
            packet = dpkt.ip6.IP6(data) if data[:1] >= b"\x60" else dpkt.ip.IP(data)
        elif frame.link in _LINKS:
            packet = _LINKS[frame.link](data).data
        else:
            raise DataError(f"link type {frame.link} is not read: expected Ethernet or IP", path)
    except dpkt.UnpackError:
        return None
    if isinstance(packet, (dpkt.ip.IP, dpkt.ip6.IP6)):
        return packet.src, packet.dst
    return None
