import tracemalloc

import pytest

from dat_runtime.errors import DataError
from data.prep.importers import traces
from data.prep.importers.traces import form, read_uplink

CLIENT, SERVER = "10.215.173.1", "170.114.15.4"
PACKETS = [
    ("2022-05-01 10:00:00.100000", CLIENT, SERVER, 1000),
    ("2022-05-01 10:00:00.900000", SERVER, CLIENT, 5000),
    ("2022-05-01 10:00:00.950000", CLIENT, "224.0.0.251", 70),
    ("2022-05-01 10:00:00.960000", CLIENT, "192.168.0.1", 80),
    ("2022-05-01 10:00:03.000001", CLIENT, SERVER, 200),
    ("2022-05-01 10:00:02.999999", CLIENT, SERVER, 30),
]
HEADER = '"No.","Time","Source","Destination","Protocol","Length","Info"\n'


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return path


def wireshark(packets):
    rows = (
        f'"{i}","{t}","{a}","{b}","UDP","{n}","1 > 2, ""x"""\n'
        for i, (t, a, b, n) in enumerate(packets)
    )
    return HEADER + "".join(rows)


def test_a_series_is_bytes_per_second_of_the_uplink_column(tmp_path):
    path = write(tmp_path, "a.csv", "DL_bitrate,UL_bitrate\n0,217\n104147,45821\n")
    assert form(path) == "series"
    assert read_uplink(path).rates == [217, 45821]


def test_a_wireshark_export_is_summed_by_second_in_the_clients_direction(tmp_path):
    path = write(tmp_path, "a.csv", wireshark(PACKETS))
    assert form(path) == "wireshark"
    assert read_uplink(path).rates == [1000, 0, 30, 200]


def test_times_since_the_captures_start_are_read_too(tmp_path):
    packets = [(f"{t}", CLIENT, SERVER, 10) for t in (0.5, 1.25, 1.5)]
    assert read_uplink(write(tmp_path, "a.csv", wireshark(packets))).rates == [10, 20]


@pytest.mark.parametrize("numbered", [True, False])
def test_a_headerless_tabbed_file_finds_its_columns(tmp_path, numbered):
    rows = (
        "\t".join([str(i)] * numbered + [t, a, b, "UDP", str(n), '"open Len=5']) + "\n"
        for i, (t, a, b, n) in enumerate(PACKETS, start=1)
    )
    path = write(tmp_path, "a.txt", "".join(rows))
    assert form(path) == "tabbed"
    assert read_uplink(path).rates == [1000, 0, 30, 200]


def test_wiresharks_names_of_columns_may_have_blanks(tmp_path):
    text = wireshark(PACKETS).replace('"Time"', '"Time "')
    assert read_uplink(write(tmp_path, "a.csv", text)).rates == [1000, 0, 30, 200]


def test_marks_of_the_encoding_foreign_bytes_and_blanks_do_not_disturb(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfUL_bitrate (B/s), Cell\r\n "5", "caf\xe9"\r\n')
    assert read_uplink(path).rates == [5]
    header = b'\xef\xbb\xbf"Time", "Source", "Destination", "Length", "Info"\r\n'
    row = f'"0.5", "{CLIENT}", "{SERVER}", "40", "'.encode()
    path.write_bytes(header + row + b'caf\xe9, ""x"""\r\n')
    assert read_uplink(path).rates == [40]


@pytest.mark.parametrize(
    ("row", "rates"),
    [
        (f"0.5\t{CLIENT}\t{SERVER}\t40", [40]),
        (f"0.5\t{CLIENT}\t443\t{SERVER}\tUDP\t40\t9", [40]),
        (f"1.2.3\t0.5\t{CLIENT}\t{SERVER}\tUDP\t40\t10.1.1.1", [40]),
        ("0.5\tfd00::1\t2606:4700::1\tUDP\t40", [40]),
        (f"0.5\t{CLIENT}\t40", None),
        (f"5\t{CLIENT}\t{SERVER}\t40", None),
        (f"0.5\t{CLIENT}\t{SERVER}\tUDP", None),
    ],
)
def test_columns_are_found_by_what_they_hold(tmp_path, row, rates):
    path = write(tmp_path, "a.tsv", row + "\n")
    if rates is None:
        assert form(path) is None
        with pytest.raises(DataError, match=r"a\.tsv: not a trace of a known form$"):
            read_uplink(path)
    else:
        assert read_uplink(path).rates == rates


def test_a_private_ipv6_client_is_told_from_its_server(tmp_path):
    packets = [("0.1", "fd00::1", "2606:4700::1", 7), ("0.2", "2606:4700::1", "fd00::1", 9)]
    assert read_uplink(write(tmp_path, "a.csv", wireshark(packets))).rates == [7]


def test_a_carrier_grade_address_is_a_clients(tmp_path):
    packets = [("0.1", "100.64.0.0", SERVER, 7), ("0.2", "100.128.0.0", SERVER, 9)]
    packets += [("0.3", "100.127.255.255", SERVER, 5), ("0.4", "100.63.255.255", SERVER, 3)]
    assert read_uplink(write(tmp_path, "a.csv", wireshark(packets))).rates == [7 + 5]


def test_an_ipv6_client_with_public_addresses_is_in_the_network_that_most_packets_have(tmp_path):
    one, other = "2a02:1:2:3::a", "2a02:1:2:3::b"  # temporary addresses of one client
    servers = ("2606:4700::1", "2a00:1450::5")
    packets = [
        ("0.1", servers[0], one, 9000),
        ("0.2", one, servers[0], 10),
        ("1.1", other, servers[1], 200),
        ("1.2", servers[1], other, 7000),
        ("1.3", one, other, 5),  # within the client's own network
        ("1.4", CLIENT, SERVER, 3000),  # and over IPv4 in the same capture
    ]
    uplink = read_uplink(write(tmp_path, "a.csv", wireshark(packets)))
    assert uplink.rates == [10, 3200]
    assert uplink.words() == ["IPv6 client taken to be in 2a02:1:2:3::/64"]


def test_of_two_public_ipv6_networks_the_client_is_the_one_that_spoke_first(tmp_path):
    packets = [("0.1", "2a02::1", "2606:4700::1", 7), ("0.2", "2606:4700::1", "2a02::1", 9)]
    assert read_uplink(write(tmp_path, "a.csv", wireshark(packets))).rates == [7]


def test_a_mahimahi_line_is_a_packet_of_1500_bytes(tmp_path):
    path = write(tmp_path, "lte.up", "0\n1\n999\n2500\n")
    assert read_uplink(path).rates == [4500, 0, 1500]
    assert read_uplink(write(tmp_path, "lte.up", "999\n1000\n")).rates == [1500, 1500]


def test_a_trace_may_be_as_long_as_the_bound_and_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(traces, "LONGEST", 2)
    assert read_uplink(write(tmp_path, "a.up", "2999\n")).rates == [0, 0, 1500]
    with pytest.raises(DataError, match=r"a\.up:2: the trace spans more than 31 days$"):
        read_uplink(write(tmp_path, "a.up", "0\n3000\n"))


@pytest.mark.parametrize("text", ["file,scene\na,1\n", "hello\n", "", "1\t2\t3\n"])
def test_other_text_is_no_trace(tmp_path, text):
    assert form(write(tmp_path, "sources.csv", text)) is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "DL_bitrate,UL_bitrate\n1,2\n1,nan\n", r"a.csv:3: .*'nan'"),
        ("a.csv", "DL_bitrate,UL_bitrate\n1,-2\n", "a.csv:2: "),
        ("a.csv", "DL_bitrate,UL_bitrate\n1\n", "a.csv:2: .*None"),
        ("a.csv", "DL_bitrate,UL_bitrate\n1,0\n", "no byte was sent"),
        ("a.csv", HEADER, r"a\.csv: no packets$"),
        (
            "a.txt",
            f"0.5\t{CLIENT}\t{SERVER}\t1\n9e9\t{CLIENT}\t{SERVER}\t1\n",
            r"a\.txt: .*31 days",
        ),
        ("a.csv", HEADER + '"1","yesterday"\n', "a.csv:2: expected time"),
        (
            "a.csv",
            wireshark([("0", CLIENT, SERVER, 1), ("9e9", CLIENT, SERVER, 1)]),
            r"a\.csv: .*31 days",
        ),
        ("a.csv", wireshark([("0", CLIENT, SERVER, "long")]), r"a\.csv:2: .*got 'long'"),
        ("a.csv", HEADER + f'"{"x" * 200_000}"\n', r"a\.csv:2: not CSV: field larger than"),
        ("a.up", "", r"a\.up: no byte was sent"),
        ("a.up", "12\nx\n", "a.up:2: "),
        ("a.up", "99999999999999\n", "31 days"),
    ],
    ids=lambda value: value[:40],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read_uplink(write(tmp_path, name, text))


def test_seconds_beyond_all_numbers_are_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.csv:2: expected time"):
        read_uplink(write(tmp_path, "a.csv", wireshark([("1e999", CLIENT, SERVER, 1)])))


def peak_of_reading(path):
    tracemalloc.start()
    try:
        read_uplink(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_packets(tmp_path):
    def packets(count):
        return [(f"{n * 10 / count:.6f}", CLIENT, SERVER, 1200) for n in range(count)]

    small = write(tmp_path, "small.csv", wireshark(packets(2_000)))
    large = write(tmp_path, "large.csv", wireshark(packets(20_000)))
    per_row = (peak_of_reading(large) - peak_of_reading(small)) / 18_000
    assert per_row < 4  # bytes: buffers only
