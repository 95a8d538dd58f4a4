"""Requests that bring visuals, made by hand: what each is answered, and what is kept of it."""

import asyncio
import base64
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import HTTPException, Request, Response
from starlette.requests import ClientDisconnect

from dat_runtime.cloud import alerts, uploads, visuals
from dat_runtime.cloud.access import Access
from dat_runtime.cloud.application import opened
from dat_runtime.cloud.receiver import Receiver
from dat_runtime.cloud.upload_files import Writing
from dat_runtime.cloud.visuals import Visuals
from tests.dat_runtime.cloud.conftest import alert
from tests.dat_runtime.cloud.evidence import jpeg

JPEG = jpeg(64, 48)
BYTES = {"content-type": "application/offset+octet-stream"}
CLOSE = {"Connection": "close"}


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Receiver]:
    receiver = opened(f"sqlite:///{tmp_path}/r.db", tmp_path / "data")
    keep(receiver)
    yield receiver
    receiver.store.close()


def keep(receiver: Receiver, id: str = "e", node: str = "n1", **data: Any) -> None:
    one = alerts.received(alert(id, node, **data), 5.0)
    asyncio.run(receiver.store.write(lambda c: alerts.record(c, [one])))


def request(headers: dict[str, str], *parts: bytes, ends: str | None = "http.request") -> Request:
    """A request whose body comes in these parts; `ends` is `None` for one that then is silent."""
    came = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if ends:
        came.append({"type": ends, "body": b""})

    async def receive() -> Any:
        return came.pop(0) if came else await asyncio.Event().wait()

    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": pairs}, receive)


def creation(length: int = len(JPEG), **told: str) -> dict[str, str]:
    told = {"event": "e", "kind": "roi"} | told
    pairs = (f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in told.items())
    return {"upload-length": str(length), "upload-metadata": ",".join(pairs)}


def at(offset: int) -> dict[str, str]:
    return BYTES | {"upload-offset": str(offset)}


KEY = uploads.key_of(1, "roi", 0)


def answered(work: Any) -> tuple[int, dict[str, str]]:
    response: Response = asyncio.run(work)
    headers = {k: v for k, v in response.headers.items() if k != "content-length"}
    if "upload-expires" in headers:
        headers["upload-expires"] = "later"
    return response.status_code, headers


def refused(work: Any) -> tuple[int, str, Any]:
    with pytest.raises(HTTPException) as refusal:
        asyncio.run(work)
    return refusal.value.status_code, refusal.value.detail, refusal.value.headers


def state(offset: int, expires: bool = True) -> dict[str, str]:
    told = {"upload-offset": str(offset), "cache-control": "no-store"}
    return told | ({"upload-expires": "later"} if expires else {})


def arrived(receiver: Receiver, key: str = KEY) -> tuple[int, bool]:
    row = asyncio.run(receiver.store.read(partial(uploads.find, key=key)))
    assert row is not None
    return row.arrived, row.complete


def file(receiver: Receiver, key: str = KEY) -> Path:
    return receiver.folder / "visuals" / key[:2] / key


def test_a_creation_is_told_where_and_how_far(inside: Receiver) -> None:
    mine = Visuals(inside)
    where = {"location": f"/v1/visuals/{KEY}"}
    empty = {"content-length": "0"}
    for status in (201, 200):
        code, headers = answered(mine.create(request(creation() | empty)))
        assert (code, headers) == (status, where | state(0))
    expires = asyncio.run(mine.head(request({}), KEY)).headers["upload-expires"]
    day = time.strftime("%a, %d %b %Y", time.gmtime(time.time() + 86_400))
    assert expires.startswith(day)
    answered(mine.patch(request(at(0), JPEG[:9]), KEY))
    code, headers = answered(mine.create(request(creation() | BYTES, JPEG)))
    assert (code, headers) == (200, where | state(9) | {"connection": "close"})
    assert answered(mine.create(request(creation())))[1] == where | state(9)
    assert arrived(inside) == (9, False)


def test_a_creation_may_bring_all_of_it(inside: Receiver) -> None:
    mine = Visuals(inside)
    code, headers = answered(mine.create(request(creation() | BYTES, JPEG[:9], JPEG[9:])))
    assert (code, headers["upload-offset"]) == (201, str(len(JPEG)))
    assert arrived(inside) == (len(JPEG), True)
    assert file(inside).read_bytes() == JPEG
    told = {"upload-length": str(len(JPEG)), "upload-metadata": creation()["upload-metadata"]}
    assert answered(mine.head(request({}), KEY)) == (200, told | state(len(JPEG), False))


def test_a_question_that_was_answered_is_told_to_be_here(inside: Receiver) -> None:
    keep(inside, revision=1)
    told = creation(50, kind="code", prompt="p", revision="0")
    headers = {"location": "/v1/visuals/answered", "connection": "close"}
    assert answered(Visuals(inside).create(request(told | BYTES, b"x" * 50))) == (
        200,
        headers | state(50, False),
    )


def test_what_cannot_be_made_is_refused_with_when_to_come_again(
    inside: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Visuals(inside)
    assert refused(mine.create(request(creation(event="f"))))[:2] == (404, "no event 'f'")
    told = (409, "no revision 7 of the event is here", CLOSE)
    assert refused(mine.create(request(creation(revision="7")))) == told
    told = (415, "content-type: expected application/offset+octet-stream", CLOSE)
    assert refused(mine.create(request(creation() | {"content-length": "5"}))) == told
    assert refused(mine.create(request(creation() | {"transfer-encoding": "chunked"}))) == told
    monkeypatch.setattr(uploads, "MAX_OPEN", 0)
    told = (429, "n1 has 0 visuals under way", CLOSE | {"Retry-After": "10"})
    assert refused(mine.create(request(creation()))) == told


def test_bytes_go_on_where_they_ended(inside: Receiver) -> None:
    mine = Visuals(inside)
    answered(mine.create(request(creation())))
    assert answered(mine.patch(request(at(0), JPEG[:5], b"", JPEG[5:9]), KEY)) == (204, state(9))
    assert answered(mine.patch(request(at(9)), KEY)) == (204, state(9))
    told = (409, "Upload-Offset: this upload is at 9", CLOSE)
    assert refused(mine.patch(request(at(8), b"x"), KEY)) == told
    assert mine._under_way == 0
    headers = at(9) | {"X-HTTP-Method-Override": "patch"}
    headers |= {"content-length": str(len(JPEG) - 9), "content-encoding": "Identity"}
    assert answered(mine.patch_by_post(request(headers, JPEG[9:]), KEY)) == (
        204,
        state(len(JPEG), False),
    )
    assert file(inside).read_bytes() == JPEG
    told = (405, "expected PATCH", {"Allow": "HEAD, PATCH, OPTIONS"} | CLOSE)
    for headers in (at(0), at(0) | {"X-HTTP-Method-Override": "PUT"}):
        assert refused(mine.patch_by_post(request(headers), KEY)) == told


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"content-encoding": "gzip"}, (415, "content-encoding: send the bytes as they are")),
        ({"content-length": "1001"}, (413, "this upload takes 1,000 bytes more")),
        ({"content-length": "0" * 15 + "1"}, (413, "this upload takes 1,000 bytes more")),
    ],
)
def test_bytes_that_do_not_fit_are_refused_before_they_come(
    inside: Receiver, headers: dict[str, str], words: tuple[int, str]
) -> None:
    mine = Visuals(inside)
    answered(mine.create(request(creation(1_000))))
    assert refused(mine.patch(request(at(0) | headers, JPEG), KEY)) == (*words, CLOSE)
    assert answered(mine.patch(request(at(0) | {"content-length": "1000"}, b"x"), KEY))[0] == 204


def test_more_bytes_than_were_stated_end_the_request(
    inside: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visuals, "PIECE", 500)
    mine = Visuals(inside)
    answered(mine.create(request(creation(1_000))))
    told = (413, "more than 1,000 bytes came", CLOSE)
    assert refused(mine.patch(request(at(0), b"x" * 600, b"x" * 401), KEY)) == told
    assert arrived(inside) == (600, False)


def test_what_came_before_the_end_of_a_connection_or_a_silence_is_kept(
    inside: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visuals, "SILENCE", 0.0625)
    mine = Visuals(inside)
    answered(mine.create(request(creation())))
    gone = request(at(0), JPEG[:50], ends="http.disconnect")
    assert refused(mine.patch(gone, KEY)) == (400, "the connection ended", None)
    assert arrived(inside) == (50, False)
    told = (408, "no byte came for 0.0625 s", CLOSE)
    assert refused(mine.patch(request(at(50), JPEG[50:70], ends=None), KEY)) == told
    assert arrived(inside) == (70, False)
    # One that is whole is answered, whatever its body does.
    assert answered(mine.patch(request(at(70), JPEG[70:], ends=None), KEY))[0] == 204
    assert arrived(inside) == (len(JPEG), True)


def test_what_comes_is_acknowledged_now_and_then(
    inside: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visuals, "PIECE", 100)
    monkeypatch.setattr(visuals, "SYNC_EVERY", 200)
    synced: list[int] = []
    sync = Writing.sync

    def counted(self: Writing) -> None:
        synced.append(self.size)
        sync(self)

    monkeypatch.setattr(Writing, "sync", counted)
    mine = Visuals(inside)
    answered(mine.create(request(creation())))
    parts = [JPEG[start : start + 100] for start in range(0, len(JPEG), 100)]
    answered(mine.patch(request(at(0), *parts), KEY))
    assert synced == [*range(200, len(JPEG), 200), len(JPEG)]


def test_no_two_write_to_one_and_so_many_write_at_once(
    inside: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visuals, "MAX_AT_ONCE", 1)
    mine = Visuals(inside)
    answered(mine.create(request(creation())))
    other = Writing(mine._uploads.files, KEY)
    told = (423, "another request is writing to this upload", CLOSE | {"Retry-After": "10"})
    assert refused(mine.patch(request(at(0), b"x"), KEY)) == told
    other.close()

    async def both() -> None:
        first = asyncio.create_task(mine.patch(request(at(0), b"x", ends=None), KEY))
        while not mine._under_way:
            await asyncio.sleep(0)
        with pytest.raises(HTTPException) as refusal:
            await mine.patch(request(at(0), b"x"), KEY)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert refusal.value.status_code == 503
        assert refusal.value.detail == "too many uploads at a time"
        assert refusal.value.headers == {"Retry-After": "1"} | CLOSE

    asyncio.run(both())
    assert mine._under_way == 0


def test_a_disk_that_keeps_nothing_is_told(
    inside: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Visuals(inside)
    answered(mine.create(request(creation())))

    def full(self: Writing) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Writing, "sync", full)
    told = (507, "cannot be kept: No space left on device", CLOSE)
    assert refused(mine.patch(request(at(0), b"x"), KEY)) == told
    assert (mine._under_way, arrived(inside)) == (0, (0, False))


def test_an_upload_is_its_nodes_own(inside: Receiver, tmp_path: Path) -> None:
    answered(Visuals(inside).create(request(creation())))
    (tmp_path / "tokens").write_text("n1\tone\nn2\ttwo\noperator\tboss\n")
    inside.access = Access(tmp_path / "tokens")
    mine = Visuals(inside)

    def ask(token: str, key: str = KEY) -> Any:
        return mine.head(request({"authorization": f"Bearer {token}"}), key)

    assert answered(ask("one"))[0] == 200
    one, two = ({"authorization": f"Bearer {token}"} for token in ("one", "two"))
    assert answered(mine.create(request(creation() | one)))[0] == 200
    assert answered(mine.patch(request(at(0) | one, b"x"), KEY))[0] == 204
    assert refused(mine.patch(request(at(1) | two, b"x"), KEY))[0] == 404
    none = (404, "no such upload", CLOSE)
    assert refused(ask("two")) == none
    assert refused(ask("one", "f" * 40)) == none
    assert refused(ask("one", KEY.upper())) == none
    assert refused(ask("one", KEY + "\0")) == none
    assert refused(ask("boss"))[:2] == (403, "operator reads and reviews, nodes send")
    assert refused(ask("three"))[0] == 401
    for token, status in (("two", 404), ("boss", 403), ("three", 401)):
        told = creation() | {"authorization": f"Bearer {token}"}
        assert refused(mine.create(request(told)))[0] == status


def test_a_creation_waits_for_its_alert_as_long_as_it_asks(
    inside: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visuals, "LOOK_EVERY", 0.01)
    mine = Visuals(inside)
    looks: list[int] = []
    read = inside.store.read

    async def counted(work: Any) -> Any:
        looks.append(mine._waiting)
        if len(looks) == 3:
            one = alerts.received(alert("late", revision=1), 5.0)
            await inside.store.write(lambda c: alerts.record(c, [one]))
        return await read(work)

    monkeypatch.setattr(inside.store, "read", counted)
    prefer = {"prefer": "wait=5"}
    told = creation(event="late", revision="1", node="n1")
    assert answered(mine.create(request(told | prefer)))[0] == 201
    assert looks == [1, 1, 1]
    assert mine._waiting == 0
    assert answered(mine.create(request(creation() | prefer)))[0] == 201  # at once
    assert looks == [1] * 4
    other = creation(event="late", revision="2")
    monkeypatch.setattr("dat_runtime.cloud.tus.MAX_PATIENCE", 0.1)
    began = time.monotonic()
    assert refused(mine.create(request(other | prefer)))[0] == 409
    assert time.monotonic() - began >= 0.1
    assert len(looks) > 5
    monkeypatch.setattr(visuals, "MAX_WAITING", 0)
    looks.clear()
    assert refused(mine.create(request(other | prefer)))[0] == 409
    assert looks == []


def test_a_node_waits_for_its_own_alert(
    inside: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokens").write_text("n1\tone\n")
    inside.access = Access(tmp_path / "tokens")
    keep(inside, "late", "n2")
    looks: list[Any] = []
    read = inside.store.read

    async def counted(work: Any) -> Any:
        looks.append(work)
        if len(looks) == 2:
            one = alerts.received(alert("late"), 5.0)
            await inside.store.write(lambda c: alerts.record(c, [one]))
        return await read(work)

    monkeypatch.setattr(inside.store, "read", counted)
    headers = {"prefer": "wait=5", "authorization": "Bearer one"}
    assert answered(Visuals(inside).create(request(creation(event="late") | headers)))[0] == 201
    assert len(looks) == 2


def test_each_address_takes_its_methods(inside: Receiver) -> None:
    found = {
        (route.path, *sorted(route.methods)): route.endpoint.__name__  # type: ignore[attr-defined]
        for route in visuals.router(inside).routes
    }
    assert found == {
        ("/v1/visuals", "OPTIONS"): "options",
        ("/v1/visuals", "POST"): "create",
        ("/v1/visuals/{key}", "OPTIONS"): "options",
        ("/v1/visuals/{key}", "HEAD"): "head",
        ("/v1/visuals/{key}", "PATCH"): "patch",
        ("/v1/visuals/{key}", "POST"): "patch_by_post",
    }


def pieces(asked: Request, room: int) -> tuple[list[bytes], type[BaseException] | None]:
    async def scenario() -> tuple[list[bytes], type[BaseException] | None]:
        found: list[bytes] = []
        try:
            async for piece in visuals._pieces(asked, room):
                found.append(piece)
        except (TimeoutError, ClientDisconnect) as error:
            return found, type(error)
        return found, None

    return asyncio.run(scenario())


def test_a_body_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visuals, "PIECE", 4)
    monkeypatch.setattr(visuals, "SILENCE", 0.05)
    parts = [b"1", b"23", b"4", b"5678901", b"2"]
    assert pieces(request({}, *parts), 99) == ([b"1234", b"5678901", b"2"], None)
    assert pieces(request({}), 99) == ([], None)
    assert pieces(request({}, b"1", ends=None), 99) == ([b"1"], TimeoutError)
    assert pieces(request({}, b"1", ends="http.disconnect"), 99) == ([b"1"], ClientDisconnect)
    assert pieces(request({}, b"1", b"23", b"4", ends=None), 3) == ([b"123"], None)
    assert pieces(request({}, b"1", b"234", b"5", ends=None), 4) == ([b"1234"], None)
    assert pieces(request({}, b"1", ends=None), 2) == ([b"1"], TimeoutError)


def test_a_creation_brings_bytes_or_none() -> None:
    assert visuals._brings_bytes(request(BYTES))
    assert not visuals._brings_bytes(request({}))
    assert not visuals._brings_bytes(request({"content-length": "0"}))
