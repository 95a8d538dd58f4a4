import socket
import struct
import tracemalloc

import dpkt
import pytest

from dat_runtime.errors import DataError
from data.prep.importers import captures
from data.prep.importers.captures import Capture
from data.prep.importers.traces import form, read_uplink

CLIENT, SERVER = "10.0.0.7", "8.8.8.8"
CLIENT_6, SERVER_6 = "2a02:1:2:3::a", "2606:4700::1"
START = 1_700_000_000
ETHERNET, RAW, WIFI = 1, 101, 105


def ip(source, destination, size=100):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ends = {
        "src": socket.inet_pton(family, source),
        "dst": socket.inet_pton(family, destination),
    }
    payload = dpkt.udp.UDP(sport=1, dport=2, ulen=8 + size, data=b"x" * size)
    if family == socket.AF_INET6:
        return dpkt.ip6.IP6(**ends, nxt=17, plen=8 + size, data=payload)
    return dpkt.ip.IP(**ends, p=17, data=payload)


def ethernet(packet):
    kind = dpkt.ethernet.ETH_TYPE_IP6 if isinstance(packet, dpkt.ip6.IP6) else 0x0800
    return bytes(dpkt.ethernet.Ethernet(type=kind, data=packet))


def pcap(packets, link=ETHERNET, keep=65535, order="<"):
    magic = 0xA1B2C3D4
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, keep, link)]
    for at, data in packets:
        second = int(at)
        micro = round((at - second) * 1e6)
        kept = data[:keep]
        parts.append(struct.pack(order + "IIII", START + second, micro, len(kept), len(data)))
        parts.append(kept)
    return b"".join(parts)


def block(kind, body, order="<"):
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size


def pcapng(packets, link=ETHERNET, order="<", nanoseconds=True):
    section = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
    interface = struct.pack(order + "HHI", link, 0, 0)
    ticks = 10**6
    if nanoseconds:
        interface += struct.pack(order + "HHB3xHH", 9, 1, 9, 0, 0)
        ticks = 10**9
    parts = [block(0x0A0D0D0A, section, order), block(1, interface, order)]
    for at, data in packets:
        high, low = divmod(round((START + at) * ticks), 1 << 32)
        head = struct.pack(order + "IIIII", 0, high, low, len(data), len(data))
        parts.append(block(6, head + data, order))
    return b"".join(parts)


def written(tmp_path, content, name="a.pcap"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


TWO_WAYS = [
    (0.25, ethernet(ip(CLIENT, SERVER, 100))),
    (0.5, ethernet(ip(SERVER, CLIENT, 1000))),
    (2.0, ethernet(ip(CLIENT, SERVER, 200))),
]
SENT = [100 + 42, 0, 200 + 42]  # UDP 8, IP 20, Ethernet 14


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_pcap_is_summed_by_second_in_the_clients_direction(tmp_path, order):
    path = written(tmp_path, pcap(TWO_WAYS, order=order))
    assert form(path) == "capture"
    assert read_uplink(path).rates == SENT


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [True, False])
def test_a_pcapng_says_how_finely_it_counts_time(tmp_path, order, nanoseconds):
    path = written(tmp_path, pcapng(TWO_WAYS, order=order, nanoseconds=nanoseconds), "a.pcapng")
    assert read_uplink(path).rates == SENT


def packets_of(path):
    """Second, source and length of each packet, and whether the file was cut."""
    capture = Capture(path)
    assert capture.cut is False
    found = [(p.second, socket.inet_ntop(*family(p.source)), p.length) for p in capture.packets()]
    return found, capture.cut


def family(address):
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6, address


@pytest.mark.parametrize("make", [pcap, pcapng])
def test_packets_have_the_seconds_of_their_clock(tmp_path, make):
    found, cut = packets_of(written(tmp_path, make(TWO_WAYS)))
    assert found == [(START, CLIENT, 142), (START, SERVER, 1042), (START + 2, CLIENT, 242)]
    assert not cut


def test_more_parts_than_a_second_has_are_seconds_too(tmp_path):
    head, data = pcap([], link=0x44000001), TWO_WAYS[0][1]  # with check sums of 4 bytes
    record = struct.pack("<IIII", START, 2_500_000, len(data), len(data)) + data
    empty = struct.pack("<IIII", START, 0, 0, 60)
    assert packets_of(written(tmp_path, head + empty + record))[0] == [(START + 2, CLIENT, 142)]


def option(code, value, order="<"):
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def with_options(options, ticks, order="<"):
    """One packet at the tick, on an interface with these options and no end of options."""
    section = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
    interface = struct.pack(order + "HHI", ETHERNET, 0, 0) + options
    high, low = divmod(ticks, 1 << 32)
    data = TWO_WAYS[0][1]
    packet = struct.pack(order + "IIIII", 0, high, low, len(data), len(data)) + data
    return b"".join(
        block(kind, body, order)
        for kind, body in ((0x0A0D0D0A, section), (1, interface), (6, packet))
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_options_say_how_an_interface_counts_time(tmp_path, order):
    name, finely = option(2, b"wlan0", order), option(9, b"\x8a", order)  # 1024 parts a second
    later = option(14, struct.pack(order + "q", 100), order)
    earlier = option(14, struct.pack(order + "q", -100), order)
    for options, ticks, second in (
        (b"", 5_999_999, 5),
        (name + finely, 5 * 1024, 5),
        (finely + later, 6 * 1024 - 1, 105),
        (name + finely + name + earlier, 500 * 1024, 400),
        (option(9, b"\x00", order), 1 << 32 | 7, 1 << 32 | 7),
        (option(9, b"\xbf", order), 1 << 63, 1),
    ):
        path = written(tmp_path, with_options(options, ticks, order))
        assert packets_of(path)[0] == [(second, CLIENT, 142)]
    with pytest.raises(DataError, match=r"a\.pcap: a damaged block before byte 56$"):
        packets_of(written(tmp_path, with_options(option(9, b"\xc0"), 1)))


@pytest.mark.parametrize(("source", "length"), [(CLIENT, 128), (CLIENT_6, 148)])
def test_packets_without_a_link_header_are_of_either_version(tmp_path, source, length):
    to = SERVER_6 if ":" in source else SERVER
    path = written(tmp_path, pcap([(0, bytes(ip(source, to)))], link=RAW))
    assert packets_of(path)[0] == [(START, source, length)]


def test_a_packet_may_be_as_long_as_the_bound_and_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(captures, "_MOST_BYTES", 142)
    path = written(tmp_path, pcap(TWO_WAYS))
    with pytest.raises(DataError, match=r"a\.pcap: a packet of 1,042 bytes at byte 198: damaged$"):
        packets_of(path)
    assert packets_of(written(tmp_path, pcap(TWO_WAYS[:1])))[0] == [(START, CLIENT, 142)]


def test_sections_of_two_interfaces_are_read_each_with_its_link_type(tmp_path):
    phone = [(1.0, bytes(ip(CLIENT, SERVER, 50)))]
    path = written(tmp_path, pcapng(TWO_WAYS) + pcapng(phone, link=RAW, order=">"), "a.pcapng")
    assert read_uplink(path).rates == [142, 78, 242]


def test_lengths_are_those_on_the_wire_where_the_capture_kept_the_headers_alone(tmp_path):
    assert read_uplink(written(tmp_path, pcap(TWO_WAYS, keep=60))).rates == SENT


def test_a_vlan_tag_and_other_protocols_do_not_disturb(tmp_path):
    plain = ethernet(ip(CLIENT, SERVER, 100))
    tagged = plain[:12] + b"\x81\x00\x00\x05" + plain[12:]
    arp = bytes(dpkt.ethernet.Ethernet(type=0x0806, data=dpkt.arp.ARP()))
    path = written(tmp_path, pcap([(0.0, tagged), (0.1, arp), (0.2, b"\x01")]))
    assert read_uplink(path).rates == [146]


def test_an_ipv6_client_counts_in_a_capture(tmp_path):
    packets = [
        (0.0, ethernet(ip(CLIENT_6, SERVER_6, 100))),
        (0.1, ethernet(ip(SERVER_6, CLIENT_6, 999))),
        (1.0, ethernet(ip(CLIENT_6, "2a00:1450::5", 10))),
    ]
    uplink = read_uplink(written(tmp_path, pcap(packets)))
    assert uplink.rates == [162, 72]
    assert uplink.ipv6_client == "2a02:1:2:3::/64"


@pytest.mark.parametrize("make", [pcap, pcapng])
@pytest.mark.parametrize("lost", [1, 5, 100])
def test_a_capture_cut_within_a_packet_is_read_up_to_there_and_says_so(tmp_path, make, lost):
    whole = make(TWO_WAYS)
    uplink = read_uplink(written(tmp_path, whole[:-lost]))
    assert uplink.rates == [142]
    assert uplink.words() == ["the capture ends within a packet: read up to there"]
    assert not read_uplink(written(tmp_path, whole)).cut


def test_a_link_type_that_is_not_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.pcap: link type 105 is not read"):
        read_uplink(written(tmp_path, pcap(TWO_WAYS, link=WIFI)))
    with pytest.raises(DataError, match=r"a\.pcap: link type 32769 is not read"):
        read_uplink(written(tmp_path, pcapng(TWO_WAYS, link=0x8001)))


def test_a_length_beyond_all_packets_is_refused_before_it_is_read(tmp_path):
    for content, size in (
        (pcap([])[:24] + struct.pack("<IIII", START, 0, 0xFFFFFFFF, 60), "4,294,967,295"),
        (pcapng([]) + struct.pack("<II", 6, 0xFFFFFFFF), "4,294,967,287"),
        (pcapng([]) + struct.pack("<II", 6, 4), "-4"),
    ):
        with pytest.raises(DataError, match=rf"a\.pcap: a packet of {size} bytes .*: damaged$"):
            read_uplink(written(tmp_path, content + bytes(100)))


def test_a_packet_of_an_interface_that_no_block_describes_is_damage(tmp_path):
    section, packet = pcapng([])[:28], pcapng(TWO_WAYS)[-len(TWO_WAYS[2][1]) // 4 * 4 - 32 :]
    with pytest.raises(DataError, match="a damaged block before byte"):
        read_uplink(written(tmp_path, section + packet))


def test_other_content_is_no_capture(tmp_path):
    assert form(written(tmp_path, b"<html>")) is None
    assert form(written(tmp_path, b"")) is None
    with pytest.raises(DataError, match=r"a\.pcap: neither pcap nor pcapng$"):
        packets_of(written(tmp_path, b"<html>"))


def test_memory_does_not_grow_with_the_packets(tmp_path):
    def peak(count):
        packet = TWO_WAYS[0][1]
        path = written(tmp_path, pcap([(n * 10 / count, packet) for n in range(count)]))
        tracemalloc.start()
        try:
            read_uplink(path)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # what is imported once
    assert (peak(5_000) - peak(500)) / 4_500 < 4  # bytes a packet: buffers only
