import asyncio
import json
import socket
import sys
import zlib

import pytest

from dat_runtime.edge.uplink import http
from dat_runtime.edge.uplink.connection import ClosedError, Response
from dat_runtime.edge.uplink.http import HttpSender
from dat_runtime.edge.uplink.sender import (
    AccessError,
    Answer,
    BusyError,
    OutgoingAlert,
    OutgoingVisual,
    Progress,
    RefusedError,
    SendError,
    nothing,
)
from dat_runtime.edge.uplink.settings import UplinkSettings
from tests.dat_runtime.edge.uplink import small_receiver as small
from tests.dat_runtime.edge.uplink.events import event, fill
from tests.dat_runtime.edge.uplink.small_receiver import SmallReceiver

TCP_RTO_MIN_US = 45
"""Of linux/tcp.h, which Python's socket module does not name."""


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


def test_alerts_are_packed_once_the_receiver_has_said_that_it_takes_that(receiver):
    one = alerts("a")[0].json
    sizes = []

    async def size(sender):
        sizes.append(sender.alert_bytes(alerts("a")))

    receiver.packed = True
    sending(receiver, size, posting("a"), size, posting("b"), posting("c", "d"))
    assert [r.headers.get("content-encoding") for r in receiver.requests] == [
        None,
        *["deflate"] * 2,
    ]
    assert json.loads(receiver.alerts["a"]) == json.loads(one)
    assert {*receiver.alerts} == {*"abcd"}
    assert sizes == [180 + len(one), 180 + len(zlib.compress(one))]
    assert sizes[1] < 0.8 * sizes[0]


def test_packed_alerts_go_as_they_are_to_a_receiver_that_refuses_them_so(receiver):
    receiver.packed = True

    async def replaced(sender):
        receiver.packed = False
        receiver.faults += [small.status(400)]

    results = sending(receiver, posting("a"), replaced, posting("b"), posting("c"))
    assert [results[0], *results[2:]] == [[Answer(True)]] * 3
    packed = [r.headers.get("content-encoding") for r in receiver.requests]
    assert packed == [None, "deflate", None, None]


def test_a_packed_alert_is_not_sent_again_to_a_receiver_that_takes_packed_ones(receiver):
    receiver.packed = True
    receiver.refused["b"] = 409
    results = sending(receiver, posting("a"), posting("b"), posting("c"))
    assert [answer.taken for (answer,) in results] == [True, False, True]
    packed = [r.headers.get("content-encoding") for r in receiver.requests]
    assert packed == [None, "deflate", "deflate"]


def test_what_would_not_be_less_is_not_packed(receiver):
    receiver.packed = True
    tiny = OutgoingAlert("t", b'{"id":"t"}')

    async def post(sender):
        return sender.alert_bytes([tiny])

    assert sending(receiver, posting("a"), post)[1] == 190


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


class Wires:
    """In place of `Connection`: notes what goes out, and gives the answers of the test."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.opened = []
        self.lines = []
        self.requests = []

    async def open(self, address, names, seconds, *, quick):
        self.opened.append((address.host, address.port, address.prefix, names._host, seconds))
        self.lines.append(Line(self))
        return self.lines[-1]


class Line:
    def __init__(self, wires):
        self.wires, self.requests, self.reusable, self.closed = wires, 0, True, False
        self.was_idle = False

    async def request(self, method, target, headers, body, timeout, written=nothing):
        self.requests += 1
        content = body if isinstance(body, bytes) else b"".join([piece async for piece in body])
        self.wires.requests.append((method, target, headers, content, timeout))
        written()
        for _ in range(3):  # meanwhile a spare is opened
            await asyncio.sleep(0)
        answer = self.wires.answers.pop(0)
        if isinstance(answer, Exception):
            self.reusable = False
            raise answer
        return answer

    def progress(self):
        return Progress(10, 1, 0.5)

    def close(self):
        self.closed = True
        return 10


@pytest.fixture
def wired(monkeypatch):
    """What each piece of work gives, or raises, over made-up wires; and those."""

    def run(answers, *works, token=None):
        wires = Wires(answers)
        monkeypatch.setattr(http, "Connection", wires)
        return asyncio.run(_all(works, token)), wires

    return run


async def _all(works, token):
    sender = HttpSender(UplinkSettings("http://127.0.0.1:81/dat/", token, 1e6), "n 1")
    results = []
    for work in works:
        try:
            results.append(await work(sender))
        except (SendError, RefusedError) as error:
            results.append(error)
        await asyncio.sleep(0)
    await sender.close()
    return results


def told(status, value):
    return Response(status, {}, json.dumps(value).encode())


A, B = OutgoingAlert("a", b'{"a":1}'), OutgoingAlert("b", b'{"b":22}')
ONE = ("content-type", "application/cloudevents+json")
SEVERAL = ("content-type", "application/cloudevents-batch+json")


def posts(*alerts, written=nothing):
    return lambda sender: sender.send_alerts(alerts, written)


def test_one_alert_goes_as_it_is_and_says_when_it_was_written(wired, tmp_path):
    (tmp_path / "token").write_text("secret")
    large = OutgoingAlert("a", b"x" * 3_000)
    written = []
    results, wires = wired(
        [told(200, {"id": "a"}), told(201, {"id": "a"})],
        posts(A, written=lambda: written.append(1)),
        posts(large),
        token=tmp_path / "token",
    )
    assert results == [[Answer(True)], [Answer(True)]]
    assert written == [1]
    assert wires.requests == [
        ("POST", "/v1/events", [("authorization", "Bearer secret"), ONE], A.json, 10.0035),
        ("POST", "/v1/events", [("authorization", "Bearer secret"), ONE], large.json, 11.5),
    ]
    # What is taken from the pool leaves a spare behind.
    assert wires.opened == [("127.0.0.1", 81, "/dat", "127.0.0.1", 2.0)] * 2
    assert all(line.closed for line in wires.lines)


def test_several_alerts_are_one_list_and_each_has_its_answer(wired):
    events = [
        {"id": "b", "status": "conflict", "words": "x" * 400},
        {"id": "a", "status": "created"},
        "no event",
    ]
    written = []
    results, wires = wired(
        [told(200, {"events": events}), told(201, {"events": [{"id": "b", "status": 409}]})],
        posts(A, B, written=lambda: written.append(1)),
        posts(B, B),
    )
    refusal = json.dumps(events[0])[:300]
    assert results[0] == [Answer(True, ""), Answer(False, refusal)]
    assert results[1] == [Answer(False, '{"id": "b", "status": 409}')] * 2
    assert written == [1]
    body = b'[{"a":1},{"b":22}]'
    assert wires.requests[0] == ("POST", "/v1/events", [SEVERAL], body, 10 + 18 / 2_000)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_batch_that_is_refused_as_a_whole_is_sent_one_by_one(wired, status):
    answers = [told(status, {}), told(409, {"detail": "other"}), told(200, {"id": "b"})]
    written = []
    (answer,), wires = wired(answers, posts(A, B, written=lambda: written.append(1)))
    assert answer == [Answer(False, '409: {"detail": "other"}'), Answer(True)]
    assert [request[3] for request in wires.requests[1:]] == [A.json, B.json]
    assert written == [1]


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AccessError), (415, BusyError), (202, BusyError), (500, BusyError)]
)
def test_what_is_no_answer_to_a_batch_loses_none_of_it(wired, status, kind):
    (error,), _ = wired([told(status, {"events": [{"id": "a"}, {"id": "b"}]})], posts(A, B))
    assert type(error) is kind


def test_a_batch_with_a_conflict_in_it_is_an_answer(wired):
    events = [{"id": "a", "status": 200}, {"id": "b", "status": 201}]
    (answer,), _ = wired([told(409, {"events": events})], posts(A, B))
    assert answer == [Answer(True), Answer(True)]


@pytest.mark.parametrize("value", [{"events": [{"id": "a"}, 7]}, {"events": 3}, {}, [1]])
def test_an_answer_that_does_not_name_all_events_is_none(wired, value):
    (error,), _ = wired([told(200, value)], posts(A, B))
    name = "b" if value == {"events": [{"id": "a"}, 7]} else "a"
    assert str(error) == f"the answer names no event {name}: {json.dumps(value)!r}"


def test_only_the_receiver_names_the_event_and_words_are_cut(wired):
    long = [told(200, {"page": "y" * 200}), told(200, {"page": "y" * 200})]
    (one, several), _ = wired([told(200, {"id": "b"}), *long], posts(A), posts(A, B))
    assert str(one) == """the answer is not a receiver's: '{"id": "b"}'"""
    words = json.dumps({"page": "y" * 200})[:80]
    assert str(several) == f"the answer names no event a: {words!r}"
    (one,), _ = wired(long, posts(A))
    assert str(one) == f"the answer is not a receiver's: {words!r}"


@pytest.mark.parametrize("status", [200, 201, 204, 404, 405])
def test_a_status_is_put_below_the_nodes_name_where_a_receiver_has_such_a_page(wired, status):
    (result,), wires = wired([told(status, {})], lambda s: s.send_status(b"{}"))
    assert result is None
    headers = [("content-type", "application/json")]
    assert wires.requests == [("PUT", "/v1/nodes/n%201", headers, b"{}", 10.0)]


@pytest.mark.parametrize(("status", "kind"), [(403, AccessError), (202, BusyError)])
def test_a_status_that_is_not_taken_is_an_error(wired, status, kind):
    (error,), _ = wired([told(status, {})], lambda s: s.send_status(b"{}"))
    assert type(error) is kind


def test_a_connection_that_the_receiver_closed_while_idle_is_replaced_once(wired):
    closed = ClosedError("closed")
    taken = told(200, {"id": "a"})
    results, wires = wired([taken, closed, taken], posts(A), posts(A))
    assert results == [[Answer(True)], [Answer(True)]]
    # The spare that idled beside it may be closed too.
    assert [line.requests for line in wires.lines[:3]] == [2, 0, 1]
    results, _ = wired([taken, closed, closed], posts(A), posts(A))
    assert results[1] is closed
    # A new one that is closed before it answers: nothing is tried again.
    results, wires = wired([closed], posts(A))
    assert results == [closed]
    assert len(wires.requests) == 1
    # Of another failure it is not known whether the receiver has it.
    broken = SendError("no whole response")
    results, wires = wired([taken, broken], posts(A), posts(A))
    assert results[1] is broken
    assert len(wires.requests) == 2


def test_a_spare_that_was_closed_before_its_first_request_is_replaced_too(wired):
    answers = [SendError("lost"), ClosedError("closed"), told(201, {"id": "a"})]
    (lost, taken), wires = wired(answers, posts(A), posts(A))
    assert (str(lost), taken) == ("lost", [Answer(True)])
    used = [line for line in wires.lines if line.requests]
    assert [line.was_idle for line in used] == [False, True, True]  # the last one was put back
    assert wires.lines[:2] == used[:2]


def test_visuals_have_connections_of_their_own_and_all_are_ended(wired, tmp_path):
    (tmp_path / "token").write_text("secret")
    created = Response(201, {"location": "/v1/visuals/u", "upload-offset": "5000"}, b"")
    looks = []

    async def send(sender):
        await sender.send_alerts([A])
        await asyncio.sleep(0)
        there = await sender.send_visual(visual("a"), pieces("a"))
        for _ in range(3):
            await asyncio.sleep(0)
        looks.append(sender.progress())
        return there

    (there,), wires = wired([told(200, {"id": "a"}), created], send, token=tmp_path / "token")
    assert there == 5_000
    assert wires.requests[1][2][0] == ("authorization", "Bearer secret")
    assert [line.requests for line in wires.lines] == [1, 0, 1, 0]  # each with a spare
    assert looks == [Progress(40, 4, 0.5)]
    assert all(line.closed for line in wires.lines)


def test_https_is_encrypted_and_http_is_not(monkeypatch):
    context, asked = object(), []
    monkeypatch.setattr(http, "tls_context", lambda settings: asked.append(settings) or context)
    ways = [UplinkSettings(f"{scheme}://a.example", None, 1e6) for scheme in ("http", "https")]
    assert [HttpSender(way, "n1")._address.tls for way in ways] == [None, context]
    assert asked == [ways[1]]


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such option")
def test_visuals_are_repaired_quickly_and_alerts_are_not_sent_twice_for_being_late(receiver):
    """On a link that fell to a tenth of its rate an alert takes 60 ms, in which none is lost."""
    waits = {}

    async def look(sender):
        await sender.send_alerts(alerts("e1"))
        await sender.send_visual(visual("e1"), pieces("e1"))
        for name, pool in (("alert", sender._alerts), ("visual", sender._visuals)):
            connection = pool._idle[-1]._socket
            waits[name] = connection.getsockopt(socket.IPPROTO_TCP, TCP_RTO_MIN_US)

    try:
        sending(receiver, look)
    except OSError:
        pytest.skip("this kernel has no TCP_RTO_MIN_US")
    assert waits == {"alert": 200_000, "visual": 40_000}
