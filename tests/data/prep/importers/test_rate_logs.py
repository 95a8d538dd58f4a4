import itertools
import statistics
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dat_runtime.errors import DataError
from data.prep.importers import rate_logs
from data.prep.importers.rate_logs import Header, amount, by_second, header, seconds
from data.prep.importers.traces import form, read_uplink

G_NETTRACK = "Timestamp,Longitude,Operatorname,NetworkMode,RSRP,CQI,DL_bitrate,UL_bitrate,State\n"


def log(tmp_path, text, name="a.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def rows(*pairs):
    return "".join(f"{time},-8.4,B,LTE,-95,11,99999,{rate},D\n" for time, rate in pairs)


def test_a_public_4g_log_is_read_as_kbit_with_its_gap_kept(tmp_path):
    text = G_NETTRACK + rows(
        ("2018.02.12_16.14.58", 80),
        ("2018.02.12_16.14.59", 8),
        ("2018.02.12_16.15.03", 16),
        ("2018.02.12_16.15.04", 800),
    )
    uplink = read_uplink(log(tmp_path, text))
    assert form(log(tmp_path, text)) == "series"
    assert uplink.rates == [10_000, 1_000, 0, 0, 0, 2_000, 100_000]
    assert uplink.words() == ["read as kbit/s", "3 s of gaps kept as zeros"]


def test_rows_of_one_second_count_with_their_mean(tmp_path):
    text = G_NETTRACK + rows(("2020.02.27_18.39.27", 8), ("2020.02.27_18.39.27", 24),
                             ("2020.02.27_18.39.28", 40))  # fmt: skip
    assert read_uplink(log(tmp_path, text)).rates == [2_000, 5_000]


def test_a_row_without_a_rate_is_a_gap(tmp_path):
    text = G_NETTRACK + rows(
        ("2018.02.12_16.14.01", 8), ("2018.02.12_16.14.02", "-"), ("2018.02.12_16.14.03", 8)
    )
    uplink = read_uplink(log(tmp_path, text))
    assert uplink.rates == [1_000, 0, 1_000]
    assert uplink.gap_seconds == 1


@pytest.mark.parametrize(
    ("header", "unit", "bytes_per_s"),
    [
        ("Time,UL_bitrate (kbit/s)", None, 125),
        ("Time,DL_bitrate [Mbps],UL_bitrate [Mbps]", None, 125_000),
        ("DL_bitrate,UL_bitrate_kbps", None, 125),
        ("Time,UL_bitrate", "Mbit/s", 125_000),
        ("Time,ul_bitrate", "B/s", 1),
        ("DL_bitrate,UL_bitrate", None, 1),
        ("DL_bitrate,UL_bitrate", "kB/s", 1_000),
        ("UL_bitrate,DL_bitrate", "bit/s", 0.125),
    ],
)
def test_the_unit_is_the_stated_one_or_known_from_the_header(tmp_path, header, unit, bytes_per_s):
    values = {"time": "0", "ul": "1", "dl": "777"}
    row = ",".join(values[name.partition("_")[0].lower()] for name in header.split(","))
    assert read_uplink(log(tmp_path, f"{header}\n{row}\n"), unit).rates == [bytes_per_s]


@pytest.mark.parametrize(
    ("header", "row"),
    [("Time,UL_bitrate", "0,1"), ("UL_bitrate", "1"), ("Time,DL_bitrate,UL_bitrate", "0,1,1")],
)
def test_a_unit_that_nothing_states_is_asked_for(tmp_path, header, row):
    with pytest.raises(DataError, match=r"a\.csv:1: .*--trace-unit B/s\|kB/s\|bit/s"):
        read_uplink(log(tmp_path, f"{header}\n{row}\n"))


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        ("a,b", None),
        ("UL_bitrates,DL_bit", None),
        ("DL_bitrate,UL_bitrate", Header(1, None, None, "B/s")),
        ("UL_bitrate,State", Header(0, None, None, None)),
        ("DL_bitrate,UL_bitrate,State", Header(1, None, None, None)),
        ("UL_bitrate,RSRP,CQI", Header(0, None, None, None)),
        ("State,DateTime,CQI,ul_bitrate", Header(3, 1, None, "kbit/s")),
        ('" Seconds ", NetworkMode ,"UL_bitrate"', Header(2, 0, None, "kbit/s")),
        ("second,RSRQ,UL_bitrate_bps", Header(2, 0, "bit/s", "kbit/s")),
        ("timestamp,RSRP,DL_bitrate", Header(None, 0, None, "kbit/s")),
        ("Time,UL_bitrate(Mbit/s)", Header(1, 0, "Mbit/s", None)),
        ("UL_bitrate [kB/s]", Header(0, None, "kB/s", None)),
    ],
)
def test_the_columns_of_a_log_are_found_by_their_names(names, columns):
    assert header(names.split(",")) == columns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Time,UL_bitrate_bps\n0,8\n\n1\n", "4: expected time and uplink, got 1 columns$"),
        ("UL_bitrate_bps,Time\n8,0\n8\n", "3: expected time and uplink, got 1 columns$"),
        ("Time,UL_bitrate_bps\n0,8\n1,x\n", "3: expected a finite number >= 0, got 'x'$"),
        ("UL_bitrate_bps\n8\n\n-1\n", "4: expected a finite number >= 0, got '-1'$"),
        ("State,UL_bitrate_bps\nD,8\nD\n", "3: expected a finite number >= 0, got None$"),
        ("UL_bitrate_bps\n" + "8" * 200_000, "2: not CSV: field larger than field limit"),
    ],
    ids=lambda value: value[:40],
)
def test_a_row_that_is_none_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=rf"a\.csv:{message}"):
        read_uplink(log(tmp_path, text))


def test_an_amount_is_finite_and_not_negative(tmp_path):
    assert [amount(text, tmp_path, 1) for text in ("0", " 1.5 ", "1e3")] == [0, 1.5, 1000]
    for text in ("", None, "-0.1", "inf", "nan", "1 2"):
        with pytest.raises(DataError, match=rf":7: expected a finite number >= 0, got {text!r}$"):
            amount(text, tmp_path, 7)
    with pytest.raises(DataError, match=f"got '{'x' * 39}$"):
        amount("x" * 99, tmp_path, 7)


def test_a_unit_that_contradicts_the_header_is_refused(tmp_path):
    path = log(tmp_path, "UL_bitrate (kbit/s)\n8\n")
    uplink = read_uplink(path, "kbit/s")
    assert (uplink.rates, uplink.words()) == ([1_000], ["read as kbit/s"])
    with pytest.raises(DataError, match=r"a\.csv:1: states kbit/s: --trace-unit B/s contradicts"):
        read_uplink(path, "B/s")


def test_the_downlink_is_never_taken_for_the_uplink(tmp_path):
    path = log(tmp_path, "Timestamp,RSRP,DL_bitrate\n2018.02.12_16.14.01,-90,5\n")
    assert form(path) == "downlink"
    for unit in (None, "kbit/s"):
        with pytest.raises(DataError, match=r"a\.csv:1: holds the downlink alone: .*UL_bitrate$"):
            read_uplink(path, unit)


def test_a_unit_of_packets_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.up: --trace-unit kbit/s is for a series"):
        read_uplink(log(tmp_path, "1\n2\n", "a.up"), "kbit/s")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("2018.02.12_16.14.00", r"a\.csv:3: the time goes back"),
        ("2018.02.31_16.14.00", r"a\.csv:3: expected a time"),
        ("soon", r"a\.csv:3: expected a time, got 'soon'"),
        ("nan", r"a\.csv:3: expected a time"),
        ("2019.02.12_16.14.00", r"a\.csv:3: the trace spans more than 31 days"),
    ],
)
def test_a_time_that_cannot_be_is_named(tmp_path, second, message):
    text = G_NETTRACK + rows(("2018.02.12_16.14.01", 8), (second, 8))
    with pytest.raises(DataError, match=message):
        read_uplink(log(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1970-01-01 00:00:01.5", 1.5),
        ("1970-01-01T02:00:01+02:00", 1.0),
        ("1970.01.01_00.01.00", 60.0),
        ("1970-01-01 00:00:01Z", 1.0),
        (" 1970-01-01 00:00:01-0100 ", 3601.0),
        ("-5", -5.0),
        ("100000000000", 1e11),
        ("100000000001", 100000000.001),
        ("12.25", 12.25),
        ("1518452041", 1518452041.0),
        ("1518452041500", 1518452041.5),
    ],
)
def test_times_are_read_in_their_usual_forms(tmp_path, text, value):
    assert seconds(text, tmp_path, 1) == value


def test_a_log_every_two_seconds_has_no_gaps_between_its_rows():
    assert by_second(iter([(10.0, 3.0), (12.0, 5.0), (14.0, 7.0)])) == ([3, 3, 5, 5, 7, 7], 0)


def test_uneven_steps_of_about_a_second_are_no_gaps():
    rates, gap = by_second(iter([(0.0, 6.0), (0.75, 6.0), (2.0, 6.0), (3.0, 6.0)]))
    assert (rates, gap) == ([6, 6, 6, 6], 0)


def test_rows_within_a_second_share_it_by_how_long_they_hold():
    assert by_second(iter([(0.0, 4.0), (0.25, 8.0), (0.5, 0.0), (0.75, 0.0)])) == ([3], 0)


@pytest.mark.parametrize(
    ("samples", "rates", "gap"),
    [
        ([], [], 0),
        ([(5.0, 3.0)], [3], 0),
        ([(0.0, 4.0), (0.25, 4.0)], [2], 0),  # a log of half a second
        ([(0.0, 4.0), (0.75, 4.0)], [4], 0),  # the second that it ends in is left out
        ([(0.0, 2.0), (1.0, 2.0), (2.0, 2.0), (3.5, 2.0), (4.5, 2.0)], [2, 2, 2, 2, 2], 0),
        ([(0.0, 2.0), (1.0, 2.0), (2.0, 2.0), (3.75, 2.0), (4.75, 2.0)], [2, 2, 2, 0.5, 2], 1),
        ([(0.0, 1.0), (2.0, 1.0), (4.0, 1.0), (7.0, 1.0), (9.0, 1.0)], [1] * 11, 0),
        ([(0.0, 5.0), (1.0, 6.0), (3.0, 7.0)], [5, 6, 0, 7], 1),  # the usual step is the shorter
        ([(0.0, 5.0), (1.0, None), (2.0, 7.0)], [5, 0, 7], 1),
        ([(0.0, None), (2.0, 5.0), (4.0, None)], [0, 0, 5, 5, 0, 0], 4),
    ],
)
def test_seconds_by_hand(samples, rates, gap):
    assert by_second(iter(samples)) == (rates, gap)


def test_the_usual_step_is_that_of_the_first_rows_and_all_rows_are_read(monkeypatch):
    monkeypatch.setattr(rate_logs, "_ROWS_FOR_STEP", 3)
    samples = [(float(at), 1.0) for at in (0, 1, 2, 4, 6, 8)]
    assert by_second(iter(samples)) == ([1, 1, 1, 0, 1, 0, 1, 0, 1], 3)


def test_a_date_without_a_zone_is_the_same_anywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert seconds("1970-01-01 00:00:01", tmp_path, 1) == 1
        assert seconds("1970-01-01 00:00:01+09:00", tmp_path, 1) == 1 - 9 * 3600
    finally:
        monkeypatch.undo()
        time.tzset()


def test_of_rows_at_one_time_those_with_a_rate_count(tmp_path):
    text = "Time,UL_bitrate (B/s)\n0,8\n0,-\n0,2\n1,-\n1,\n2,4\n"
    uplink = read_uplink(log(tmp_path, text))
    assert (uplink.rates, uplink.gap_seconds) == ([5, 0, 4], 1)


def test_a_log_may_be_as_long_as_the_bound_and_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(rate_logs, "LONGEST", 2)
    text = "Time,UL_bitrate (B/s)\n7,8\n8,8\n9,8\n"
    assert read_uplink(log(tmp_path, text)).rates == [8, 8, 8]
    with pytest.raises(DataError, match=r"a\.csv:5: the trace spans more than 31 days$"):
        read_uplink(log(tmp_path, text + "9.5,8\n"))


@given(st.lists(st.one_of(st.integers(0, 9), st.none()), min_size=3, max_size=40))
def test_seconds_that_a_log_leaves_out_are_zeros_and_counted(rates):
    """Up to half of the seconds may be left out before the usual step is no longer one second."""
    rates = [1, *rates, 1, 1]
    known = [second for second, rate in enumerate(rates) if rate is not None]
    steps = [later - earlier for earlier, later in itertools.pairwise(known)]
    assume(statistics.median_low(steps) == 1)
    found, gap = by_second(iter([(float(second), float(rates[second])) for second in known]))
    assert found == [rate or 0 for rate in rates]
    assert gap == rates.count(None)
