"""What a receiver's answers mean."""

import pytest

from dat_runtime.edge.uplink.connection import Response
from dat_runtime.edge.uplink.replies import object_in, require_served, retry_after
from dat_runtime.edge.uplink.sender import AccessError, BusyError

DATE = "Sat, 31 Jan 2026 12:00:00 GMT"


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): v for name, v in headers.items()}, body)


def test_a_served_request_is_one_of_the_statuses() -> None:
    require_served(answer(200), 200)
    require_served(answer(204), 200, 204)


@pytest.mark.parametrize("status", [401, 403])
def test_a_node_that_is_not_known_is_a_fault_of_the_configuration(status: int) -> None:
    words = rf"^the receiver refuses this node \({status}: no such token\)$"
    with pytest.raises(AccessError, match=words) as refusal:
        require_served(answer(status, b" no such token\n"), 200)
    assert refusal.value.retry_after is None


@pytest.mark.parametrize("status", [400, 402, 404, 429, 500, 503])
def test_another_status_is_a_receiver_that_cannot_serve_now(status: int) -> None:
    with pytest.raises(BusyError, match=f"^status {status}: later$") as busy:
        require_served(answer(status, b"later", retry_after="7"), 200, 204)
    assert busy.value.retry_after == 7


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after": " 30 "}, 30.0),
        ({"retry_after": "600"}, 600.0),
        ({"retry_after": "601"}, 600.0),
        ({"retry_after": "1" + "0" * 12}, 600.0),
        ({"retry_after": "1.5"}, 1.5),
        ({"retry_after": "-1"}, None),
        ({"retry_after": "²"}, None),
        ({"retry_after": "soon", "date": DATE}, None),
        ({"retry_after": DATE}, None),
        ({"retry_after": "Sat, 31 Jan 2026 12:01:30 GMT", "date": DATE}, 90.0),
        ({"retry_after": "Sat, 31 Jan 2026 11:59:00 GMT", "date": DATE}, 0.0),
        ({"retry_after": "Sun, 01 Feb 2026 12:00:00 GMT", "date": DATE}, 600.0),
        ({"retry_after": DATE, "date": "yesterday"}, None),
        ({"retry_after": DATE.replace("2026", "9" * 20), "date": DATE}, None),
        ({"retry_after": DATE, "date": "Sat, 31 Jan 2026 11:59:50 -0000"}, 10.0),
    ],
)
def test_a_wait_is_of_seconds_or_until_a_date_by_the_receivers_clock(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(answer(503, **headers)) == seconds


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1]}', {"a": [1]}),
        (b"[1]", {}),
        (b"", {}),
        (b"{", {}),
        (b"\xff", {}),
        (b'{"a": NaN}', {}),
    ],
)
def test_an_answer_that_is_no_object_holds_nothing(body: bytes, value: object) -> None:
    assert object_in(answer(body=body)) == value
