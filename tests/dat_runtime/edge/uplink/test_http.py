import asyncio

import pytest

from dat_runtime.edge.uplink.http import HttpSender
from dat_runtime.edge.uplink.sender import (
    AccessError,
    BusyError,
    OutgoingAlert,
    OutgoingVisual,
    RefusedError,
    SendError,
)
from dat_runtime.edge.uplink.settings import UplinkSettings
from tests.dat_runtime.edge.uplink import small_receiver as small
from tests.dat_runtime.edge.uplink.events import event, fill
from tests.dat_runtime.edge.uplink.small_receiver import SmallReceiver


@pytest.fixture
def receiver():
    with SmallReceiver() as running:
        yield running


def alerts(*ids):
    return [OutgoingAlert(id, event(id, at=1e9).json) for id in ids]


def sending(receiver, *works, token=None):
    """What each piece of work with one sender gives, or raises, one after the other."""

    async def send():
        sender = HttpSender(UplinkSettings(receiver.url, token, 1e6), "n1")
        results = []
        for work in works:
            try:
                results.append(await work(sender))
            except (SendError, RefusedError) as error:
                results.append(error)
        await sender.close()
        return results

    return asyncio.run(send())


def posting(*ids):
    return lambda sender: sender.send_alerts(alerts(*ids))


def visual(id, begun=False):
    return OutgoingVisual(id, "roi", 5_000, begun)


def pieces(id, stop=5_000, size=700):
    """A visual in pieces, ending at `stop`."""

    def begin(offset):
        begun.append(offset)

        async def give():
            for at in range(offset, stop, size):
                yield fill(id, 5_000)[at : min(at + size, stop)]

        return give()

    begun = begin.offsets = []
    return begin


def test_an_alert_is_taken_and_so_is_its_repetition(receiver):
    first, again = sending(receiver, posting("a"), posting("a"))
    assert first[0].taken
    assert again[0].taken
    assert receiver.order == ["a"]


def test_several_alerts_go_in_one_request_each_with_its_own_answer(receiver):
    receiver.refused["b"] = 409
    (answers,) = sending(receiver, posting("a", "b", "c"))
    assert [answer.taken for answer in answers] == [True, False, True]
    assert len(receiver.requests) == 1


def test_one_wrong_alert_does_not_keep_the_others_of_its_batch(receiver):
    receiver.refused["b"] = 400
    (answers,) = sending(receiver, posting("a", "b", "c"))
    assert [answer.taken for answer in answers] == [True, False, True]
    assert "400" in answers[1].reason


@pytest.mark.parametrize("code", [400, 409, 413, 415])
def test_a_refusal_keeps_the_receivers_own_words(receiver, code):
    receiver.faults = [small.status(code)]
    (answers,) = sending(receiver, posting("a"))
    assert not answers[0].taken
    assert answers[0].reason == f"{code}: words"


@pytest.mark.parametrize("code", [301, 404, 408, 429, 500, 502, 503, 507])
def test_what_may_pass_is_an_error_and_no_refusal(receiver, code):
    receiver.faults = [small.status(code, "retry-after: 3")]
    error, answers = sending(receiver, posting("a"), posting("a"))
    assert isinstance(error, BusyError)
    assert error.retry_after == 3.0
    assert answers[0].taken


def test_when_to_come_back_may_be_a_date_of_the_receivers_clock(receiver):
    at, until = "Thu, 01 Jan 1970 00:00:10 GMT", "Thu, 01 Jan 1970 00:00:25 GMT"
    receiver.faults = [
        small.status(503, f"date: {at}", f"retry-after: {until}"),
        small.status(503, "retry-after: soon"),
        small.status(503, f"retry-after: {'9' * 5_000}"),
    ]
    errors = sending(receiver, posting("a"), posting("a"), posting("a"))
    assert [error.retry_after for error in errors] == [15.0, None, 600.0]


@pytest.mark.parametrize("code", [401, 403])
def test_a_node_that_is_not_known_is_a_fault_of_its_configuration(receiver, code):
    receiver.faults = [small.status(code)]
    (error,) = sending(receiver, posting("a"))
    assert isinstance(error, AccessError)
    assert "words" in str(error)


def test_the_login_page_of_a_hotspot_takes_no_alert(receiver):
    receiver.faults = [small.login_page, small.login_page]
    first, batch = sending(receiver, posting("a"), posting("a", "b"))
    assert isinstance(first, SendError)
    assert isinstance(batch, SendError)


def test_an_idle_connection_that_was_closed_costs_no_failure(receiver):
    receiver.faults = []

    async def close_later(sender):
        receiver.faults = [small.close]
        return await sender.send_alerts(alerts("b"))

    _, second = sending(receiver, posting("a"), close_later)
    assert second[0].taken


def test_a_token_is_sent_and_may_change_while_the_node_runs(receiver, tmp_path):
    token = tmp_path / "token"
    token.write_text("one\n")

    async def change(sender):
        token.write_text("two")
        receiver.faults = [small.close]
        return await sender.send_alerts(alerts("b"))

    sending(receiver, posting("a"), change, token=token)
    sent = [request.headers["authorization"] for request in receiver.requests]
    assert sent[0] == "Bearer one"
    assert sent[-1] == "Bearer two"


def test_a_token_that_changed_is_sent_on_connections_that_stay_open(receiver, tmp_path):
    token = tmp_path / "token"
    token.write_text("one")

    async def change(sender):
        token.write_text("two")
        return await sender.send_alerts(alerts("b"))

    sending(receiver, posting("a"), change, token=token)
    first, second = [r.headers["authorization"] for r in receiver.requests]
    assert (first, second) == ("Bearer one", "Bearer two")


def test_a_visual_is_created_and_sent_in_one_request(receiver):
    give = pieces("a")
    _, there = sending(receiver, posting("a"), lambda s: s.send_visual(visual("a"), give))
    assert there == 5_000
    assert receiver.visuals["a/roi"] == fill("a", 5_000)
    assert give.offsets == [0]
    assert [request.method for request in receiver.requests] == ["POST", "POST"]


def test_a_visual_that_ended_early_goes_on_where_it_ended(receiver):
    _, part, there = sending(
        receiver,
        posting("a"),
        lambda s: s.send_visual(visual("a"), pieces("a", stop=2_000)),
        lambda s: s.send_visual(visual("a", begun=True), pieces("a")),
    )
    assert (part, there) == (2_000, 5_000)
    assert receiver.visuals["a/roi"] == fill("a", 5_000)
    assert [request.method for request in receiver.requests] == ["POST", "POST", "PATCH"]


def test_a_visual_that_broke_goes_on_where_the_receiver_stands(receiver):
    async def breaks(sender):
        def begin(offset):
            async def give():
                yield fill("a", 5_000)[offset : offset + 700]
                raise OSError("the link is gone")

            return give()

        return await sender.send_visual(visual("a"), begin)

    give = pieces("a")
    again = visual("a", begun=True)
    _, error, there = sending(receiver, posting("a"), breaks, lambda s: s.send_visual(again, give))
    assert isinstance(error, SendError)
    assert there == 5_000
    assert give.offsets == [700]
    assert receiver.visuals["a/roi"] == fill("a", 5_000)


def test_a_visual_that_is_there_already_asks_for_no_bytes(receiver):
    give = pieces("a")
    _, _, there = sending(
        receiver,
        posting("a"),
        lambda s: s.send_visual(visual("a"), pieces("a")),
        lambda s: s.send_visual(visual("a", begun=True), give),
    )
    assert there == 5_000
    assert give.offsets == []


def test_a_visual_of_an_unknown_event_is_refused(receiver):
    (error,) = sending(receiver, lambda s: s.send_visual(visual("a"), pieces("a")))
    assert isinstance(error, RefusedError)


@pytest.mark.parametrize("place", ["", "http://elsewhere.example/steal", "/v1/other/x"])
def test_a_visual_goes_to_the_receiver_and_nowhere_else(receiver, place):
    receiver.faults = [small.status(201, f"location: {place}", "upload-offset: 5")]
    (error,) = sending(receiver, lambda s: s.send_visual(visual("a"), pieces("a")))
    assert isinstance(error, SendError)


def test_bytes_on_their_way_are_known_and_end_at_none(receiver):
    async def look(sender):
        await sender.send_alerts(alerts("b"))
        for _ in range(200):
            progress = sender.progress()
            if not progress.in_flight:
                break
            await asyncio.sleep(0.005)
        return progress

    _, progress = sending(receiver, posting("a"), look)
    assert progress.in_flight == 0
    assert progress.acknowledged > 2 * len(event("a", at=1e9).json)
    assert progress.round_trip is None or 0 < progress.round_trip < 1
