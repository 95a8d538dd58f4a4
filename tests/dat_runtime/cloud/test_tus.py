"""The headers of the tus protocol, read and written without a network."""

import asyncio
import base64
from typing import Any

import pytest

pytest.importorskip("fastapi")

import httpx
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response

from dat_runtime.cloud import tus
from dat_runtime.cloud.tus import Wanted

CLOSE = {"Connection": "close"}


def request(**headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), v.encode("latin-1")) for name, v in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": pairs})


def stated(**told: str) -> str:
    """`Upload-Metadata`, without a look at what it states."""
    pairs = ((key, base64.b64encode(value.encode()).decode()) for key, value in told.items())
    return ",".join(f"{key} {value}" for key, value in pairs)


def refused(work: Any, *given: Any) -> tuple[int, str]:
    with pytest.raises(HTTPException) as refusal:
        work(*given)
    assert refusal.value.headers == CLOSE
    return refusal.value.status_code, refusal.value.detail


def test_a_creation_is_read_whole() -> None:
    text = stated(event="n1-7", kind="roi", node="n1", revision="1000000")
    asked = request(upload_length="8000000", upload_metadata=text)
    assert tus.wanted(asked) == Wanted("n1-7", "roi", "n1", 1_000_000, 8_000_000, text)
    text = stated(event="n1-7", kind="code", prompt="p" * 4_000)
    asked = request(upload_length="1048576", upload_metadata=text)
    assert tus.wanted(asked) == Wanted("n1-7", "code", None, None, 1 << 20, text)


@pytest.mark.parametrize(
    ("length", "told", "status", "words"),
    [
        ("8000001", {}, 413, "Upload-Length: at most 8,000,000 bytes"),
        ("9" * 15, {}, 413, "Upload-Length: at most 8,000,000 bytes"),
        ("0", {}, 400, "Upload-Length: a visual has at least one byte"),
        ("", {}, 400, "Upload-Length: expected a whole number of bytes"),
        ("1" * 16, {}, 400, "Upload-Length: expected a whole number of bytes"),
        ("1", {}, 400, "Upload-Metadata: event is missing"),
        (
            "1048577",
            {"event": "e", "kind": "question", "prompt": "p"},
            413,
            "Upload-Length: at most 1,048,576 bytes of kind question",
        ),
    ],
)
def test_a_creation_that_is_wrong_is_refused_by_its_header(
    length: str, told: dict[str, str], status: int, words: str
) -> None:
    asked = request(upload_length=length, upload_metadata=stated(**told))
    code, detail = refused(tus.wanted, asked)
    assert (code, detail[: len(words)]) == (status, words)


def test_a_header_that_is_missing_states_nothing() -> None:
    assert refused(tus.wanted, request())[1] == "Upload-Length: expected a whole number of bytes"
    assert refused(tus.wanted, request(upload_length="1"))[1].startswith(
        "Upload-Metadata: event is missing"
    )
    assert tus.patience(request()) == 0.0


ROI = {"event": "e", "kind": "roi"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("event ZQ==,event ZQ==", "'event' is there twice"),
        ("event ZQ==,kind", "kind is ''"),
        ("event Z", "'event' is not a text in base64"),
        ("event Z!Q==", "'event' is not a text in base64"),
        ("event /w==", "'event' is not a text in base64"),
        (f"{'k' * 99} Z", f"'{'k' * 39} is not a text in base64"),
        (f"{'k' * 99} ZQ==,{'k' * 99} ZQ==", f"'{'k' * 39} is there twice"),
        ("x" * 8_001, "more than 8,000 characters"),
        ("x" * 8_000, f"unknown key '{'x' * 3}"),
        ("event ZQ==,\tkind cm9p", "unknown key '\\tkind'"),
        (stated(**ROI, XX="1"), "unknown key 'XX'"),
        (stated(**ROI, size="1"), "unknown key 'size'"),
        (stated(event="e", kind="ROI"), "kind is 'ROI', expected one of roi, box, code, question"),
        (stated(**ROI, revision="1000001"), "revision is '1000001', expected a whole number from"),
        (stated(**ROI, revision="-1"), "revision is '-1', expected a whole number from 0 to 1e+06"),
        (stated(**ROI, node="a/b"), "node is 'a/b'"),
        (stated(event="a/b", kind="roi"), "event is 'a/b'"),
        (
            stated(**ROI, prompt="p"),
            "prompt is there: those of kind code and question state one, and no others",
        ),
        (
            stated(event="e", kind="code"),
            "prompt is missing: those of kind code and question state one, and no others",
        ),
        (stated(event="e", kind="code", prompt="p" * 4_001), "prompt is 'ppp"),
        (stated(event="e", kind="code", prompt="a\nb"), "prompt is 'a\\nb', expected a text of at"),
    ],
)
def test_metadata_that_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011
        tus.metadata(text)
    assert str(told.value).startswith(words)


def test_metadata_is_read_as_it_is_written() -> None:
    told = {"event": "n1-7", "kind": "question", "prompt": "Zürich, 1 a", "revision": "0"}
    text = tus.metadata_of(told)
    assert text == "event bjEtNw==,kind cXVlc3Rpb24=,prompt WsO8cmljaCwgMSBh,revision MA=="
    assert tus.metadata(text) == told
    assert tus.metadata("event ZQ==, kind  cm9p ".replace("  ", " ")) == {
        "event": "e",
        "kind": "roi",
    }
    with pytest.raises(ValueError, match="kind is missing"):
        tus.metadata_of({"event": "e"})


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=3", 3.0),
        ("respond-async, Wait=2", 2.0),
        ("wait=4;x", 4.0),
        ("wait=5", 5.0),
        ("wait=6", 5.0),
        ("wait=999999", 5.0),
        ("wait=1000000", 0.0),
        ("await=3", 0.0),
        ("wait=3s", 0.0),
        ("", 0.0),
    ],
)
def test_patience_has_an_end(prefer: str, seconds: float) -> None:
    assert tus.patience(request(prefer=prefer)) == seconds


def test_bytes_say_where_they_begin_and_what_they_are() -> None:
    kind = "application/offset+octet-stream"
    assert tus.offset(request(content_type=kind, upload_offset="000123")) == 123
    assert refused(tus.offset, request(content_type=kind)) == (
        400,
        "Upload-Offset: expected a whole number of bytes",
    )
    assert refused(tus.offset, request(upload_offset="1")) == (
        415,
        f"content-type: expected {kind}",
    )


def test_how_far_an_upload_is_and_when_it_expires() -> None:
    assert tus.state(5, None) == {"Upload-Offset": "5", "Cache-Control": "no-store"}
    assert tus.state(0, 86_400.0) == {
        "Upload-Offset": "0",
        "Cache-Control": "no-store",
        "Upload-Expires": "Fri, 02 Jan 1970 00:00:00 GMT",
    }
    assert [tus.most_bytes(kind) for kind in ("roi", "box", "code", "question")] == [
        8_000_000,
        8_000_000,
        1_048_576,
        1_048_576,
    ]


def test_the_version_is_asked_for_and_stated_in_refusals_too() -> None:
    async def endpoint(request: Request) -> Response:
        if "fails" in request.headers:
            raise HTTPException(409, "no", {"X-More": "1"} if request.headers["fails"] else None)
        return tus.options()

    routes = APIRouter(route_class=tus.TusRoute)
    routes.add_api_route("/", endpoint, methods=["POST", "OPTIONS"])
    application = FastAPI()
    application.include_router(routes)

    async def asked(method: str, **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, "/", headers=headers)

    told = asyncio.run(asked("OPTIONS"))
    assert told.status_code == 204
    assert dict(told.headers) == {
        "tus-version": "1.0.0",
        "tus-extension": "creation,creation-with-upload,expiration",
        "tus-max-size": "8000000",
        "cache-control": "no-store",
        "tus-resumable": "1.0.0",
    }
    for version in ({}, {"Tus-Resumable": "0.2.2"}):
        told = asyncio.run(asked("POST", **version))
        assert (told.status_code, told.json()["detail"]) == (412, "Tus-Resumable: expected 1.0.0")
        headers = [told.headers[name] for name in ("tus-version", "tus-resumable", "connection")]
        assert headers == ["1.0.0", "1.0.0", "close"]
    for more in ("", "1"):
        told = asyncio.run(asked("POST", fails=more, **{"Tus-Resumable": "1.0.0"}))
        assert (told.status_code, told.headers["tus-resumable"]) == (409, "1.0.0")
        assert told.headers.get("x-more", "") == more
