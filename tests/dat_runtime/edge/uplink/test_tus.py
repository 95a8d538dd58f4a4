"""What goes over the wire for a visual, to a receiver whose answers the test writes."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from dat_runtime.edge.uplink import tus
from dat_runtime.edge.uplink.connection import Address, Response
from dat_runtime.edge.uplink.sender import (
    AccessError,
    BusyError,
    EarlyError,
    OutgoingVisual,
    RefusedError,
    SendError,
)
from dat_runtime.edge.uplink.tus import Uploads

VISUAL = OutgoingVisual("a/b", "roi", 5_000, revision=3)
"""Of 5,000 bytes, of which a receiver has got none."""

BEGUN = OutgoingVisual("a/b", "roi", 5_000, begun=True, revision=3)

WHO = ("authorization", "Bearer one")
TUS = ("tus-resumable", "1.0.0")
BYTES = ("content-type", "application/offset+octet-stream")
LENGTH = ("upload-length", "5000")
METADATA = ("upload-metadata", "event YS9i,kind cm9p,revision Mw==")


def answer(status, *, at="/v1/visuals/u1", there=None, words=b""):
    headers = {"location": at} | ({} if there is None else {"upload-offset": there})
    return Response(status, headers, words)


class Wire:
    """Notes each request, and what it carried; answers as it is told."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.requests = []

    @asynccontextmanager
    async def connection(self):
        yield self

    async def request(self, method, target, headers, body, seconds):
        carried = body if isinstance(body, bytes) else b"".join([piece async for piece in body])
        self.requests.append((method, target, headers, carried, seconds))
        return self.answers.pop(0)


def pieces(offset):
    async def give():
        yield f"from {offset}".encode()

    return give()


def run(answers, *visuals, prefix=""):
    """What sending one visual after the other gives, or raises; and the requests."""
    wire = Wire(answers)
    uploads = Uploads(wire, Address("h", 80, prefix, None), lambda: [WHO])

    async def go():
        results = []
        for visual in visuals:
            try:
                results.append(await uploads.send(visual, pieces))
            except (SendError, RefusedError, EarlyError) as error:
                results.append(error)
        return results

    return asyncio.run(go()), wire.requests


def test_a_visual_is_created_with_its_bytes_and_goes_on_where_they_ended():
    answers = [
        answer(201, there="1200"),
        answer(200, there="3000"),
        answer(204, there="5000"),
        answer(201, there="7"),
    ]
    told, requests = run(answers, VISUAL, BEGUN, BEGUN, VISUAL)
    assert told == [1_200, 3_000, 5_000, 7]
    # What is there whole is forgotten: the last one is created anew.
    creation = ("POST", "/v1/visuals", [WHO, TUS, LENGTH, METADATA, BYTES], b"from 0", 40.0)
    assert requests == [
        creation,
        ("PATCH", "/v1/visuals/u1", [WHO, TUS, BYTES, ("upload-offset", "1200")], b"from 1200", 40),
        ("PATCH", "/v1/visuals/u1", [WHO, TUS, BYTES, ("upload-offset", "3000")], b"from 3000", 40),
        creation,
    ]


def test_one_of_which_a_part_may_be_there_is_asked_for_by_creating_it_again():
    told, requests = run([answer(200, there="5000")], BEGUN)
    assert told == [5_000]
    assert requests == [("POST", "/v1/visuals", [WHO, TUS, LENGTH, METADATA], b"", 40.0)]
    told, requests = run([answer(200, there="4999"), answer(204, there="5000")], BEGUN)
    assert told == [5_000]
    assert [request[3] for request in requests] == [b"", b"from 4999"]


def test_one_that_is_whole_when_it_is_created_is_forgotten():
    told, requests = run([answer(201, there="5000")] * 2, VISUAL, BEGUN)
    assert told == [5_000, 5_000]
    assert [request[0] for request in requests] == ["POST", "POST"]


def test_a_receiver_that_says_nothing_of_bytes_has_none_of_a_new_visual():
    told, requests = run([answer(201), answer(204, there="5000")], VISUAL, BEGUN)
    assert told == [0, 5_000]
    assert requests[1][2][3] == ("upload-offset", "0")


def test_where_an_answer_is_missing_the_receiver_is_asked_where_it_stands():
    lost = answer(500, words=b"busy")
    answers = [answer(201, there="9"), lost, answer(200, there="700"), answer(204, there="800")]
    told, requests = run(answers, VISUAL, BEGUN, BEGUN)
    assert (told[0], str(told[1]), told[2]) == (9, "status 500: busy", 800)
    assert requests[2] == ("HEAD", "/v1/visuals/u1", [WHO, TUS], b"", 10.0)
    assert requests[3][3] == b"from 700"


def test_one_that_is_whole_by_the_receivers_word_needs_no_bytes():
    answers = [answer(201, there="9"), answer(503), answer(204, there="5000"), answer(201)]
    told, requests = run(answers, VISUAL, BEGUN, BEGUN, VISUAL)
    assert (told[2], told[3]) == (5_000, 0)
    assert [request[0] for request in requests] == ["POST", "PATCH", "HEAD", "POST"]


def test_a_receiver_that_does_not_say_how_much_it_has_is_asked_again():
    answers = [answer(201, there="9"), answer(503), answer(200), answer(200, there="5000")]
    told, requests = run(answers, VISUAL, BEGUN, BEGUN, BEGUN)
    assert type(told[2]) is SendError
    assert str(told[2]) == "the receiver does not say how much of a visual it has"
    assert [request[0] for request in requests] == ["POST", "PATCH", "HEAD", "HEAD"]


def test_a_part_of_which_nothing_is_said_counts_for_nothing_until_it_is_asked():
    answers = [
        answer(201, there="9"),
        answer(204),
        answer(200, there="60"),
        answer(204, there="61"),
    ]
    told, requests = run(answers, VISUAL, BEGUN, BEGUN)
    assert told == [9, 0, 61]
    assert [request[0] for request in requests] == ["POST", "PATCH", "HEAD", "PATCH"]


@pytest.mark.parametrize("status", [404, 410])
def test_a_visual_that_the_receiver_has_forgotten_is_created_anew(status):
    # When it goes on, and when it is asked for.
    answers = [answer(201, there="9"), answer(status), answer(200, there="5000")]
    told, requests = run(answers, VISUAL, BEGUN, BEGUN)
    assert isinstance(told[1], BusyError)
    assert [request[0] for request in requests] == ["POST", "PATCH", "POST"]
    answers = [answer(201, there="9"), answer(503), answer(status), answer(200, there="5000")]
    told, requests = run(answers, VISUAL, BEGUN, BEGUN, BEGUN)
    assert isinstance(told[2], BusyError)
    assert [request[0] for request in requests] == ["POST", "PATCH", "HEAD", "POST"]


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_part_that_is_refused_ends_the_visual_and_another_offset_does_not(status):
    told, _ = run([answer(201, there="9"), answer(status, words=b"no JPEG")], VISUAL, BEGUN)
    assert type(told[1]) is RefusedError
    assert str(told[1]) == f"{status}: no JPEG"
    answers = [answer(201, there="9"), answer(409), answer(204, there="5000")]
    told, requests = run(answers, VISUAL, BEGUN, BEGUN)
    assert isinstance(told[1], BusyError)
    assert [request[0] for request in requests] == ["POST", "PATCH", "HEAD"]


@pytest.mark.parametrize("status", [400, 404, 409, 410, 413, 415, 422])
def test_a_visual_that_a_receiver_will_never_take_is_refused_in_its_words(status):
    told, _ = run([answer(status, words=b"unknown")], VISUAL)
    assert type(told[0]) is RefusedError
    assert str(told[0]) == f"{status}: unknown"


def test_an_early_visual_asks_to_wait_and_hears_that_it_may_not():
    early = OutgoingVisual("a/b", "roi", 5_000, revision=3, early=True)
    answers = [answer(404, words=b"none"), answer(409, words=b"none"), answer(410), answer(201)]
    told, requests = run(answers, early, early, early, early)
    assert [type(error) for error in told[:3]] == [EarlyError, EarlyError, RefusedError]
    assert [str(error) for error in told[:2]] == ["404: none", "409: none"]
    assert told[3] == 0
    assert requests[0][2] == [WHO, TUS, LENGTH, METADATA, BYTES, ("prefer", "wait=2")]


@pytest.mark.parametrize(("status", "kind"), [(401, AccessError), (500, BusyError)])
def test_what_may_pass_is_no_refusal(status, kind):
    told, _ = run([answer(status)], VISUAL)
    assert type(told[0]) is kind


@pytest.mark.parametrize(
    ("prefix", "at", "path"),
    [
        ("", "u1", "/v1/u1"),
        ("", "/v1/visuals/x?y#z", "/v1/visuals/x"),
        ("", "visuals/x", "/v1/visuals/x"),
        ("", "http://h/v1/visuals/x", "/v1/visuals/x"),
        ("/dat", "/dat/v1/visuals/x", "/v1/visuals/x"),
        ("/dat", "/v1/visuals/x", "/v1/visuals/x"),
        ("/dat", "visuals/x", "/v1/visuals/x"),
    ],
)
def test_a_visual_lies_below_the_receivers_address_with_its_prefix_or_without(prefix, at, path):
    answers = [answer(201, at=at, there="9"), answer(204, there="5000")]
    told, requests = run(answers, VISUAL, BEGUN, prefix=prefix)
    if path.startswith("/v1/visuals/"):
        assert requests[1][1] == path
    else:
        assert str(told[0]) == "the receiver does not say where a visual lies"


@pytest.mark.parametrize(
    ("text", "there"),
    [("0", 0), ("9" * 15, 10**15 - 1), ("9" * 16, None), ("-1", None), ("", None), ("٣", None)],
)
def test_an_offset_is_a_number_of_ascii_digits(text, there):
    assert tus._offset_in(answer(200, there=text)) == there


def test_the_oldest_of_very_many_that_are_under_way_is_asked_for_again(monkeypatch):
    monkeypatch.setattr(tus, "REMEMBERED_UPLOADS", 2)
    named = [OutgoingVisual(name, "roi", 5_000) for name in "abc"]
    again = [OutgoingVisual(name, "roi", 5_000, begun=True) for name in "bca"]
    answers = [answer(201, there="9") for _ in named]
    answers += [answer(204, there="10"), answer(204, there="10"), answer(200, there="5000")]
    _, requests = run(answers, *named, *again)
    assert [request[0] for request in requests] == ["POST"] * 3 + ["PATCH"] * 2 + ["POST"]
