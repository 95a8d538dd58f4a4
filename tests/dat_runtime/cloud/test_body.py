"""Bodies are read within bounds; requests are made by hand."""

import asyncio
import json
import zlib
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import HTTPException, Request

from dat_runtime.cloud.body import Bodies, content_type, parsed, require_type

CLOSE = {"Connection": "close"}


def request(*parts: bytes, ends: str = "http.request", **headers: str) -> Request:
    """A request whose body comes in these parts."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": True} for part in parts[:-1]
    ]
    messages.append({"type": ends, "body": parts[-1]} if parts else {"type": ends})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    pairs = [(name.replace("_", "-").encode(), v.encode()) for name, v in headers.items()]
    return Request({"type": "http", "headers": pairs}, receive)


def read(bodies: Bodies, asked: Request, most: int = 10) -> bytes:
    async def scenario() -> bytes:
        async with bodies.held(asked, most) as body:
            return body

    return asyncio.run(scenario())


def refused(bodies: Bodies, asked: Request, most: int = 10) -> tuple[int, str, Any]:
    with pytest.raises(HTTPException) as refusal:
        read(bodies, asked, most)
    return refusal.value.status_code, refusal.value.detail, refusal.value.headers


def test_a_body_is_all_of_its_parts() -> None:
    assert read(Bodies(), request(b"12", b"", b"345", content_encoding="Identity")) == b"12345"
    assert read(Bodies(), request()) == b""
    assert read(Bodies(), request(b"12345", b"67890", content_length="10")) == b"1234567890"


def test_a_body_that_is_too_large_is_refused_by_what_it_states_or_by_what_comes() -> None:
    told = (413, "the body is larger than 1,000 bytes", CLOSE)
    assert refused(Bodies(), request(content_length="1001"), 1_000) == told
    assert refused(Bodies(), request(content_length="9" * 16), 1_000) == told
    assert refused(Bodies(), request(content_length="1".zfill(16)), 1_000) == told
    assert refused(Bodies(), request(bytes(999), b"12"), 1_000) == told
    assert len(read(Bodies(), request(bytes(999), b"1", content_length="1000"), 1_000)) == 1_000
    long = request(b"", content_length="0" * 14 + "1")
    assert read(Bodies(), long) == b""


def packed(content: bytes, *, end: int | None = None, more: bytes = b"") -> Request:
    return request(zlib.compress(content)[:end] + more, content_encoding="Deflate")


def test_a_packed_body_is_unpacked_to_no_more_than_it_may_be() -> None:
    assert read(Bodies(), packed(b"1" * 1_000), 1_000) == b"1" * 1_000
    assert read(Bodies(), packed(b"")) == b""
    told = (413, "the body is larger than 1,000 bytes", CLOSE)
    assert refused(Bodies(), packed(b"1" * 1_001), 1_000) == told
    assert refused(Bodies(), packed(bytes(200_000)), 1_000) == told  # 215 bytes on the wire


def test_a_packed_body_that_is_broken_is_refused() -> None:
    ends = (400, "the packed body has no end, or more after it", None)
    assert refused(Bodies(), packed(b"1234", end=-1), 100) == ends
    assert refused(Bodies(), packed(b"1234", more=b"5"), 100) == ends
    assert refused(Bodies(), request(content_encoding="deflate"), 100) == ends
    status, told, _ = refused(Bodies(), request(b"1234", content_encoding="deflate"), 100)
    assert (status, told[:28]) == (400, "the packed body is broken: E")


def test_what_was_unpacked_counts_as_in_memory_and_is_given_back() -> None:
    bodies = Bodies(most=100)
    for _ in range(3):
        assert read(bodies, packed(b"1" * 80), 1_000) == b"1" * 80
        told = (503, "too many bodies at a time", {"Retry-After": "1", "Connection": "close"})
        assert refused(bodies, packed(b"1" * 99), 1_000) == told
    assert read(bodies, request(b"1" * 100), 1_000) == b"1" * 100


def test_another_packing_and_a_body_that_ends_early_are_refused() -> None:
    expected = "content-encoding: expected deflate, or none"
    for coding in ("gzip", "deflate, deflate"):
        told = (415, expected, {"Accept-Encoding": "deflate", "Connection": "close"})
        assert refused(Bodies(), request(b"1", content_encoding=coding)) == told
    early = request(b"1", b"", ends="http.disconnect")
    assert refused(Bodies(), early)[:2] == (400, "the body ended early")


def test_a_body_that_does_not_come_is_given_up() -> None:
    async def never() -> Any:
        await asyncio.sleep(60)

    slow = Request({"type": "http", "headers": []}, never)
    told = (408, "the body did not come within 0.05 s", CLOSE)
    assert refused(Bodies(seconds=0.05), slow) == told


def test_all_bodies_together_have_so_much_room_and_give_it_back() -> None:
    bodies = Bodies(most=10)
    full = (503, "too many bodies at a time", {"Retry-After": "1", "Connection": "close"})

    async def scenario() -> None:
        async with bodies.held(request(b"1234", b"5"), 10):
            async with bodies.held(request(b"12345"), 10):
                pass
            with pytest.raises(HTTPException) as refusal:
                async with bodies.held(request(b"12345", b"6"), 10):
                    pass
            assert (refusal.value.status_code, refusal.value.detail) == full[:2]
            assert refusal.value.headers == full[2]

    for _ in range(2):
        asyncio.run(scenario())
        assert read(bodies, request(b"1234567890")) == b"1234567890"
        assert refused(bodies, request(b"123", b"45678901"), 99) == full


def test_a_body_is_one_strict_json_value() -> None:
    assert asyncio.run(Bodies().read_json(request(b'{"a": ', b"1}"), 10)) == {"a": 1}
    for content in (b"", b"{", b"\xff", b"NaN", b'{"a": 1, "a": 2}'):
        with pytest.raises(HTTPException, match="the body is not JSON: ") as refusal:
            parsed(content)
        assert refusal.value.status_code == 400
    with pytest.raises(HTTPException) as refusal:
        parsed(b"\xff" * 500)
    assert refusal.value.detail.startswith("the body is not JSON: 'utf-8' codec can't decode")
    with pytest.raises(HTTPException) as refusal:
        parsed(json.dumps({"a" * 300: 1})[:-1].encode() + b', "' + b"a" * 300 + b'": 2}')
    assert len(refusal.value.detail) <= len("the body is not JSON: ") + 200
    with pytest.raises(HTTPException) as refusal:
        asyncio.run(Bodies().read_json(request(b'"12345678"'), 9))
    assert refusal.value.status_code == 413


def test_the_type_is_told_without_parameters_and_in_lower_case() -> None:
    assert content_type(request()) == ""
    assert content_type(request(content_type="text/plain")) == "text/plain"
    assert content_type(request(content_type="text/plain; a=b; c=d")) == "text/plain"
    asked = request(content_type=" Text/JSON ; charset=x")
    assert content_type(asked) == require_type(asked, "a/b", "text/json") == "text/json"
    with pytest.raises(HTTPException) as refusal:
        require_type(asked, "a/b", "c/d")
    assert refusal.value.status_code == 415
    assert refusal.value.detail == "content-type: expected a/b or c/d"
    assert refusal.value.headers == CLOSE
