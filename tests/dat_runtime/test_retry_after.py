import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.retry_after import seconds_asked

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "75"}, 75.0),
        ({"retry-after": " 0.25 "}, 0.25),
        ({"retry-after": "9" * 400}, float("inf")),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30 -0000"}, 10.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:10 GMT"}, 0.0),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "٣"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert seconds_asked(headers, NOW) == seconds


def test_a_date_to_wait_for_is_read_by_the_servers_own_clock() -> None:
    headers = {
        "date": "Tue, 14 Nov 2023 22:13:20 GMT",
        "retry-after": "Tue, 14 Nov 2023 22:13:24 GMT",
    }
    assert seconds_asked(headers, NOW + 86_400) == 4.0


@given(st.text(max_size=40))
def test_no_header_raises(text: str) -> None:
    wait = seconds_asked({"retry-after": text, "date": text}, NOW)
    assert wait is None or wait >= 0


def test_a_time_with_another_zone_is_that_instant() -> None:
    for until in ("Tue, 14 Nov 2023 23:13:30 +0100", "Tue, 14 Nov 2023 22:13:30 -0000"):
        assert seconds_asked({"retry-after": until}, NOW) == 10


def test_a_date_says_nothing_where_no_time_is_known_to_count_from() -> None:
    until = "Tue, 14 Nov 2023 22:13:24 GMT"
    assert seconds_asked({"retry-after": until}) is None
    assert seconds_asked({"retry-after": until, "date": "yesterday"}) is None
    assert seconds_asked({"retry-after": until, "date": until}) == 0.0
    assert seconds_asked({"retry-after": until.replace("2023", "9" * 20)}, NOW) is None
