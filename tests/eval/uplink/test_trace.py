import pytest

from dat_runtime.errors import DataError
from eval.uplink.setting import Window
from eval.uplink.trace import read_trace, window


def test_a_window_is_rescaled_to_its_mean_and_moved_into_a_short_trace():
    trace = [float(i) for i in range(100)]
    assert window(trace, Window(4300, 10, 1000.0, "")) == pytest.approx(
        [rate * 1000 / 94.5 for rate in trace[90:]]
    )
    assert len(window(trace, Window(0, 700, 1.0, ""))) == 100


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("second,rate\n0,1\n", ":1: expected the header"),
        ("second,uplink_bytes_per_s\n0,1\n1,fast\n", ":3: expected second"),
        ("second,uplink_bytes_per_s\n0,-1\n", ":2: bandwidth must be finite"),
        ("second,uplink_bytes_per_s\n0,nan\n", ":2: bandwidth must be finite"),
        ("second,uplink_bytes_per_s\n0,0\n", "holds no bandwidth"),
        ("second,uplink_bytes_per_s\n0,5\n2,5\n", ":3: second 0 is followed by 2"),
        ("second,uplink_bytes_per_s\n0,5\n0,5\n", ":3: second 0 is followed by 0"),
        ("second,uplink_bytes_per_s\nnow,5\n", ":2: expected second"),
    ],
)
def test_a_bad_trace_is_refused_by_file_and_line(tmp_path, text, place):
    path = tmp_path / "bandwidth.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=place):
        read_trace(path)


def test_a_trace_from_a_spreadsheet_is_read_and_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "bandwidth.csv"
    path.write_bytes(b"\xef\xbb\xbfsecond,uplink_bytes_per_s\r\n7,5\r\n8,6\r\n")
    assert read_trace(path) == [5.0, 6.0]
    path.write_bytes(b"second,uplink_bytes_per_s\n0,5\n1,\xff\n")
    with pytest.raises(DataError, match=":3: is not UTF-8"):
        read_trace(path)
